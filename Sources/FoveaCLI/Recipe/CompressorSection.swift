import Fovea
import Yams

/// What a recipe says below `compressor` besides the module's name: configuration keys of its published form.
///
/// The catalogue is the schema: every module that can compress may be named, with the keys that `fovea modules` shows.
struct CompressorSection: Equatable {
    static let group = "compressor"

    /// The configuration, as far as it is given.
    private(set) var values: [String: ConfigurationValue] = [:]
    /// In the order in which they were given.
    private var order: [String] = []

    /// Whether a path is for this section and not one of the schema's keys.
    static func owns(_ path: String) -> Bool {
        path.hasPrefix(group + ".") && RecipeSchema.byPath[path] == nil
    }

    /// Takes the value of `compressor.<key>`; what the key may have is checked when the module is known.
    mutating func take(_ node: Node, for path: String, _ place: String) throws {
        let key = String(path.dropFirst(CompressorSection.group.count + 1))
        if values.updateValue(try CompressorSection.value(of: node, path, place), forKey: key) == nil {
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
    /// The published form that the recipe names.
    func compressorForm() throws -> PublishedForm {
        let name = text("compressor.module")
        guard let entry = ModuleCatalogue.entry(name) else {
            let nearest = nearestWord(to: name, among: ModuleCatalogue.entries.map(\.name))
            throw error("compressor.module", "there is no module \"\(name)\"; did you mean \(nearest)?")
        }
        guard let layout = optionalText("compressor.layout") else { return entry.forms[0] }
        guard let form = entry.form(layout) else {
            throw error(
                "compressor.layout",
                "\(name) has no layout \"\(layout)\"; known are \(entry.forms.map(\.layout).joined(separator: ", "))")
        }
        return form
    }

    /// The compressor for tokens of a shape, with fresh weights.
    func compressor(for tokens: TokenShape, key: RandomKey) throws -> AnyCompressor {
        let form = try compressorForm()
        var configuration = compressorSection.values
        for (name, value) in configuration {
            let path = CompressorSection.group + "." + name
            guard let known = form.keys.first(where: { $0.name == name }) else {
                let nearest = nearestWord(to: name, among: form.keys.map(\.name))
                throw error(path, "\(text("compressor.module")) has no such key; did you mean \(nearest)?")
            }
            if let complaint = known.complaint(about: value) { throw error(path, complaint) }
        }
        // The encoder's tokens say how wide they are.
        if let widthKey = form.widthKey, configuration[widthKey] == nil { configuration[widthKey] = .int(tokens.width) }
        do {
            let module = try form.instance(configuration, key: key, owner: "compressor").module
            guard let compressor = module as? any Compressor else {
                throw ModuleInputError("\(text("compressor.module")) is no compressor")
            }
            if let problem = compressor.problem(with: tokens) { throw ModuleInputError(problem) }
            return AnyCompressor(compressor)
        } catch let problem as ModuleInputError {
            throw error("compressor.module", "\(problem)")
        }
    }
}
