import FoveaTensor

/// Layer norm over the last axis, with a weight that starts at one and a bias that starts at zero.
public struct LayerNorm: Module {
    /// [C].
    public var weight: Tensor
    /// [C], or nil.
    public var bias: Tensor?
    /// Added to the variance.
    public let epsilon: Double

    public init(_ width: Int, bias: Bool = true, epsilon: Double = 1e-5) {
        weight = .ones([width])
        self.bias = bias ? .zeros([width]) : nil
        self.epsilon = epsilon
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("weight", &weight)
        visitor.parameter("bias", &bias)
    }

    /// x [..., C] → the same shape.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        layerNorm(x, weight: weight, bias: bias, epsilon: epsilon)
    }

    /// The norm without its bias.
    func withoutBias(_ x: Tensor) -> Tensor { layerNorm(x, weight: weight, bias: nil, epsilon: epsilon) }
}

extension LayerNorm {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "layer-norm", "layer norm over the last axis",
        forms: [
            PublishedForm(
                WeightLayout<LayerNorm>.native,
                keys: [
                    .size("width", "C", from: .axis(0, of: "weight")),
                    .flag("bias", "whether there is a bias", default: true, from: .presence(of: "bias")),
                    .number("epsilon", "added to the variance", default: 1e-5, atLeast: 0),
                ],
                inputs: [.init("x", "[..., width]")], outputs: [.init("y", "[..., width]")],
                sample: ["width": 5], sampleInputs: { ["x": $0.uniform([2, 3, 5])] },
                make: { LayerNorm($0.int("width"), bias: $0.bool("bias"), epsilon: $0.double("epsilon")) },
                run: { ["y": $0($1["x"])] })
        ])
}
