import Foundation
import Fovea

/// What assignments key=value say, each value as JSON has it; what is none is a text.
///
/// - Parameter option: whose they are, for errors.
func configurationValues(_ assignments: [String], of option: String) throws -> [String: ConfigurationValue] {
    try assignments.reduce(into: [:]) { values, assignment in
        guard let equals = assignment.firstIndex(of: "=") else {
            throw CommandError("\(option) \(assignment): expected is key=value")
        }
        let text = String(assignment[assignment.index(after: equals)...])
        values[String(assignment[..<equals])] =
            (try? JSONDecoder().decode(ConfigurationValue.self, from: Data(text.utf8))) ?? .string(text)
    }
}

/// A module of the catalogue in one of its published forms, as commands name it.
struct PublishedModule {
    let form: PublishedForm
    private let entry: ModuleEntry

    /// - Parameters:
    ///   - module: its name.
    ///   - layout: whose names; the module's first unless given.
    /// - Throws: `CommandError` for an unknown name, with the nearest one.
    init(_ module: String, layout: String?) throws {
        guard let entry = ModuleCatalogue.entry(module) else {
            throw CommandError(
                "there is no module \(module)" + suggestion(for: module, among: ModuleCatalogue.entries.map(\.name)))
        }
        self.entry = entry
        guard let layout else {
            form = entry.forms[0]
            return
        }
        guard let form = entry.form(layout) else {
            throw CommandError(
                "\(module) has no layout \(layout); known are \(PublishedModule.layouts(of: entry))")
        }
        self.form = form
    }

    /// Whose names there are, for errors.
    var layouts: String { PublishedModule.layouts(of: entry) }

    private static func layouts(of entry: ModuleEntry) -> String {
        entry.forms.map(\.layout).joined(separator: ", ")
    }

    /// The module with its weights.
    ///
    /// - Parameters:
    ///   - weights: a safetensors file, the index of several, or the folder of either; nil for a module without.
    ///   - config: a JSON object of configuration keys; everything as the weights and the defaults say unless given.
    ///   - dtype: the type to compute in.
    func instance(weights: String?, config: String?, dtype: DType) throws -> any ModuleInstance {
        let source = weights ?? "--weights"
        do {
            return try form.instance(
                try config.map(configuration) ?? [:],
                weights: try weights.map { try SafetensorsArchive(reading: $0).tensors() } ?? [:],
                dtype: dtype, owner: config ?? source, source: source)
        } catch is WeightsError where weights == nil {
            throw CommandError("\(entry.name) has weights; name their file with --weights")
        }
    }

    private func configuration(_ path: String) throws -> [String: ConfigurationValue] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw FileError(
                path: path, problem: "the configuration cannot be read; expected is a file that holds a JSON object")
        }
        if let name = repeatedMember(in: data) {
            throw FileError(path: path, problem: "has \"\(name)\" twice; leave one of them out")
        }
        // A parity case keeps its configuration one level down.
        if let parsed = try? JSONDecoder().decode(ParityCase.self, from: data) { return parsed.config }
        guard let parsed = try? JSONDecoder().decode([String: ConfigurationValue].self, from: data) else {
            throw FileError(path: path, problem: "is not a JSON object of configuration keys")
        }
        return parsed
    }

    private struct ParityCase: Decodable {
        let module: String
        let config: [String: ConfigurationValue]
    }
}
