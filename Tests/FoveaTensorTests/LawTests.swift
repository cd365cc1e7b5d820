import FoveaTensor
import FoveaTestSupport
import Testing

/// What must hold whatever the numbers: laws of algebra, over random shapes and values.
@Suite("Algebraic laws")
struct LawTests {
    private static let rounds = 20

    private func normal(_ shape: [Int], _ seed: Int, _ name: String) -> Tensor {
        .normal(shape, key: RandomKey(seed: UInt64(seed)).folding(name), dtype: .float64)
    }

    private func dot(_ a: Tensor, _ b: Tensor) -> Double { (a * b).sum().item() }

    /// A shape of rank 1 to 4 without empty axes.
    private func shape(_ shapes: inout RandomShapes, rank: ClosedRange<Int> = 1...4) -> [Int] {
        (0..<shapes.number(in: rank)).map { _ in shapes.number(in: 1...5) }
    }

    @Test("softmax: lines sum to 1, and a shift changes nothing")
    func softmax() {
        var shapes = RandomShapes(seed: 31)
        for round in 0..<Self.rounds {
            let x = normal(shape(&shapes), round, "x") * 3
            let axis = shapes.number(in: 0...x.rank - 1)
            let y = x.softmax(axis: axis)
            let sums = y.sum(axes: [axis])
            expectClose(sums, .ones(sums.shape), tolerance: 1e-14, "round \(round)")
            var one = x.shape
            one[axis] = 1
            expectClose(
                (x + normal(one, round, "shift") * 100).softmax(axis: axis), y, tolerance: 1e-12, "round \(round)")
            expectClose(x.logSoftmax(axis: axis).exp(), y, tolerance: 1e-14, "round \(round)")
            // So the gradient along a line of any function of it sums to zero.
            let slope = pullBack({ $0[0].softmax(axis: axis) }, [x]).gradients[0].sum(axes: [axis])
            expectClose(slope, .zeros(slope.shape), tolerance: 1e-14, "round \(round)")
        }
    }

    @Test("layer norm: scale and shift change nothing; means are 0, mean squares 1")
    func layerNormScale() {
        var shapes = RandomShapes(seed: 32)
        for round in 0..<Self.rounds {
            let shape = shape(&shapes) + [shapes.number(in: 3...9)]
            let x = normal(shape, round, "x")
            let y = layerNorm(x, epsilon: 0)
            expectClose(layerNorm(x * 7.5 - 3, epsilon: 0), y, tolerance: 1e-11, "round \(round)")
            let (mean, square) = (y.mean(axes: [-1]), y.square().mean(axes: [-1]))
            expectClose(mean, .zeros(mean.shape), tolerance: 1e-13, "round \(round)")
            expectClose(square, .ones(square.shape), tolerance: 1e-13, "round \(round)")
            expectClose(rmsNorm(x * 7.5, epsilon: 0), rmsNorm(x, epsilon: 0), tolerance: 1e-13, "round \(round)")
        }
    }

    @Test("pixel shuffle and unshuffle undo each other, and so do their gradients")
    func pixelShuffle() {
        var shapes = RandomShapes(seed: 33)
        for round in 0..<Self.rounds {
            let r = shapes.number(in: 1...3)
            let x = normal(
                [
                    shapes.number(in: 0...2), shapes.number(in: 1...3) * r * r, shapes.number(in: 1...4),
                    shapes.number(in: 1...4),
                ], round, "x")
            let there = pullBack({ $0[0].pixelShuffled(by: r).pixelUnshuffled(by: r) }, [x])
            expectSameBits(there.output, x, "round \(round)")
            expectSameBits(there.gradients[0], FoveaTensorTests.normal(like: x, seed: 1), "round \(round), gradient")
            let back = x.pixelShuffled(by: r)
            expectSameBits(back.pixelUnshuffled(by: r).pixelShuffled(by: r), back, "round \(round), back")
        }
    }

    @Test("gather and scatter-add are adjoint: ⟨gather(x), y⟩ = ⟨x, scatter-add(y)⟩")
    func gatherScatter() {
        var shapes = RandomShapes(seed: 34)
        for round in 0..<Self.rounds {
            let x = normal(shape(&shapes), round, "x")
            let axis = shapes.number(in: 0...x.rank - 1)
            var picked = x.shape
            picked[axis] = shapes.number(in: 0...7)
            let indices = Tensor(
                (0..<picked.reduce(1, *)).map { _ in Int64(shapes.number(in: 0...x.shape[axis] - 1)) }, shape: picked)
            let y = normal(picked, round, "y")
            let scattered = Tensor.zeros(x.shape, dtype: .float64).addingAt(axis: axis, indices, y)
            expectClose(
                Tensor([dot(x.gathered(axis: axis, indices), y)]), Tensor([dot(x, scattered)]), tolerance: 1e-12,
                floor: 8, "round \(round)")
        }
    }

    @Test("a permutation and its inverse, two flips, a roll there and back change nothing")
    func inverses() {
        var shapes = RandomShapes(seed: 35)
        for round in 0..<Self.rounds {
            let x = normal(shapes.shape(), round, "x")
            let order = RandomKey(seed: UInt64(round)).permutation(of: x.rank)
            var inverse = order
            for (position, axis) in order.enumerated() { inverse[axis] = position }
            expectSameBits(x.permuted(to: order).permuted(to: inverse), x, "round \(round), permutation")
            let axes = Array(order.prefix(x.rank / 2))
            expectSameBits(x.flipped(axes).flipped(axes), x, "round \(round), flip")
            guard x.rank > 0 else { continue }
            let (axis, shift) = (order[0], shapes.number(in: -7...7))
            expectSameBits(x.rolled(by: shift, axis: axis).rolled(by: -shift, axis: axis), x, "round \(round), roll")
            let first = shapes.number(in: 0...x.shape[axis])
            expectSameBits(
                concatenated(x.split(axis: axis, into: [first, x.shape[axis] - first]), axis: axis), x,
                "round \(round), split")
        }
    }

    @Test("attention does not see the order of its keys", arguments: [false, true])
    func keyOrder(isMasked: Bool) {
        var shapes = RandomShapes(seed: 36)
        for round in 0..<Self.rounds {
            let (batch, n, m, d) = (
                shapes.number(in: 1...3), shapes.number(in: 1...5), shapes.number(in: 1...6), shapes.number(in: 1...5)
            )
            let (q, k, v) = (
                normal([batch, n, d], round, "q"), normal([batch, m, d], round, "k"), normal([batch, m, 3], round, "v")
            )
            let order = Tensor(RandomKey(seed: UInt64(round)).permutation(of: m).map(Int64.init))
            let mask = Tensor((0..<n * m).map { _ in shapes.number(in: 0...3) > 0 }, shape: [n, m])
            let turned = mask.cast(to: .float64).selecting(axis: 1, order) .> 0
            let there = pullBack(
                { attention(query: $0[0], keys: $0[1], values: $0[2], mask: isMasked ? mask : nil) }, [q, k, v])
            let turnedInputs = [q, k.selecting(axis: 1, order), v.selecting(axis: 1, order)]
            let back = pullBack(
                { attention(query: $0[0], keys: $0[1], values: $0[2], mask: isMasked ? turned : nil) }, turnedInputs)
            expectClose(back.output, there.output, tolerance: 1e-13, "round \(round)")
            expectClose(back.gradients[0], there.gradients[0], tolerance: 1e-12, "round \(round), queries")
            for (position, name) in [(1, "keys"), (2, "values")] {
                expectClose(
                    back.gradients[position], there.gradients[position].selecting(axis: 1, order), tolerance: 1e-12,
                    "round \(round), \(name)")
            }
        }
    }

    @Test("windows: fold is the adjoint of unfold, and their gradients are each other")
    func windows() {
        var shapes = RandomShapes(seed: 37)
        for round in 0..<Self.rounds {
            func size(_ range: ClosedRange<Int>) -> Size2D {
                Size2D(shapes.number(in: range), shapes.number(in: range))
            }
            let windows = Windows(
                kernel: size(1...3), stride: size(1...3), padding: size(0...2), dilation: size(1...2))
            let image = size(5...8)
            let x = normal(
                [shapes.number(in: 1...2), shapes.number(in: 1...3), image.height, image.width], round, "x")
            let columns = x.unfolded(windows)
            let y = normal(columns.shape, round, "y")
            expectClose(
                Tensor([dot(columns, y)]), Tensor([dot(x, y.folded(to: image, windows))]), tolerance: 1e-12, floor: 64,
                "round \(round)")
            let slope = pullBack({ $0[0].unfolded(windows) }, [x], cotangent: { _ in y }).gradients[0]
            expectSameBits(slope, y.folded(to: image, windows), "round \(round), gradient of unfold")
            let back = pullBack({ $0[0].folded(to: image, windows) }, [y], cotangent: { _ in x }).gradients[0]
            expectSameBits(back, columns, "round \(round), gradient of fold")
        }
    }
}
