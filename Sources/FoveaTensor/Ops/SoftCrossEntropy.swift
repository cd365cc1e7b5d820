// MARK: softCrossEntropy

extension Op {
    public static let softCrossEntropy = Op(
        "softCrossEntropy", "the mean of −Σ target · log softmax(logits)", linearIn: [1]
    ) {
        let run: @Sendable ([Tensor]) -> Tensor = { FoveaTensor.softCrossEntropy($0[0], targets: $0[1]) }
        return [
            OpSample("classes", [$0.uniform([4, 5]), $0.uniform([4, 5], 0...1)], run: run),
            OpSample("sequence", [$0.uniform([2, 3, 4]), $0.uniform([2, 3, 4], 0...1)], run: run),
            OpSample("vector", [$0.uniform([4]), $0.uniform([4], 0...1)], run: run),
            OpSample("view", [$0.uniform([5, 4]).transposed(0, 1), $0.uniform([4, 5], 0...1)], run: run),
            OpSample("empty", [$0.uniform([0, 4]), $0.uniform([0, 4], 0...1)], run: run),
            OpSample("smoothing", [$0.uniform([4, 5]), $0.uniform([4, 5], 0...1)]) {
                FoveaTensor.softCrossEntropy($0[0], targets: $0[1], labelSmoothing: 0.1)
            },
        ]
    }
}

/// The mean over rows of −Σ target · log softmax(logits), one number; of no rows 0, where PyTorch gives NaN.
///
/// PyTorch's `cross_entropy` with probabilities as targets, the classes on the last axis. Targets need not sum to 1.
/// As there, a logit of −∞ gives NaN even where its target is 0.
///
/// - Parameters:
///   - logits: [..., C].
///   - targets: [..., C], of the logits' type. They get a gradient too.
///   - labelSmoothing: ε in (1 − ε)·target + ε/C, in 0 ... 1.
public func softCrossEntropy(_ logits: Tensor, targets: Tensor, labelSmoothing: Double = 0) -> Tensor {
    logits.requireDifferentiableType("softCrossEntropy")
    guard logits.rank >= 1, logits.shape == targets.shape, logits.dtype == targets.dtype else {
        trap("softCrossEntropy", "logits [..., C] and targets of the same shape and type are needed", logits, targets)
    }
    guard (0...1).contains(labelSmoothing) else {
        trap("softCrossEntropy", "label smoothing must be in 0 ... 1, not \(labelSmoothing)")
    }
    let classes = logits.shape[logits.rank - 1]
    let rows = logits.shape.dropLast().reduce(1, *)
    let factor = logits.count == 0 ? 0 : 1 / Double(rows)
    let (logP, target) = withoutGradient {
        (
            logits.logSoftmax(axis: -1),
            labelSmoothing == 0 ? targets : targets * (1 - labelSmoothing) + labelSmoothing / Double(classes)
        )
    }
    let loss = withoutGradient { (logP * target).sum() * -factor }
    return loss.derived(
        by: .softCrossEntropy, from: logits,
        { g in (logP.exp() * target.detached.sum(axes: [-1], keepingAxes: true) - target.detached) * (g * factor) },
        and: targets, { g in logP * (g * (-factor * (1 - labelSmoothing))) })
}
