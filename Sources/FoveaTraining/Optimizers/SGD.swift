import CKernels
import FoveaNN
import FoveaTensor
import OrderedCollections

/// Stochastic gradient descent with momentum, as PyTorch defines it.
///
///     d ← g + λ w
///     v ← μ v + d
///     w ← w − η · v          (with Nesterov's momentum: d + μ v)
public struct SGD: Optimizer {
    public var schedule: Schedule
    public var momentum: Double
    public var isNesterov: Bool
    public var groups: [ParameterGroup]
    public private(set) var step = 0
    private var velocities: OrderedDictionary<String, Tensor> = [:]

    /// - Parameters:
    ///   - learningRate: η as a function of the step.
    ///   - momentum: μ, how much of the velocity stays at each step.
    ///   - nesterov: whether the momentum is Nesterov's.
    ///   - weightDecay: λ of the matrices; norms, biases, latents and learned positions do not decay.
    ///   - groups: instead of that, groups of one's own.
    public init(
        learningRate: Schedule, momentum: Double = 0, nesterov: Bool = false, weightDecay: Double = 0,
        groups: [ParameterGroup]? = nil
    ) {
        schedule = learningRate
        self.momentum = momentum
        isNesterov = nesterov
        self.groups = groups ?? ParameterGroup.decayingMatrices(weightDecay)
    }

    public var learningRate: Double { schedule.rate(at: step) }

    public mutating func update<Model: Module>(_ model: inout Model, along gradients: Gradients) {
        let rate = learningRate
        step += 1
        forEachUpdate(&model, gradients, groups) { path, parameter, gradient, group in
            velocities[path, default: .zeros(parameter.shape, dtype: parameter.dtype)].makeUnique()
            let velocity = velocities[path]!
            requireFit(path, parameter, velocity)
            let loop = pick(Kernels.table.pointee.sgd, parameter.dtype)
            let size = parameter.dtype.size
            let (momentum, nesterov) = (momentum, isNesterov ? Int32(1) : 0)
            parameter.write { w in
                gradient.read { g in
                    velocity.write { v in
                        parallelFor(gradient.count, grain: 16_384) { range in
                            let at = range.lowerBound * size
                            loop(
                                w + at, g + at, v + at, range.count, rate * group.rateFactor, momentum,
                                group.weightDecay, nesterov)
                        }
                    }
                }
            }
        }
    }

    public var state: OrderedDictionary<String, Tensor> {
        var state: OrderedDictionary<String, Tensor> = [:]
        for (path, velocity) in velocities { state["velocity.\(path)"] = velocity }
        return state
    }

    public mutating func restore(
        step: Int, state: OrderedDictionary<String, Tensor>
    ) throws(OptimizerStateError) {
        let saved = statePart(state, "velocity.")
        guard saved.count == state.count else {
            throw OptimizerStateError(description: "not a state of SGD: it has tensors other than velocities")
        }
        self.step = step
        velocities = [:]
        for (path, tensor) in saved { velocities[path] = tensor }
    }
}
