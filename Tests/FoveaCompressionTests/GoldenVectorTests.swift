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
    /// Half of the last digit that is known is rounding.
    let tolerance: Double

    func check() throws {
        let form = try #require(form)
        var instance = try form.instance(configuration, dtype: .float64, owner: "a golden vector")
        #expect(Set(instance.weights.keys) == Set(order))
        var weights: NamedTensors = [:]
        for (k, name) in order.enumerated() {
            let shape = try #require(instance.weights[name]?.shape, "\(name)")
            weights[name] = Tensor(
                (0..<shape.reduce(1, *)).map { 0.5 * sin(0.37 * Double($0) + 1.1 * Double(k)) }, shape: shape)
        }
        _ = try instance.load(weights, source: "a golden vector")
        let output = try #require(try instance.outputs(inputs).values.first)
        #expect(output.shape == shape)
        let values = output.doubles
        // Each of the known digits of the sum is as good as those of the elements.
        #expect(abs(values.reduce(0, +) - sum) < tolerance, "sum \(values.reduce(0, +))")
        for (value, want) in zip(values.prefix(first.count), first) {
            #expect(abs(value - want) < tolerance, "\(values.prefix(first.count))")
        }
        for (value, want) in zip(values.suffix(last.count), last) {
            #expect(abs(value - want) < tolerance, "\(values.suffix(last.count))")
        }
    }
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
