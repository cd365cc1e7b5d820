import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor

extension LanguageModel {
    /// The model of a published folder: `config.json`, and safetensors in one file or several with their index.
    ///
    /// Files are mapped: what is read is what is touched. Matrices of 16 bits stay where they lie and are widened as they
    /// are multiplied; norms and biases become float32, which everything is computed in. Such matrices are constants:
    /// `cast(to: .float32)` makes a model that can be trained.
    ///
    /// - Parameter folder: the folder.
    /// - Throws: `FileError` for files that cannot be read; `ModuleInputError` for a configuration of another kind of
    ///   model, or that is wrong or contradicts the weights; `WeightsError` for weights that do not fit.
    public static func load(from folder: String) throws -> LanguageModel {
        let path = folder + "/config.json"
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
        guard case .string(let type)? = given["model_type"], let form = entry.form(type) else {
            throw ModuleInputError(
                "\(path): \"model_type\" is \(given["model_type"] ?? .null); known are "
                    + entry.forms.map(\.layout).joined(separator: ", "))
        }
        let instance = try form.instance(
            given, weights: try SafetensorsArchive(reading: folder).tensors(), owner: path, source: folder,
            keepsMatrices: true)
        guard let model = instance.module as? LanguageModel else {
            trap("LanguageModel", "the form \(type) makes another kind of module")
        }
        return model
    }
}
