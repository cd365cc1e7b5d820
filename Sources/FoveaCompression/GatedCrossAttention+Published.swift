import FoveaNN
import FoveaTensor

extension WeightLayout where Model == GatedCrossAttention {
    /// The names of `open_flamingo`'s `GatedCrossAttentionBlock`, which files keep behind
    /// `lang_encoder.….gated_cross_attn_layer.`; its `to_kv` holds keys above values.
    public static var openFlamingo: Self {
        WeightLayout(
            "open-flamingo",
            [
                .rename("norm.weight", "attn.norm.weight"),
                .rename("norm.bias", "attn.norm.bias"),
                .rename("attention.query.weight", "attn.to_q.weight"),
                .fuse(["attention.key.weight", "attention.value.weight"], into: "attn.to_kv.weight"),
                .rename("attention.output.weight", "attn.to_out.weight"),
                .rename("attentionGate", "attn_gate"),
                .rename("feedForwardNorm.weight", "ff.0.weight"),
                .rename("feedForwardNorm.bias", "ff.0.bias"),
                .rename("feedForward.expand.weight", "ff.1.weight"),
                .rename("feedForward.contract.weight", "ff.3.weight"),
                .rename("feedForwardGate", "ff_gate"),
            ])
    }

    /// The names of transformers' `IdeficsGatedCrossAttentionLayer`, which files keep behind
    /// `model.gated_cross_attn_layers.*.`.
    public static var idefics: Self {
        WeightLayout(
            "idefics",
            [
                .rename("norm.weight", "input_layernorm.weight"),
                .rename("attention.query.weight", "cross_attn.q_proj.weight"),
                .rename("attention.key.weight", "cross_attn.k_proj.weight"),
                .rename("attention.value.weight", "cross_attn.v_proj.weight"),
                .rename("attention.output.weight", "cross_attn.o_proj.weight"),
                .rename("attention.queryNorm.weight", "cross_attn.q_layer_norm.weight"),
                .rename("attention.keyNorm.weight", "cross_attn.k_layer_norm.weight"),
                .rename("attentionGate", "alpha_cross_attn"),
                .rename("feedForwardNorm.weight", "post_attention_layernorm.weight"),
                .rename("feedForward.gate.weight", "mlp.gate_proj.weight"),
                .rename("feedForward.up.weight", "mlp.up_proj.weight"),
                .rename("feedForward.down.weight", "mlp.down_proj.weight"),
                .rename("feedForwardGate", "alpha_dense"),
            ])
    }
}

extension GatedCrossAttention {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "gated-cross-attention", "text looks at media through gates that start shut",
        forms: [openFlamingo, idefics])

    private static let openFlamingo = PublishedForm(
        WeightLayout<GatedCrossAttention>.openFlamingo,
        keys: [
            .size("dim", "width D of the text", from: .axis(1, of: "attn.to_q.weight")),
            .size("dim_visual", "width C of the media", from: .axis(1, of: "attn.to_kv.weight")),
            .size(
                "dim_head", "width of a head", default: 64, from: .axis(0, of: "attn.to_q.weight", over: "heads")),
            .size("heads", "heads", default: 8),
            .size(
                "ff_mult", "feed-forward width in multiples of D", default: 4,
                from: .axis(0, of: "ff.1.weight", over: "dim")),
            .flag(
                "only_attend_immediate_media", "whether text sees the last medium before it alone", default: true),
        ],
        inputs: [
            .init("x", "[B, T, dim]"), .init("media", "[B, N, R, dim_visual]"),
            .init("media_locations", "[B, T]", .mask),
        ],
        outputs: [.init("hidden", "[B, T, dim]")],
        sample: ["dim": 6, "dim_visual": 5, "dim_head": 4, "heads": 2, "ff_mult": 2],
        sampleInputs: {
            [
                "x": $0.uniform([2, 4, 6]), "media": $0.uniform([2, 2, 3, 5]),
                "media_locations": Tensor(
                    [false, true, false, true, true, false, false, false], shape: [2, 4]),
            ]
        },
        make: { configuration in
            var options = Options(
                width: configuration.int("dim"), mediaWidth: configuration.int("dim_visual"),
                heads: configuration.int("heads"), headWidth: configuration.int("dim_head"),
                hidden: configuration.int("ff_mult") * configuration.int("dim"))
            options.seesLastMediumOnly = configuration.bool("only_attend_immediate_media")
            return GatedCrossAttention(options, key: configuration.key)
        },
        run: { block, inputs in
            let (media, locations) = (inputs["media"], inputs["media_locations"])
            guard media.shape[1] > 0, media.shape[2] > 0 else {
                throw ModuleInputError("input media is \(media.shape); expected is [B, N, R, dim_visual] with N, R ≥ 1")
            }
            if let problem = MediaCache(of: media, for: block).problem(with: locations) {
                throw ModuleInputError(
                    "input media_locations \(locations.shape) does not fit input media \(media.shape): \(problem)")
            }
            return ["hidden": block(inputs["x"], media: media, locations: locations)]
        })

    private static let idefics = PublishedForm(
        WeightLayout<GatedCrossAttention>.idefics,
        keys: [
            .size(
                "hidden_size", "width D of the text", default: 4096, from: .axis(1, of: "cross_attn.q_proj.weight")),
            .size("num_attention_heads", "heads, which divide D", default: 32),
            .size(
                "intermediate_size", "width inside the MLP", default: 11_008,
                from: .axis(0, of: "mlp.gate_proj.weight")),
            .size(
                "vision_embed_dim", "width C of the media", default: 768,
                from: .axis(1, of: "cross_attn.k_proj.weight")),
            .flag(
                "qk_layer_norms", "whether each head of queries and keys has a norm", default: false,
                from: .presence(of: "cross_attn.q_layer_norm.weight")),
            .choice(
                "alpha_type", "whether a gate is one number or one for each feature", of: ["float", "vector"],
                default: "float"),
            .choice(
                "alpha_initializer", "how the gates start", of: ["zeros", "ones", "normal", "gaussian", "random"],
                default: "zeros"),
            .number("alphas_initializer_range", "deviation of random gates", default: 0.0),
            .choice("hidden_act", "the function of the MLP's gate", of: Activation.publishedNames, default: "silu"),
            .number("rms_norm_eps", "added to the mean of squares", default: 1e-6, atLeast: 0),
            .number("dropout", "share dropped in training", default: 0.0),
            .number("initializer_range", "deviation of fresh weights", default: 0.02),
        ] + languageModelKeys + ConfigurationKey.rotary + ConfigurationKey.generation + ConfigurationKey.transformers,
        inputs: [
            .init("hidden_states", "[B, T, hidden_size]"), .init("image_hidden_states", "[B, S, vision_embed_dim]"),
            .init("image_attention_mask", "[B, T, S]", .mask),
        ],
        outputs: [.init("hidden", "[B, T, hidden_size]")],
        sample: [
            "hidden_size": 6, "num_attention_heads": 2, "intermediate_size": 5, "vision_embed_dim": 4,
            "qk_layer_norms": true, "alpha_type": "vector", "alpha_initializer": "ones", "initializer_range": 0.5,
        ],
        sampleInputs: {
            [
                "hidden_states": $0.uniform([2, 3, 6]), "image_hidden_states": $0.uniform([2, 5, 4]),
                "image_attention_mask": $0.integers([2, 3, 5], below: 2).cast(to: .bool),
            ]
        },
        make: { configuration in
            GatedCrossAttention(try Options(idefics: configuration), key: configuration.key)
        },
        run: { block, inputs in
            let images = inputs["image_hidden_states"]
            guard images.shape[1] > 0 else {
                throw ModuleInputError(
                    "input image_hidden_states is \(images.shape); expected is [B, S, vision_embed_dim] with S ≥ 1")
            }
            return [
                "hidden": block(
                    inputs["hidden_states"], to: block.attention.projected(images), mask: inputs["image_attention_mask"]
                )
            ]
        })
}

extension GatedCrossAttention {
    /// What `IdeficsConfig` says of the model around the block.
    private static let languageModelKeys: [ConfigurationKey] = [
        "additional_vocab_size", "cross_layer_interval", "freeze_lm_head", "freeze_text_layers",
        "freeze_text_module_exceptions", "freeze_vision_layers", "freeze_vision_module_exceptions",
        "max_position_embeddings", "num_hidden_layers", "perceiver_config", "tie_word_embeddings", "use_resampler",
        "vision_config", "vocab_size",
    ].map { .ignored($0) }
}

extension GatedCrossAttention.Options {
    /// What a configuration of `IdeficsConfig` states, and `embed_dim` of its vision part.
    fileprivate init(idefics configuration: Configuration) throws {
        let (width, heads) = (configuration.int("hidden_size"), configuration.int("num_attention_heads"))
        guard width % heads == 0 else {
            throw configuration.error(
                "\"hidden_size\" \(width) must divide by \"num_attention_heads\", which is \(heads)")
        }
        self.init(
            width: width, mediaWidth: configuration.int("vision_embed_dim"), heads: heads, headWidth: width / heads,
            hidden: configuration.int("intermediate_size"))
        norm = .rms(epsilon: configuration.double("rms_norm_eps"))
        headNorm = configuration.bool("qk_layer_norms") ? norm : nil
        feedForward = .gated(Activation(published: configuration.string("hidden_act"))!)
        hasVectorGates = configuration.string("alpha_type") == "vector"
        gateInitializer =
            switch configuration.string("alpha_initializer") {
            case "zeros": .zeros
            case "ones": .ones
            default: .normal(deviation: configuration.double("alphas_initializer_range"))
            }
        dropout = configuration.double("dropout")
        initializer = .normal(deviation: configuration.double("initializer_range"))
        guard (0..<1).contains(dropout) else {
            throw configuration.error("\"dropout\" must be in 0 ..< 1, not \(dropout)")
        }
    }
}
