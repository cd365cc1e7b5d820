import FoveaTensor

/// Layer norm over the channels of images: each pixel of [B, C, H, W] by itself. (ConvNeXt's; `LayerNorm2d` in timm.)
public struct LayerNorm2D: Module {
    /// [C].
    public var weight: Tensor
    /// [C].
    public var bias: Tensor
    /// Added to the variance.
    public let epsilon: Double

    public init(_ channels: Int, epsilon: Double = 1e-5) {
        weight = .ones([channels])
        bias = .zeros([channels])
        self.epsilon = epsilon
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("weight", &weight)
        visitor.parameter("bias", &bias)
    }

    /// x [B, C, H, W] → the same shape.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        layerNorm(x.permuted(to: [0, 2, 3, 1]), weight: weight, bias: bias, epsilon: epsilon)
            .permuted(to: [0, 3, 1, 2])
    }
}

extension LayerNorm2D {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "layer-norm-2d", "layer norm over the channels of images",
        forms: [
            PublishedForm(
                WeightLayout<LayerNorm2D>.native,
                keys: [
                    .size("channels", "C", from: .axis(0, of: "weight")),
                    .number("epsilon", "added to the variance", default: 1e-5, atLeast: 0),
                ],
                inputs: [.init("x", "[B, channels, H, W]")], outputs: [.init("y", "[B, channels, H, W]")],
                sample: ["channels": 5], sampleInputs: { ["x": $0.uniform([2, 5, 2, 3])] },
                make: { LayerNorm2D($0.int("channels"), epsilon: $0.double("epsilon")) }, run: { ["y": $0($1["x"])] })
        ])
}
