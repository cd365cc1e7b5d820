import Foundation
import FoveaIO
import FoveaTensor

/// A model's folder as transformers writes it: `config.json`, and safetensors in one file or several with their index.
package struct PublishedFolder {
    private let folder: String
    /// Where the configuration is, for errors.
    private let path: String
    /// What `config.json` says.
    package let configuration: [String: ConfigurationValue]

    /// - Throws: `FileError` where there is no folder, or no configuration in it.
    package init(_ folder: String) throws(FileError) {
        self.folder = folder
        path = folder + "/config.json"
        guard FileManager.default.fileExists(atPath: folder) else {
            throw FileError(path: folder, problem: "there is no such folder")
        }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw FileError(
                path: path,
                problem: "cannot be read; expected is a published model's folder, config.json and its weights")
        }
        guard let given = try? JSONDecoder().decode([String: ConfigurationValue].self, from: data) else {
            throw FileError(path: path, problem: "is not a JSON object of configuration keys")
        }
        configuration = given
    }

    /// The folder's module: of the form that the type of the model names, with its weights, which are mapped.
    ///
    /// - Parameters:
    ///   - configuration: the module's part of the folder's.
    ///   - layouts: the names of the forms, by the types that stand for them.
    ///   - entry: whose forms they are.
    ///   - keepsMatrices: whether matrices of a storage type stay as they are; see `Module.load`.
    /// - Throws: `ModuleInputError` for a configuration of another kind of model, or that is wrong or contradicts the weights;
    ///   `FileError` for weights that cannot be read; `WeightsError` for weights that do not fit.
    package func module<Model: Module>(
        _ configuration: [String: ConfigurationValue], layouts: [String: String], of entry: ModuleEntry,
        keepsMatrices: Bool
    ) throws -> Model {
        guard case .string(let type)? = configuration["model_type"], let layout = layouts[type],
            let form = entry.form(layout)
        else {
            throw ModuleInputError(
                "\(path): \"model_type\" is \(configuration["model_type"] ?? .null); known are "
                    + layouts.keys.sorted().joined(separator: ", "))
        }
        let instance = try form.instance(
            configuration, weights: try SafetensorsArchive(reading: folder).tensors(), owner: path, source: folder,
            keepsMatrices: keepsMatrices)
        guard let model = instance.module as? Model else {
            trap("load", "the form \(layout) makes another kind of module than \(Model.self)")
        }
        return model
    }
}
