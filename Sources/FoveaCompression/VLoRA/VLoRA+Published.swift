import FoveaNN
import FoveaTensor

extension WeightLayout where Model == VLoRA {
    /// The names of `LoRAGenerater`, which files keep behind `model.mm_projector.`.
    public static var published: Self {
        var rules: [Rule] = [
            .rename("projection.weight", "visual_proj.weight"), .rename("projection.bias", "visual_proj.bias"),
            .rename("positions", "pos_embed"), .rename("outputs", "Bs"),
        ]
        let layers = [
            ("selfNorm", "norm1"), ("crossNorm", "norm2"), ("mlpNorm", "norm3"), ("mlp.expand", "linear1"),
            ("mlp.contract", "linear2"), ("selfAttention.output", "self_attn.out_proj"),
            ("crossAttention.output", "multihead_attn.out_proj"),
        ]
        for (ours, theirs) in [("generators.*.", "gen.*."), ("generator.", "gen.")] {
            rules.append(.rename(ours + "queries", theirs + "queries"))
            for kind in ["weight", "bias"] {
                rules += [("norm.", "norm."), ("head.", "weights_head.")].map {
                    .rename(ours + $0 + kind, theirs + $1 + kind)
                }
                rules += layers.map {
                    .rename("\(ours)layers.*.\($0).\(kind)", "\(theirs)decoders.*.\($1).\(kind)")
                }
                rules += [("selfAttention", "self_attn"), ("crossAttention", "multihead_attn")].map { own, published in
                    .fuse(
                        ["query", "key", "value"].map { "\(ours)layers.*.\(own).\($0).\(kind)" },
                        into: "\(theirs)decoders.*.\(published).in_proj_\(kind)")
                }
            }
        }
        return WeightLayout("published", rules)
    }
}

extension VLoRA {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "vlora", "a picture becomes low-rank weights of a language model", forms: [published])

    private static let letters = GeneratedWeights.Target.allCases.map(\.rawValue).joined()

    private static let published = PublishedForm(
        WeightLayout<VLoRA>.published,
        keys: [
            .size("dim", "width C of the generators", from: .axis(0, of: "visual_proj.weight")),
            .size(
                "depth", "layers of a generator", atLeast: 0,
                from: .count(of: "gen.0.decoders.*.norm1.weight", "gen.decoders.*.norm1.weight")),
            .size("visual_dim", "width Cv of the picture's tokens", from: .axis(1, of: "visual_proj.weight")),
            .size("pos_num", "tokens N of a picture", from: .axis(1, of: "pos_embed")),
            .size("llm_dim", "width D of the language model"),
            .size("llm_depth", "layers of the language model"),
            .size(
                "lora_rank", "rank r",
                from: .axis(0, of: "gen.0.weights_head.weight", "gen.weights_head.weight", over: "llm_dim")),
            .text(
                "lora_type", "what is changed in a layer, in the order of the weights", default: .string(letters),
                expected: "different letters of \"\(letters)\"",
                where: { !$0.isEmpty && Set($0).count == $0.count && $0.allSatisfy(letters.contains) }),
            .flag(
                "weights_sep", "whether each type has a generator of its own", default: true,
                from: .presence(of: "gen.0.queries")),
            .number("mlp_ratio", "width inside the generators' MLPs in multiples of C", default: 4),
            .size("num_heads", "heads of the generators' attention", default: 16),
            .size("skip_layers", "every how many layers one is changed", default: 1),
            .number("vlora_alpha", "scale of the change in multiples of 1 / r, or null for r", default: .null),
        ],
        inputs: [.init("img_feature", "[B, pos_num, visual_dim]"), .init("x", "[B, T, llm_dim]")],
        outputs: [.init("delta.*.*", "[B, T, llm_dim]")],
        sample: [
            "dim": 4, "depth": 1, "visual_dim": 3, "pos_num": 2, "llm_dim": 3, "llm_depth": 2, "lora_rank": 2,
            "lora_type": "qm", "num_heads": 2, "mlp_ratio": 2, "vlora_alpha": 3,
        ],
        sampleInputs: { ["img_feature": $0.uniform([2, 2, 3]), "x": $0.uniform([2, 3, 3])] },
        make: { VLoRA(try Options(published: $0), key: $0.key) },
        run: { model, inputs in
            let (weights, x) = (model(inputs["img_feature"]), inputs["x"])
            var outputs: NamedTensors = [:]
            for layer in weights.layers.indices {
                for target in model.options.targets {
                    outputs["delta.\(layer).\(target.rawValue)"] = weights.change(of: target, for: x, layer: layer)
                }
            }
            return outputs
        })
}

extension VLoRA.Options {
    /// What a configuration of `LoRAGenerater` states.
    fileprivate init(published configuration: Configuration) throws {
        self.init(
            width: configuration.int("dim"), depth: configuration.int("depth"),
            imageWidth: configuration.int("visual_dim"), imageTokens: configuration.int("pos_num"),
            modelWidth: configuration.int("llm_dim"), modelDepth: configuration.int("llm_depth"),
            rank: configuration.int("lora_rank"))
        targets = configuration.string("lora_type").compactMap { GeneratedWeights.Target(rawValue: String($0)) }
        isSeparate = configuration.bool("weights_sep")
        heads = configuration.int("num_heads")
        stride = configuration.int("skip_layers")
        alpha = configuration.optionalDouble("vlora_alpha")
        let ratio = configuration.double("mlp_ratio")
        guard ratio > 0, ratio <= 64, Int(Double(width) * ratio) > 0 else {
            throw configuration.error("\"mlp_ratio\" must be from 1 / \"dim\" to 64, not \(ratio)")
        }
        hidden = Int(Double(width) * ratio)
        if let problem = MultiHeadAttention.problem(width, heads: heads, keyHeads: heads, headWidth: nil) {
            throw configuration.error(problem)
        }
        guard stride <= modelDepth else {
            throw configuration.error(
                "\"skip_layers\" \(stride) leaves no layer to change: \"llm_depth\" is \(modelDepth)")
        }
        guard targets.count * modelDepth / stride == targets.count * changedLayers else {
            // The published class counts its matrices so, and cannot take these.
            throw configuration.error(
                "\"llm_depth\" \(modelDepth) must divide by \"skip_layers\" \(stride) where several types are changed")
        }
    }
}
