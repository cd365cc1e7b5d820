import FoveaNN

extension VisionEncoder {
    /// The encoder of a published folder: `config.json`, and safetensors in one file or several with their index. The folder may be
    /// of the encoder alone (`clip_vision_model`, `siglip_vision_model`), or of a model that has one, such as CLIP, SigLIP or
    /// LLaVA: its `vision_config` then counts, and what belongs to other parts is left alone.
    ///
    /// The weights become float32.
    ///
    /// - Parameter folder: the folder.
    /// - Throws: `FileError` for files that cannot be read; `ModuleInputError` for a configuration of another kind of
    ///   model, or that is wrong or contradicts the weights; `WeightsError` for weights that do not fit.
    public static func load(from folder: String) throws -> VisionEncoder {
        let published = try PublishedFolder(folder)
        var configuration = published.configuration
        if case .object(var own)? = configuration["vision_config"] {
            // What is left out there is what the whole model's type says.
            if own["model_type"] == nil, case .string(let type)? = configuration["model_type"] {
                own["model_type"] = .string(type + "_vision_model")
            }
            configuration = own
        }
        return try published.module(
            configuration, layouts: ["clip_vision_model": "clip", "siglip_vision_model": "siglip"], of: entry,
            keepsMatrices: false)
    }
}
