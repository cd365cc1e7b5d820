/// What comparing a gradient with finite differences found.
public struct GradientCheck: Sendable {
    /// The op, module or function that was checked.
    public let name: String
    /// The largest error over all inputs: max|analytic − numeric| / max(1, max|numeric|).
    public private(set) var maxRelativeError = 0.0
    /// How many calls were checked.
    public private(set) var samples = 0
    /// The element with the largest error.
    public private(set) var worst: Worst?
    /// The largest error that passes.
    public let tolerance: Double

    /// One element of one input at which the two gradients were compared.
    public struct Worst: Sendable {
        /// The input's name, or the parameter's path.
        public let input: String
        /// The element's position in row-major order; nil for a direction through all of them.
        public let element: Int?
        public let analytic: Double
        public let numeric: Double
    }

    /// Whether every element is within the tolerance. NaN never is.
    public var passed: Bool { maxRelativeError <= tolerance }

    public init(name: String, tolerance: Double = 1e-6) {
        self.name = name
        self.tolerance = tolerance
    }

    /// One line that names the worst element, with both values and the error.
    public var message: String {
        guard let worst else { return "\(name): nothing to compare" }
        let place = worst.element.map { "element \($0)" } ?? "a random direction"
        return "\(name): \(passed ? "gradients agree" : "gradients differ"), worst at \(worst.input), \(place): "
            + "analytic \(worst.analytic), numeric \(worst.numeric), relative error \(maxRelativeError) "
            + "(tolerance \(tolerance))"
    }

    /// Adds the findings of another check to these.
    public mutating func merge(_ other: GradientCheck) {
        samples += other.samples
        if !(other.maxRelativeError <= maxRelativeError) {
            maxRelativeError = other.maxRelativeError
            worst = other.worst
        } else if worst == nil {
            worst = other.worst
        }
    }

    fileprivate mutating func record(_ error: Double, _ found: Worst) {
        // The negation lets NaN through as the worst of all.
        if worst == nil || !(error <= maxRelativeError) {
            maxRelativeError = error
            worst = found
        }
    }

    fileprivate mutating func countSample() { samples += 1 }
}

/// Compares the gradient of `function` with central finite differences, for every floating-point input.
///
/// The output is reduced to a number by a fixed random cotangent. Inputs of up to `fullCheckLimit` elements are checked
/// element by element, larger ones along random directions and at some elements.
///
/// ```swift
/// let check = checkGradients(of: { $0[0].exp() }, at: [x], named: ["x"])
/// precondition(check.passed, check.message)
/// ```
///
/// - Parameters:
///   - function: from float64 inputs to a float64 tensor of any shape; deterministic.
///   - inputs: its arguments; integers and masks are constants.
///   - names: what the report calls the inputs.
///   - name: what the report calls the function.
///   - step: the distance of the finite differences, times max(1, |x|) for an element x.
///   - tolerance: the largest error that passes.
///   - fullCheckLimit: up to how many elements an input is checked element by element.
///   - seed: of the cotangent, and of the directions and elements drawn for larger inputs.
public func checkGradients(
    of function: ([Tensor]) throws -> Tensor, at inputs: [Tensor], named names: [String] = [],
    name: String = "function",
    step: Double = 6e-6, tolerance: Double = 1e-6, fullCheckLimit: Int = 256, seed: UInt64 = 0
) rethrows -> GradientCheck {
    var check = GradientCheck(name: name, tolerance: tolerance)
    check.countSample()
    let key = RandomKey(seed: seed)
    let active = inputs.indices.filter { inputs[$0].dtype == .float64 }
    let output = try withoutGradient { try function(inputs) }
    guard output.dtype == .float64 else { trap("checkGradients", "the function must compute in float64", output) }
    let cotangent = Tensor.normal(output.shape, key: key.folding("cotangent"), dtype: .float64)

    func objective(_ arguments: [Tensor]) throws -> Tensor { try (function(arguments) * cotangent).sum() }

    let analytic = try valueAndGradient(
        of: { variables in
            var arguments = inputs
            for (variable, position) in zip(variables, active) { arguments[position] = variable }
            return try objective(arguments)
        }, at: active.map { inputs[$0] }
    ).gradients

    /// The derivative along `direction` from both sides of input `position`.
    func numeric(_ position: Int, _ direction: Tensor, _ distance: Double) throws -> Double {
        try withoutGradient {
            var arguments = inputs
            arguments[position] = inputs[position] + direction * distance
            let above = try objective(arguments).item()
            arguments[position] = inputs[position] - direction * distance
            let below = try objective(arguments).item()
            return (above - below) / (2 * distance)
        }
    }

    for (order, position) in active.enumerated() {
        let input = inputs[position]
        guard analytic[order].shape == input.shape else {
            trap("checkGradients", "\(name): the gradient's shape is not the input's", analytic[order], input)
        }
        let inputName = position < names.count ? names[position] : "input \(position)"
        let slopes: [Double] = analytic[order].scalars()
        let values: [Double] = input.scalars()
        // Small inputs element by element; of large ones, elements drawn at random and directions through all.
        let elements =
            input.count <= fullCheckLimit
            ? Array(0..<input.count)
            : (0..<24).map { key.folding(UInt64(position)).integer(below: input.count, at: $0) }
        var found: [(element: Int?, analytic: Double, numeric: Double)] = []
        for element in elements {
            var unit = [Double](repeating: 0, count: input.count)
            unit[element] = 1
            let distance = step * max(1, abs(values[element]))
            found.append(
                (element, slopes[element], try numeric(position, Tensor(unit, shape: input.shape), distance)))
        }
        if input.count > fullCheckLimit {
            for draw in 0..<3 {
                let direction = Tensor.normal(
                    input.shape, key: key.folding(UInt64(position)).folding(UInt64(draw)), dtype: .float64)
                let unit = direction / (direction * direction).sum().sqrt().item()
                found.append((nil, (analytic[order] * unit).sum().item(), try numeric(position, unit, step)))
            }
        }
        let scale = max(1, found.reduce(0) { max($0, abs($1.numeric)) })
        for entry in found {
            check.record(
                abs(entry.analytic - entry.numeric) / scale,
                .init(input: inputName, element: entry.element, analytic: entry.analytic, numeric: entry.numeric))
        }
    }
    return check
}

extension Op {
    /// Checks the gradient of every sample of this op in float64. Nil for ops that have no gradient.
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
