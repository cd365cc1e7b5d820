extension ConfigurationKey {
    /// What every configuration of transformers may hold besides its model's own keys.
    package static let transformers: [ConfigurationKey] = [
        "_name_or_path", "architectures", "chunk_size_feed_forward", "dtype", "id2label", "is_encoder_decoder",
        "label2id", "model_type", "output_attentions", "output_hidden_states", "problem_type", "return_dict",
        "torch_dtype", "transformers_version",
    ].map { .ignored($0) }

    /// What configurations of language models of transformers say of generation.
    package static let generation: [ConfigurationKey] = [
        .ignored("use_cache"), .ignored("pad_token_id"), .ignored("bos_token_id"), .ignored("eos_token_id"),
    ]

    /// The rotary angles, by transformers 5 (`rope_parameters`) and as before it (`rope_theta`, `rope_scaling`).
    package static let rotary: [ConfigurationKey] = {
        let kinds = ["rope_type", "type"].map {
            choice($0, "how angles are stretched", of: ["default"], default: "default")
        }
        return [
            .number("rope_theta", "base of the rotary angles", default: 10_000.0, above: 0),
            .object(
                "rope_parameters", "the rotary angles, or null for rope_theta",
                of: [.number("rope_theta", "base of the rotary angles", above: 0)] + kinds, default: .null),
            .object("rope_scaling", "how angles are stretched, or null", of: kinds, default: .null),
        ]
    }()
}

extension Configuration {
    /// The base of the rotary angles, wherever it stands.
    package var rotaryBase: Double { object("rope_parameters")?["rope_theta"]?.number ?? double("rope_theta") }
}
