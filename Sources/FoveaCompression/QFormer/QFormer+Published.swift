import FoveaNN
import FoveaTensor

/// Who names the weights of a Q-Former.
enum QFormerNaming {
    /// transformers' `Blip2QFormerModel`.
    case transformers
    /// The BERT of LAVIS, which calls the projections of attention `self` and keeps the first norm with the embeddings.
    case lavis
}

extension WeightLayout {
    /// The rules for a Q-Former inside of `Model`.
    ///
    /// - Parameters:
    ///   - ours: what stands in front of our paths, with its dot.
    ///   - theirs: what stands in front of the published names, with its dot.
    ///   - naming: whose names they are.
    static func qFormerRules(at ours: String = "", as theirs: String, naming: QFormerNaming) -> [Rule] {
        let projections = naming == .transformers ? "attention" : "self"
        var members = [("norm", naming == .transformers ? "layernorm" : "embeddings.LayerNorm")]
        for (own, published) in [("selfAttention", "attention"), ("crossAttention", "crossattention")] {
            members += ["query", "key", "value"].map {
                ("layers.*.\(own).\($0)", "encoder.layer.*.\(published).\(projections).\($0)")
            }
            members += [
                ("layers.*.\(own).output", "encoder.layer.*.\(published).output.dense"),
                ("layers.*.\(own)Norm.norm", "encoder.layer.*.\(published).output.LayerNorm"),
            ]
        }
        for (own, suffix) in [("text", ""), ("query", "_query")] {
            members += [
                ("layers.*.\(own)MLP.expand", "encoder.layer.*.intermediate\(suffix).dense"),
                ("layers.*.\(own)MLP.contract", "encoder.layer.*.output\(suffix).dense"),
                ("layers.*.\(own)Norm.norm", "encoder.layer.*.output\(suffix).LayerNorm"),
            ]
        }
        return members.flatMap { own, published in
            ["weight", "bias"].map { .rename("\(ours)\(own).\($0)", "\(theirs)\(published).\($0)") }
        }
    }
}

extension WeightLayout where Model == QFormer {
    /// The names of transformers' `Blip2QFormerModel`.
    public static var blip2: Self { WeightLayout("blip2", qFormerRules(as: "", naming: .transformers)) }

    /// The names of LAVIS: the Q-Former alone, out of a file of the whole model of stage 1 or 2.
    public static var lavis: Self {
        WeightLayout(
            "lavis", qFormerRules(as: "Qformer.bert.", naming: .lavis),
            besides: [
                "query_tokens", "temp", "vision_proj.", "text_proj.", "itm_head.", "opt_proj.", "t5_proj.", "llm_proj.",
                "ln_vision.", "visual_encoder.", "opt_model.", "t5_model.", "llm_model.", "Qformer.cls.",
                "Qformer.bert.embeddings.word_embeddings.", "Qformer.bert.embeddings.position_embeddings.",
                "Qformer.bert.embeddings.position_ids",
            ])
    }
}

extension QFormer {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "q-former", "learned queries read visual tokens, together with text",
        forms: [form(.blip2, naming: .transformers), form(.lavis, naming: .lavis)])

    private static func form(_ layout: WeightLayout<QFormer>, naming: QFormerNaming) -> PublishedForm {
        PublishedForm(
            layout,
            keys: Options.keys(prefix: naming == .transformers ? "" : "Qformer.bert.", naming: naming) + [
                .size(
                    "query_length", "how many of the tokens in front are queries, or null for all", default: .null,
                    atLeast: 0)
            ],
            inputs: [
                .init("query_embeds", "[B, T, hidden_size]"),
                .init("attention_mask", "[B, T]", .indices, optional: true),
                .init("encoder_hidden_states", "[B, N, encoder_hidden_size]", optional: true),
                .init("encoder_attention_mask", "[B, N]", .indices, optional: true),
            ],
            outputs: [.init("last_hidden_state", "[B, T, hidden_size]")],
            sample: [
                "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 6,
                "encoder_hidden_size": 3, "use_qformer_text_input": true, "initializer_range": 0.5, "query_length": 2,
            ],
            sampleInputs: {
                ["query_embeds": $0.uniform([2, 4, 4]), "encoder_hidden_states": $0.uniform([2, 5, 3])]
            },
            make: { QFormer(try Options(published: $0), key: $0.key) },
            run: { model, inputs in
                let (x, context) = (inputs["query_embeds"], inputs.optional("encoder_hidden_states"))
                let queryLength = inputs.configuration.optionalInt("query_length") ?? x.shape[1]
                if let problem = model.problem(
                    of: x.shape[1], queryLength: queryLength, hasContext: context != nil)
                {
                    throw ModuleInputError(
                        "\(problem): see \"query_length\", \"use_qformer_text_input\" and encoder_hidden_states")
                }
                if context == nil, inputs.optional("encoder_attention_mask") != nil {
                    throw ModuleInputError("encoder_attention_mask is given without encoder_hidden_states")
                }
                return [
                    "last_hidden_state": model(
                        x, queryLength: queryLength,
                        mask: inputs.optional("attention_mask").map { $0.cast(to: .bool).unsqueezed(1).unsqueezed(1) },
                        context: context, contextMask: inputs.optional("encoder_attention_mask")?.cast(to: .bool))
                ]
            })
    }
}

extension QFormer.Options {
    /// The keys of transformers' `Blip2QFormerConfig`.
    ///
    /// - Parameters:
    ///   - prefix: what stands in front of the weights' names.
    ///   - naming: whose names they are.
    static func keys(prefix: String, naming: QFormerNaming) -> [ConfigurationKey] {
        let layer = prefix + "encoder.layer.0."
        let projections = naming == .transformers ? "attention" : "self"
        return [
            .size(
                "hidden_size", "width D", default: 768, from: .axis(0, of: layer + "attention.output.dense.weight")),
            .size(
                "num_hidden_layers", "layers", default: 12, atLeast: 0,
                from: .count(of: prefix + "encoder.layer.*.attention.output.dense.weight")),
            .size("num_attention_heads", "heads H", default: 12),
            .size(
                "intermediate_size", "the width inside the MLPs", default: 3072,
                from: .axis(0, of: layer + "intermediate_query.dense.weight")),
            .size(
                "encoder_hidden_size", "width C of the visual tokens", default: 1408,
                from: .axis(1, of: layer + "crossattention.\(projections).key.weight")),
            .size(
                "cross_attention_frequency", "every how many layers the queries look at the visual tokens", default: 2),
            .flag(
                "use_qformer_text_input", "whether there is a branch for text", default: false,
                from: .presence(of: layer + "intermediate.dense.weight")),
            .choice("hidden_act", "the function inside the MLPs", of: Activation.publishedNames, default: "gelu"),
            .number("layer_norm_eps", "added to the variance", default: 1e-12, atLeast: 0),
            .number("hidden_dropout_prob", "share of features dropped in training", default: 0.1),
            .number("attention_probs_dropout_prob", "share of attention weights dropped in training", default: 0.1),
            .number("initializer_range", "deviation of fresh matrices", default: 0.02),
            .ignored("vocab_size", "words; without influence on embedded text", default: 30_522),
            .ignored("max_position_embeddings", "positions; without influence on embedded text", default: 512),
            .ignored("pad_token_id", "the word that pads; without influence on embedded text", default: 0),
        ] + ConfigurationKey.transformers
    }

    /// The sizes that a published configuration states.
    init(published configuration: Configuration) throws {
        self.init(
            width: configuration.int("hidden_size"), depth: configuration.int("num_hidden_layers"),
            heads: configuration.int("num_attention_heads"), hidden: configuration.int("intermediate_size"),
            contextWidth: configuration.int("encoder_hidden_size"),
            crossAttentionFrequency: configuration.int("cross_attention_frequency"),
            hasText: configuration.bool("use_qformer_text_input"),
            activation: Activation(published: configuration.string("hidden_act")) ?? .gelu,
            epsilon: configuration.double("layer_norm_eps"), dropout: configuration.double("hidden_dropout_prob"),
            attentionDropout: configuration.double("attention_probs_dropout_prob"),
            deviation: configuration.double("initializer_range"))
        guard width % heads == 0 else {
            throw configuration.error("\"hidden_size\" \(width) does not divide by \(heads) heads")
        }
        for (name, rate) in [("hidden_dropout_prob", dropout), ("attention_probs_dropout_prob", attentionDropout)] {
            guard (0..<1).contains(rate) else {
                throw configuration.error("\"\(name)\" must be in 0 ..< 1, not \(rate)")
            }
        }
    }
}
