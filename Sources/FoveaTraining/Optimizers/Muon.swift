import FoveaNN
import FoveaTensor
import OrderedCollections

/// Momentum, made orthogonal, for the matrices inside a model; AdamW for all else.
/// (Jordan et al., "Muon", 2024; the scale of Liu et al., "Muon is scalable for LLM training", 2025, §2.2, with which
/// rates and decays are AdamW's.)
///
///     m ← μ m + (1 − μ) g
///     o ← NS(μ m + (1 − μ) g)                       Nesterov's momentum
///     w ← (1 − η λ) w − η · 0.2 √max(rows, columns) · o
///
/// NS brings all singular values near 1 without a decomposition: x ← x / ‖x‖, then five times
/// x ← a x + (b x xᵀ + c (x xᵀ)²) x, on the side with fewer rows. A kernel [D, C, …] is the matrix [D, C·…].
/// `torch.optim.Muon` iterates in bfloat16, this in the parameter's own type.
public struct Muon: Optimizer {
    /// η of everything.
    public var schedule: Schedule { rest.schedule }
    /// μ.
    public var momentum: Double
    /// λ of the matrices.
    public var weightDecay: Double
    /// Which parameters are orthogonalised.
    public var matrices: ParameterFilter
    /// The optimizer of the other parameters.
    public private(set) var rest: AdamW
    public private(set) var step = 0
    private var momenta: OrderedDictionary<String, Tensor> = [:]

    /// Matrices that no table or head is: rows of embeddings, latents and positions are vectors that happen to stand side
    /// by side. Nor is what has a single row, such as queries [1, N, C].
    public static let innerMatrices =
        ["embedding", "head.weight", "latents", "positions", "frameEmbeddings", "mediaEmbeddings"]
        .reduce(ParameterFilter.rank(atLeast: 2) && ParameterFilter { $1.shape[0] > 1 }) { $0 && !.path("**." + $1) }

    /// - Parameters:
    ///   - learningRate: η of everything as a function of the step.
    ///   - momentum: μ, how much of the momentum stays at each step.
    ///   - beta1: AdamW's first decay rate.
    ///   - beta2: AdamW's second.
    ///   - weightDecay: λ of the matrices, in AdamW too.
    ///   - matrices: which parameters are orthogonalised; they need two axes at least.
    public init(
        learningRate: Schedule, momentum: Double = 0.95, beta1: Double = 0.9, beta2: Double = 0.999,
        weightDecay: Double = 0.01, matrices: ParameterFilter = Muon.innerMatrices
    ) {
        self.momentum = momentum
        self.weightDecay = weightDecay
        self.matrices = matrices
        rest = AdamW(learningRate: learningRate, beta1: beta1, beta2: beta2, weightDecay: weightDecay)
    }

    public var learningRate: Double { schedule.rate(at: step) }

    public mutating func update<Model: Module>(_ model: inout Model, along gradients: Gradients) {
        let rate = learningRate
        step += 1
        var others = gradients.tensors
        forEachUpdate(&model, gradients, [ParameterGroup(matrices, weightDecay: weightDecay)]) {
            path, parameter, gradient, group in
            guard parameter.rank >= 2 else { trap("Muon", "\(path) is no matrix", parameter) }
            others[path] = nil
            let old = momenta[path] ?? .zeros(parameter.shape, dtype: parameter.dtype)
            requireFit(path, parameter, old)
            let (shape, label) = (parameter.shape, parameter.label)
            let (new, moved) = withoutGradient {
                let share = gradient * (1 - momentum)
                let new = old * momentum + share
                let direction = Muon.orthogonalized((new * momentum + share).flattened(from: 1))
                let scale = 0.2 * Double(max(direction.shape[0], direction.shape[1])).squareRoot()
                return (
                    new,
                    parameter * (1 - rate * group.weightDecay) - direction.reshaped(to: shape) * (rate * scale)
                )
            }
            momenta[path] = new
            parameter = moved
            parameter.label = label
        }
        rest.update(&model, along: Gradients(others))
    }

    /// The matrix [m, n] with its singular values brought near 1, from 0.7 to 1.2; zeros stay.
    static func orthogonalized(_ matrix: Tensor) -> Tensor {
        let isTall = matrix.shape[0] > matrix.shape[1]
        var x = isTall ? matrix.transposed(0, 1).contiguous() : matrix
        x = x * (1 / max(x.sumOfSquares().squareRoot(), 1e-7))
        for _ in 0..<5 {
            let gram = matmul(x, x.transposed(0, 1))
            let change = gram * -4.7750 + matmul(gram, gram) * 2.0315
            x = x * 3.4445 + matmul(change, x)
        }
        return isTall ? x.transposed(0, 1).contiguous() : x
    }

    public var state: OrderedDictionary<String, Tensor> {
        var state = rest.state
        for (path, momentum) in momenta { state["momentum.\(path)"] = momentum }
        return state
    }

    public mutating func restore(
        step: Int, state: OrderedDictionary<String, Tensor>
    ) throws(OptimizerStateError) {
        let saved = statePart(state, "momentum.")
        try rest.restore(step: step, state: state.filter { !$0.key.hasPrefix("momentum.") })
        self.step = step
        momenta = [:]
        for (path, tensor) in saved { momenta[path] = tensor }
    }
}
