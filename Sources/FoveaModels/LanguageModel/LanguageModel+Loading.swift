import FoveaNN

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
        let published = try PublishedFolder(folder)
        let layouts = Dictionary(uniqueKeysWithValues: entry.forms.map { ($0.layout, $0.layout) })
        return try published.module(published.configuration, layouts: layouts, of: entry, keepsMatrices: true)
    }
}
