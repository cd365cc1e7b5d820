import Foundation
import Fovea
import Testing

/// Inputs and weights that do not fit a published module: one error, which names the tensor and both shapes.
@Suite("What published modules refuse")
struct PublishedRefusalTests {
    /// A parity case with one thing in it changed, and what the complaint must mention.
    struct Mistake: CustomTestStringConvertible {
        let fixture: String
        let what: String
        let inputs: @Sendable (inout NamedTensors) -> Void
        let mentions: [String]

        var testDescription: String { "\(fixture), \(what)" }

        init(
            _ fixture: String, _ what: String, _ mentions: String...,
            inputs: @escaping @Sendable (inout NamedTensors) -> Void
        ) {
            (self.fixture, self.what, self.mentions, self.inputs) = (fixture, what, mentions, inputs)
        }

        /// One less along an axis of an input, or so many.
        static func short(
            _ fixture: String, _ what: String, _ input: String, axis: Int, to length: Int? = nil, _ mentions: String...
        ) -> Mistake {
            let mistake = Mistake(fixture, what) { inputs in
                let tensor = inputs[input]!
                let axis = axis < 0 ? tensor.rank + axis : axis
                inputs[input] = tensor.sliced(axis: axis, 0..<(length ?? tensor.shape[axis] - 1)).contiguous()
            }
            return Mistake(mistake, mentions)
        }

        private init(_ other: Mistake, _ mentions: [String]) {
            (fixture, what, inputs) = (other.fixture, other.what, other.inputs)
            self.mentions = mentions
        }
    }

    static let mistakes: [Mistake] = [
        .short(
            "patch-merger.qwen2-vl.a", "an odd number of patches", "x", axis: 0, "input x is [15, 6]",
            "[M*spatial_merge_size*spatial_merge_size, context_dim] with spatial_merge_size = 2"),
        .short("patch-merger.qwen2-vl.a", "another width", "x", axis: 1, "input x is [16, 5]", "context_dim = 6"),
        .short(
            "pixel-shuffle.internvl.a", "an odd grid", "x", axis: 1, "input x is [2, 3, 4, 6]",
            "blocks of 2 × 2 do not tile a raster of 3 × 4"),
        .short(
            "pixel-shuffle.internvl.a", "another width", "x", axis: -1, "input x is [2, 4, 4, 5]",
            "vit_hidden_size = 6"),
        .short(
            "spatial-pool.llava-onevision.a", "an odd grid", "x", axis: 1, "input x is [2, 48, 6]",
            "num_patches_per_side = 7"),
        .short(
            "token-packer.token-packer.a", "an odd grid", "x", axis: 1, "input x is [2, 35, 5]", "raw_grid = 6"),
        .short(
            "token-packer.token-packer.a", "another batch", "x", axis: 0, "input x_multi is [2, 36, 10]",
            "B = 1 as in x"),
        .short("c-abstractor.honeybee.a", "an odd grid", "x", axis: 1, "x is [2, 24, 8]", "24 tokens form no square"),
        .short("ldp.ldpnet.a", "an odd grid", "x", axis: 1, "x is [2, 24, 5]", "24 tokens form no square"),
        .short("ldp.ldpnet.a", "another width", "x", axis: 2, "x is [2, 25, 4]", "mm_hidden_size = 5"),
        .short("mlp-projector.llava.a", "another width", "x", axis: 2, "x is [2, 9, 11]", "mm_hidden_size = 12"),
        .short(
            "gated-cross-attention.open-flamingo.a", "another batch", "media", axis: 0, "input media is [1, 2, 3, 12]",
            "B = 2 as in x"),
        .short(
            "gated-cross-attention.open-flamingo.a", "another width", "media", axis: -1, "media is [2, 2, 3, 11]",
            "dim_visual = 12"),
        .short(
            "gated-cross-attention.open-flamingo.a", "no media", "media", axis: 1, to: 0, "media is [2, 0, 3, 12]",
            "N, R ≥ 1"),
        .init(
            "gated-cross-attention.open-flamingo.a", "more placeholders than media", "media_locations [2, 6]",
            "media [2, 2, 3, 12]", "6 placeholders and 2 media"
        ) { $0["media_locations"] = Tensor.ones([2, 6], dtype: .bool) },
        .short(
            "gated-cross-attention.idefics.a", "another batch", "image_hidden_states", axis: 0,
            "image_hidden_states is [1, 6, 12]", "B = 2 as in hidden_states"),
        .short(
            "gated-cross-attention.idefics.a", "no tokens but a mask of some", "image_hidden_states", axis: 1, to: 0,
            "image_attention_mask is [2, 5, 6]", "S = 0 as in image_hidden_states"),
        .short(
            "q-former.blip2.a", "another batch", "encoder_hidden_states", axis: 0,
            "encoder_hidden_states is [1, 9, 20]", "B = 2 as in query_embeds"),
        .short(
            "q-former.blip2.a", "another width", "encoder_hidden_states", axis: 2,
            "encoder_hidden_states is [2, 9, 19]", "encoder_hidden_size = 20"),
        .short(
            "perceiver-resampler.idefics2.a", "another batch", "attention_mask", axis: 0,
            "attention_mask is [1, 7]", "B = 2 as in context"),
        .short(
            "any-resolution.llava-onevision.a", "a crop too few", "image_features", axis: 1,
            "image_features is [2, 4, 9, 3]", "1 + 4 crops"),
    ]

    @Test("inputs of other shapes", arguments: mistakes)
    func inputs(_ mistake: Mistake) throws {
        let bench = try Workbench()
        let folder = try prepare(bench, mistake.fixture, inputs: mistake.inputs)
        try bench.refuses(try arguments(folder), mentions: ["i.safetensors"] + mistake.mentions)
    }

    @Test(
        "weights that are missing, too many or misshapen",
        arguments: [
            "patch-merger.qwen2-vl.a", "pixel-shuffle.internvl.a", "token-packer.token-packer.a",
            "c-abstractor.honeybee.a", "ldp.ldpnet.a", "mlp-projector.llava.a",
            "gated-cross-attention.open-flamingo.a", "q-former.blip2.a", "perceiver-resampler.idefics2.a",
        ])
    func weights(_ fixture: String) throws {
        let bench = try Workbench()
        let all = try SafetensorsFile(reading: path(fixture) + "/weights.safetensors").tensors()
        // A bias, or the last norm: no configuration is read from the number of them.
        let name = try #require(
            all.keys.sorted().last { $0.hasSuffix("bias") } ?? all.keys.sorted().last { $0.hasSuffix("norm.weight") })
        let shape = all[name]!.shape
        let short = String(name.split(separator: ".").suffix(2).joined(separator: "."))
        var folder = try prepare(bench, fixture, weights: { $0[name] = nil })
        try bench.refuses(try arguments(folder), mentions: ["w.safetensors", "1 missing", short])
        folder = try prepare(
            bench, fixture,
            weights: { $0[name.split(separator: ".").dropLast().joined(separator: ".") + ".extra"] = .ones([2]) })
        try bench.refuses(try arguments(folder), mentions: ["w.safetensors", "1 unexpected", "extra"])
        folder = try prepare(bench, fixture, weights: { $0[name] = .ones([shape[0] + 1]) })
        try bench.refuses(
            try arguments(folder), mentions: ["w.safetensors", short, "is [\(shape[0] + 1)], not \(shape)"])
    }

    private func path(_ fixture: String) -> String { "\(Workbench.project)/Tests/Fixtures/\(fixture)" }

    /// Writes weights and inputs of a case, changed, and returns its folder.
    private func prepare(
        _ bench: Workbench, _ fixture: String, inputs: (inout NamedTensors) -> Void = { _ in },
        weights: (inout NamedTensors) -> Void = { _ in }
    ) throws -> String {
        let folder = path(fixture)
        var tensors = try SafetensorsFile(reading: folder + "/inputs.safetensors").tensors()
        for name in tensors.keys where name.hasPrefix("cotangent.") { tensors[name] = nil }
        inputs(&tensors)
        try writeSafetensors(tensors, to: bench.file("i.safetensors"))
        tensors = try SafetensorsFile(reading: folder + "/weights.safetensors").tensors()
        weights(&tensors)
        try writeSafetensors(tensors, to: bench.file("w.safetensors"))
        return folder
    }

    private func arguments(_ folder: String) throws -> [String] {
        struct Case: Decodable {
            let module: String
            let layout: String
        }
        let file = folder + "/case.json"
        let given = try JSONDecoder().decode(Case.self, from: try Data(contentsOf: URL(fileURLWithPath: file)))
        return [
            "apply", given.module, "--layout", given.layout, "--config", file, "--weights", "w.safetensors",
            "--inputs", "i.safetensors", "--output", "o.safetensors",
        ]
    }
}
