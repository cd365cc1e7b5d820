import FoveaTensor
import FoveaTestSupport

extension OpCheck {
    static let references = OpCheck("its reference's values, in float64 and float32", needsGradient: false) { op in
        guard let reference = Reference.table[op.name] else { return ["there is no reference"] }
        var found = Findings()
        for sample in op.samples() {
            let place = "“\(sample.label)”"
            let singles = sample.inputs.map { $0.dtype == .float64 ? $0.cast(to: .float32) : $0 }
            guard let expected = reference.compute(sample.label, sample.inputs.map(Grid.init)),
                let rounded = reference.compute(sample.label, singles.map(Grid.init))
            else {
                found.add("the reference does not know this sample", place)
                continue
            }
            let y = sample.run(sample.inputs)
            found.require(y.dtype == .float64 || !op.isDifferentiable, "\(place): float64 in, \(y.dtype) out")
            found.add(
                difference(
                    y.cast(to: .float64), expected.tensor, tolerance: reference.float64.tolerance,
                    floor: reference.float64.floor), place)
            let single = sample.run(singles)
            let keepsType = op.isDifferentiable && op.name != "cast"
            found.require(single.dtype == .float32 || !keepsType, "\(place): float32 in, \(single.dtype) out")
            found.add(
                difference(
                    single.cast(to: .float64), rounded.tensor, tolerance: reference.float32.units * Reference.unit,
                    floor: reference.float32.floor), "\(place) in float32")
        }
        return found.list
    }

    static let tails = OpCheck("its reference's values around the widths of vectors", needsGradient: false) { op in
        try ShapedCall.tails.flatMap { n in try referenceFindings(op, ShapedCall.tail(op.name, n)) }
    }

    static let chunks = OpCheck("its reference's values when it is cut in chunks", needsGradient: false) { op in
        guard let calls = ShapedCall.large[op.name] else { return ["there is no large call"] }
        return try referenceFindings(op, calls)
    }

    private static func referenceFindings(_ op: Op, _ calls: [ShapedCall]) throws -> [String] {
        guard let reference = Reference.table[op.name] else { return ["there is no reference"] }
        var found = Findings()
        for call in calls {
            let place = "“\(call.label)” on \(call.shapes)"
            let (inputs, run) = try call.inputs(of: op)
            guard let expected = reference.compute(call.label, inputs.map(Grid.init)) else {
                found.add("the reference does not know this call", place)
                continue
            }
            found.add(
                difference(
                    run(inputs).cast(to: .float64), expected.tensor, tolerance: reference.float64.tolerance,
                    floor: reference.float64.floor), place)
        }
        return found.list
    }

    static let constants = OpCheck("its inputs as they were, and the same bits again", needsGradient: false) { op in
        var found = Findings()
        for sample in op.samples() {
            let before = sample.inputs.map { $0.bytes() }
            let first = sample.run(sample.inputs)
            found.add(bitDifference(sample.run(sample.inputs), first), "“\(sample.label)”, a second time")
            for (position, input) in sample.inputs.enumerated() {
                found.require(input.bytes() == before[position], "“\(sample.label)”: input \(position) was written to")
            }
            guard !op.isDifferentiable else { continue }
            // An op without gradient returns a constant: nothing can flow back through it.
            let active = sample.inputs.filter(\.dtype.isDifferentiable)
            for (position, slope) in pullBackAsFloat(sample).enumerated() {
                found.add(
                    difference(slope, .zeros(active[position].shape, dtype: .float64), tolerance: 0),
                    "“\(sample.label)”, the gradient of input \(position)")
            }
        }
        return found.list
    }

    private static func pullBackAsFloat(_ sample: OpSample) -> [Tensor] {
        pullBack({ sample.run($0).cast(to: .float64) }, sample.inputs).gradients
    }
}
