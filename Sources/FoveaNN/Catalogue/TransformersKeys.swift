import FoveaTensor

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
        let base = number("rope_theta", "base of the rotary angles", above: 0)
        let stretching =
            ["rope_type", "type"].map { choice($0, "how angles are stretched", of: ["default", "linear", "llama3"]) }
            + [
                number("factor", "by how much", atLeast: 1),
                number("low_freq_factor", "turns in the original length below which all of it counts", above: 0),
                number("high_freq_factor", "turns from which none of it does", above: 0),
                size("original_max_position_embeddings", "the original length"),
            ]
        return [
            .number("rope_theta", "base of the rotary angles", default: 10_000.0, above: 0),
            .object(
                "rope_parameters", "the rotary angles, or null for rope_theta",
                of: [base] + stretching, default: .null),
            .object("rope_scaling", "how angles are stretched, or null", of: [base] + stretching, default: .null),
        ]
    }()
}

extension Configuration {
    /// How fast the rotary angles grow, wherever it stands.
    ///
    /// - Throws: `ModuleInputError` for a way to stretch them that lacks a number.
    package func rotary() throws -> RotaryFrequencies {
        let places = ["rope_parameters", "rope_scaling"].compactMap { name in object(name).map { (name, $0) } }
        let base = places.compactMap { $0.1["rope_theta"]?.number }.first ?? double("rope_theta")
        for (name, values) in places {
            guard case .string(let kind)? = values["rope_type"] ?? values["type"], kind != "default" else { continue }
            func number(_ member: String) throws -> Double {
                if let value = values[member]?.number { return value }
                throw error("\"\(name)\" lacks the \"\(member)\" of \(kind)")
            }
            let factor = try number("factor")
            guard kind == "llama3" else { return RotaryFrequencies(base: base, scaling: .linear(factor: factor)) }
            let (low, high) = (try number("low_freq_factor"), try number("high_freq_factor"))
            guard low < high else {
                throw error(
                    "\"\(name)\": \"low_freq_factor\" \(low) must be below \"high_freq_factor\", which is \(high)")
            }
            let original = try number("original_max_position_embeddings")
            return RotaryFrequencies(
                base: base, scaling: .llama3(factor: factor, low: low, high: high, original: original))
        }
        return RotaryFrequencies(base: base)
    }
}
