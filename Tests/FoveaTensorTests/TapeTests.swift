import FoveaTensor
import FoveaTestSupport
import Testing

extension Op {
    /// An op as a user would write it.
    fileprivate static let cube = Op("cube", "x³") { $0.elementwise { cubed($0) } }
    /// One with several operands whose gradients share their work.
    fileprivate static let dot = Op("dot", "Σ a · b") { source in
        [
            OpSample("vectors", [source.uniform([5]), source.uniform([5])]) { dotted($0[0], $0[1]) }
        ]
    }
}

private func cubed(_ x: Tensor) -> Tensor {
    withoutGradient { x * x * x }.derived(by: .cube, from: x) { g in g * x * x * 3 }
}

private func dotted(_ a: Tensor, _ b: Tensor) -> Tensor {
    withoutGradient { (a * b).sum() }.derived(by: .dot, from: [a, b]) { g, wanted in
        [wanted[0] ? g * b : nil, wanted[1] ? g * a : nil]
    }
}

@Suite("The tape")
struct TapeTests {
    private let x = Tensor([0.5, -1.5, 2])

    private func expect(
        _ tensor: Tensor, _ values: [Double], tolerance: Double = 1e-14,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        expectClose(tensor, Tensor(values), tolerance: tolerance, sourceLocation: sourceLocation)
    }

    // MARK: The front

    @Test("gives a value and its gradients")
    func valueAndGradients() {
        let y = Tensor([3.0, 1, -2])
        let (value, gradients) = valueAndGradient(of: { ($0[0] * $0[1]).sum() }, at: [x, y])
        #expect(value.item() == 1.5 - 1.5 - 4)
        #expect(value.shape == [])
        expect(gradients[0], [3, 1, -2], tolerance: 0)
        expect(gradients[1], [0.5, -1.5, 2], tolerance: 0)
    }

    @Test("gives the gradient of a function of one argument")
    func oneArgument() {
        expect(gradient(of: { $0.square().sum() }, at: x), [1, -3, 4], tolerance: 0)
        // A value of one element need not be a scalar.
        expect(gradient(of: { $0.sum(keepingAxes: true) }, at: x), [1, 1, 1], tolerance: 0)
        // The value can be the argument itself.
        #expect(gradient(of: { $0 }, at: Tensor([4.0])).item() == 1)
    }

    @Test("gives vector-Jacobian products")
    func vectorJacobianProducts() {
        let (y, cotangent) = (Tensor([3.0, 1, -2]), Tensor([1.0, 2, -0.5]))
        let gradients = vectorJacobianProduct(
            of: { $0[0] * $0[1] }, at: [x, y, cotangent], cotangent: cotangent)
        expect(gradients[0], [3, 2, 1], tolerance: 0)
        expect(gradients[1], [0.5, -3, -1], tolerance: 0)
        expect(gradients[2], [0, 0, 0], tolerance: 0)
        // The value can be an argument itself, and its gradient then is a copy that leaves the cotangent alone.
        let same = vectorJacobianProduct(of: { $0[0] }, at: [x], cotangent: cotangent)
        expect(same[0], [1, 2, -0.5], tolerance: 0)
        // Contributions add up beside the cotangent, not in it.
        let twice = vectorJacobianProduct(of: { $0[0] + $0[0] }, at: [x], cotangent: cotangent)
        expect(twice[0], [2, 4, -1], tolerance: 0)
        expect(cotangent, [1, 2, -0.5], tolerance: 0)
    }

    @Test("leaves a value alone that somebody still has, where a gradient could take its memory")
    func valuesStay() {
        let scores = Tensor.normal([5, 40], key: RandomKey(seed: 3))
        let cotangent = Tensor.normal([5, 40], key: RandomKey(seed: 4))
        for op in [{ $0.softmax(axis: -1) }, { $0.logSoftmax(axis: -1) }] as [(Tensor) -> Tensor] {
            var kept: [Tensor] = []
            let beside = vectorJacobianProduct(
                of: {
                    kept.append(op($0[0]))
                    return kept[0]
                }, at: [scores], cotangent: cotangent)
            let alone = vectorJacobianProduct(of: { op($0[0]) }, at: [scores], cotangent: cotangent)
            expectSameBits(kept[0].detached, op(scores))
            expectSameBits(alone[0], beside[0])
        }
    }

    @Test("gives zeros for an argument without influence")
    func noInfluence() {
        let matrix = Tensor.zeros([2, 3])
        let (value, gradients) = valueAndGradient(of: { $0[0].sum() }, at: [x, matrix])
        #expect(value.item() == 1)
        expectSameBits(gradients[1], .zeros([2, 3], dtype: .float32))
        // Nor does anything influence a constant, or the result of an op without a gradient.
        expect(gradient(of: { _ in Tensor([7.0]) }, at: x), [0, 0, 0], tolerance: 0)
        expect(gradient(of: { $0.argmax(axis: 0).cast(to: .float64) }, at: x), [0, 0, 0], tolerance: 0)
        expect(gradient(of: { $0.cast(to: .int64).cast(to: .float64).sum() }, at: x), [0, 0, 0], tolerance: 0)
    }

    @Test("closes when the function throws")
    func throwing() throws {
        struct Refusal: Error {}
        #expect(throws: Refusal.self) {
            try valueAndGradient(
                of: { arguments in
                    _ = arguments[0].exp()
                    throw Refusal()
                }, at: [x])
        }
        // A tape left open would take what follows for second order.
        expect(gradient(of: { $0.sum() }, at: x), [1, 1, 1], tolerance: 0)
    }

    // MARK: Adding up

    @Test("adds up the uses of one tensor")
    func reuse() {
        expect(gradient(of: { ($0 * $0).sum() }, at: x), [1, -3, 4], tolerance: 0)
        expect(gradient(of: { ($0 + $0 + $0).sum() }, at: x), [3, 3, 3], tolerance: 0)
        expect(gradient(of: { concatenated([$0, $0], axis: 0).sum() }, at: x), [2, 2, 2], tolerance: 0)
        // One matrix on both sides of a product: d tr(A²) / dA = 2Aᵀ.
        let a = Tensor([1.0, 2, 3, 4], shape: [2, 2])
        let eye = Tensor([1.0, 0, 0, 1], shape: [2, 2])
        expectClose(
            gradient(of: { (matmul($0, $0) * eye).sum() }, at: a), Tensor([2.0, 6, 4, 8], shape: [2, 2]), tolerance: 0)
    }

    @Test("adds up what comes along two paths")
    func twoPaths() {
        // y = e²ˣ + e²ˣ·x: both paths meet in e²ˣ and again in x.
        let slopes = gradient(
            of: { x in
                let y = (x * 2).exp()
                return (y + y * x).sum()
            }, at: x)
        expectClose(slopes, (x * 2).exp() * (x * 2 + 3), tolerance: 1e-14)
    }

    @Test("does not change an operand's gradient when it adds to it in place")
    func sharedContributions() {
        // Both operands of a sum get the very cotangent; adding to one of the two must leave the other alone.
        let (_, gradients) = valueAndGradient(
            of: { p in
                let sum = p[0] + p[1]
                return (sum + p[0] * 2).sum()
            }, at: [x, x])
        expect(gradients[0], [3, 3, 3], tolerance: 0)
        expect(gradients[1], [1, 1, 1], tolerance: 0)
    }

    @Test("adds a weight's gradients up over several products")
    func weights() {
        let key = RandomKey(seed: 1)
        let weight = Tensor.normal([4, 3], key: key.folding(0), dtype: .float64)
        let inputs = (1...3).map { Tensor.normal([5, 3], key: key.folding(UInt64($0)), dtype: .float64) }
        let together = gradient(
            of: { weight in
                inputs.reduce(Tensor([0.0])) { $0 + linear($1, weight: weight).square().sum() }
            }, at: weight)
        let apart = inputs.map { input in gradient(of: { linear(input, weight: $0).square().sum() }, at: weight) }
        expectClose(together, apart[0] + apart[1] + apart[2], tolerance: 1e-13, floor: 8)
    }

    @Test("leaves the values that the ops saved as they were")
    func savedValues() {
        // += works in place where it may; here the old value is saved by the square.
        let slopes = gradient(
            of: { x in
                var y = x * 1
                let square = y.square()
                y += Tensor([10.0, 10, 10])
                return (square + y).sum()
            }, at: x)
        expect(slopes, [2, -2, 5], tolerance: 0)
        var y = x
        y += x
        expect(y, [1, -3, 4], tolerance: 0)
        expect(x, [0.5, -1.5, 2], tolerance: 0)
    }

    // MARK: What is not traced

    @Test("drops the pullback of an operand that is not traced, and calls the other")
    func untracedOperand() {
        final class Token {}
        weak var kept: Token?
        weak var dropped: Token?
        let constant = Tensor([2.0, 2, 2])
        let slopes = gradient(
            of: { x in
                let (a, b) = (Token(), Token())
                (kept, dropped) = (a, b)
                let y = withoutGradient { x * constant }.derived(
                    by: .multiply, from: x,
                    { g in
                        withExtendedLifetime(a) {}
                        return g * constant
                    }, and: constant,
                    { g in
                        withExtendedLifetime(b) {}
                        Issue.record("the gradient of a constant was computed")
                        return g * x
                    })
                return y.sum()
            }, at: x)
        expect(slopes, [2, 2, 2], tolerance: 0)
        #expect(kept == nil, "what an op saved is freed with the tape")
        #expect(dropped == nil)
    }

    @Test("frees at once what only an untraced operand's gradient would need")
    func untracedIsFreed() {
        final class Token {}
        weak var dropped: Token?
        _ = gradient(
            of: { x in
                let constant = Tensor([2.0, 2, 2])
                do {
                    let token = Token()
                    dropped = token
                    _ = constant.derived(by: .negate, from: constant) { g in
                        withExtendedLifetime(token) {}
                        return g
                    }
                }
                #expect(dropped == nil)
                return x.sum()
            }, at: x)
    }

    @Test("tells a shared pullback which operands want a gradient")
    func wantedOperands() {
        let constant = Tensor([1.0, 2, 3])
        for position in 0..<2 {
            let slopes = gradient(
                of: { x in
                    let operands = position == 0 ? [x, constant] : [constant, x]
                    return Tensor([0.0]).derived(by: .dot, from: operands) { g, wanted in
                        #expect(wanted == [position == 0, position == 1])
                        return wanted.map { $0 ? constant * g : nil }
                    }
                }, at: x)
            expect(slopes, [1, 2, 3], tolerance: 0)
        }
    }

    @Test("records nothing in withoutGradient")
    func paused() {
        expect(gradient(of: { x in (x + withoutGradient { x * 5 }).sum() }, at: x), [1, 1, 1], tolerance: 0)
        expect(
            gradient(of: { x in (x * withoutGradient { withoutGradient { x } * 2 } + x).sum() }, at: x), [2, -2, 5],
            tolerance: 0)
        // Recording goes on after it, also when its body throws.
        struct Refusal: Error {}
        let slopes = gradient(
            of: { x in
                try? withoutGradient { throw Refusal() }
                return (x * 2).sum()
            }, at: x)
        expect(slopes, [2, 2, 2], tolerance: 0)
    }

    @Test("takes a tensor that outlived its tape for a constant")
    func outlived() {
        var survivor: Tensor?
        _ = gradient(
            of: { x in
                survivor = x * 3
                return x.sum()
            }, at: x)
        let constant = survivor!
        expect(constant + 1, [2.5, -3.5, 7], tolerance: 0)
        expect(gradient(of: { ($0 * constant).sum() }, at: x), [1.5, -4.5, 6], tolerance: 0)
        // As an argument it is a leaf of the new tape.
        expect(gradient(of: { $0.square().sum() }, at: constant), [3, -9, 12], tolerance: 0)
        // Another thread may use it, too.
        #expect(onThread(stackSize: 1 << 20) { (constant * 2).sum().item() } == 6)
    }

    @Test("is independent of tapes inside it and on other threads")
    func independence() {
        let other = Tensor([4.0, 5, 6])
        let slopes = gradient(
            of: { x in
                // An inner gradient of something else is a constant to the outer one.
                let inner = gradient(of: { $0.square().sum() }, at: other)
                let elsewhere = onThread(stackSize: 1 << 20) { gradient(of: { $0.exp().sum() }, at: Tensor([0.0])) }
                return (x * inner).sum() + x.sum() * elsewhere.sum()
            }, at: x)
        expect(slopes, [9, 11, 13], tolerance: 0)
    }

    // MARK: Ops of one's own

    @Test("takes a user's op like one of the library")
    func ownOp() throws {
        expect(gradient(of: { cubed($0).sum() }, at: x), [0.75, 6.75, 12])
        for op in [Op.cube, .dot] {
            let check = try #require(op.checkGradients())
            #expect(check.passed, "\(check.message)")
        }
        // Without a tape the closure is not kept and nothing is recorded.
        expect(cubed(x), [0.125, -3.375, 8])
    }

    @Test("finds a user's wrong gradient")
    func wrongGradients() {
        let key = RandomKey(seed: 3)
        let x = Tensor.normal([3, 4], key: key, dtype: .float64)
        let wrong: [(String, @Sendable (Tensor) -> Tensor)] = [
            ("another sign", { x in x.detached.square().derived(by: .square, from: x) { g in g * x * -2 } }),
            ("a missing factor", { x in x.detached.square().derived(by: .square, from: x) { g in g * x } }),
            ("no cotangent", { x in x.detached.square().derived(by: .square, from: x) { _ in x.detached * 2 } }),
            (
                "another element's",
                { x in
                    x.detached.square().derived(by: .square, from: x) { g in
                        (g * x * 2).reshaped(to: [4, 3]).transposed(0, 1)
                    }
                }
            ),
            ("NaN", { x in x.detached.square().derived(by: .square, from: x) { g in g * x * .nan } }),
        ]
        for (name, function) in wrong {
            let check = checkGradients(of: { function($0[0]) }, at: [x], named: ["x"], name: name)
            #expect(!check.passed, "\(name) was not found: \(check.message)")
            #expect(check.message.contains("gradients differ, worst at x, element ["), "\(check.message)")
        }
        let large = Tensor.normal([40, 20], key: key, dtype: .float64)
        let check = checkGradients(of: { wrong[1].1($0[0]) }, at: [large])
        #expect(!check.passed, "a missing factor was not found among many elements")
        // One element of the Jacobian, among more than are compared one by one, is found and named.
        let one = Tensor((0..<800).map { $0 == 497 ? 1.0 : 0 }, shape: [40, 20])
        let spoilt = checkGradients(
            of: { arguments in
                arguments[0].detached.square().derived(by: .square, from: arguments[0]) { g in
                    g * arguments[0] * 2 + one * g.transposed(0, 1)[3][4]
                }
            }, at: [large], named: ["layer.weight"], name: "a block")
        #expect(!spoilt.passed)
        #expect(
            spoilt.message.hasPrefix("a block: gradients differ, worst at layer.weight, element [24, 17], for output ")
                && spoilt.message.contains("output element [4, 3]: analytic 1.0, numeric 0.0, absolute error 1.0"),
            "\(spoilt.message)")
    }

    @Test("a check that compared nothing does not pass")
    func vacuousCheck() {
        for inputs in [[], [Tensor([Float(2)])]] {
            let check = checkGradients(of: { _ in Tensor([1.0], shape: []) }, at: inputs)
            #expect(!check.passed && check.message.contains("none of the inputs is float64"), "\(check.message)")
        }
    }

    @Test("finds a gradient of another shape, or another one the second time")
    func pointless() {
        var calls = 0.0
        let check = checkGradients(
            of: { arguments in
                arguments[0].detached.square().derived(by: .square, from: arguments[0]) { g in
                    calls += 1
                    return g * arguments[0] * (2 + 1e-13 * calls)
                }
            }, at: [Tensor([1.0, 2])], named: ["x"])
        #expect(!check.passed)
        #expect(check.message == "function: two runs on the same inputs differ in the gradient of x")
        let reduced = checkGradients(
            of: { arguments in
                (arguments[0].detached + Tensor([1.0, 2])).derived(by: .add, from: arguments[0]) { g in g }
            }, at: [Tensor([3.0])])
        #expect(reduced.message == "function: the gradient of input 0 has the shape [2], not [1]")
        let drifting = checkGradients(
            of: { arguments in
                calls += 1
                return arguments[0] + 1e-13 * calls
            }, at: [Tensor([1.0, 2])])
        #expect(drifting.message == "function: two runs on the same inputs differ in the output")
    }

    // MARK: Checkpoints

    /// Blocks of every kind of gradient: one operand, two, joint, in place.
    private func blocks(_ wrap: (@escaping () -> Tensor) -> Tensor, type: DType = .float64) -> [Tensor] {
        let key = RandomKey(seed: 8)
        let arguments = [[6, 5], [5, 5], [5], [5], [5]].enumerated().map {
            Tensor.normal($0.element, key: key.folding(UInt64($0.offset)), dtype: type)
        }
        let (value, gradients) = valueAndGradient(
            of: { p in
                var x = p[0]
                for _ in 0..<3 {
                    let input = x
                    // Captures traced tensors: the stretch's input and the weights.
                    x = wrap {
                        let hidden = layerNorm(linear(input, weight: p[1], bias: p[2]), weight: p[3], bias: p[4])
                        return input + matmul(hidden.gelu().softmax(axis: -1), p[1]) * p[3]
                    }
                }
                return (x * p[0]).sum()
            }, at: arguments)
        return [value] + gradients
    }

    @Test(
        "has the same bits with a checkpoint around a product that is added to the way past it", arguments: [64, 512])
    func checkpointedResidual(width: Int) {
        let key = RandomKey(seed: 4)
        let x = Tensor.normal([32, width], key: key)
        let weight = Tensor.normal([width, width], key: key.folding(1)) * 0.05
        func gradients(_ wrap: @escaping (@escaping () -> Tensor) -> Tensor) -> [Tensor] {
            valueAndGradient(
                of: { p in wrap { p[0] + linear(p[0], weight: p[1]).gelu() }.square().sum() }, at: [x, weight]
            ).gradients
        }
        for (plain, again) in zip(gradients { $0() }, gradients { checkpointed($0) }) { expectSameBits(again, plain) }
    }

    @Test("a gradient check with a derivative that is no number fails, whatever follows it")
    func notANumber() {
        let roots = checkGradients(of: { $0[0].sqrt() }, at: [Tensor([0.0, 1.0])])
        #expect(!roots.passed && roots.maxRelativeError.isNaN)
        let good = checkGradients(of: { $0[0].square() }, at: [Tensor([0.5, 1.0])])
        #expect(good.passed)
        var (first, last) = (roots, good)
        first.merge(good)
        last.merge(roots)
        #expect(!first.passed && !last.passed)
    }

    @Test("has the same bits with checkpoints, nested ones too", arguments: [DType.float64, .float32])
    func checkpoints(type: DType) {
        let plain = blocks({ $0() }, type: type)
        let once = blocks({ checkpointed($0) }, type: type)
        let nested = blocks({ body in checkpointed { checkpointed { checkpointed(body) } } }, type: type)
        let mixed = blocks(
            { body in
                checkpointed {
                    let half = checkpointed(body) * 0.5
                    return half + half
                }
            }, type: type)
        let mixedPlain = blocks(
            { body in
                let half = body() * 0.5
                return half + half
            }, type: type)
        for position in plain.indices {
            expectSameBits(once[position], plain[position], "checkpointed, result \(position)")
            expectSameBits(nested[position], plain[position], "nested, result \(position)")
            expectSameBits(mixed[position], mixedPlain[position], "part of a stretch, result \(position)")
        }
    }

    @Test("runs a checkpointed stretch twice for a gradient and once without")
    func checkpointRuns() {
        var runs = 0
        let slopes = gradient(
            of: { x in
                checkpointed {
                    runs += 1
                    return x.exp().log().sum()
                }
            }, at: x)
        expect(slopes, [1, 1, 1])
        #expect(runs == 2)
        _ = checkpointed {
            runs += 1
            return x.exp()
        }
        #expect(runs == 3)
        // Nothing flows into this one, so that it need not run again.
        _ = gradient(
            of: { x in
                _ = checkpointed {
                    runs += 1
                    return x.exp()
                }
                return x.sum()
            }, at: x)
        #expect(runs == 4)
    }

    @Test("passes a captured tensor through a checkpoint")
    func checkpointIdentity() {
        expect(gradient(of: { x in (checkpointed { x } * x).sum() }, at: x), [1, -3, 4], tolerance: 0)
        let constant = Tensor([1.0, 2, 3])
        expect(gradient(of: { x in (checkpointed { constant } * x).sum() }, at: x), [1, 2, 3], tolerance: 0)
        expect(
            gradient(of: { x in (checkpointed { withoutGradient { x * 2 } } * x).sum() }, at: x), [1, -3, 4],
            tolerance: 0)
    }
}
