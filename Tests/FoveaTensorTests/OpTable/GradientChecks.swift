import FoveaTensor
import FoveaTestSupport

extension OpCheck {
    static let jacobians = OpCheck("the gradient of finite differences") { op in
        guard let check = op.checkGradients() else { return ["there is no check"] }
        var found = Findings()
        found.require(check.passed, check.message)
        found.require(check.samples == op.samples().count, "only \(check.samples) samples were checked")
        found.require(check.worst != nil || !check.passed, "nothing was compared")
        return found.list
    }

    static let tailGradients = OpCheck("the gradient of finite differences around the widths of vectors") { op in
        // A kink within a step of an input has no derivative to compare with.
        let kinked = ["abs", "relu", "leakyRelu", "maximum", "minimum", "max", "min"]
        var found = Findings()
        for n in ShapedCall.tails where n > 0 {
            for call in ShapedCall.tail(op.name, n) {
                let (inputs, run) = try call.inputs(of: op)
                let place = "“\(call.label)” on \(call.shapes)"
                if kinked.contains(op.name) {
                    found.add(piecewiseLinear(inputs, run), place)
                    continue
                }
                // The whole Jacobian at one tail, directions at the others.
                let check = checkGradients(
                    of: run, at: inputs, name: place, step: op.sample(call.label)?.step ?? 6e-6,
                    fullLimit: n == 17 ? 10_000 : 16)
                found.require(check.passed, check.message)
            }
        }
        return found.list
    }

    /// An op that is linear around its inputs equals its gradient times its inputs, but for rounding.
    private static func piecewiseLinear(_ inputs: [Tensor], _ run: ([Tensor]) -> Tensor) -> String? {
        let pulled = pullBack(run, inputs)
        let value = (pulled.output * normal(like: pulled.output, seed: 1)).sum()
        let product = zip(pulled.gradients, inputs).reduce(Tensor.zeros([], dtype: .float64)) { total, pair in
            total + (pair.0 * pair.1).sum()
        }
        return difference(product, value, tolerance: 1e-11)
    }

    static let singles = OpCheck("the same gradient in float32") { op in
        var found = Findings()
        for sample in op.samples() where op.name != "cast" {
            let inputs = sample.inputs.map { $0.dtype == .float64 ? $0.cast(to: .float32) : $0 }
            let widened = inputs.map { $0.dtype == .float32 ? $0.cast(to: .float64) : $0 }
            let single = pullBack(sample.run, inputs) { normal(like: $0, seed: 1) }
            let double = pullBack(sample.run, widened) {
                normal(like: $0.cast(to: .float32), seed: 1).cast(to: .float64)
            }
            for (position, (a, b)) in zip(single.gradients, double.gradients).enumerated() {
                // Sums of at most some tens of products of numbers up to about 8.
                found.add(
                    difference(a.cast(to: .float64), b, tolerance: 32 * Reference.unit, floor: 8),
                    "“\(sample.label)”, gradient of input \(position)")
            }
        }
        return found.list
    }

    static let shapesAndTypes = OpCheck("gradients of the inputs' shapes and types") { op in
        var found = Findings()
        for sample in op.samples() {
            for type in [DType.float64, .float32] {
                let inputs = sample.inputs.map { $0.dtype.isDifferentiable ? $0.cast(to: type) : $0 }
                let gradients = pullBack(sample.run, inputs).gradients
                for (gradient, input) in zip(gradients, inputs.filter(\.dtype.isDifferentiable)) {
                    found.require(
                        gradient.shape == input.shape && gradient.dtype == input.dtype,
                        "“\(sample.label)”: \(gradient.dtype) \(gradient.shape) for \(input.dtype) \(input.shape)")
                }
            }
        }
        return found.list
    }

    static let cotangents = OpCheck("gradients that are linear in the cotangent, zero for zero") { op in
        var found = Findings()
        for sample in op.samples() {
            func gradients(_ cotangent: (Tensor) -> Tensor) -> [Tensor] {
                pullBack(sample.run, sample.inputs, cotangent: cotangent).gradients
            }
            for gradient in gradients({ .zeros($0.shape, dtype: $0.dtype) }) {
                found.add(difference(gradient, .zeros(gradient.shape), tolerance: 0), "“\(sample.label)” for zeros")
            }
            let first = gradients { normal(like: $0, seed: 1) }
            let second = gradients { normal(like: $0, seed: 2) }
            let both = gradients { normal(like: $0, seed: 1) * 3 - normal(like: $0, seed: 2) * 0.5 }
            for (position, sum) in both.enumerated() {
                // The cast between the types rounds each gradient to float32.
                found.add(
                    difference(
                        sum, first[position] * 3 - second[position] * 0.5, tolerance: op.name == "cast" ? 1e-6 : 1e-12,
                        floor: 8), "“\(sample.label)”, input \(position)")
            }
        }
        return found.list
    }

    static let singleInputs = OpCheck("the same gradient for every input alone") { op in
        var found = Findings()
        for sample in op.samples() {
            let active = sample.inputs.indices.filter { sample.inputs[$0].dtype.isDifferentiable }
            let together = pullBack(sample.run, sample.inputs).gradients
            for (order, position) in active.enumerated() {
                let alone = gradient(
                    of: { variable in
                        var arguments = sample.inputs
                        arguments[position] = variable
                        let y = sample.run(arguments)
                        return (y * normal(like: y, seed: 1)).sum()
                    }, at: sample.inputs[position])
                found.add(bitDifference(alone, together[order]), "“\(sample.label)”, input \(position)")
            }
        }
        return found.list
    }

    static let reuse = OpCheck("the sum of its operands' gradients for one tensor as several operands") { op in
        var found = Findings()
        for sample in op.samples() {
            let active = sample.inputs.indices.filter { sample.inputs[$0].dtype.isDifferentiable }
            for first in active {
                let twins = active.filter { $0 >= first && sample.inputs[$0].shape == sample.inputs[first].shape }
                guard twins.count > 1 else { continue }
                var inputs = sample.inputs
                for position in twins { inputs[position] = inputs[first] }
                let apart = pullBack(sample.run, inputs).gradients
                let sum = twins.dropFirst().reduce(apart[active.firstIndex(of: first)!]) { total, position in
                    total + apart[active.firstIndex(of: position)!]
                }
                let shared = gradient(
                    of: { variable in
                        var arguments = inputs
                        for position in twins { arguments[position] = variable }
                        let y = sample.run(arguments)
                        return (y * normal(like: y, seed: 1)).sum()
                    }, at: inputs[first])
                found.add(
                    difference(shared, sum, tolerance: 1e-13, floor: 16), "“\(sample.label)”, inputs \(twins)")
                break
            }
        }
        return found.list
    }

    /// How ops that choose treat equal candidates: together they get the gradient once, and each the same share.
    static let ties = OpCheck("gradients that ties share evenly", of: ["max", "min", "maximum", "minimum"]) { op in
        var found = Findings()
        for sample in op.samples() where sample.inputs.allSatisfy({ $0.count > 0 }) {
            let equal = sample.inputs.map { Tensor.full($0.shape, 0.75, dtype: .float64) }
            let pulled = pullBack(sample.run, equal) { .ones($0.shape, dtype: $0.dtype) }
            let total = pulled.gradients.reduce(0) { $0 + $1.sum().item() }
            found.add(
                difference(Tensor([total]), Tensor([Double(pulled.output.count)]), tolerance: 1e-13),
                "“\(sample.label)”, the sum of all gradients")
            for (position, gradient) in pulled.gradients.enumerated() {
                let share = gradient.mean().item()
                found.add(
                    difference(gradient, .full(gradient.shape, share, dtype: .float64), tolerance: 1e-13),
                    "“\(sample.label)”, the shares in input \(position)")
            }
        }
        return found.list
    }

    static let paths = OpCheck("the sum of both paths' gradients when it is used twice") { op in
        var found = Findings()
        for sample in op.samples() {
            let active = sample.inputs.indices.filter { sample.inputs[$0].dtype.isDifferentiable }
            let twice = valueAndGradient(
                of: { variables in
                    var arguments = sample.inputs
                    for (variable, position) in zip(variables, active) { arguments[position] = variable }
                    let (y, z) = (sample.run(arguments), sample.run(arguments))
                    return (y * normal(like: y, seed: 1)).sum() + (z * normal(like: z, seed: 2)).sum()
                }, at: active.map { sample.inputs[$0] }
            ).gradients
            let paths = [1, 2].map { seed in
                pullBack(sample.run, sample.inputs) { normal(like: $0, seed: UInt64(seed)) }.gradients
            }
            for (order, position) in active.enumerated() {
                // The cast between the types rounds each gradient to float32, but not their sum.
                found.add(
                    difference(twice[order], paths[0][order] + paths[1][order], tolerance: 1e-13, floor: 16),
                    "“\(sample.label)”, input \(position)")
            }
        }
        return found.list
    }

    static let repetition = OpCheck("the same bits each time, and in a checkpoint") { op in
        var found = Findings()
        for sample in op.samples() {
            let first = pullBack(sample.run, sample.inputs)
            let again = pullBack(sample.run, sample.inputs)
            let checkpoint = pullBack({ inputs in checkpointed { sample.run(inputs) } }, sample.inputs)
            for (name, other) in [("a second time", again), ("in a checkpoint", checkpoint)] {
                found.add(bitDifference(other.output, first.output), "“\(sample.label)” \(name)")
                for (position, (a, b)) in zip(other.gradients, first.gradients).enumerated() {
                    found.add(bitDifference(a, b), "“\(sample.label)” \(name), gradient of input \(position)")
                }
            }
        }
        return found.list
    }

    static let views = OpCheck("the same for views as for dense tensors", needsGradient: false) { op in
        var found = Findings()
        for sample in op.samples() {
            for layout in ViewLayout.allCases {
                for position in sample.inputs.indices where sample.inputs[position].dtype == .float64 {
                    guard let (view, dense) = layout.pair(sample.inputs[position]) else { continue }
                    let place = "“\(sample.label)”, input \(position) \(layout)"
                    var (views, denses) = (sample.inputs, sample.inputs)
                    views[position] = view
                    denses[position] = dense
                    guard op.isDifferentiable else {
                        found.add(bitDifference(sample.run(views), sample.run(denses)), place)
                        continue
                    }
                    let (ofView, ofDense) = (pullBack(sample.run, views), pullBack(sample.run, denses))
                    // A sum may run in another order along another layout.
                    found.add(difference(ofView.output, ofDense.output, tolerance: 1e-13, floor: 16), place)
                    for (a, b) in zip(ofView.gradients, ofDense.gradients) {
                        found.add(difference(a, b, tolerance: 1e-13, floor: 16), "\(place), gradient")
                    }
                }
            }
        }
        return found.list
    }
}
