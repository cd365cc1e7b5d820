import CKernels
import FoveaNN
import FoveaTensor
import OrderedCollections

/// Adam with decoupled weight decay.
/// (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, algorithm 2.)
///
///     m ← β₁ m + (1 − β₁) g
///     v ← β₂ v + (1 − β₂) g²
///     w ← (1 − η λ) w − η · m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε)
public struct AdamW: Optimizer {
    public var schedule: Schedule
    public var beta1: Double
    public var beta2: Double
    public var epsilon: Double
    public var groups: [ParameterGroup]
    public private(set) var step = 0
    private var moments: OrderedDictionary<String, Moments> = [:]

    private struct Moments: Sendable {
        var first: Tensor
        var second: Tensor
    }

    /// - Parameters:
    ///   - learningRate: η as a function of the step.
    ///   - beta1: β₁, how much of the mean of the gradients stays at each step.
    ///   - beta2: β₂, how much of the mean of their squares stays.
    ///   - epsilon: ε, which keeps the divisor away from zero.
    ///   - weightDecay: λ of the matrices; norms, biases and embeddings do not decay.
    ///   - groups: instead of that, groups of one's own.
    public init(
        learningRate: Schedule, beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8,
        weightDecay: Double = 0.01, groups: [ParameterGroup]? = nil
    ) {
        schedule = learningRate
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.groups = groups ?? ParameterGroup.decayingMatrices(weightDecay)
    }

    public var learningRate: Double { schedule.rate(at: step) }

    public mutating func update<Model: Module>(_ model: inout Model, along gradients: Gradients) {
        let rate = learningRate
        step += 1
        let (correction1, correction2) = (1 - power(beta1, step), 1 - power(beta2, step))
        forEachUpdate(&model, gradients, groups) { path, parameter, gradient, group in
            // Taken out of the table, so that its memory is unique and updated in place.
            var moment =
                moments.removeValue(forKey: path)
                ?? Moments(
                    first: .zeros(parameter.shape, dtype: parameter.dtype),
                    second: .zeros(parameter.shape, dtype: parameter.dtype))
            requireFit(path, parameter, [moment.first, moment.second])
            moment.first.makeUnique()
            moment.second.makeUnique()
            let loop = pick(Kernels.table.pointee.adamw, parameter.dtype)
            let size = parameter.dtype.size
            let (beta1, beta2, epsilon) = (beta1, beta2, epsilon)
            parameter.write { w in
                gradient.read { g in
                    moment.first.write { m in
                        moment.second.write { v in
                            parallelFor(gradient.count, grain: 4096) { range in
                                let at = range.lowerBound * size
                                loop(
                                    w + at, g + at, m + at, v + at, range.count, rate * group.rateFactor, beta1, beta2,
                                    epsilon, group.weightDecay, correction1, correction2)
                            }
                        }
                    }
                }
            }
            moments[path] = moment
        }
    }

    public var state: OrderedDictionary<String, Tensor> {
        var state: OrderedDictionary<String, Tensor> = [:]
        for (path, moment) in moments {
            state["moment1.\(path)"] = moment.first
            state["moment2.\(path)"] = moment.second
        }
        return state
    }

    public mutating func restore(
        step: Int, state: OrderedDictionary<String, Tensor>
    ) throws(OptimizerStateError) {
        let (first, second) = (statePart(state, "moment1."), statePart(state, "moment2."))
        guard Set(first.keys) == Set(second.keys), first.count + second.count == state.count else {
            throw OptimizerStateError(
                description: "not a state of AdamW: each path needs moment1 and moment2, nothing else")
        }
        self.step = step
        moments = [:]
        for (path, tensor) in first { moments[path] = Moments(first: tensor, second: second[path]!) }
    }
}

/// x to a whole power by squaring: the same bits on every machine, which `pow` does not promise.
private func power(_ x: Double, _ exponent: Int) -> Double {
    var (result, base, rest) = (1.0, x, exponent)
    while rest > 0 {
        if rest & 1 == 1 { result *= base }
        base *= base
        rest >>= 1
    }
    return result
}
