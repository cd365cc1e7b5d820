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

        init(first: Tensor, second: Tensor) { (self.first, self.second) = (first, second) }

        /// Those of a parameter that has not moved yet.
        init(of parameter: Tensor) {
            first = .zeros(parameter.shape, dtype: parameter.dtype)
            second = .zeros(parameter.shape, dtype: parameter.dtype)
        }

        /// The memory of both, which nobody else refers to. Traps where they are not of the parameter's shape and type.
        mutating func memory(
            for path: String, _ parameter: Tensor
        ) -> (first: UnsafeMutableRawPointer, second: UnsafeMutableRawPointer) {
            requireFit(path, parameter, first)
            requireFit(path, parameter, second)
            first.makeUnique()
            second.makeUnique()
            return (first.write { $0 }, second.write { $0 })
        }
    }

    /// A parameter that is to be moved, or a stretch of it.
    private struct Move {
        var parameter: UnsafeMutableRawPointer
        var gradient: UnsafeRawPointer
        var first: UnsafeMutableRawPointer
        var second: UnsafeMutableRawPointer
        var count: Int
        let dtype: DType
        let loop: Loop
        let rate: Double
        let decay: Double

        typealias Loop =
            @convention(c) (
                UnsafeMutableRawPointer?, UnsafeRawPointer?, UnsafeMutableRawPointer?, UnsafeMutableRawPointer?, Int,
                Double,
                Double, Double, Double, Double, Double, Double
            ) -> Void

        func part(_ range: Range<Int>) -> Move {
            let at = range.lowerBound * dtype.size
            var part = self
            part.parameter += at
            part.gradient += at
            part.first += at
            part.second += at
            part.count = range.count
            return part
        }
    }

    /// - Parameters:
    ///   - learningRate: η as a function of the step.
    ///   - beta1: β₁, how much of the mean of the gradients stays at each step.
    ///   - beta2: β₂, how much of the mean of their squares stays.
    ///   - epsilon: ε, which keeps the divisor away from zero.
    ///   - weightDecay: λ of the matrices; norms, biases, latents and learned positions do not decay.
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
        let (beta1, beta2, epsilon) = (beta1, beta2, epsilon)
        func run(_ move: Move) {
            move.loop(
                move.parameter, move.gradient, move.first, move.second, move.count, move.rate, beta1, beta2, epsilon,
                move.decay, correction1, correction2)
        }
        // What is small is gathered, to be one piece of work: most parameters of a small model are smaller than a chunk.
        // Model and moments keep their memory meanwhile, and `kept` the gradients'.
        let (chunk, large) = (4096, 1 << 16)
        var moves: [Move] = []
        var kept: [Tensor] = []
        var place = 0
        forEachUpdate(&model, gradients, groups) { path, parameter, gradient, group in
            let index = moments.index(of: path, at: &place) ?? moments.count
            if index == moments.count { moments[path] = Moments(of: parameter) }
            let (first, second) = moments.values[index].memory(for: path, parameter)
            let count = gradient.count
            let whole = Move(
                parameter: parameter.write { $0 }, gradient: gradient.read { $0 }, first: first, second: second,
                count: count, dtype: gradient.dtype, loop: pick(Kernels.table.pointee.adamw, gradient.dtype),
                rate: rate * group.rateFactor, decay: group.weightDecay)
            if count >= large {
                withExtendedLifetime(gradient) {
                    parallelFor(count, grain: chunk) { run(whole.part($0)) }
                }
            } else {
                kept.append(gradient)
                for start in stride(from: 0, to: count, by: chunk) {
                    moves.append(whole.part(start..<min(start + chunk, count)))
                }
            }
        }
        withExtendedLifetime(kept) { parallelFor(moves.count) { run(moves[$0]) } }
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
