import CKernels

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

// Choices that let gradients pass.

/// The natural logarithm of a number; inside `Tensor` the name `log` is the op.
private func natural(_ x: Double) -> Double { log(x) }

extension Op {
    /// Choices that let gradients pass.
    static let choices: [Op] = [.straightThrough, .gumbelSoftmax]
}

// MARK: straightThrough

extension Op {
    public static let straightThrough = Op(
        "straightThrough", "one tensor's values with another's gradient",
        exception: "its gradient is not that of its values: the samples give both tensors the same ones"
    ) {
        [
            OpSample("itself", [$0.uniform([3, 4])]) { FoveaTensor.straightThrough($0[0], gradientOf: $0[0]) },
            OpSample("square", [$0.uniform([7])]) {
                FoveaTensor.straightThrough($0[0].square(), gradientOf: $0[0] * $0[0])
            },
            OpSample("empty", [$0.uniform([0, 3])]) { FoveaTensor.straightThrough($0[0], gradientOf: $0[0]) },
        ]
    }
}

/// The values of `value`, with the gradient passed unchanged to `source` and none to `value`: what a rounded or chosen
/// tensor needs to train what it was made from. Both have one shape and type.
/// (Bengio, Léonard and Courville, "Estimating or propagating gradients through stochastic neurons", 2013.)
///
/// PyTorch spells it `source + (value - source).detach()`, which rounds twice and makes ∞ NaN; this does neither.
public func straightThrough(_ value: Tensor, gradientOf source: Tensor) -> Tensor {
    value.requireDifferentiableType("straightThrough")
    guard value.shape == source.shape, value.dtype == source.dtype else {
        trap("straightThrough", "both tensors must have one shape and one type", value, source)
    }
    return value.detached.derived(by: .straightThrough, from: source) { g in g }
}

// MARK: gumbelSoftmax

extension Op {
    public static let gumbelSoftmax = Op("gumbelSoftmax", "a soft random choice along an axis") {
        [
            OpSample("last", [$0.uniform([3, 5])]) { $0[0].gumbelSoftmax(axis: -1, key: RandomKey(seed: 4)) },
            OpSample("first", [$0.uniform([5, 3])]) {
                $0[0].gumbelSoftmax(axis: 0, temperature: 0.7, key: RandomKey(seed: 4))
            },
            OpSample("empty", [$0.uniform([0, 3])]) { $0[0].gumbelSoftmax(axis: 1, key: RandomKey(seed: 4)) },
        ]
    }
}

extension Tensor {
    /// softmax((x + noise) / τ) along `axis`, with Gumbel noise: a differentiable draw from the categorical distribution
    /// with these logits. (Jang, Gu and Poole, "Categorical reparameterization with Gumbel-softmax", 2017.)
    ///
    /// Element i in row-major order takes the key's number at position i, so the key alone fixes the noise. A logit of −∞
    /// is never drawn; a line of −∞ alone gives zeros, as softmax does, and with `hard` its first class. Traps unless
    /// τ > 0.
    ///
    /// - Parameters:
    ///   - axis: along which the classes stand.
    ///   - temperature: τ; the lower, the closer to one-hot.
    ///   - hard: whether the result is the one-hot choice, the first of equal ones, with the soft one's gradient.
    ///   - key: of the noise.
    public func gumbelSoftmax(
        axis: Int, temperature: Double = 1, hard: Bool = false, key: RandomKey
    ) -> Tensor {
        guard temperature > 0 else {
            trap("gumbelSoftmax", "the temperature must be positive, not \(temperature)", self)
        }
        let noise = Tensor.random(shape, dtype, key) { -natural(-natural($0)) }
        let soft = ((self + noise) * (1 / temperature)).softmax(axis: axis)
        guard hard else { return soft }
        let choice = withoutGradient {
            let line = normalizedAxis(axis, "gumbelSoftmax")
            let classes = Tensor.arange(shape[line], dtype: dtype)
                .reshaped(to: [shape[line]] + [Int](repeating: 1, count: rank - 1 - line))
            let best = soft.detached.argmax(axis: line).unsqueezed(line).cast(to: dtype)
            return Tensor.combined(best, classes, CK_EQUAL, "gumbelSoftmax")
        }
        return straightThrough(choice, gradientOf: soft)
    }
}
