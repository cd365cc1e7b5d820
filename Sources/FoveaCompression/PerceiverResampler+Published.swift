import FoveaNN
import FoveaTensor

extension WeightLayout where Model == PerceiverResampler {
    /// The names of `open_flamingo`'s `PerceiverResampler`; its `to_kv` holds keys above values.
    public static var openFlamingo: Self { openFlamingo("open-flamingo", mediaEmbeddings: "media_time_embs") }

    /// The names of `flamingo_pytorch`'s `PerceiverResampler`, from which open_flamingo's comes.
    public static var flamingoPytorch: Self { openFlamingo("flamingo-pytorch", mediaEmbeddings: "media_pos_emb") }

    private static func openFlamingo(_ name: String, mediaEmbeddings: String) -> Self {
        WeightLayout(
            name,
            [
                .rename("frameEmbeddings", "frame_embs"),
                .rename("mediaEmbeddings", mediaEmbeddings),
                .rename("layers.*.mediaNorm.weight", "layers.*.0.norm_media.weight"),
                .rename("layers.*.mediaNorm.bias", "layers.*.0.norm_media.bias"),
                .rename("layers.*.latentNorm.weight", "layers.*.0.norm_latents.weight"),
                .rename("layers.*.latentNorm.bias", "layers.*.0.norm_latents.bias"),
                .rename("layers.*.attention.query.weight", "layers.*.0.to_q.weight"),
                .fuse(
                    ["layers.*.attention.key.weight", "layers.*.attention.value.weight"],
                    into: "layers.*.0.to_kv.weight"),
                .rename("layers.*.attention.output.weight", "layers.*.0.to_out.weight"),
                .rename("layers.*.feedForwardNorm.weight", "layers.*.1.0.weight"),
                .rename("layers.*.feedForwardNorm.bias", "layers.*.1.0.bias"),
                .rename("layers.*.feedForward.expand.weight", "layers.*.1.1.weight"),
                .rename("layers.*.feedForward.contract.weight", "layers.*.1.3.weight"),
            ])
    }

    /// The names of transformers' `IdeficsPerceiverResampler`, which files keep behind `perceiver_resampler.`.
    public static var idefics: Self {
        let parts = ["weight", "bias"].flatMap { part -> [Rule] in
            [
                .rename("layers.*.mediaNorm.\(part)", "blocks.*.0.context_layer_norm.\(part)"),
                .rename("layers.*.latentNorm.\(part)", "blocks.*.0.latents_layer_norm.\(part)"),
                .rename("layers.*.attention.queryNorm.\(part)", "blocks.*.0.q_layer_norm.\(part)"),
                .rename("layers.*.attention.keyNorm.\(part)", "blocks.*.0.k_layer_norm.\(part)"),
                .rename("layers.*.feedForwardNorm.\(part)", "blocks.*.1.ln.\(part)"),
                .rename("norm.\(part)", "layer_norm.\(part)"),
            ]
        }
        return WeightLayout(
            "idefics",
            parts + [
                .rename("layers.*.attention.query.weight", "blocks.*.0.q_proj.weight"),
                .rename("layers.*.attention.key.weight", "blocks.*.0.k_proj.weight"),
                .rename("layers.*.attention.value.weight", "blocks.*.0.v_proj.weight"),
                .rename("layers.*.attention.output.weight", "blocks.*.0.output_proj.weight"),
                .rename("layers.*.feedForward.expand.weight", "blocks.*.1.fc.weight"),
                .rename("layers.*.feedForward.contract.weight", "blocks.*.1.c_proj.weight"),
            ])
    }

    /// The names of transformers' `Idefics2PerceiverResampler`, which files keep behind `connector.perceiver_resampler.`.
    public static var idefics2: Self { idefics2("idefics2", resampler: "") }

    /// The names of transformers' `Idefics2Connector`: the modality projection and the resampler behind it.
    public static var idefics2Connector: Self { idefics2("idefics2-connector", resampler: "perceiver_resampler.") }

    private static func idefics2(_ name: String, resampler: String) -> Self {
        let layer = resampler + "layers.*."
        return WeightLayout(
            name,
            ["gate", "up", "down"].map {
                .rename("modalityProjection.\($0).weight", "modality_projection.\($0)_proj.weight")
            } + [
                .rename("latents", resampler + "latents"),
                .rename("layers.*.latentNorm.weight", layer + "input_latents_norm.weight"),
                .rename("layers.*.mediaNorm.weight", layer + "input_context_norm.weight"),
                .rename("layers.*.attention.query.weight", layer + "self_attn.q_proj.weight"),
                .rename("layers.*.attention.key.weight", layer + "self_attn.k_proj.weight"),
                .rename("layers.*.attention.value.weight", layer + "self_attn.v_proj.weight"),
                .rename("layers.*.attention.output.weight", layer + "self_attn.o_proj.weight"),
                .rename("layers.*.feedForwardNorm.weight", layer + "post_attention_layernorm.weight"),
                .rename("layers.*.feedForward.gate.weight", layer + "mlp.gate_proj.weight"),
                .rename("layers.*.feedForward.up.weight", layer + "mlp.up_proj.weight"),
                .rename("layers.*.feedForward.down.weight", layer + "mlp.down_proj.weight"),
                .rename("norm.weight", resampler + "norm.weight"),
            ])
    }

    /// Our own names, for the form of the paper, of which no weights have been published.
    public static var paper: Self { WeightLayout("paper", []) }
}

extension PerceiverResampler {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "perceiver-resampler", "learned latents attend to any number of visual tokens",
        forms: [openFlamingo, flamingoPytorch, idefics, idefics2, idefics2Connector, paper])

    private static let openFlamingo = flamingo(
        .openFlamingo,
        mediaKey: .size(
            "max_num_media", "media embeddings, or null", default: .null, from: .axis(0, of: "media_time_embs")),
        frameKeys: [
            .size("max_num_frames", "frame embeddings, or null", default: .null, from: .axis(0, of: "frame_embs"))
        ],
        input: .init("x", "[B, N, F, V, dim]"))

    private static let flamingoPytorch = flamingo(
        .flamingoPytorch,
        mediaKey: .size("num_media_embeds", "media embeddings", default: 4, from: .axis(0, of: "media_pos_emb")),
        frameKeys: [], input: .init("x", "[B, N, V, dim]"))

    /// The resampler of open_flamingo, and the one it comes from, which knows no frames.
    private static func flamingo(
        _ layout: WeightLayout<PerceiverResampler>, mediaKey: ConfigurationKey, frameKeys: [ConfigurationKey],
        input: TensorRole
    ) -> PublishedForm {
        let hasFrames = !frameKeys.isEmpty
        let sample: [String: ConfigurationValue] = [
            "dim": 8, "depth": 2, "dim_head": 4, "heads": 2, "num_latents": 3, mediaKey.name: 2, "ff_mult": 2,
        ]
        return PublishedForm(
            layout,
            keys: [
                .size("dim", "width D", from: .axis(1, of: "latents")),
                .size("depth", "layers", default: 6, atLeast: 0, from: .count(of: "layers.*.0.to_q.weight")),
                .size(
                    "dim_head", "width of a head", default: 64,
                    from: .axis(0, of: "layers.0.0.to_q.weight", over: "heads")),
                .size("heads", "heads", default: 8),
                .size("num_latents", "latents R", default: 64, from: .axis(0, of: "latents")),
                mediaKey,
            ] + frameKeys + [
                .size(
                    "ff_mult", "feed-forward width in multiples of D", default: 4,
                    from: .axis(0, of: "layers.0.1.1.weight", over: "dim"))
            ],
            inputs: [input], outputs: [.init("latents", "[B, N, num_latents, dim]")], widthKey: "dim",
            sample: hasFrames ? sample.merging(["max_num_frames": 2]) { $1 } : sample,
            sampleInputs: { ["x": $0.uniform(hasFrames ? [2, 2, 1, 3, 8] : [2, 2, 3, 8])] },
            make: { configuration in
                PerceiverResampler(
                    Options(
                        width: configuration.int("dim"), depth: configuration.int("depth"),
                        heads: configuration.int("heads"), headWidth: configuration.int("dim_head"),
                        latents: configuration.int("num_latents"),
                        feedForwardMultiple: configuration.int("ff_mult"),
                        maxFrames: hasFrames ? configuration.optionalInt("max_num_frames") : nil,
                        maxMedia: configuration.optionalInt(mediaKey.name)), key: configuration.key)
            },
            run: { model, inputs in
                let x = hasFrames ? inputs["x"] : inputs["x"].unsqueezed(2)
                let (frames, media) = (model.frameEmbeddings?.shape[0], model.mediaEmbeddings?.shape[0])
                guard x.shape[2] <= frames ?? .max, x.shape[1] <= media ?? .max else {
                    throw ModuleInputError(
                        "input x is \(inputs["x"].shape); expected is \(input.shape)"
                            + (media.map { " with N ≤ \($0)" } ?? "") + (frames.map { " and F ≤ \($0)" } ?? ""))
                }
                return ["latents": model(x)]
            })
    }

    private static let idefics = PublishedForm(
        WeightLayout<PerceiverResampler>.idefics,
        keys: [
            .size("embed_dim", "width D", from: .axis(1, of: "latents")),
            .size("depth", "layers", default: 6, atLeast: 0, from: .count(of: "blocks.*.0.q_proj.weight")),
            .size("n_heads", "heads", default: 16),
            .size(
                "head_dim", "width of a head", default: 96,
                from: .axis(0, of: "blocks.0.0.q_proj.weight", over: "n_heads")),
            .size("n_latents", "latents R", default: 64, from: .axis(0, of: "latents")),
            .flag(
                "qk_layer_norms_perceiver", "whether each head of queries and keys has a norm", default: false,
                from: .presence(of: "blocks.0.0.q_layer_norm.weight")),
        ],
        inputs: [.init("context", "[B, S, embed_dim]")], outputs: [.init("latents", "[B, n_latents, embed_dim]")],
        widthKey: "embed_dim",
        sample: [
            "embed_dim": 6, "depth": 2, "n_heads": 2, "head_dim": 4, "n_latents": 3, "qk_layer_norms_perceiver": true,
        ],
        sampleInputs: { ["context": $0.uniform([2, 5, 6])] },
        make: { configuration in
            var options = Options(
                width: configuration.int("embed_dim"), depth: configuration.int("depth"),
                heads: configuration.int("n_heads"), headWidth: configuration.int("head_dim"),
                latents: configuration.int("n_latents"))
            options.feedForward = .plain(.relu)
            options.headNorm = configuration.bool("qk_layer_norms_perceiver") ? .layer() : nil
            options.initializer = .normal(deviation: 0.02)
            return PerceiverResampler(options, key: configuration.key)
        },
        run: { ["latents": $0($1["context"], mask: nil)] })

    private static let idefics2 = idefics2(
        .idefics2, layer: "layers.", extraKeys: [], input: .init("context", "[B, S, hidden_size]"), extraSample: [:],
        sampleWidth: 8)

    private static let idefics2Connector = idefics2(
        .idefics2Connector, layer: "perceiver_resampler.layers.",
        extraKeys: [
            .size(
                "vision_hidden_size", "width C of the encoder", default: 768,
                from: .axis(1, of: "modality_projection.gate_proj.weight")),
            .size(
                "text_intermediate_size", "width inside the modality projection", default: 14_336,
                from: .axis(0, of: "modality_projection.gate_proj.weight")),
            .choice(
                "text_hidden_act", "the function of the modality projection's gate", of: Activation.publishedNames,
                default: "silu"),
        ], input: .init("image_hidden_states", "[B, S, vision_hidden_size]"),
        extraSample: ["vision_hidden_size": 5, "text_intermediate_size": 6], sampleWidth: 5)

    /// The resampler of Idefics2 alone, or behind its modality projection.
    private static func idefics2(
        _ layout: WeightLayout<PerceiverResampler>, layer: String, extraKeys: [ConfigurationKey], input: TensorRole,
        extraSample: [String: ConfigurationValue], sampleWidth: Int
    ) -> PublishedForm {
        let latents = layer.replacing("layers.", with: "latents")
        let isConnector = !extraKeys.isEmpty
        return PublishedForm(
            layout,
            keys: [
                .size("hidden_size", "width D", default: 4096, from: .axis(1, of: latents)),
                .size(
                    "resampler_depth", "layers", default: 3, atLeast: 0,
                    from: .count(of: layer + "*.self_attn.q_proj.weight")),
                .size("resampler_n_heads", "heads H", default: 16),
                .size(
                    "resampler_head_dim", "width of a head", default: 96,
                    from: .axis(0, of: layer + "0.self_attn.q_proj.weight", over: "resampler_n_heads")),
                .size(
                    "num_key_value_heads", "heads G of keys and values", default: 4,
                    from: .axis(0, of: layer + "0.self_attn.k_proj.weight", over: "resampler_head_dim")),
                .size("resampler_n_latents", "latents R", default: 64, from: .axis(0, of: latents)),
                .choice(
                    "hidden_act", "the function of the feed-forward's gate", of: Activation.publishedNames,
                    default: "silu"),
                .number("rms_norm_eps", "added to the mean of squares", default: 1e-6, atLeast: 0),
                .number("attention_dropout", "share of attention weights dropped in training", default: 0.0),
                .number("initializer_range", "deviation of fresh weights", default: 0.02),
            ] + extraKeys + ConfigurationKey.transformers,
            inputs: [input, .init("attention_mask", "[B, S]", .mask)],
            outputs: [.init("latents", "[B, resampler_n_latents, hidden_size]")],
            widthKey: isConnector ? "vision_hidden_size" : "hidden_size",
            sample: [
                "hidden_size": 8, "resampler_n_latents": 3, "resampler_depth": 2, "resampler_n_heads": 4,
                "num_key_value_heads": 2, "resampler_head_dim": 3, "initializer_range": 0.5,
            ].merging(extraSample) { $1 },
            sampleInputs: {
                [
                    input.name: $0.uniform([2, 5, sampleWidth]),
                    "attention_mask": $0.integers([2, 5], below: 3).cast(to: .bool),
                ]
            },
            make: { configuration in
                var options = try Options(idefics2: configuration)
                if isConnector {
                    options.projection = .init(
                        inputs: configuration.int("vision_hidden_size"),
                        hidden: configuration.int("text_intermediate_size"),
                        activation: Activation(published: configuration.string("text_hidden_act"))!)
                }
                return PerceiverResampler(options, key: configuration.key)
            },
            run: { ["latents": $0($1[input.name], mask: $1["attention_mask"])] })
    }

    private static let paper = PublishedForm(
        WeightLayout<PerceiverResampler>.paper,
        keys: [
            .size("width", "width D", default: 1536, from: .axis(1, of: "latents")),
            .size("depth", "layers", default: 6, atLeast: 0, from: .count(of: "layers.*.attention.query.weight")),
            .size("heads", "heads", default: 16),
            .size(
                "headWidth", "width of a head", default: 96,
                from: .axis(0, of: "layers.0.attention.query.weight", over: "heads")),
            .size("latents", "latents R", default: 64, from: .axis(0, of: "latents")),
            .size("maxFrames", "time embeddings", default: 8, from: .axis(0, of: "frameEmbeddings")),
        ],
        inputs: [.init("x", "[B, N, F, V, width]")], outputs: [.init("latents", "[B, N, latents, width]")],
        widthKey: "width",
        sample: ["width": 6, "depth": 2, "heads": 2, "headWidth": 6, "latents": 3, "maxFrames": 2],
        sampleInputs: { ["x": $0.uniform([2, 1, 3, 2, 6])] },
        make: { configuration in
            var options = Options(
                width: configuration.int("width"), depth: configuration.int("depth"),
                heads: configuration.int("heads"), headWidth: configuration.int("headWidth"),
                latents: configuration.int("latents"), maxFrames: configuration.int("maxFrames"))
            options.feedForward = .plain(.squaredRelu)
            options.sharesContextNorm = true
            options.hasFinalNorm = false
            options.interpolatesFrames = true
            return PerceiverResampler(options, key: configuration.key)
        },
        run: { ["latents": $0($1["x"])] })
}

extension PerceiverResampler.Options {
    /// What a configuration of `Idefics2PerceiverConfig` states.
    fileprivate init(idefics2 configuration: Configuration) throws {
        self.init(
            width: configuration.int("hidden_size"), depth: configuration.int("resampler_depth"),
            heads: configuration.int("resampler_n_heads"), headWidth: configuration.int("resampler_head_dim"),
            latents: configuration.int("resampler_n_latents"))
        keyHeads = configuration.int("num_key_value_heads")
        norm = .rms(epsilon: configuration.double("rms_norm_eps"))
        feedForward = .gated(Activation(published: configuration.string("hidden_act"))!)
        attentionDropout = configuration.double("attention_dropout")
        initializer = .normal(deviation: configuration.double("initializer_range"))
        latentInitializer = .ones
        if let problem = MultiHeadAttention.problem(width, heads: heads, keyHeads: keyHeads!, headWidth: headWidth) {
            throw configuration.error(problem)
        }
        guard (0..<1).contains(attentionDropout) else {
            throw configuration.error("\"attention_dropout\" must be in 0 ..< 1, not \(attentionDropout)")
        }
    }
}
