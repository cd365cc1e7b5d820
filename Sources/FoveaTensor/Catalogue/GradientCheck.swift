/// What comparing a gradient with finite differences found.
public struct GradientCheck: Sendable {
    /// The op, module or function that was checked.
    public let name: String
    /// The largest error over all inputs: max|analytic − numeric| / max(1, max|numeric|).
    public private(set) var maxRelativeError = 0.0
    /// How many calls were checked.
    public private(set) var samples = 0
    /// Where the largest error is.
    public private(set) var worst: Worst?
    /// What made comparing pointless: no float64 input, two runs that differ in their bits, or a gradient of another shape than
    /// its input; nil for most.
    public private(set) var problem: String?
    /// The largest error that passes.
    public let tolerance: Double

    /// One place at which the two gradients were compared.
    public struct Worst: Sendable {
        /// The input's name, or the parameter's path.
        public let input: String
        /// The element of the input; nil for a random direction through all of them.
        public let inputIndex: [Int]?
        /// The element of the output; nil for a random cotangent of all of them.
        public let outputIndex: [Int]?
        /// The derivative that the gradient gives.
        public let analytic: Double
        /// The derivative by finite differences.
        public let numeric: Double
        /// |analytic − numeric|.
        public var absoluteError: Double { abs(analytic - numeric) }
        /// The absolute error over max(1, the largest |numeric| of this input).
        public let relativeError: Double
    }

    /// Whether every derivative is within the tolerance, and nothing made comparing pointless. NaN never is.
    public var passed: Bool { maxRelativeError <= tolerance && problem == nil }

    /// A check of nothing yet.
    ///
    /// - Parameters:
    ///   - name: the op, module or function that is checked.
    ///   - tolerance: the largest error that passes.
    public init(name: String, tolerance: Double = 1e-6) {
        self.name = name
        self.tolerance = tolerance
    }

    /// One line that names the worst place, with both values and both errors.
    public var message: String {
        if let problem { return "\(name): \(problem)" }
        guard let worst else { return "\(name): nothing to compare" }
        let element = worst.inputIndex.map { "element \($0)" } ?? "a random direction"
        let output = worst.outputIndex.map { "output element \($0)" } ?? "a random cotangent"
        return "\(name): \(passed ? "gradients agree" : "gradients differ"), worst at \(worst.input), \(element), "
            + "for \(output): analytic \(worst.analytic), numeric \(worst.numeric), absolute error "
            + "\(worst.absoluteError), relative error \(worst.relativeError) (tolerance \(tolerance))"
    }

    /// Adds the findings of another check to these.
    public mutating func merge(_ other: GradientCheck) {
        samples += other.samples
        problem = problem ?? other.problem
        if let found = other.worst { record(found) }
    }

    mutating func record(_ found: Worst) {
        guard isExceeded(by: found.relativeError) else { return }
        maxRelativeError = found.relativeError
        worst = found
    }

    /// Whether an error is worse than all before. NaN is the worst of all, and stays it.
    func isExceeded(by error: Double) -> Bool {
        worst == nil || !maxRelativeError.isNaN && !(error <= maxRelativeError)
    }

    mutating func countSample() { samples += 1 }

    /// Names one element as the place of the error that a random direction found.
    mutating func blame(_ found: Worst) {
        if !(maxRelativeError.isNaN || maxRelativeError > found.relativeError) {
            maxRelativeError = found.relativeError
        }
        worst = found
    }

    mutating func record(problem found: String) { problem = problem ?? found }
}

extension Op {
    /// Checks the gradient of every sample of this op in float64. Nil for ops that have no gradient.
    ///
    /// - Parameters:
    ///   - tolerance: the largest error that passes.
    ///   - seed: of the samples, and of what is drawn for large ones.
    public func checkGradients(tolerance: Double = 1e-6, seed: UInt64 = 0) -> GradientCheck? {
        guard isDifferentiable else { return nil }
        var total = GradientCheck(name: name, tolerance: tolerance)
        for sample in samples(seed: seed) {
            total.merge(
                FoveaTensor.checkGradients(
                    of: sample.run, at: sample.inputs,
                    named: sample.inputs.indices.map { "input \($0) of sample “\(sample.label)”" }, name: name,
                    step: sample.step ?? 6e-6, tolerance: tolerance, seed: seed))
        }
        return total
    }
}
