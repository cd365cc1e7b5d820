import Foundation
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("Every op of the catalogue")
struct OpTests {
    // MARK: Values

    @Test("agrees with its reference in float64 and float32", arguments: Op.catalogue)
    func forward(op: Op) throws {
        try expectReferences(op)
    }

    @Test("agrees with its reference around the widths of vectors", arguments: Op.catalogue)
    func tails(op: Op) throws {
        for n in ShapedCall.tails {
            for call in ShapedCall.tail(op.name, n) { try call.expectReference(op) }
        }
    }

    @Test("agrees with its reference when it is cut in chunks", arguments: Op.catalogue)
    func chunks(op: Op) throws {
        let calls = try #require(ShapedCall.large[op.name], "\(op.name) has no large call")
        for call in calls { try call.expectReference(op) }
    }

    // MARK: Gradients

    @Test("has the gradient of finite differences", arguments: Op.catalogue.filter(\.isDifferentiable))
    func gradients(op: Op) throws {
        let check = try #require(op.checkGradients(), "\(op.name) has no check")
        #expect(check.passed, "\(check.message)")
        #expect(check.samples == op.samples().count)
        #expect(check.worst != nil, "\(op.name): nothing was compared")
    }

    @Test("has it around the widths of vectors too", arguments: Op.catalogue.filter(\.isDifferentiable))
    func tailGradients(op: Op) throws {
        // A kink within a step of an input has no derivative to compare with.
        let kinked = ["abs", "relu", "leakyRelu", "maximum", "minimum", "max", "min"]
        for n in ShapedCall.tails where n > 0 {
            for call in ShapedCall.tail(op.name, n) {
                let (inputs, run) = try call.inputs(of: op)
                if kinked.contains(op.name) {
                    try expectPiecewiseLinear(op, call)
                    continue
                }
                let check = checkGradients(
                    of: run, at: inputs, name: "\(op.name), “\(call.label)” on \(call.shapes)",
                    step: op.name == "cast" ? 1 : 6e-6, fullCheckLimit: 64)
                #expect(check.passed, "\(check.message)")
            }
        }
    }

    /// An op that is linear around its inputs equals its gradient times its inputs, but for rounding.
    private func expectPiecewiseLinear(_ op: Op, _ call: ShapedCall) throws {
        let (inputs, run) = try call.inputs(of: op)
        let pulled = pullBack(run, inputs)
        let value = (pulled.output * normal(like: pulled.output, seed: 1)).sum()
        let product = zip(pulled.gradients, inputs).reduce(Tensor.zeros([], dtype: .float64)) { total, pair in
            total + (pair.0 * pair.1).sum()
        }
        expectClose(product, value, tolerance: 1e-11, "\(op.name), “\(call.label)” on \(call.shapes)")
    }

    @Test("has the same gradient in float32", arguments: Op.catalogue.filter(\.isDifferentiable))
    func singleGradients(op: Op) throws {
        for sample in op.samples() where op.name != "cast" {
            let inputs = sample.inputs.map { $0.dtype == .float64 ? $0.cast(to: .float32) : $0 }
            let widened = inputs.map { $0.dtype == .float32 ? $0.cast(to: .float64) : $0 }
            let single = pullBack(sample.run, inputs) { normal(like: $0, seed: 1) }
            let double = pullBack(sample.run, widened) {
                normal(like: $0.cast(to: .float32), seed: 1).cast(to: .float64)
            }
            for (position, (a, b)) in zip(single.gradients, double.gradients).enumerated() {
                // Sums of at most some tens of products of numbers up to about 8.
                expectClose(
                    a.cast(to: .float64), b, tolerance: 32 * Reference.unit, floor: 8,
                    "\(op.name), “\(sample.label)”, gradient of input \(position)")
            }
        }
    }

    @Test("gives gradients of the inputs' shapes and types", arguments: Op.catalogue.filter(\.isDifferentiable))
    func shapesAndTypes(op: Op) {
        for sample in op.samples() {
            for type in [DType.float64, .float32] {
                let inputs = sample.inputs.map { $0.dtype.isDifferentiable ? $0.cast(to: type) : $0 }
                let pulled = pullBack(sample.run, inputs)
                let active = inputs.filter(\.dtype.isDifferentiable)
                for (gradient, input) in zip(pulled.gradients, active) {
                    #expect(gradient.shape == input.shape, "\(op.name), “\(sample.label)”")
                    #expect(gradient.dtype == input.dtype, "\(op.name), “\(sample.label)”")
                }
            }
        }
    }

    @Test("gives gradients that are linear in the cotangent", arguments: Op.catalogue.filter(\.isDifferentiable))
    func linearity(op: Op) {
        for sample in op.samples() {
            let place = "\(op.name), “\(sample.label)”"
            func gradients(_ cotangent: (Tensor) -> Tensor) -> [Tensor] {
                pullBack(sample.run, sample.inputs, cotangent: cotangent).gradients
            }
            for gradient in gradients({ .zeros($0.shape, dtype: $0.dtype) }) {
                expectClose(gradient, .zeros(gradient.shape), tolerance: 0, "\(place), zero cotangent")
            }
            let first = gradients { normal(like: $0, seed: 1) }
            let second = gradients { normal(like: $0, seed: 2) }
            let both = gradients { normal(like: $0, seed: 1) * 3 - normal(like: $0, seed: 2) * 0.5 }
            for (position, sum) in both.enumerated() {
                // The cast between the types rounds each gradient to float32.
                expectClose(
                    sum, first[position] * 3 - second[position] * 0.5, tolerance: op.name == "cast" ? 1e-6 : 1e-12,
                    floor: 8, "\(place), input \(position)")
            }
        }
    }

    @Test("passes gradients to every input alone", arguments: Op.catalogue.filter(\.isDifferentiable))
    func singleInputs(op: Op) {
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
                expectSameBits(alone, together[order], "\(op.name), “\(sample.label)”, input \(position)")
            }
        }
    }

    // MARK: Views

    @Test("treats views like dense tensors", arguments: Op.catalogue)
    func views(op: Op) throws {
        for sample in op.samples() {
            for layout in Layout.allCases {
                for position in sample.inputs.indices where sample.inputs[position].dtype == .float64 {
                    guard let (view, dense) = layout.pair(sample.inputs[position]) else { continue }
                    let place = "\(op.name), “\(sample.label)”, input \(position) \(layout)"
                    var (views, denses) = (sample.inputs, sample.inputs)
                    views[position] = view
                    denses[position] = dense
                    guard op.isDifferentiable else {
                        expectSameBits(sample.run(views), sample.run(denses), place)
                        continue
                    }
                    let (ofView, ofDense) = (pullBack(sample.run, views), pullBack(sample.run, denses))
                    // A sum may run in another order along another layout.
                    expectClose(ofView.output, ofDense.output, tolerance: 1e-13, floor: 16, place)
                    for (a, b) in zip(ofView.gradients, ofDense.gradients) {
                        expectClose(a, b, tolerance: 1e-13, floor: 16, "\(place), gradient")
                    }
                }
            }
        }
    }

    /// The ways a tensor can lie in memory other than densely.
    enum Layout: CaseIterable {
        case transposed, stepped, offset, expanded

        /// A view and a dense tensor of equal values; nil where the shape has no such view.
        func pair(_ x: Tensor) -> (view: Tensor, dense: Tensor)? {
            let values = doubles(of: x)
            let dense = Tensor(values, shape: x.shape)
            guard x.rank > 0 else { return nil }
            switch self {
            case .transposed:
                guard x.rank > 1 else { return nil }
                let order = Array((0..<x.rank).reversed())
                let turned = Tensor(doubles(of: dense.permuted(to: order)), shape: x.shape.reversed())
                return (turned.permuted(to: order), dense)
            case .stepped, .offset:
                // The elements between and around are NaN: reading one of them shows.
                let axis = self == .stepped ? x.rank - 1 : 0
                let (length, step) = (x.shape[axis], self == .stepped ? 3 : 1)
                var shape = x.shape
                shape[axis] = 2 + length * step
                var whole = Grid(shape, [Double](repeating: .nan, count: shape.reduce(1, *)))
                let source = Grid(dense)
                Grid.forEachIndex(in: x.shape) { index in
                    var target = index
                    target[axis] = 1 + index[axis] * step
                    whole[target] = source[index]
                }
                return (whole.tensor.sliced(axis: axis, 1..<1 + length * step, step: step), dense)
            case .expanded:
                guard x.shape[0] > 0 else { return nil }
                let row = Tensor(Array(values.prefix(values.count / x.shape[0])), shape: [1] + x.shape.dropFirst())
                let view = row.expanded(to: x.shape)
                return (view, Tensor(doubles(of: view), shape: x.shape))
            }
        }
    }

    // MARK: Scalars and broadcasting

    @Test("has forms with a number for one operand")
    func numbers() {
        let forms: [(String, @Sendable (Tensor) -> Tensor, @Sendable (Double) -> Double)] = [
            ("x + s", { $0 + 1.5 }, { $0 + 1.5 }), ("s + x", { 1.5 + $0 }, { 1.5 + $0 }),
            ("x − s", { $0 - 1.5 }, { $0 - 1.5 }), ("s − x", { 1.5 - $0 }, { 1.5 - $0 }),
            ("x · s", { $0 * 1.5 }, { $0 * 1.5 }), ("s · x", { 1.5 * $0 }, { 1.5 * $0 }),
            ("x / s", { $0 / 1.5 }, { $0 / 1.5 }), ("s / x", { 1.5 / $0 }, { 1.5 / $0 }),
        ]
        for n in ShapedCall.tails + [70_001] {
            let x = Tensor.uniform([n], in: 0.5...2, key: RandomKey(seed: 9), dtype: .float64)
            for (name, form, reference) in forms {
                expectClose(form(x), Grid(x).map(reference).tensor, tolerance: 0, "\(name), \(n) elements")
                if n > 0, n < 100 {
                    let check = checkGradients(of: { form($0[0]) }, at: [x], name: name)
                    #expect(check.passed, "\(check.message)")
                }
            }
        }
    }

    @Test("broadcasts any shapes that fit", arguments: [11, 12, 13] as [UInt64])
    func broadcasting(seed: UInt64) {
        var shapes = RandomShapes(seed: seed)
        let key = RandomKey(seed: seed)
        for round in 0..<60 {
            let (a, b, result) = shapes.broadcastable()
            let x = Tensor.uniform(a, in: -2...2, key: key.folding(UInt64(2 * round)), dtype: .float64)
            let y = Tensor.uniform(b, in: 0.5...2, key: key.folding(UInt64(2 * round + 1)), dtype: .float64)
            let place = "seed \(seed), round \(round), \(a) and \(b)"
            let quotient = pullBack({ $0[0] / $0[1] }, [x, y])
            #expect(quotient.output.shape == result, "\(place)")
            expectClose(quotient.output, Grid.combine(Grid(x), Grid(y), /).tensor, tolerance: 1e-15, floor: 0, place)
            // d(x/y): the cotangent over y, and −x/y² times it, summed over what was repeated.
            let g = Grid(normal(like: quotient.output, seed: 1))
            var (dx, dy) = (Grid(a) { _ in 0 }, Grid(b) { _ in 0 })
            Grid.forEachIndex(in: result) { index in
                let (xs, ys) = (Grid(x)[broadcast: index], Grid(y)[broadcast: index])
                let ownX = zip(index.suffix(a.count), a).map { $1 == 1 ? 0 : $0 }
                let ownY = zip(index.suffix(b.count), b).map { $1 == 1 ? 0 : $0 }
                dx[ownX] += g[index] / ys
                dy[ownY] -= g[index] * xs / (ys * ys)
            }
            expectClose(quotient.gradients[0], dx.tensor, tolerance: 1e-12, floor: 8, "\(place), gradient of x")
            expectClose(quotient.gradients[1], dy.tensor, tolerance: 1e-12, floor: 8, "\(place), gradient of y")
        }
    }

    // MARK: Completeness

    @Test("stands in the catalogue, once, with samples")
    func completeness() throws {
        let names = Op.catalogue.map(\.name)
        #expect(Set(names).count == names.count, "a name stands twice in \(names)")
        for op in Op.catalogue {
            #expect(!op.samples().isEmpty, "\(op.name) has no sample")
            let labels = op.samples().map(\.label)
            #expect(Set(labels).count == labels.count, "\(op.name): a label stands twice in \(labels)")
            #expect(!op.summary.isEmpty, "\(op.name) has no summary")
        }
        let declared = try declaredOps()
        #expect(declared.count > 30, "the sources were not found, or are written in another way")
        for (constant, name) in declared { #expect(constant == name, "Op.\(constant) is called “\(name)”") }
        let inSources = Set(declared.map(\.name))
        #expect(inSources.subtracting(names).isEmpty, "missing in Op.catalogue")
        #expect(Set(names).subtracting(inSources).isEmpty, "not declared as `static let name = Op(\"name\"`")
        #expect(Set(Reference.table.keys).subtracting(names).isEmpty, "references of ops that are gone")
    }

    /// The ops that the sources of FoveaTensor declare: the constants and the names in them.
    private func declaredOps() throws -> [(constant: String, name: String)] {
        let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let sources = package.appending(path: "Sources/FoveaTensor")
        var found: [(String, String)] = []
        let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
        for case let file as URL in files where file.pathExtension == "swift" {
            let text = try String(contentsOf: file, encoding: .utf8)
            for match in text.matches(of: /static let `?(\w+)`?(?:: Op)? = Op\(\s*"(\w+)"/) {
                found.append((String(match.1), String(match.2)))
            }
        }
        return found
    }
}
