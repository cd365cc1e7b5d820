import FoveaTensor

/// RMS norm over the last axis, x / √(mean x² + ε) · weight, with a weight that starts at one.
/// (Zhang and Sennrich, "Root mean square layer normalization", 2019.)
public struct RMSNorm: Module {
    /// [C].
    public var weight: Tensor
    /// Added to the mean of the squares.
    public let epsilon: Double

    public init(_ width: Int, epsilon: Double = 1e-6) {
        weight = .ones([width])
        self.epsilon = epsilon
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("weight", &weight)
    }

    /// x [..., C] → the same shape.
    public func callAsFunction(_ x: Tensor) -> Tensor { rmsNorm(x, weight: weight, epsilon: epsilon) }
}

extension RMSNorm {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "rms-norm", "RMS norm over the last axis",
        forms: [
            PublishedForm(
                WeightLayout<RMSNorm>.native,
                keys: [
                    .size("width", "C", from: .axis(0, of: "weight")),
                    .number("epsilon", "added to the mean of squares", default: 1e-6, atLeast: 0),
                ],
                inputs: [.init("x", "[..., width]")], outputs: [.init("y", "[..., width]")],
                sample: ["width": 5], sampleInputs: { ["x": $0.uniform([2, 3, 5])] },
                make: { RMSNorm($0.int("width"), epsilon: $0.double("epsilon")) }, run: { ["y": $0($1["x"])] })
        ])
}
