import FoveaNN
import FoveaTensor

extension WeightLayout where Model == VisionEncoder {
    /// The names of transformers' `CLIPVisionTransformer`, its spelling of `pre_layrnorm` included. Files of the hub
    /// have `vision_model.` in front.
    public static var clip: Self {
        transformers(
            "clip",
            [
                .rename("patches.classToken", "embeddings.class_embedding"),
                .rename("preNorm.weight", "pre_layrnorm.weight"), .rename("preNorm.bias", "pre_layrnorm.bias"),
            ])
    }

    /// The names of transformers' `SiglipVisionTransformer`, without the pooling head. Files of the hub have
    /// `vision_model.` in front.
    public static var siglip: Self {
        transformers("siglip", [.rename("patches.bias", "embeddings.patch_embedding.bias")])
    }

    /// What both call the same.
    private static func transformers(_ name: String, _ own: [Rule]) -> Self {
        let members = [
            ("attentionNorm", "layer_norm1"), ("mlpNorm", "layer_norm2"),
            ("attention.query", "self_attn.q_proj"), ("attention.key", "self_attn.k_proj"),
            ("attention.value", "self_attn.v_proj"), ("attention.output", "self_attn.out_proj"),
            ("mlp.expand", "mlp.fc1"), ("mlp.contract", "mlp.fc2"),
        ]
        return WeightLayout(
            name,
            own + [
                .rename("patches.weight", "embeddings.patch_embedding.weight"),
                .rename("patches.positions", "embeddings.position_embedding.weight"),
                .rename("postNorm.weight", "post_layernorm.weight"), .rename("postNorm.bias", "post_layernorm.bias"),
            ]
                + members.flatMap { ours, theirs in
                    ["weight", "bias"].map { .rename("layers.*.\(ours).\($0)", "encoder.layers.*.\(theirs).\($0)") }
                },
            // Numbers from 0 on, which older files keep; and SigLIP's pooling head.
            besides: ["embeddings.position_ids", "head."])
    }
}

extension VisionEncoder {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "vision-encoder", "a vision transformer: pictures to a token for each patch",
        forms: [form(.clip, of: .clip), form(.siglip, of: .siglip)])

    /// One published form; the two families share all but a few keys.
    private static func form(_ layout: WeightLayout<VisionEncoder>, of family: Family) -> PublishedForm {
        let isClip = family == .clip
        let patches = "embeddings.patch_embedding.weight"
        // What configurations of the models around it hold of it besides, and old ones.
        let around: [ConfigurationKey] = ["vocab_size", "dropout", "num_image_tokens"].map { .ignored($0) }
        let own: [ConfigurationKey] =
            isClip
            ? [
                .number("initializer_range", "deviation of fresh patches and positions", default: 0.02),
                .number("initializer_factor", "what all fresh deviations are multiplied by", default: 1.0),
                .ignored("projection_dim", "width shared with the text encoder; without influence here", default: 512),
            ] : [.ignored("vision_use_head", "whether there is a pooling head; without influence here", default: true)]
        return PublishedForm(
            layout,
            keys: [
                .size("hidden_size", "width D", default: 768, from: .axis(0, of: patches)),
                .size(
                    "intermediate_size", "the width inside the MLP", default: 3072,
                    from: .axis(0, of: "encoder.layers.0.mlp.fc1.weight")),
                .size(
                    "num_hidden_layers", "layers", default: 12, from: .count(of: "encoder.layers.*.layer_norm1.weight")),
                .size("num_attention_heads", "heads H", default: 12),
                .size("num_channels", "channels of the pictures", default: 3, from: .axis(1, of: patches)),
                .size("image_size", "pixels along a side of the pictures", default: 224),
                .size(
                    "patch_size", "pixels along a side of a patch", default: isClip ? 32 : 16,
                    from: .axis(2, of: patches)),
                .choice(
                    "hidden_act", "the function inside the MLP", of: Activation.publishedNames,
                    default: isClip ? "quick_gelu" : "gelu_pytorch_tanh"),
                .number("layer_norm_eps", "added to the variance", default: isClip ? 1e-5 : 1e-6, atLeast: 0),
                .number("attention_dropout", "share of attention weights dropped in training", default: 0.0),
            ] + own + around + ConfigurationKey.transformers,
            inputs: [.init("pixel_values", "[B, num_channels, image_size, image_size]")],
            outputs: [
                .init("penultimate_hidden_state", "[B, N, hidden_size]"),
                .init("last_hidden_state", "[B, N, hidden_size]"),
            ],
            sample: [
                "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_channels": 2, "image_size": 4, "patch_size": 2,
            ],
            sampleInputs: { ["pixel_values": $0.uniform([2, 2, 4, 4])] },
            make: { VisionEncoder(try Options(published: $0, family: family), key: RandomKey(seed: 0)) },
            run: { model, inputs in
                let states = model.hiddenStates(inputs["pixel_values"])
                let last = states[model.options.depth]
                return [
                    "penultimate_hidden_state": states[model.options.depth - 1],
                    "last_hidden_state": isClip ? last : model.postNorm(last),
                ]
            })
    }
}

extension VisionEncoder.Options {
    /// The sizes that a published configuration states.
    fileprivate init(published configuration: Configuration, family: VisionEncoder.Family) throws {
        self.init(
            family, imageSize: configuration.int("image_size"), patchSize: configuration.int("patch_size"),
            channels: configuration.int("num_channels"), width: configuration.int("hidden_size"),
            hidden: configuration.int("intermediate_size"), depth: configuration.int("num_hidden_layers"),
            heads: configuration.int("num_attention_heads"),
            activation: Activation(published: configuration.string("hidden_act")),
            epsilon: configuration.double("layer_norm_eps"),
            attentionDropout: configuration.double("attention_dropout"))
        if family == .clip {
            deviation = configuration.double("initializer_range")
            deviationFactor = configuration.double("initializer_factor")
        }
        guard width % heads == 0 else {
            throw configuration.error("\"hidden_size\" \(width) does not divide by \(heads) heads")
        }
        guard imageSize >= patchSize else {
            throw configuration.error("\(imageSize) pixels hold no patch of \(patchSize)")
        }
        guard (0..<1).contains(attentionDropout) else {
            throw configuration.error("\"attention_dropout\" must be in 0 ..< 1, not \(attentionDropout)")
        }
    }
}
