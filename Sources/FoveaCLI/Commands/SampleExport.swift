import Foundation
import Fovea

/// What every sample of some ops computes, for another library to compare with.
///
/// A tensor is called `op/sample/inputs/role`. The role is `input.0`, `input.1`, …, `output`, and for differentiable ops
/// `cotangent` and `gradient.0`, …: the gradient of Σ⟨output, cotangent⟩ for each floating-point input. `inputs` says
/// which values stand in the floating-point inputs; see `SpecialInputs`.
struct SampleExport {
    private var tensors: NamedTensors = [:]

    /// Ops that throw for what is not finite or not regular, rather than give a result.
    private static let throwing: Set = ["cholesky", "solve", "svd", "symmetricEigen"]

    mutating func add(_ op: Op, seed: UInt64) {
        for sample in op.samples(seed: seed) {
            let name = "\(op.name)/\(sample.label)"
            add(op, sample, sample.inputs, name: "\(name)/drawn")
            guard !SampleExport.throwing.contains(op.name), sample.inputs.contains(where: \.hasReals) else { continue }
            for special in SpecialInputs.allCases {
                add(op, sample, sample.inputs.map(special.callAsFunction), name: "\(name)/\(special.rawValue)")
            }
        }
    }

    func write(to path: String) throws { try writeSafetensors(tensors, to: path) }

    private mutating func add(_ op: Op, _ sample: OpSample, _ inputs: [Tensor], name: String) {
        let output = sample.run(inputs)
        for (position, input) in inputs.enumerated() { tensors["\(name)/input.\(position)"] = input }
        tensors["\(name)/output"] = output
        let reals = inputs.indices.filter { inputs[$0].dtype == .float64 }
        guard op.isDifferentiable, output.dtype == .float64, !reals.isEmpty else { return }
        let cotangent = Tensor.normal(output.shape, key: RandomKey(seed: 0).folding(name), dtype: .float64)
        let gradients = valueAndGradient(
            of: { variables in
                var arguments = inputs
                for (variable, position) in zip(variables, reals) { arguments[position] = variable }
                return (sample.run(arguments) * cotangent).sum()
            }, at: reals.map { inputs[$0] }
        ).gradients
        tensors["\(name)/cotangent"] = cotangent
        for (position, gradient) in zip(reals, gradients) { tensors["\(name)/gradient.\(position)"] = gradient }
    }
}

/// Values at which ops have corners, poles or equals, in place of those that a sample draws.
private enum SpecialInputs: String, CaseIterable {
    /// Rounded to whole numbers: equal ones, and zeros.
    case whole
    case zeros
    /// The first element NaN.
    case nan
    /// The first element ∞.
    case infinite
    /// The first element −∞.
    case negativeInfinite = "negative infinite"
    /// −∞ alone.
    case allNegativeInfinite = "all negative infinite"

    func callAsFunction(_ x: Tensor) -> Tensor {
        guard x.hasReals else { return x }
        switch self {
        case .whole: return x.round()
        case .zeros: return .zeros(x.shape, dtype: x.dtype)
        case .nan: return first(.nan, of: x)
        case .infinite: return first(.infinity, of: x)
        case .negativeInfinite: return first(-.infinity, of: x)
        case .allNegativeInfinite: return .full(x.shape, -.infinity, dtype: x.dtype)
        }
    }

    private func first(_ value: Double, of x: Tensor) -> Tensor {
        var values: [Double] = x.scalars()
        values[0] = value
        return Tensor(values, shape: x.shape)
    }
}

extension Tensor {
    fileprivate var hasReals: Bool { dtype == .float64 && count > 0 }
}
