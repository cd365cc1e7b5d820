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
                .llama, sizes: (vocabulary: 32_000, hidden: 11_008, context: 2048),
                extraKeys: [
                    .flag(
                        "attention_bias", "whether the projections of attention have biases", default: false,
                        from: .presence(of: "model.layers.0.self_attn.q_proj.bias")),
                    .flag(
                        "mlp_bias", "whether the MLP has biases", default: false,
                        from: .presence(of: "model.layers.0.mlp.gate_proj.bias")),
                    .ignored("pretraining_tp"),
                ]
            ) { options, configuration in
                options.attentionBias = configuration.bool("attention_bias")
                options.outputBias = options.attentionBias
                options.mlpBias = configuration.bool("mlp_bias")
            },
            form(
                .qwen2, sizes: (vocabulary: 151_936, hidden: 22_016, context: 32_768),
                extraKeys: [
                    .constant("use_sliding_window", "every layer sees the whole sequence", false),
                    .ignored("sliding_window"), .ignored("max_window_layers"), .ignored("layer_types"),
                ]
            ) { options, _ in options.attentionBias = true },
        ])

    /// One published form; the two families share all but a few keys.
    private static func form(
        _ layout: WeightLayout<LanguageModel>, sizes: (vocabulary: Int, hidden: Int, context: Int),
        extraKeys: [ConfigurationKey], adapt: @escaping @Sendable (inout Options, Configuration) -> Void
    ) -> PublishedForm {
        let layer = "model.layers.0."
        return PublishedForm(
            layout,
            keys: [
                .size(
                    "vocab_size", "tokens V", default: .int(sizes.vocabulary),
                    from: .axis(0, of: "model.embed_tokens.weight")),
                .size("hidden_size", "width D", default: 4096, from: .axis(1, of: "model.embed_tokens.weight")),
                .size(
                    "intermediate_size", "the width inside the MLP", default: .int(sizes.hidden),
                    from: .axis(0, of: layer + "mlp.gate_proj.weight")),
                .size(
                    "num_hidden_layers", "layers", default: 32, atLeast: 0,
                    from: .count(of: "model.layers.*.input_layernorm.weight")),
                .size("num_attention_heads", "heads H", default: 32),
                .size(
                    "head_dim", "width of a head, or null for D / H", default: .null,
                    from: .axis(0, of: layer + "self_attn.q_proj.weight", over: "num_attention_heads")),
                .size(
                    "num_key_value_heads", "heads G of keys and values, or null for H", default: .null,
                    from: .axis(0, of: layer + "self_attn.k_proj.weight", over: "head_dim")),
                .size("max_position_embeddings", "the most tokens of a sequence", default: .int(sizes.context)),
                .number("initializer_range", "deviation of fresh weights", default: 0.02),
                .number("rms_norm_eps", "added to the mean of squares", default: 1e-6, atLeast: 0),
                .flag("tie_word_embeddings", "whether the embedding is the head too", default: false),
                .choice(
                    "hidden_act", "the function of the MLP's gate", of: Activation.publishedNames, default: "silu"),
                .number("attention_dropout", "share of attention weights dropped in training", default: 0.0),
            ] + extraKeys + ConfigurationKey.rotary + ConfigurationKey.generation + ConfigurationKey.transformers,
            inputs: [
                .init("inputs_embeds", "[B, T, hidden_size]", optional: true),
                .init("input_ids", "[B, T]", .indices, optional: true),
                .init("attention_mask", "[B, T]", .mask, optional: true),
            ],
            outputs: [.init("logits", "[B, T, vocab_size]")],
            sample: [
                "vocab_size": 5, "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.5,
            ],
            sampleInputs: { ["inputs_embeds": $0.uniform([2, 3, 8])] },
            make: { LanguageModel(try Options(published: $0, adapt: adapt), key: $0.key) },
            run: { model, inputs in
                let (embedded, ids) = (inputs.optional("inputs_embeds"), inputs.optional("input_ids"))
                guard (embedded == nil) != (ids == nil), let tokens = embedded ?? ids else {
                    throw ModuleInputError("the inputs need \"inputs_embeds\" or \"input_ids\", and not both")
                }
                guard tokens.shape[1] <= model.options.contextLength else {
                    let name = embedded == nil ? "input_ids" : "inputs_embeds"
                    throw ModuleInputError(
                        "input \(name) has \(tokens.shape[1]) tokens; the context holds \(model.options.contextLength)")
                }
                if let ids, let problem = model.options.problem(with: ids.scalars(as: Int64.self).map(Int.init)) {
                    throw ModuleInputError("input input_ids: \(problem)")
                }
                return [
                    "logits": model(
                        embeddings: embedded ?? model.embed(tokens), mask: inputs.optional("attention_mask"))
                ]
            })
    }
}

extension LanguageModel.Options {
    /// The sizes that a published configuration states.
    fileprivate init(published configuration: Configuration, adapt: (inout Self, Configuration) -> Void) throws {
        self.init(
            vocabulary: configuration.int("vocab_size"), width: configuration.int("hidden_size"),
            hidden: configuration.int("intermediate_size"), depth: configuration.int("num_hidden_layers"),
            heads: configuration.int("num_attention_heads"),
            keyHeads: configuration.optionalInt("num_key_value_heads"),
            headWidth: configuration.optionalInt("head_dim"),
            activation: Activation(published: configuration.string("hidden_act")) ?? .silu,
            tiesHead: configuration.bool("tie_word_embeddings"),
            epsilon: configuration.double("rms_norm_eps"), rotary: try configuration.rotary(),
            contextLength: configuration.int("max_position_embeddings"),
            attentionDropout: configuration.double("attention_dropout"),
            deviation: configuration.double("initializer_range"))
        adapt(&self, configuration)
        if let problem = SelfAttention.problem(width, heads: heads, keyHeads: keyHeads, headWidth: headWidth) {
            throw configuration.error(problem)
        }
        guard (0..<1).contains(attentionDropout) else {
            throw configuration.error("\"attention_dropout\" must be in 0 ..< 1, not \(attentionDropout)")
        }
    }
}
