import CKernels

// Losses that compare an input and a target element by element; both get gradients. NaN in either makes the loss NaN.

/// How the losses of many elements become one number.
public enum LossReduction: Sendable {
    /// Their sum over their number; of no elements 0, where PyTorch gives NaN: an empty batch teaches nothing.
    case mean
    /// Their sum.
    case sum
    /// Their sum over the length of the first axis, PyTorch's `batchmean`; of no elements 0.
    case batchMean
    /// They stay apart, in the input's shape.
    case none
}

extension Op {
    /// Losses.
    static let losses: [Op] = [
        .softCrossEntropy, .binaryCrossEntropy, .meanSquaredError, .huberLoss, .klDivergence, .cosineSimilarity,
    ]
}

/// The loss of x against `target`, with the derivatives that C computes next to it.
private func loss(
    _ kind: ck_loss_kind, _ op: Op, _ x: Tensor, _ target: Tensor, weight: Tensor? = nil, parameter: Double = 0,
    _ reduction: LossReduction
) -> Tensor {
    x.requireDifferentiableType(op.name)
    guard x.shape == target.shape, x.dtype == target.dtype else {
        trap(op.name, "input and target must have one shape and one type", x, target)
    }
    x.noteLabel()
    let (dense, target) = (x.contiguous(), target.contiguous())
    let count = dense.count

    func run(_ values: Tensor?, _ byInput: Tensor?, _ byTarget: Tensor?) {
        let (type, size) = (Int32(dense.dtype.kernelIndex), dense.dtype.size)
        withExtendedLifetime((weight, values, byInput, byTarget)) {
            let (w, values) = (weight?.read { $0 }, values?.write { $0 })
            let (dx, dt) = (byInput?.write { $0 }, byTarget?.write { $0 })
            dense.read { x in
                target.read { t in
                    parallelFor(count, grain: Kernels.heavyGrain) { range in
                        let start = range.lowerBound * size
                        ck_loss(
                            kind, type, x + start, t + start, w.map { $0 + start }, parameter,
                            values.map { $0 + start }, dx.map { $0 + start }, dt.map { $0 + start }, range.count)
                    }
                }
            }
        }
    }

    let values = Tensor(uninitialized: x.shape, x.dtype)
    run(values, nil, nil)
    let factor: Double
    switch reduction {
    case .mean: factor = count == 0 ? 0 : 1 / Double(count)
    case .batchMean: factor = count == 0 ? 0 : 1 / Double(x.shape.first ?? 1)
    case .sum, .none: factor = 1
    }
    let y = reduction == .none ? values : values.sum() * factor
    return y.derived(by: op, from: [x, target]) { g, wanted in
        let byInput = wanted[0] ? Tensor(uninitialized: dense.shape, dense.dtype) : nil
        let byTarget = wanted[1] ? Tensor(uninitialized: dense.shape, dense.dtype) : nil
        run(nil, byInput, byTarget)
        let scale = reduction == .none ? g : g * factor
        return [byInput.map { $0 * scale }, byTarget.map { $0 * scale }]
    }
}

extension SampleSource {
    /// The calls that every loss must pass: each reduction, a scalar, nothing, a view.
    fileprivate mutating func losses(
        _ drawInput: (inout SampleSource, [Int]) -> Tensor, _ drawTarget: (inout SampleSource, [Int]) -> Tensor,
        _ run: @escaping @Sendable (Tensor, Tensor, LossReduction) -> Tensor
    ) -> [OpSample] {
        let reductions: [(String, LossReduction)] = [
            ("mean", .mean), ("sum", .sum), ("batch mean", .batchMean), ("none", .none),
        ]
        var samples = reductions.map { label, reduction in
            OpSample(label, [drawInput(&self, [3, 5]), drawTarget(&self, [3, 5])]) { run($0[0], $0[1], reduction) }
        }
        for (label, shape) in [("scalar", []), ("empty", [0, 3]), ("tail", [19])] as [(String, [Int])] {
            samples.append(
                OpSample(label, [drawInput(&self, shape), drawTarget(&self, shape)]) { run($0[0], $0[1], .mean) })
        }
        samples.append(
            OpSample("view", [drawInput(&self, [4, 3]).transposed(0, 1), drawTarget(&self, [3, 4])]) {
                run($0[0], $0[1], .mean)
            })
        return samples
    }
}

// MARK: meanSquaredError

extension Op {
    public static let meanSquaredError = Op("meanSquaredError", "the mean of (x − target)²") {
        $0.losses({ $0.uniform($1) }, { $0.uniform($1) }) {
            FoveaTensor.meanSquaredError($0, $1, reduction: $2)
        }
    }
}

/// The mean of (x − target)², both of one shape. Where PyTorch warns and broadcasts, this traps: a target of shape [B]
/// against [B, 1] is a mistake.
public func meanSquaredError(_ x: Tensor, _ target: Tensor, reduction: LossReduction = .mean) -> Tensor {
    loss(CK_LOSS_MSE, .meanSquaredError, x, target, reduction)
}

// MARK: huberLoss

extension Op {
    public static let huberLoss = Op("huberLoss", "quadratic up to a distance δ, linear beyond") {
        $0.losses({ $0.uniform($1) }, { $0.uniform($1) }) { FoveaTensor.huberLoss($0, $1, delta: 0.7, reduction: $2) }
    }
}

/// The mean of ½d² where |d| ≤ δ and of δ(|d| − ½δ) beyond, with d = x − target, both of one shape. Traps unless δ > 0.
/// (Huber, "Robust estimation of a location parameter", 1964.)
public func huberLoss(_ x: Tensor, _ target: Tensor, delta: Double = 1, reduction: LossReduction = .mean) -> Tensor {
    guard delta > 0 else { trap("huberLoss", "delta must be positive, not \(delta)", x, target) }
    return loss(CK_LOSS_HUBER, .huberLoss, x, target, parameter: delta, reduction)
}

// MARK: binaryCrossEntropy

extension Op {
    public static let binaryCrossEntropy = Op(
        "binaryCrossEntropy", "the cross-entropy of sigmoid(x) and a probability", linearIn: [1]
    ) {
        $0.losses({ $0.uniform($1) }, { $0.uniform($1, 0...1) }) {
            FoveaTensor.binaryCrossEntropy($0, $1, reduction: $2)
        } + [
            OpSample("positive weight", [$0.uniform([4, 3]), $0.uniform([4, 3], 0...1)]) {
                let weight = Tensor([0.5, 1, 3]).cast(to: $0[0].dtype)
                return FoveaTensor.binaryCrossEntropy($0[0], $0[1], positiveWeight: weight)
            }
        ]
    }
}

/// The mean of −w·t·log σ(x) − (1 − t)·log(1 − σ(x)) with logits x and targets t of one shape, computed without overflow.
/// PyTorch's `binary_cross_entropy_with_logits`; as there an infinite logit gives NaN against a target on its side.
///
/// - Parameters:
///   - logits: x, of any shape.
///   - target: t, in 0 … 1, of the logits' shape.
///   - positiveWeight: w, broadcast to x; a constant that gets no gradient. Traps unless it is of the logits' type.
///   - reduction: what becomes of the elements' losses.
public func binaryCrossEntropy(
    _ logits: Tensor, _ target: Tensor, positiveWeight: Tensor? = nil, reduction: LossReduction = .mean
) -> Tensor {
    if let positiveWeight {
        guard positiveWeight.dtype == logits.dtype,
            broadcastShape(positiveWeight.shape, logits.shape) == logits.shape
        else {
            trap("binaryCrossEntropy", "the positive weight must broadcast to the logits", logits, positiveWeight)
        }
    }
    let weight = positiveWeight?.detached.expanded(to: logits.shape).contiguous()
    return loss(CK_LOSS_BINARY_CROSS_ENTROPY, .binaryCrossEntropy, logits, target, weight: weight, reduction)
}

// MARK: klDivergence

extension Op {
    public static let klDivergence = Op(
        "klDivergence", "target · (log target − x), x and perhaps the target as logs", linearIn: [0]
    ) {
        $0.losses({ $0.uniform($1, -3...(-0.1)) }, { $0.uniform($1, 0.2...1) }) {
            FoveaTensor.klDivergence($0, $1, reduction: $2)
        } + [
            OpSample("log target", [$0.uniform([4, 3], -3...(-0.1)), $0.uniform([4, 3], -3...(-0.1))]) {
                FoveaTensor.klDivergence($0[0], $0[1], isLogTarget: true)
            }
        ]
    }
}

/// The mean of t·(log t − x) with log-probabilities x and probabilities t of one shape; with `isLogTarget` the targets are
/// log-probabilities as well. As in PyTorch the mean is over all elements; `.batchMean` gives the divergence of the
/// distributions. A target of no mass counts 0 and has gradient 0 whatever x is, where PyTorch gives NaN for x = −∞.
/// A negative target gives NaN.
public func klDivergence(
    _ x: Tensor, _ target: Tensor, isLogTarget: Bool = false, reduction: LossReduction = .mean
) -> Tensor {
    loss(isLogTarget ? CK_LOSS_KL_LOG_TARGET : CK_LOSS_KL, .klDivergence, x, target, reduction)
}
