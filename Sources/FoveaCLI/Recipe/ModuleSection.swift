import Fovea
import Yams

/// What a recipe says below `compressor` or `injection` besides the module's name: configuration keys of its published form.
///
/// The catalogue is the schema: every module that fits may be named, with the keys that `fovea modules` shows.
struct ModuleSection: Equatable {
    static let groups = ["compressor", "injection"]

    /// The configuration, as far as it is given.
    private(set) var values: [String: ConfigurationValue] = [:]
    /// In the order in which they were given.
    private var order: [String] = []

    /// The section that a path is for; nil where it is one of the schema's keys.
    static func owner(of path: String) -> String? {
        guard RecipeSchema.byPath[path] == nil else { return nil }
        return groups.first { path.hasPrefix($0 + ".") }
    }

    /// Takes the value of `<group>.<key>`; what the key may have is checked when the module is known.
    mutating func take(_ node: Node, for path: String, _ place: String) throws {
        let key = String(path[path.index(after: path.firstIndex(of: ".")!)...])
        if values.updateValue(try ModuleSection.value(of: node, path, place), forKey: key) == nil {
            order.append(key)
        }
    }

    private static func value(of node: Node, _ path: String, _ place: String) throws -> ConfigurationValue {
        switch node {
        case .scalar(let scalar):
            let isQuoted = scalar.style == .singleQuoted || scalar.style == .doubleQuoted
            guard !isQuoted else { return .string(scalar.string) }
            switch scalar.string {
            case "null", "~", "": return .null
            case "true": return .bool(true)
            case "false": return .bool(false)
            default: break
            }
            if let value = Int(scalar.string) { return .int(value) }
            if let value = Double(scalar.string), value.isFinite { return .double(value) }
            return .string(scalar.string)
        case .sequence(let items): return .list(try items.map { try value(of: $0, path, place) })
        default: throw RecipeError(place, "\(path): expected is a value or a list, not a group")
        }
    }

    /// As YAML, a line a key.
    var yaml: String {
        order.map { "  \($0): \(values[$0]!)\n" }.joined()
    }
}

extension Recipe {
    /// The published form that a group of the recipe names.
    func form(of group: String) throws -> PublishedForm {
        let name = text(group + ".module")
        guard let entry = ModuleCatalogue.entry(name) else {
            throw error(
                group + ".module",
                "there is no module \"\(name)\"" + suggestion(for: name, among: ModuleCatalogue.entries.map(\.name)))
        }
        guard let layout = optionalText(group + ".layout") else { return entry.forms[0] }
        guard let form = entry.form(layout) else {
            throw error(
                group + ".layout",
                "\(name) has no layout \"\(layout)\"; known are \(entry.forms.map(\.layout).joined(separator: ", "))")
        }
        return form
    }

    /// The configuration of a group's module.
    ///
    /// - Parameters:
    ///   - group: compressor or injection.
    ///   - form: of the module.
    ///   - known: what is known of it besides, for keys that the form has; what the recipe gives wins.
    func configuration(
        of group: String, _ form: PublishedForm, known: [String: ConfigurationValue]
    ) throws -> [String: ConfigurationValue] {
        let given = sections[group]?.values ?? [:]
        for (name, value) in given {
            let path = group + "." + name
            guard let key = form.keys.first(where: { $0.name == name }) else {
                throw error(
                    path,
                    "\(text(group + ".module")) has no such key"
                        + suggestion(for: name, among: form.keys.map(\.name)))
            }
            if let complaint = key.complaint(about: value) { throw error(path, complaint) }
        }
        return known.filter { name, _ in form.keys.contains { $0.name == name } }.merging(given) { $1 }
    }

    /// The compressor for tokens of a shape, with fresh weights.
    ///
    /// - Parameters:
    ///   - tokens: what it gets of a picture.
    ///   - mayVary: whether pictures may come out with different numbers of tokens.
    ///   - key: of the random numbers that it starts with.
    func compressor(for tokens: TokenShape, mayVary: Bool = false, key: RandomKey) throws -> AnyCompressor {
        let form = try form(of: "compressor")
        // The encoder's tokens say how wide they are.
        let known = form.widthKey.map { [$0: ConfigurationValue.int(tokens.width)] } ?? [:]
        let configuration = try configuration(of: "compressor", form, known: known)
        do {
            let module = try form.instance(configuration, key: key, owner: "compressor").module
            guard let compressor = module as? any Compressor else {
                throw ModuleInputError("\(text("compressor.module")) is no compressor")
            }
            if let problem = mayVary ? compressor.refusal(of: tokens) : compressor.problem(with: tokens) {
                throw ModuleInputError(problem)
            }
            if let reducer = compressor as? any TokenReducer, reducer.importance == .classToken {
                throw ModuleInputError(
                    "\"importance\" is class-token, and a recipe's encoder has none; available or proxy do without")
            }
            return AnyCompressor(compressor)
        } catch let problem as ModuleInputError {
            throw error("compressor.module", "\(problem)")
        }
    }
}
