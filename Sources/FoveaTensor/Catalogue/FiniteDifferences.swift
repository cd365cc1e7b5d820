/// Compares the gradient of `function` with central finite differences, for every floating-point input.
///
/// Where an input and the output are small, the whole Jacobian is compared: the gradient of each element of the output
/// with each element of the input. Where they are large, three random pairs of a direction u of the input and a
/// cotangent v of the output, with both signs, are: ⟨v, J·u⟩ by finite differences with ⟨Jᵀ·v, u⟩ by the gradient; a
/// pair that disagrees is cut in halves until the elements that are to blame are found. The gradient is taken twice,
/// and two runs that differ in a bit fail.
///
/// ```swift
/// let check = checkGradients(of: { $0[0].exp() }, at: [x], named: ["x"])
/// precondition(check.passed, check.message)
/// ```
///
/// - Parameters:
///   - function: from float64 inputs to a float64 tensor of any shape; deterministic. Traps on another type.
///   - inputs: its arguments; integers and masks are constants.
///   - names: what the report calls the inputs.
///   - name: what the report calls the function.
///   - step: the distance of the finite differences, times max(1, |x|) for an element x.
///   - tolerance: the largest error that passes: max|analytic − numeric| / max(1, max|numeric|).
///   - fullLimit: up to how many pairs of an element of an input and one of the output all are compared.
///   - seed: of the directions and cotangents.
public func checkGradients(
    of function: ([Tensor]) throws -> Tensor, at inputs: [Tensor], named names: [String] = [],
    name: String = "function",
    step: Double = 6e-6, tolerance: Double = 1e-6, fullLimit: Int = 10_000, seed: UInt64 = 0
) rethrows -> GradientCheck {
    var check = GradientCheck(name: name, tolerance: tolerance)
    check.countSample()
    let active = inputs.indices.filter { inputs[$0].dtype == .float64 }
    guard !active.isEmpty else {
        check.record(problem: "none of the inputs is float64: there is nothing to compare")
        return check
    }
    let values: [[Double]] = active.map { inputs[$0].scalars() }
    let output = try withoutGradient { try function(inputs) }
    guard output.dtype == .float64 else { trap("checkGradients", "the function must compute in float64", output) }

    /// Jᵀ·v for every active input, and the output that it was recorded with.
    func pullBack(_ cotangent: [Double]) throws -> (output: Tensor, gradients: [Tensor]) {
        let cotangent = Tensor(cotangent, shape: output.shape)
        var recorded = output
        let gradients = try valueAndGradient(
            of: { variables in
                var arguments = inputs
                for (variable, position) in zip(variables, active) { arguments[position] = variable }
                recorded = try function(arguments)
                return (recorded * cotangent).sum()
            }, at: active.map { inputs[$0] }
        ).gradients
        return (recorded.detached, gradients)
    }

    /// The change of the output along a direction of one input, from both sides.
    func difference(_ order: Int, _ direction: [Int: Double]) throws -> [Double] {
        var (above, below) = (values[order], values[order])
        // A lone element moves in proportion to its size; `span` is the way that it really went.
        var distance = step
        if direction.count == 1, let (element, _) = direction.first { distance *= max(1, abs(above[element])) }
        for (element, part) in direction {
            above[element] += part * distance
            below[element] -= part * distance
        }
        var span = 2 * distance
        if direction.count == 1, let (element, part) = direction.first {
            span = (above[element] - below[element]) / part
        }
        let (shape, position) = (inputs[active[order]].shape, active[order])
        return try withoutGradient {
            var arguments = inputs
            arguments[position] = Tensor(above, shape: shape)
            let upper: [Double] = try function(arguments).scalars()
            arguments[position] = Tensor(below, shape: shape)
            let lower: [Double] = try function(arguments).scalars()
            return zip(upper, lower).map { ($0 - $1) / span }
        }
    }

    let key = RandomKey(seed: seed)
    let cotangents: [[Double]] = (0..<3).map {
        Tensor.normal(output.shape, key: key.folding("cotangent").folding($0), dtype: .float64).scalars()
    }
    let pulled = try cotangents.map(pullBack)
    let again = try pullBack(cotangents[0])
    func inputName(_ order: Int) -> String {
        active[order] < names.count ? names[active[order]] : "input \(active[order])"
    }
    for order in active.indices {
        let (gradient, shape) = (pulled[0].gradients[order], inputs[active[order]].shape)
        if gradient.shape != shape {
            check.record(problem: "the gradient of \(inputName(order)) has the shape \(gradient.shape), not \(shape)")
        } else if again.gradients[order].bytes() != gradient.bytes() {
            check.record(problem: "two runs on the same inputs differ in the gradient of \(inputName(order))")
        }
    }
    if again.output.bytes() != pulled[0].output.bytes() {
        check.record(problem: "two runs on the same inputs differ in the output")
    }
    guard check.problem == nil else { return check }

    let small = active.indices.filter { values[$0].count * output.count <= fullLimit }
    var rows: [[[Double]]] = []
    if small.contains(where: { !values[$0].isEmpty }) {
        rows = try (0..<output.count).map { row in
            var unit = [Double](repeating: 0, count: output.count)
            unit[row] = 1
            return try pullBack(unit).gradients.map { $0.scalars() }
        }
    }
    for order in active.indices {
        let block = Block(input: inputName(order), shape: inputs[active[order]].shape, outputShape: output.shape)
        if small.contains(order) {
            let columns = try values[order].indices.map { try difference(order, [$0: 1]) }
            block.compare(rows.map { $0[order] }, columns, &check)
        } else {
            for (draw, cotangent) in cotangents.enumerated() {
                let directionKey = key.folding(UInt64(active[order])).folding(UInt64(draw))
                let drawn: [Double] = Tensor.normal(block.shape, key: directionKey, dtype: .float64).scalars()
                let length = dot(drawn, drawn).squareRoot()
                try block.compare(
                    pulled[draw].gradients[order].scalars(), along: drawn.map { $0 / length }, for: cotangent, &check,
                    difference: { try difference(order, $0) }, row: { try pullBack($0).gradients[order].scalars() })
            }
        }
    }
    return check
}

/// The derivatives of the output with respect to one input.
private struct Block {
    let input: String
    let shape: [Int]
    let outputShape: [Int]

    /// Compares the whole Jacobian: rows of the gradient, one for each element of the output, with columns of finite
    /// differences, one for each element of the input.
    func compare(_ rows: [[Double]], _ columns: [[Double]], _ check: inout GradientCheck) {
        var largest = 1.0
        for column in columns { for numeric in column { largest = max(largest, abs(numeric)) } }
        for (element, column) in columns.enumerated() {
            for (row, numeric) in column.enumerated() {
                let analytic = rows[row][element]
                let error = abs(analytic - numeric) / largest
                guard check.isExceeded(by: error) else { continue }
                check.record(found(element, row, analytic, numeric, scale: largest))
            }
        }
    }

    /// Compares ⟨v, J·u⟩ with ⟨Jᵀ·v, u⟩, and looks for the elements to blame where they differ.
    ///
    /// - Parameters:
    ///   - gradient: Jᵀ·v.
    ///   - direction: u.
    ///   - cotangent: v.
    ///   - difference: J times a direction, by finite differences.
    ///   - row: Jᵀ times a cotangent, by the gradient.
    func compare(
        _ gradient: [Double], along direction: [Double], for cotangent: [Double], _ check: inout GradientCheck,
        difference: ([Int: Double]) throws -> [Double], row: ([Double]) throws -> [Double]
    ) rethrows {
        func sides(_ elements: Range<Int>) throws -> (analytic: Double, numeric: Double) {
            let part = Dictionary(uniqueKeysWithValues: elements.map { ($0, direction[$0]) })
            let analytic = elements.reduce(0) { $0 + gradient[$1] * direction[$1] }
            return (analytic, dot(cotangent, try difference(part)))
        }
        let whole = try sides(direction.indices)
        let found = found(nil, nil, whole.analytic, whole.numeric, scale: max(1, abs(whole.numeric)))
        check.record(found)
        guard !(found.relativeError <= check.tolerance) else { return }
        // The half with the larger error, again and again: first of the input, then of the output.
        func error(_ sides: (analytic: Double, numeric: Double)) -> Double {
            let error = abs(sides.analytic - sides.numeric)
            return error.isNaN ? .infinity : error
        }
        let element = try halved(direction.indices) { error(try sides($0)) }
        let column = try difference([element: 1])
        func slopes(_ outputs: Range<Int>) throws -> (analytic: Double, numeric: Double) {
            var part = [Double](repeating: 0, count: cotangent.count)
            for output in outputs { part[output] = cotangent[output] }
            return (try row(part)[element], outputs.reduce(0) { $0 + cotangent[$1] * column[$1] })
        }
        let output = try halved(cotangent.indices) { error(try slopes($0)) }
        var unit = [Double](repeating: 0, count: cotangent.count)
        unit[output] = 1
        let (analytic, numeric) = (try row(unit)[element], column[output])
        let located = self.found(element, output, analytic, numeric, scale: max(1, abs(numeric)))
        if !(located.relativeError <= check.tolerance) { check.blame(located) }
    }

    private func halved(_ whole: Range<Int>, _ error: (Range<Int>) throws -> Double) rethrows -> Int {
        var range = whole
        while range.count > 1 {
            let middle = range.lowerBound + range.count / 2
            let (left, right) = (range.lowerBound..<middle, middle..<range.upperBound)
            range = try error(left) >= error(right) ? left : right
        }
        return range.lowerBound
    }

    private func found(
        _ element: Int?, _ output: Int?, _ analytic: Double, _ numeric: Double, scale: Double
    ) -> GradientCheck.Worst {
        GradientCheck.Worst(
            input: input, inputIndex: element.map { index($0, in: shape) },
            outputIndex: output.map { index($0, in: outputShape) }, analytic: analytic, numeric: numeric,
            relativeError: abs(analytic - numeric) / scale)
    }

    /// The index of the element at a row-major position.
    private func index(_ position: Int, in shape: [Int]) -> [Int] {
        zip(shape, Tensor.rowMajorStrides(shape)).map { position / $1 % $0 }
    }
}

private func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
