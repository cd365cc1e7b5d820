import Foundation
import Fovea

/// A module of the catalogue in one of its published forms, as commands name it.
struct PublishedModule {
    let form: PublishedForm

    /// - Throws: `CommandError` for an unknown name, with the known ones.
    init(_ module: String, layout: String) throws {
        guard let entry = ModuleCatalogue.entry(module) else {
            throw CommandError(
                "there is no module \(module); known are \(ModuleCatalogue.entries.map(\.name).joined(separator: ", "))"
            )
        }
        guard let form = entry.form(layout) else {
            throw CommandError(
                "\(module) has no layout \(layout); known are \(entry.forms.map(\.layout).joined(separator: ", "))")
        }
        self.form = form
    }

    /// The module with its weights.
    ///
    /// - Parameters:
    ///   - weights: a safetensors file, the index of several, or the folder of either.
    ///   - config: a JSON object of configuration keys; everything as the weights and the defaults say unless given.
    ///   - dtype: the type to compute in.
    func instance(weights: String, config: String?, dtype: DType) throws -> any ModuleInstance {
        try form.instance(
            try config.map(configuration) ?? [:], weights: try SafetensorsArchive(reading: weights).tensors(),
            dtype: dtype, owner: config ?? weights, source: weights)
    }

    private func configuration(_ path: String) throws -> [String: ConfigurationValue] {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw FileError(path: path, problem: "the configuration cannot be read")
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
