import FoveaTensor
import FoveaTestSupport
import Testing

private let inf = Double.infinity
private let nan = Double.nan

/// A call on special numbers, what comes out, and what the gradients for the cotangent 1, 2, 3, … are.
struct PolicyCase: Sendable {
    let label: String
    let inputs: [Tensor]
    let output: Tensor
    let gradients: [Tensor]
    let call: @Sendable ([Tensor]) -> Tensor

    init(
        _ label: String, _ inputs: [Tensor], gives output: Tensor, gradients: [Tensor] = [],
        call: @escaping @Sendable ([Tensor]) -> Tensor
    ) {
        (self.label, self.inputs, self.output, self.gradients, self.call) = (label, inputs, output, gradients, call)
    }
}

private func row(_ values: Double...) -> Tensor { Tensor(values) }
private func scalar(_ value: Double) -> Tensor { Tensor([value], shape: []) }

private let policies = generalPolicies + elementwisePolicies

private let generalPolicies: [PolicyCase] = [
    // Elements
    PolicyCase("log", [row(0, -1, 1, inf, nan)], gives: row(-inf, nan, 0, inf, nan)) { $0[0].log() },
    PolicyCase("log at 0", [row(0)], gives: row(-inf), gradients: [row(inf)]) { $0[0].log() },
    PolicyCase("sqrt", [row(0, -1, inf, nan)], gives: row(0, nan, inf, nan)) { $0[0].sqrt() },
    PolicyCase("sqrt at 0", [row(0)], gives: row(0), gradients: [row(inf)]) { $0[0].sqrt() },
    PolicyCase("exp", [row(-inf, inf, nan, -1e4, 1e4)], gives: row(0, inf, nan, 0, inf)) { $0[0].exp() },
    PolicyCase("tanh", [row(-inf, inf, nan, -1e4, 1e4)], gives: row(-1, 1, nan, -1, 1)) { $0[0].tanh() },
    PolicyCase("tanh far out", [row(-40, 40)], gives: row(-1, 1), gradients: [row(0, 0)]) { $0[0].tanh() },
    PolicyCase("sigmoid", [row(-inf, inf, nan, -1e4, 1e4)], gives: row(0, 1, nan, 0, 1)) { $0[0].sigmoid() },
    PolicyCase("erf", [row(-inf, inf, nan, -40, 40, 0)], gives: row(-1, 1, nan, -1, 1, 0)) { $0[0].erf() },
    PolicyCase(
        "gelu far out", [row(-40, 40, 0)], gives: row(0, 40, 0), gradients: [row(0, 2, 1.5)]
    ) { $0[0].gelu() },
    PolicyCase("gelu of NaN", [row(nan, inf)], gives: row(nan, inf)) { $0[0].gelu() },
    PolicyCase(
        "relu", [row(-1, 0, 2, nan, inf, -inf)], gives: row(0, 0, 2, nan, inf, 0),
        gradients: [row(0, 0, 3, nan, 5, 0)]
    ) { $0[0].relu() },
    PolicyCase(
        "abs", [row(-2, 0, 2, nan, -inf)], gives: row(2, 0, 2, nan, inf), gradients: [row(-1, 0, 3, nan, -5)]
    ) { $0[0].abs() },
    PolicyCase("quotients", [row(1, -1, 0), row(0, 0, 0)], gives: row(inf, -inf, nan)) { $0[0] / $0[1] },
    PolicyCase("∞ − ∞", [row(inf), row(inf)], gives: row(nan)) { $0[0] - $0[1] },
    PolicyCase(
        "maximum", [row(nan, 1, nan, inf, -inf), row(1, nan, nan, 2, -3)], gives: row(nan, nan, nan, inf, -3),
        gradients: [row(1, 2, 3, 4, 0), row(1, 2, 3, 0, 5)]
    ) { maximum($0[0], $0[1]) },
    PolicyCase(
        "minimum", [row(nan, 1, nan, inf, -inf), row(1, nan, nan, 2, -3)], gives: row(nan, nan, nan, 2, -inf),
        gradients: [row(1, 2, 3, 0, 5), row(1, 2, 3, 4, 0)]
    ) { minimum($0[0], $0[1]) },
    PolicyCase(
        "a tie of maximum", [row(2, 2, 1), row(2, 1, 2)], gives: row(2, 2, 2),
        gradients: [row(0.5, 2, 0), row(0.5, 0, 3)]
    ) { maximum($0[0], $0[1]) },
    PolicyCase(
        "a tie of minimum", [row(2, 2, 1), row(2, 1, 2)], gives: row(2, 1, 1),
        gradients: [row(0.5, 0, 3), row(0.5, 2, 0)]
    ) { minimum($0[0], $0[1]) },
    PolicyCase(
        "maximum with itself", [row(2, -1)], gives: row(2, -1), gradients: [row(1, 2)]
    ) { maximum($0[0], $0[0]) },
    // Reductions
    PolicyCase("sum of nothing", [Tensor.zeros([0, 2], dtype: .float64)], gives: row(0, 0)) { $0[0].sum(axes: [0]) },
    PolicyCase(
        "sum of nothing at all", [Tensor.zeros([0], dtype: .float64)], gives: scalar(0),
        gradients: [Tensor.zeros([0], dtype: .float64)]
    ) { $0[0].sum() },
    PolicyCase("mean of nothing", [Tensor.zeros([0], dtype: .float64)], gives: scalar(nan)) { $0[0].mean() },
    PolicyCase(
        "max of nothing", [Tensor.zeros([2, 0], dtype: .float64)], gives: row(-inf, -inf),
        gradients: [Tensor.zeros([2, 0], dtype: .float64)]
    ) { $0[0].max(axes: [1]) },
    PolicyCase(
        "max and NaN", [Tensor([nan, 1, 2, 1, nan, 2, 1, 2, nan, 1, 2, 3], shape: [4, 3])], gives: row(nan, nan, nan, 3)
    ) { $0[0].max(axes: [1]) },
    PolicyCase("max of −∞", [row(-inf, -inf)], gives: scalar(-inf)) { $0[0].max() },
    PolicyCase(
        "a tie of max", [Tensor([3.0, 1, 3, 3, 0, 5, 2, 2], shape: [2, 4])], gives: row(3, 5),
        gradients: [Tensor([1 / 3.0, 0, 1 / 3.0, 1 / 3.0, 0, 2, 0, 0], shape: [2, 4])]
    ) { $0[0].max(axes: [1]) },
    PolicyCase(
        "argmax", [Tensor([1.0, 3, 3, 1, nan, 2, -inf, -inf, -inf], shape: [3, 3])],
        gives: row(1, 1, 0)
    ) { $0[0].argmax(axis: 1).cast(to: .float64) },
    // Rows
    PolicyCase(
        "softmax of −∞ alone", [Tensor([-inf, -inf, 0, 0], shape: [2, 2])],
        gives: Tensor([0.0, 0, 0.5, 0.5], shape: [2, 2]), gradients: [Tensor([0, 0, -0.25, 0.25], shape: [2, 2])]
    ) { $0[0].softmax(axis: -1) },
    PolicyCase(
        "softmax with −∞", [row(-inf, 0, 0)], gives: row(0, 0.5, 0.5), gradients: [row(0, -0.25, 0.25)]
    ) { $0[0].softmax(axis: 0) },
    PolicyCase("softmax with NaN", [row(0, nan, 0)], gives: row(nan, nan, nan)) { $0[0].softmax(axis: 0) },
    PolicyCase("softmax of large numbers", [row(1e4, 1e4, -1e4)], gives: row(0.5, 0.5, 0)) { $0[0].softmax(axis: 0) },
    PolicyCase("logSoftmax of −∞ alone", [row(-inf, -inf)], gives: row(nan, nan)) { $0[0].logSoftmax(axis: 0) },
    PolicyCase(
        "logSoftmax of large numbers", [row(1e4, -1e4)], gives: row(0, -2e4), gradients: [row(-2, 2)]
    ) { $0[0].logSoftmax(axis: 0) },
    PolicyCase(
        "layer norm of a constant row", [Tensor.full([2, 3], 4, dtype: .float64)],
        gives: Tensor.zeros([2, 3], dtype: .float64),
        gradients: [
            // rstd = 1 / √ε times the weights without their mean.
            Tensor([-1.0, 0, 1, -1, 0, 1], shape: [2, 3]) / 1e-5.squareRoot()
        ]
    ) { layerNorm($0[0]) },
    PolicyCase(
        "layer norm far from zero", [Tensor([1e8, 1e8 + 2, 1e8 + 1], shape: [1, 3])],
        gives: Tensor([-1.0, 1, 0], shape: [1, 3]) / (2.0 / 3 + 1e-5).squareRoot()
    ) { layerNorm($0[0]) },
    PolicyCase(
        "attention that may look nowhere",
        [Tensor.ones([1, 2], dtype: .float64), Tensor.ones([3, 2], dtype: .float64)],
        gives: Tensor.zeros([1, 2], dtype: .float64),
        gradients: [Tensor.zeros([1, 2], dtype: .float64), Tensor.zeros([3, 2], dtype: .float64)]
    ) { attention(query: $0[0], keys: $0[1], values: $0[1], mask: Tensor([false])) },
    // Cross-entropy
    PolicyCase(
        "cross-entropy with everything ignored", [Tensor([1.0, 2, nan, inf], shape: [2, 2])], gives: scalar(0),
        gradients: [Tensor.zeros([2, 2], dtype: .float64)]
    ) { crossEntropy($0[0], Tensor([Int64(-100), -100])) },
    PolicyCase(
        "cross-entropy of no rows", [Tensor.zeros([0, 2], dtype: .float64)], gives: scalar(0),
        gradients: [Tensor.zeros([0, 2], dtype: .float64)]
    ) { crossEntropy($0[0], Tensor([Int64](), shape: [0])) },
    PolicyCase(
        "cross-entropy with another label to ignore", [Tensor([0.0, 0, 5, 9], shape: [2, 2])],
        gives: scalar(0.6931471805599453), gradients: [Tensor([-0.5, 0.5, 0, 0], shape: [2, 2])]
    ) { crossEntropy($0[0], Tensor([Int64(0), 7]), ignoring: 7) },
    PolicyCase(
        "cross-entropy of large logits", [Tensor([1e4, -1e4], shape: [1, 2])], gives: scalar(2e4),
        gradients: [Tensor([1.0, -1], shape: [1, 2])]
    ) { crossEntropy($0[0], Tensor([Int64(1)])) },
]

@Suite("NaN, infinities, ties and nothing at all")
struct PolicyTests {
    @Test("have a defined result", arguments: zip(policies.indices, policies.map(\.label)))
    func policy(index: Int, label: String) {
        let policy = policies[index]
        // A few roundings.
        let tolerance = [DType.float64: 4e-15, .float32: 1e-6]
        for type in [DType.float64, .float32] {
            // 1e8 + 1 is no float32 number.
            if type == .float32, label == "layer norm far from zero" { continue }
            let inputs = policy.inputs.map { $0.cast(to: type) }
            let output = policy.call(inputs)
            expectClose(output.cast(to: .float64), policy.output, tolerance: tolerance[type]!, "\(label) in \(type)")
            guard !policy.gradients.isEmpty else { continue }
            let pulled = pullBack(policy.call, inputs) { y in
                // 1, 2, 3, … along the last axis.
                let weights = (0..<y.count).map { 1 + Double($0 % (y.shape.last ?? 1)) }
                return Tensor(weights, shape: y.shape).cast(to: y.dtype)
            }
            for (gradient, expected) in zip(pulled.gradients, policy.gradients) {
                expectClose(
                    gradient.cast(to: .float64), expected, tolerance: tolerance[type]!, "\(label) in \(type), gradient")
            }
        }
    }
}
