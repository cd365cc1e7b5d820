import FoveaTensor

/// Scales the channels of images by what their means say: y = x ⊙ gate(W₂ act(W₁ mean(x))).
/// (Hu et al., "Squeeze-and-excitation networks", 2018.)
public struct SqueezeExcitation: Module {
    /// [C] → [squeezed], a convolution of one pixel.
    public var reduce: Convolution2D
    /// [squeezed] → [C].
    public var expand: Convolution2D
    public let activation: Activation
    public let gate: Activation

    /// - Parameters:
    ///   - channels: C.
    ///   - squeezed: the width between the two layers.
    ///   - activation: the function between them.
    ///   - gate: the function that makes scales of the result.
    ///   - key: of the random numbers that the weights start with.
    public init(
        _ channels: Int, squeezed: Int, activation: Activation = .relu, gate: Activation = .sigmoid, key: RandomKey
    ) {
        reduce = Convolution2D(channels, squeezed, kernel: 1, key: key.folding("reduce"))
        expand = Convolution2D(squeezed, channels, kernel: 1, key: key.folding("expand"))
        self.activation = activation
        self.gate = gate
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("reduce", &reduce)
        visitor.module("expand", &expand)
    }

    /// x [B, C, H, W] → the same shape.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        x * gate(expand(activation(reduce(x.mean(axes: [2, 3], keepingAxes: true)))))
    }
}

extension SqueezeExcitation {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "squeeze-excitation", "channels of images scaled by their means",
        forms: [
            PublishedForm(
                WeightLayout<SqueezeExcitation>.native,
                keys: [
                    .size("channels", "C", from: .axis(1, of: "reduce.weight")),
                    .size("squeezed", "the width inside", from: .axis(0, of: "reduce.weight")),
                ],
                inputs: [.init("x", "[B, channels, H, W]")], outputs: [.init("y", "[B, channels, H, W]")],
                sample: ["channels": 4, "squeezed": 3], sampleInputs: { ["x": $0.uniform([2, 4, 2, 3])] },
                make: {
                    SqueezeExcitation(
                        $0.int("channels"), squeezed: $0.int("squeezed"), activation: .silu, key: $0.key)
                },
                run: { ["y": $0($1["x"])] })
        ])
}
