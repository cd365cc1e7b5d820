import FoveaNN
import FoveaTensor

extension WeightLayout where Model == LDP {
    /// The names of MobileVLM's `LDPNetProjector`, which its files keep behind `model.mm_projector.`. The blocks are
    /// torchvision's.
    public static var ldpNet: Self {
        var rules: [Rule] = []
        for tensor in ["weight", "bias"] {
            rules += [
                .rename("mlp.expand.\(tensor)", "model.mlp.1.\(tensor)"),
                .rename("mlp.contract.\(tensor)", "model.mlp.3.\(tensor)"),
                .rename("blocks.*.depthwise.\(tensor)", "model.mb_block.*.block.0.0.\(tensor)"),
                .rename("blocks.*.depthwiseNorm.\(tensor)", "model.mb_block.*.block.0.1.\(tensor)"),
                .rename("blocks.*.scale.reduce.\(tensor)", "model.mb_block.*.block.1.fc1.\(tensor)"),
                .rename("blocks.*.scale.expand.\(tensor)", "model.mb_block.*.block.1.fc2.\(tensor)"),
                .rename("blocks.*.project.\(tensor)", "model.mb_block.*.block.2.0.\(tensor)"),
                .rename("blocks.*.projectNorm.\(tensor)", "model.mb_block.*.block.2.1.\(tensor)"),
            ]
        }
        return WeightLayout("ldpnet", rules)
    }
}

extension WeightLayout where Model == LDPv2 {
    /// The names of MobileVLM's `LDPNetV2Projector`.
    public static var ldpNetV2: Self {
        var rules: [Rule] = []
        for tensor in ["weight", "bias"] {
            rules += [
                .rename("mlp.expand.\(tensor)", "mlp.mlp.0.\(tensor)"),
                .rename("mlp.contract.\(tensor)", "mlp.mlp.2.\(tensor)"),
                .rename("position.\(tensor)", "peg.peg.0.\(tensor)"),
            ]
        }
        return WeightLayout("ldpnetv2", rules)
    }
}

extension LDP {
    /// The catalogue entry of both versions.
    public static let entry = ModuleEntry(
        "ldp", "MobileVLM's downsampling projectors",
        forms: [
            form(
                WeightLayout<LDP>.ldpNet, first: "model.mlp.1.weight", sample: ["mm_hidden_size": 3, "hidden_size": 4],
                make: { LDP($0, outputs: $1, key: $2) }),
            form(
                WeightLayout<LDPv2>.ldpNetV2, first: "mlp.mlp.0.weight",
                sample: ["mm_hidden_size": 3, "hidden_size": 2],
                make: { LDPv2($0, outputs: $1, key: $2) }),
        ])

    private static func form<Model: Compressor>(
        _ layout: WeightLayout<Model>, first: String, sample: [String: ConfigurationValue],
        make: @escaping @Sendable (Int, Int, RandomKey) -> Model
    ) -> PublishedForm {
        PublishedForm(
            layout,
            keys: [
                .size("mm_hidden_size", "width C of the encoder", from: .axis(1, of: first)),
                .size("hidden_size", "width D of the language model", from: .axis(0, of: first)),
            ],
            inputs: [.init("x", "[B, N, mm_hidden_size]")], outputs: [.init("tokens", "[B, M, hidden_size]")],
            widthKey: "mm_hidden_size", sample: sample, sampleInputs: { ["x": $0.uniform([2, 9, 3])] },
            make: { make($0.int("mm_hidden_size"), $0.int("hidden_size"), $0.key) },
            run: { model, inputs in
                let x = inputs["x"]
                guard x.shape[1] > 0, let grid = VisualTokens.Grid(squareOf: x.shape[1]) else {
                    throw ModuleInputError("input x is \(x.shape): \(x.shape[1]) tokens form no square")
                }
                return ["tokens": model(VisualTokens(patches: x, grid: grid)).features]
            })
    }
}
