import Foundation
import FoveaCompression
import FoveaNN
import FoveaTensor
import Testing

/// A module small enough to follow by hand, whose weights and inputs follow from a rule, and what is known of its output.
private struct GoldenVector {
    let form: PublishedForm?
    let configuration: [String: ConfigurationValue]
    /// Tensor k of this order, element j: 0.5 · sin(0.37 j + 1.1 k).
    let order: [String]
    let inputs: NamedTensors
    let shape: [Int]
    let sum: Double
    let first: [Double]
    let last: [Double]
    let tolerance: Double

    /// Holds the first output against what is known, and hands out the module.
    @discardableResult func check() throws -> any ModuleInstance {
        let form = try #require(form)
        var instance = try form.instance(configuration, dtype: .float64, owner: "a golden vector")
        #expect(Set(instance.weights.keys) == Set(order))
        var weights: NamedTensors = [:]
        for (k, name) in order.enumerated() {
            weights[name] = filled(try #require(instance.weights[name]?.shape, "\(name)"), k)
        }
        _ = try instance.load(weights, source: "a golden vector")
        let output = try #require(try instance.outputs(inputs).values.first)
        #expect(output.shape == shape)
        expectKnown(output, sum: sum, first: first, last: last, tolerance: tolerance)
        return instance
    }
}

/// Holds a tensor against its sum and its first and last elements. Half of the last digit that is known is rounding; each
/// digit of the sum is as good as those of the elements.
private func expectKnown(_ output: Tensor, sum: Double, first: [Double], last: [Double] = [], tolerance: Double) {
    let values = output.doubles
    #expect(abs(values.reduce(0, +) - sum) < tolerance, "sum \(values.reduce(0, +))")
    for (value, want) in zip(values.prefix(first.count), first) {
        #expect(abs(value - want) < tolerance, "\(values.prefix(first.count))")
    }
    for (value, want) in zip(values.suffix(last.count), last) {
        #expect(abs(value - want) < tolerance, "\(values.suffix(last.count))")
    }
}

/// Element j of tensor k: 0.5 · sin(0.37 j + 1.1 k).
private func filled(_ shape: [Int], _ k: Int) -> Tensor {
    Tensor((0..<shape.reduce(1, *)).map { 0.5 * sin(0.37 * Double($0) + 1.1 * Double(k)) }, shape: shape)
}

/// Element j: cos(step · j).
private func cosines(_ shape: [Int], step: Double = 0.21) -> Tensor {
    Tensor((0..<shape.reduce(1, *)).map { cos(step * Double($0)) }, shape: shape)
}

private func mask(_ values: [Int], _ shape: [Int]) -> Tensor { Tensor(values.map { $0 != 0 }, shape: shape) }

@Suite("golden vectors, from their fill rule") struct GoldenVectorTests {
    @Test("G1: open_flamingo's resampler")
    func openFlamingoResampler() throws {
        let layer = [
            "0.norm_media.weight", "0.norm_media.bias", "0.norm_latents.weight", "0.norm_latents.bias", "0.to_q.weight",
            "0.to_kv.weight", "0.to_out.weight", "1.0.weight", "1.0.bias", "1.1.weight", "1.3.weight",
        ]
        try GoldenVector(
            form: PerceiverResampler.entry.form("open-flamingo"),
            configuration: [
                "dim": 4, "depth": 2, "dim_head": 3, "heads": 2, "num_latents": 3, "max_num_media": 2,
                "max_num_frames": 2,
            ],
            order: ["latents", "frame_embs", "media_time_embs"]
                + (0..<2).flatMap { index in layer.map { "layers.\(index).\($0)" } } + ["norm.weight", "norm.bias"],
            inputs: ["x": cosines([1, 2, 2, 2, 4])], shape: [1, 2, 3, 4], sum: -8.512721,
            first: [-0.736908, -0.289144, -0.420234, -0.574796], last: [-0.446655, -0.272077], tolerance: 1e-6
        ).check()
    }

    @Test("G2: open_flamingo's gated cross-attention")
    func openFlamingoCrossAttention() throws {
        try GoldenVector(
            form: GatedCrossAttention.entry.form("open-flamingo"),
            configuration: ["dim": 4, "dim_visual": 3, "dim_head": 3, "heads": 2],
            order: [
                "attn_gate", "ff_gate", "attn.norm.weight", "attn.norm.bias", "attn.to_q.weight", "attn.to_kv.weight",
                "attn.to_out.weight", "ff.0.weight", "ff.0.bias", "ff.1.weight", "ff.3.weight",
            ],
            inputs: [
                "x": cosines([1, 5, 4]), "media": cosines([1, 2, 2, 3], step: 0.33),
                "media_locations": mask([0, 1, 0, 1, 0], [1, 5]),
            ],
            shape: [1, 5, 4], sum: -2.773734, first: [1.066468, 1.031245, 0.946106, 0.81654],
            last: [-0.810105, -0.662984], tolerance: 1e-6
        ).check()
    }

    @Test("G3: VLoRA")
    func vlora() throws {
        let attention = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
        let pairs = ["weight", "bias"]
        func named(_ members: String...) -> [String] { members.flatMap { member in pairs.map { "\(member).\($0)" } } }
        let layer =
            ["self_attn", "multihead_attn"].flatMap { kind in attention.map { "\(kind).\($0)" } }
            + named("linear1", "linear2", "norm1", "norm2", "norm3")
        let generator =
            ["queries"] + layer.map { "decoders.0.\($0)" } + named("norm", "weights_head")
        let image = cosines([1, 2, 3])
        let instance = try GoldenVector(
            form: VLoRA.entry.form("published"),
            configuration: [
                "dim": 4, "depth": 1, "visual_dim": 3, "pos_num": 2, "llm_dim": 3, "llm_depth": 2, "lora_rank": 2,
                "lora_type": "qm", "num_heads": 2, "skip_layers": 2, "vlora_alpha": 4,
            ],
            order: ["pos_embed", "Bs"] + named("visual_proj")
                + (0..<2).flatMap { index in generator.map { "gen.\(index).\($0)" } },
            inputs: ["img_feature": image, "x": cosines([1, 2, 3], step: 0.5)],
            // The sum of the six elements that are known.
            shape: [1, 2, 3], sum: -2.46439, first: [-2.079598, -1.825544, -0.616616, 0.940891, 0.83061, 0.285867],
            last: [], tolerance: 1e-5
        ).check()
        let delta = try #require((instance.module as? VLoRA)?(image).layers[1][.query])
        expectKnown(
            delta.down, sum: -2.696680, first: [0.107098, -1.229514, -0.869476, 0.335298], tolerance: 1e-6)
        expectKnown(delta.up, sum: 4.375643, first: [0.891207, 0.994924, 0.963983, 0.802571], tolerance: 1e-6)
    }

    @Test("G4 and G5: mPLUG-Owl3's hyper attention of both generations, behind the norm")
    func hyperAttention() {
        let places = PicturePlaces([[1, 3]])
        func output(_ fusion: HyperAttention.Fusion) -> Tensor {
            var attention = SelfAttention(8, heads: 2, keyHeads: 1, bias: true, key: RandomKey(seed: 0))
            // In the order of the weights: q, k and v each with its bias, o, and then those of the pictures.
            var next = 0
            attention.forEachParameter { _, tensor in
                tensor = filled(tensor.shape, next)
                next += 1
            }
            var injection = HyperAttention(in: attention, fusion: fusion)
            injection.forEachParameter { _, tensor in
                tensor = filled(tensor.shape, next)
                next += 1
            }
            let positions = Tensor.arange(6, dtype: .int64)
            let angles = RotaryAngles(positions: positions, width: 4)
            let (queries, text) = attention.projected(cosines([1, 6, 8]), angles: angles)
            let attended = injection(
                queries: queries, text: text, mask: nil, isCausal: true, positions: positions,
                pictures: injection.pictures(cosines([2, 3, 8], step: 0.33), at: places)
            ) { attention.attended(queries, to: $0, mask: $1, isCausal: $2).output }
            return attention.output(attended.transposed(1, 2).flattened(from: 2, to: 3))
        }
        let first = [-0.208031, -0.002992, 0.213917, -0.417807]
        expectKnown(
            output(.featureGates), sum: -2.482143, first: first, last: [-0.058817, -0.05459], tolerance: 1e-6)
        expectKnown(output(.joint), sum: -3.522959, first: first, last: [0.150593, -0.307312], tolerance: 1e-6)
    }

    @Test("G7: Idefics' resampler")
    func ideficsResampler() throws {
        let block = [
            "0.context_layer_norm.weight", "0.context_layer_norm.bias", "0.latents_layer_norm.weight",
            "0.latents_layer_norm.bias", "0.q_proj.weight", "0.k_proj.weight", "0.v_proj.weight",
            "0.output_proj.weight", "1.ln.weight", "1.ln.bias", "1.fc.weight", "1.c_proj.weight",
        ]
        try GoldenVector(
            form: PerceiverResampler.entry.form("idefics"),
            configuration: ["embed_dim": 6, "depth": 2, "n_heads": 2, "head_dim": 3, "n_latents": 3],
            order: ["latents"] + (0..<2).flatMap { index in block.map { "blocks.\(index).\($0)" } }
                + ["layer_norm.weight", "layer_norm.bias"],
            inputs: ["context": cosines([1, 5, 6])], shape: [1, 3, 6], sum: -7.22402,
            first: [0.0762, -0.68164, -0.42148, -0.42414], last: [-0.37984, -0.91454], tolerance: 1e-5
        ).check()
    }

    @Test("G8: Idefics' gated cross-attention")
    func ideficsCrossAttention() throws {
        try GoldenVector(
            form: GatedCrossAttention.entry.form("idefics"),
            configuration: [
                "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 12, "vision_embed_dim": 6,
            ],
            order: ["alpha_cross_attn", "alpha_dense"]
                + ["q", "k", "v", "o"].map { "cross_attn.\($0)_proj.weight" }
                + ["gate", "down", "up"].map { "mlp.\($0)_proj.weight" }
                + ["input_layernorm.weight", "post_attention_layernorm.weight"],
            inputs: [
                "hidden_states": cosines([1, 4, 8]), "image_hidden_states": cosines([1, 5, 6], step: 0.33),
                "image_attention_mask": mask(
                    [0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 4, 5]),
            ],
            shape: [1, 4, 8], sum: 3.17316, first: [1.38543, 0.82161, 0.61182, 1.12655], last: [1.1583, 1.09461],
            tolerance: 1e-5
        ).check()
    }

    @Test("G9: Idefics2's resampler")
    func idefics2Resampler() throws {
        try GoldenVector(
            form: PerceiverResampler.entry.form("idefics2"),
            configuration: [
                "hidden_size": 8, "resampler_n_latents": 3, "resampler_depth": 1, "resampler_n_heads": 4,
                "num_key_value_heads": 2, "resampler_head_dim": 4,
            ],
            order: ["latents"]
                + ["input_latents_norm", "input_context_norm"].map { "layers.0.\($0).weight" }
                + ["q", "k", "v", "o"].map { "layers.0.self_attn.\($0)_proj.weight" }
                + ["layers.0.post_attention_layernorm.weight"]
                + ["gate", "up", "down"].map { "layers.0.mlp.\($0)_proj.weight" } + ["norm.weight"],
            inputs: ["context": cosines([1, 5, 8]), "attention_mask": mask([1, 1, 1, 1, 0], [1, 5])],
            shape: [1, 3, 8], sum: -1.45606, first: [-0.23252, -0.07906, 0.20899, 0.25775], last: [0.47239, 0.59463],
            tolerance: 1e-5
        ).check()
    }
}
