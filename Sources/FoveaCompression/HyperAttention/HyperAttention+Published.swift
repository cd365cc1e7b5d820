import FoveaNN
import FoveaTensor

extension WeightLayout where Model == HyperSelfAttention {
    /// The names of mPLUG-Owl3-7B-240728, which files keep behind `language_model.model.layers.*.`.
    public static var mplugOwl3July: Self { named("mplug-owl3-240728") }

    /// The names of mPLUG-Owl3-7B-241101; it has no gate.
    public static var mplugOwl3November: Self { named("mplug-owl3-241101") }

    /// The same names for the paper's definition, of which no weights were published.
    public static var paper: Self { named("paper") }

    private static func named(_ name: String) -> Self {
        let projections = [
            ("attention.query", "q_proj"), ("attention.key", "k_proj"), ("attention.value", "v_proj"),
            ("attention.output", "o_proj"), ("injection.keyValue", "v_kv_proj"), ("injection.tokenGate", "gate_proj"),
        ]
        return WeightLayout(
            name,
            [
                .rename("norm.weight", "input_layernorm.weight"),
                .rename("injection.featureGate", "self_attn.gate"),
            ]
                + projections.flatMap { ours, theirs in
                    ["weight", "bias"].map { .rename("\(ours).\($0)", "self_attn.\(theirs).\($0)") }
                })
    }
}

extension HyperSelfAttention {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "hyper-attention", "text looks at pictures and at itself with the same queries",
        forms: [
            form(.mplugOwl3July, .featureGates), form(.mplugOwl3November, .joint), form(.paper, .tokenGates),
        ])

    private static func form(
        _ layout: WeightLayout<HyperSelfAttention>, _ fusion: HyperAttention.Fusion
    ) -> PublishedForm {
        PublishedForm(
            layout,
            keys: [
                .size("hidden_size", "width D", default: 4096, from: .axis(0, of: "input_layernorm.weight")),
                .size("num_attention_heads", "heads H, which divide D", default: 32),
                .size("num_key_value_heads", "heads G of keys and values, or null for H", default: .null),
                .size("max_position_embeddings", "the most tokens of a text", default: 32_768),
                .number("rms_norm_eps", "added to the mean of squares", default: 1e-6, atLeast: 0),
                .number("attention_dropout", "share of attention weights dropped in training", default: 0.0),
                .number("initializer_range", "deviation of fresh weights", default: 0.02),
            ] + languageModelKeys + ConfigurationKey.rotary + ConfigurationKey.generation
                + ConfigurationKey.transformers,
            inputs: [
                .init("hidden_states", "[B, T, hidden_size]"), .init("image_embeds", "[N, L, hidden_size]"),
                .init("media_starts", "[B, P]", .indices),
            ],
            outputs: [.init("attention_output", "[B, T, hidden_size]")],
            sample: [
                "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.5,
            ],
            sampleInputs: {
                [
                    "hidden_states": $0.uniform([2, 4, 8]), "image_embeds": $0.uniform([2, 3, 8]),
                    "media_starts": Tensor([Int64(1), -1, 0, -1], shape: [2, 2]),
                ]
            },
            make: { HyperSelfAttention(try Options(published: $0, fusion: fusion), key: $0.key) },
            run: { layer, inputs in
                let (x, pictures) = (inputs["hidden_states"], inputs["image_embeds"])
                let context = inputs.configuration.int("max_position_embeddings")
                guard x.shape[1] <= context else {
                    throw ModuleInputError(
                        "input hidden_states has \(x.shape[1]) tokens; \"max_position_embeddings\" is \(context)")
                }
                guard let places = PicturePlaces(table: inputs["media_starts"]) else {
                    throw ModuleInputError(
                        "input media_starts: each row must hold ascending positions, and −1 behind them")
                }
                if let problem = places.problem(pictures: pictures.shape[0], batch: x.shape[0], length: x.shape[1]) {
                    throw ModuleInputError("input media_starts: \(problem)")
                }
                guard pictures.shape[0] == 0 || pictures.shape[1] > 0 else {
                    throw ModuleInputError(
                        "input image_embeds is \(pictures.shape); expected is [N, L, hidden_size] with L ≥ 1")
                }
                return ["attention_output": layer(x, pictures: pictures, at: places)]
            })
    }

    /// What the configuration says of the model around the layer.
    private static let languageModelKeys: [ConfigurationKey] = [
        "hidden_act", "hyper_layers", "intermediate_size", "max_window_layers", "num_hidden_layers", "seq_length",
        "sliding_window", "tie_word_embeddings", "use_sliding_window", "vision_batch_size", "vision_config",
        "vocab_size",
    ].map { .ignored($0) }
}

extension HyperSelfAttention.Options {
    /// What a configuration of `HyperQwen2Config` states.
    fileprivate init(published configuration: Configuration, fusion: HyperAttention.Fusion) throws {
        let (width, heads) = (configuration.int("hidden_size"), configuration.int("num_attention_heads"))
        guard width % heads == 0 else {
            throw configuration.error(
                "\"hidden_size\" \(width) must divide by \"num_attention_heads\", which is \(heads)")
        }
        self.init(
            width: width, heads: heads, keyHeads: configuration.optionalInt("num_key_value_heads") ?? heads,
            fusion: fusion)
        if let problem = SelfAttention.problem(width, heads: heads, keyHeads: keyHeads, headWidth: width / heads) {
            throw configuration.error(problem)
        }
        epsilon = configuration.double("rms_norm_eps")
        rotary = try configuration.rotary()
        dropout = configuration.double("attention_dropout")
        deviation = configuration.double("initializer_range")
        guard (0..<1).contains(dropout) else {
            throw configuration.error("\"attention_dropout\" must be in 0 ..< 1, not \(dropout)")
        }
    }
}
