import FoveaNN
import FoveaTensor

extension WeightLayout where Model == LanguageModel {
    /// The names of transformers' `LlamaForCausalLM`.
    public static var llama: Self { transformers("llama") }

    /// The names of transformers' `Qwen2ForCausalLM`.
    public static var qwen2: Self { transformers("qwen2") }

    /// Both families call everything the same; a tied head has no tensor of its own.
    private static func transformers(_ name: String) -> Self {
        let layer = "model.layers.*."
        let linears = [
            ("attention.query", "self_attn.q_proj"), ("attention.key", "self_attn.k_proj"),
            ("attention.value", "self_attn.v_proj"), ("attention.output", "self_attn.o_proj"),
            ("mlp.gate", "mlp.gate_proj"), ("mlp.up", "mlp.up_proj"), ("mlp.down", "mlp.down_proj"),
        ]
        return WeightLayout(
            name,
            [
                .rename("embedding", "model.embed_tokens.weight"),
                .rename("layers.*.attentionNorm.weight", layer + "input_layernorm.weight"),
                .rename("layers.*.mlpNorm.weight", layer + "post_attention_layernorm.weight"),
                .rename("norm.weight", "model.norm.weight"),
                .rename("head.weight", "lm_head.weight"),
            ]
                + linears.flatMap { ours, theirs in
                    ["weight", "bias"].map { .rename("layers.*.\(ours).\($0)", layer + "\(theirs).\($0)") }
                })
    }
}

extension LanguageModel {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "language-model", "a causal decoder: embedded tokens to logits",
        forms: [
            form(
                .llama, family: "llama", sizes: (vocabulary: 32_000, hidden: 11_008, context: 2048),
                extraKeys: [
                    .init("attention_bias", "whether the projections of attention have biases", default: .bool(false)),
                    .init("mlp_bias", "whether the MLP has biases", default: .bool(false)),
                ]
            ) { options, configuration in
                options.attentionBias = try configuration.bool("attention_bias")
                options.outputBias = options.attentionBias
                options.mlpBias = try configuration.bool("mlp_bias")
            },
            form(
                .qwen2, family: "qwen2", sizes: (vocabulary: 151_936, hidden: 22_016, context: 32_768), extraKeys: []
            ) { options, _ in options.attentionBias = true },
        ])

    /// One published form; the two families share all but a few keys.
    private static func form(
        _ layout: WeightLayout<LanguageModel>, family: String, sizes: (vocabulary: Int, hidden: Int, context: Int),
        extraKeys: [ConfigurationKey],
        adapt: @escaping @Sendable (inout Options, Configuration) throws -> Void
    ) -> PublishedForm {
        PublishedForm(
            layout,
            keys: [
                .init("vocab_size", "tokens V", default: .int(sizes.vocabulary)),
                .init("hidden_size", "width D", default: .int(4096)),
                .init("intermediate_size", "the width inside the MLP", default: .int(sizes.hidden)),
                .init("num_hidden_layers", "layers", default: .int(32)),
                .init("num_attention_heads", "heads H", default: .int(32)),
                .init("num_key_value_heads", "heads G of keys and values, or null for H", default: .null),
                .init("head_dim", "width of a head, or null for D / H", default: .null),
                .init("max_position_embeddings", "the most tokens of a sequence", default: .int(sizes.context)),
                .init("initializer_range", "deviation of fresh weights", default: .double(0.02)),
                .init("rms_norm_eps", "added to the mean of squares", default: .double(1e-6)),
                .init("rope_theta", "base of the rotary angles", default: .double(10_000)),
                .init("tie_word_embeddings", "whether the embedding is the head too", default: .bool(false)),
                .init("attention_dropout", "share of attention weights dropped in training", default: .double(0)),
            ] + extraKeys,
            inputs: [.init("inputs_embeds", "[B, T, D]")], outputs: [.init("logits", "[B, T, V]")],
            sampleConfiguration: [
                "vocab_size": .int(5), "hidden_size": .int(8), "intermediate_size": .int(6),
                "num_hidden_layers": .int(2), "num_attention_heads": .int(4), "num_key_value_heads": .int(2),
                "initializer_range": .double(0.5),
            ],
            sampleInputs: { ["inputs_embeds": $0.uniform([2, 3, 8])] },
            make: { configuration in
                let options = try Options(published: configuration, family: family, adapt: adapt)
                return LanguageModel(options, key: RandomKey(seed: 0))
            },
            run: { model, inputs in
                let x = try inputs.tensor("inputs_embeds", "[B, T, D]", rank: 3, lastAxis: model.options.width)
                guard x.shape[1] <= model.options.contextLength else {
                    throw ModuleInputError(
                        "input inputs_embeds has \(x.shape[1]) tokens; the context holds \(model.options.contextLength)"
                    )
                }
                return ["logits": model(embeddings: x)]
            })
    }
}

extension LanguageModel.Options {
    /// The sizes that a published configuration states.
    fileprivate init(
        published configuration: Configuration, family: String,
        adapt: (inout Self, Configuration) throws -> Void
    ) throws {
        self.init(
            vocabulary: try configuration.int("vocab_size"), width: try configuration.int("hidden_size"),
            hidden: try configuration.int("intermediate_size"),
            depth: try configuration.int("num_hidden_layers", atLeast: 0),
            heads: try configuration.int("num_attention_heads"),
            keyHeads: try configuration.optionalInt("num_key_value_heads"),
            headWidth: try configuration.optionalInt("head_dim"),
            tiesHead: try configuration.bool("tie_word_embeddings"),
            epsilon: try configuration.double("rms_norm_eps"), rotaryBase: try configuration.double("rope_theta"),
            contextLength: try configuration.int("max_position_embeddings"),
            attentionDropout: try configuration.double("attention_dropout"),
            deviation: try configuration.double("initializer_range"))
        try adapt(&self, configuration)
        if let problem = SelfAttention.problem(width, heads: heads, keyHeads: keyHeads, headWidth: headWidth) {
            throw ModuleInputError("\(family): \(problem)")
        }
        guard (0..<1).contains(attentionDropout) else {
            throw ModuleInputError("\(family): \"attention_dropout\" must be in 0 ..< 1, not \(attentionDropout)")
        }
    }
}
