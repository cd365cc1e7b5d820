import Foundation
import Fovea
import Yams

/// Something in a recipe that cannot be taken: where, what, and what was expected.
struct RecipeError: Error, CustomStringConvertible {
    let description: String

    init(_ place: String, _ problem: String) {
        // What is quoted of a recipe may have several lines.
        description = "\(place): \(problem)".split(whereSeparator: \.isNewline).joined(separator: " ")
    }
}

/// What a run does: a value for every key of the schema.
///
/// Read strictly: an unknown key, a value of another type or out of range is an error with its file and line. What the
/// file leaves out has its default; `--set` goes over the file.
struct Recipe {
    /// The file's name without its ending; in a run's folder, the name of the recipe that the run was started with.
    let name: String
    private var values: [String: RecipeValue]
    /// The configuration of the modules, by their groups.
    private(set) var sections: [String: ModuleSection] = [:]
    /// Where each value was given; nothing for defaults.
    private var places: [String: String] = [:]
    private let path: String

    /// The folder that the file is in, in full.
    var folder: String { URL(fileURLWithPath: path).deletingLastPathComponent().path }

    /// Reads a recipe file, then applies `group.key=value` overrides.
    ///
    /// - Throws: `RecipeError`, or `FileError` where the file cannot be read.
    init(reading path: String, overrides: [String] = []) throws {
        self.path = path
        let text = try RecipeText.read(path)
        name =
            Recipe.savedName(text) ?? URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
        values = Dictionary(uniqueKeysWithValues: RecipeSchema.keys.map { ($0.path, $0.defaultValue) })
        try read(text, path)
        for override in overrides { try apply(override) }
    }

    /// What stands before the name in the first line of a resolved recipe. The file itself is always `recipe.yaml`.
    private static let title = "# The resolved recipe of this run: "

    private static func savedName(_ text: String) -> String? {
        guard text.hasPrefix(title), let line = text.split(whereSeparator: \.isNewline).first else { return nil }
        return String(line.dropFirst(title.count))
    }

    private mutating func read(_ text: String, _ path: String) throws {
        let root: Node
        do {
            guard let node = try Yams.compose(yaml: text) else {
                throw RecipeError(
                    path, "the recipe is empty; expected are the groups \(RecipeSchema.groups.joined(separator: ", "))")
            }
            root = node
        } catch let error as YamlError {
            throw RecipeError(path + Recipe.place(of: error), Recipe.problem(of: error))
        }
        guard case .mapping(let groups) = root else {
            throw RecipeError(
                "\(path):\(root.mark?.line ?? 1)",
                "expected are the groups \(RecipeSchema.groups.joined(separator: ", ")), each with its keys below it")
        }
        var seen: Set<String> = []
        for (groupKey, group) in groups {
            let groupName = groupKey.string ?? ""
            let place = "\(path):\(groupKey.mark?.line ?? 1)"
            guard RecipeSchema.groups.contains(groupName) else {
                throw RecipeError(
                    place,
                    "unknown key \"\(groupName)\"; the groups are \(RecipeSchema.groups.joined(separator: ", "))"
                        + (RecipeSchema.nearestAtTop(to: groupName).map { " (did you mean \($0)?)" } ?? ""))
            }
            // A group with nothing below it is a group with its defaults.
            if case .scalar(let scalar) = group, scalar.string.isEmpty { continue }
            guard case .mapping(let keys) = group else {
                throw RecipeError(place, "\(groupName) is a group; its keys stand below it, indented")
            }
            for (keyNode, valueNode) in keys {
                let keyPath = groupName + "." + (keyNode.string ?? "")
                let place = "\(path):\(keyNode.mark?.line ?? 1)"
                guard seen.insert(keyPath).inserted else {
                    throw RecipeError(place, "\(keyPath) stands here a second time")
                }
                try take(valueNode, for: keyPath, place)
            }
        }
    }

    private mutating func apply(_ override: String) throws {
        let place = "--set \(override)"
        guard let equals = override.firstIndex(of: "=") else {
            throw RecipeError(place, "expected is group.key=value")
        }
        let path = String(override[..<equals])
        let text = String(override[override.index(after: equals)...])
        try RecipeText.check(text.utf8) { _ in place }
        let node: Node
        do {
            node = try Yams.compose(yaml: text) ?? Node("")
        } catch {
            throw RecipeError(place, "the value is not YAML")
        }
        try take(node, for: path, place)
    }

    private mutating func take(_ node: Node, for path: String, _ place: String) throws {
        if let group = ModuleSection.owner(of: path) {
            try sections[group, default: ModuleSection()].take(node, for: path, place)
        } else {
            values[path] = try Recipe.value(of: node, for: path, place)
        }
        places[path] = place
    }

    private static func value(of node: Node, for path: String, _ place: String) throws -> RecipeValue {
        guard let key = RecipeSchema.byPath[path] else {
            throw RecipeError(place, "unknown key \"\(path)\"" + RecipeSchema.suggestion(forPath: path))
        }
        switch node {
        case .scalar(let scalar):
            let isQuoted = scalar.style == .singleQuoted || scalar.style == .doubleQuoted
            guard let value = key.value(of: scalar.string, isQuoted: isQuoted) else {
                let found = isQuoted || scalar.string.isEmpty ? "\"\(scalar.string)\"" : scalar.string
                throw RecipeError(place, "\(path): expected is \(key.expectation), not \(found)")
            }
            return value
        case .sequence(let items):
            guard case .list = key.kind else {
                throw RecipeError(place, "\(path): expected is \(key.expectation), not a list")
            }
            let texts = items.compactMap { item -> String? in
                if case .scalar(let scalar) = item { scalar.string } else { nil }
            }
            guard texts.count == items.count else {
                throw RecipeError(place, "\(path): expected is \(key.expectation)")
            }
            return .list(texts)
        default:
            throw RecipeError(place, "\(path): expected is \(key.expectation), not a group")
        }
    }

    private static func place(of error: YamlError) -> String {
        switch error {
        case .scanner(_, _, let mark, _), .parser(_, _, let mark, _), .composer(_, _, let mark, _):
            ":\(mark.line)"
        // The mark is where the key stands first.
        case .duplicatedKeysInMapping(_, let context): ":\(context.mark.line)"
        case .reader(_, let offset?, _, let yaml):
            ":\(yaml.utf8.prefix(offset).count { $0 == UInt8(ascii: "\n") } + 1)"
        default: ""
        }
    }

    private static func problem(of error: YamlError) -> String {
        switch error {
        case .parser(_, let problem, _, _) where problem.hasPrefix("Maximum nesting level"):
            "more than \(RecipeText.deepest) levels stand inside each other, which no value of a recipe needs"
        case .scanner(_, let problem, _, _), .parser(_, let problem, _, _), .composer(_, let problem, _, _):
            "not YAML: \(problem)"
        case .duplicatedKeysInMapping(let duplicates, _):
            "the key \(duplicates.sorted().joined(separator: ", ")) stands here and a second time below; keep one"
        case .reader(let problem, _, _, _): "not YAML: \(problem)"
        default: "not YAML"
        }
    }

    // MARK: Values

    /// A value that is right by itself but does not go with the data or with another.
    func error(_ key: String, _ problem: String) -> RecipeError {
        RecipeError(places[key] ?? path, "\(key): \(problem)")
    }

    /// Whether the recipe says something else than the default.
    func isGiven(_ path: String) -> Bool { values[path] != RecipeSchema.byPath[path]?.defaultValue }

    func integer(_ path: String) -> Int {
        if case .integer(let value)? = values[path] { value } else { 0 }
    }

    func number(_ path: String) -> Double {
        if case .number(let value)? = values[path] { value } else { 0 }
    }

    func optionalNumber(_ path: String) -> Double? {
        if case .number(let value)? = values[path] { value } else { nil }
    }

    func text(_ path: String) -> String {
        if case .text(let value)? = values[path] { value } else { "" }
    }

    func optionalText(_ path: String) -> String? {
        if case .text(let value)? = values[path] { value } else { nil }
    }

    func flag(_ path: String) -> Bool { values[path] == .flag(true) }

    func list(_ path: String) -> [String] {
        if case .list(let value)? = values[path] { value } else { [] }
    }

    /// The whole recipe with every value, as YAML that reads back as this recipe.
    var yaml: String {
        var text = Recipe.title + name.split(whereSeparator: \.isNewline).joined(separator: " ") + "\n"
        var group = ""
        for key in RecipeSchema.keys {
            let parts = key.path.split(separator: ".")
            if parts[0] != group {
                group = String(parts[0])
                text += "\(group):\n"
            }
            text += "  \(parts[1]): \(values[key.path]!.yaml)\n"
            if parts[1] == "layout", let section = sections[group] { text += section.yaml }
        }
        return text
    }

    /// The keys whose values differ in a way that a resumed run may not: `training.steps` may grow, and where the
    /// run is found and what file its outcome goes to change nothing of it.
    func differences(from earlier: Recipe) -> [(path: String, earlier: String, now: String)] {
        let isLonger = integer("training.steps") > earlier.integer("training.steps")
        let keys = RecipeSchema.keys.map(\.path)
            .filter {
                values[$0] != earlier.values[$0] && !["output.folder", "output.results"].contains($0)
                    && !($0 == "training.steps" && isLonger)
            }
            .map { ($0, earlier.values[$0]!.yaml, values[$0]!.yaml) }
        return keys
            + ModuleSection.groups.flatMap { group in
                let (given, before) = (sections[group]?.values ?? [:], earlier.sections[group]?.values ?? [:])
                return Set(given.keys).union(before.keys).sorted().filter { given[$0] != before[$0] }.map {
                    (
                        group + "." + $0, before[$0]?.description ?? "not given",
                        given[$0]?.description ?? "not given"
                    )
                }
            }
    }
}
