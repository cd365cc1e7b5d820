import CKernels

// Variance, standard deviation, length and the logarithm of a sum of exponentials, over any set of axes.

// MARK: variance

extension Op {
    public static let variance = Op("variance", "the variance over axes") { source in
        varianceSamples(&source) { $0.variance(axes: $1, correction: $2, keepingAxes: $3) }
    }

    /// The samples of the reductions that have a variance with the usual correction, and one without correction.
    private static func varianceSamples(
        _ source: inout SampleSource, _ run: @escaping @Sendable (Tensor, [Int]?, Double, Bool) -> Tensor
    ) -> [OpSample] {
        let uniform: (inout SampleSource, [Int]) -> Tensor = { $0.uniform($1) }
        var samples = reductionSamples(&source, empty: false, uniform) { run($0, $1, 1, $2) }
        // One element has no variance.
        samples.removeAll { $0.label == "scalar" }
        samples += [
            OpSample("population", [source.uniform([3, 5])]) { run($0[0], [1], 0, false) },
            OpSample("half a correction", [source.uniform([3, 5])]) { run($0[0], [1], 1.5, false) },
            OpSample("no rows", [source.uniform([0, 3])]) { run($0[0], [1], 1, false) },
        ]
        return samples
    }
}

extension Tensor {
    /// Σ(x − mean)² / (n − correction) over the n elements along `axes`, computed in two passes. NaN for n = correction
    /// and over nothing, ∞ or NaN below, as in PyTorch.
    ///
    /// - Parameters:
    ///   - axes: all unless given.
    ///   - correction: 1 for a sample (Bessel's correction), 0 for a population.
    ///   - keepingAxes: whether a reduced axis stays with length 1.
    public func variance(axes: [Int]? = nil, correction: Double = 1, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("variance")
        let axes = normalizedAxes(axes, "variance")
        let moments = Moments(of: self, axes, correction)
        return moments.variance.reshaped(to: reducedShape(axes, keepingAxes: keepingAxes))
            .derived(by: .variance, from: self) { g in
                let centered = self.detached - moments.mean
                return centered * (g.reshaped(to: moments.mean.shape) * (2 / moments.divisor))
            }
    }
}

/// The mean and the variance over axes, which are kept.
private struct Moments {
    let mean: Tensor
    let variance: Tensor
    let divisor: Double

    init(of x: Tensor, _ axes: [Int], _ correction: Double) {
        let x = x.detached
        divisor = max(0, Double(axes.reduce(1) { $0 * x.shape[$1] }) - correction)
        mean = x.mean(axes: axes, keepingAxes: true)
        variance = (x - mean).square().sum(axes: axes, keepingAxes: true) / divisor
    }
}

// MARK: standardDeviation

extension Op {
    public static let standardDeviation = Op("standardDeviation", "the square root of the variance over axes") {
        source in
        varianceSamples(&source) { $0.standardDeviation(axes: $1, correction: $2, keepingAxes: $3) }
    }
}

extension Tensor {
    /// The square root of the variance over `axes`; see `variance`. Where it is 0, so is its gradient, as in PyTorch.
    public func standardDeviation(axes: [Int]? = nil, correction: Double = 1, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("standardDeviation")
        let axes = normalizedAxes(axes, "standardDeviation")
        let moments = Moments(of: self, axes, correction)
        let deviation = moments.variance.sqrt()
        return deviation.reshaped(to: reducedShape(axes, keepingAxes: keepingAxes))
            .derived(by: .standardDeviation, from: self) { g in
                let centered = self.detached - moments.mean
                return centered * (g.reshaped(to: deviation.shape) / (deviation.orOneAtZero() * moments.divisor))
            }
    }

    /// 1 in place of each 0.
    private func orOneAtZero() -> Tensor { self + combined(with: 0, CK_EQUAL, "==") }
}

// MARK: l2Norm

extension Op {
    public static let l2Norm = Op("l2Norm", "the Euclidean length over axes") { source in
        reductionSamples(&source, { $0.awayFromZero($1) }) { $0.l2Norm(axes: $1, keepingAxes: $2) }
    }
}

extension Tensor {
    /// √Σx² over `axes`; 0 over nothing. The squares overflow where |x| exceeds 10¹⁹ in float32: the result is then ∞.
    /// Where it is 0, so is its gradient, as in PyTorch.
    public func l2Norm(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("l2Norm")
        let axes = normalizedAxes(axes, "l2Norm")
        let kept = detached.square().sum(axes: axes, keepingAxes: true).sqrt()
        return kept.reshaped(to: reducedShape(axes, keepingAxes: keepingAxes)).derived(by: .l2Norm, from: self) { g in
            self.detached * (g.reshaped(to: kept.shape) / kept.orOneAtZero())
        }
    }
}

// MARK: logSumExp

extension Op {
    public static let logSumExp = Op("logSumExp", "log Σ eˣ over axes") { source in
        reductionSamples(&source, { $0.uniform($1) }) { $0.logSumExp(axes: $1, keepingAxes: $2) }
    }
}

extension Tensor {
    /// log Σ eˣ over `axes`, without overflow; NaN where there is one. −∞ over nothing and over −∞ alone, whose gradient
    /// is 0, where PyTorch gives NaN; with ∞ it is ∞, and the gradient NaN, where PyTorch gives 0 for finite elements.
    public func logSumExp(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("logSumExp")
        let axes = normalizedAxes(axes, "logSumExp")
        guard !axes.isEmpty else { return self }
        let kept = rowReduced(axes, pick(Kernels.table.pointee.row_log_sum_exp, dtype))
        return kept.reshaped(to: reducedShape(axes, keepingAxes: keepingAxes)).derived(by: .logSumExp, from: self) {
            g in
            let (matrix, rows, columns) = self.reductionRows(axes)
            let shares = matrix.reshaped(to: [rows, columns]).softmax(axis: 1) * g.reshaped(to: [rows, 1])
            return .fromReductionRows(shares, axes, shape: self.shape)
        }
    }
}
