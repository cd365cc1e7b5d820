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
                })
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
        return PublishedForm(
            layout,
            keys: [
                .init("hidden_size", "width D", default: .int(768)),
                .init("intermediate_size", "the width inside the MLP", default: .int(3072)),
                .init("num_hidden_layers", "layers", default: .int(12)),
                .init("num_attention_heads", "heads H", default: .int(12)),
                .init("num_channels", "channels of the pictures", default: .int(3)),
                .init("image_size", "pixels along a side of the pictures", default: .int(224)),
                .init("patch_size", "pixels along a side of a patch", default: .int(isClip ? 32 : 16)),
                .init("layer_norm_eps", "added to the variance", default: .double(isClip ? 1e-5 : 1e-6)),
                .init("attention_dropout", "share of attention weights dropped in training", default: .double(0)),
            ],
            inputs: [.init("pixel_values", "[B, num_channels, image_size, image_size]")],
            outputs: [.init("penultimate_hidden_state", "[B, N, D]"), .init("last_hidden_state", "[B, N, D]")],
            sampleConfiguration: [
                "hidden_size": .int(4), "intermediate_size": .int(6), "num_hidden_layers": .int(2),
                "num_attention_heads": .int(2), "num_channels": .int(2), "image_size": .int(4), "patch_size": .int(2),
            ],
            sampleInputs: { ["pixel_values": $0.uniform([2, 2, 4, 4])] },
            make: { VisionEncoder(try Options(published: $0, family: family), key: RandomKey(seed: 0)) },
            run: { model, inputs in
                let x = try inputs.tensor("pixel_values", "[B, channels, height, width]", rank: 4)
                let options = model.options
                guard Array(x.shape.dropFirst()) == [options.channels, options.imageSize, options.imageSize] else {
                    throw ModuleInputError(
                        "input pixel_values is \(x.shape); expected is [B, \(options.channels), \(options.imageSize), \(options.imageSize)]"
                    )
                }
                let states = model.hiddenStates(x)
                let last = states[options.depth]
                return [
                    "penultimate_hidden_state": states[options.depth - 1],
                    "last_hidden_state": isClip ? last : model.postNorm(last),
                ]
            })
    }
}

extension VisionEncoder.Options {
    /// The sizes that a published configuration states.
    fileprivate init(published configuration: Configuration, family: VisionEncoder.Family) throws {
        self.init(
            family, imageSize: try configuration.int("image_size"), patchSize: try configuration.int("patch_size"),
            channels: try configuration.int("num_channels"), width: try configuration.int("hidden_size"),
            hidden: try configuration.int("intermediate_size"), depth: try configuration.int("num_hidden_layers"),
            heads: try configuration.int("num_attention_heads"),
            epsilon: try configuration.double("layer_norm_eps"),
            attentionDropout: try configuration.double("attention_dropout"))
        guard width % heads == 0 else {
            throw ModuleInputError("\(family): width \(width) does not divide by \(heads) heads")
        }
        guard imageSize >= patchSize else {
            throw ModuleInputError("\(family): \(imageSize) pixels hold no patch of \(patchSize)")
        }
        guard (0..<1).contains(attentionDropout) else {
            throw ModuleInputError("\(family): \"attention_dropout\" must be in 0 ..< 1, not \(attentionDropout)")
        }
    }
}
