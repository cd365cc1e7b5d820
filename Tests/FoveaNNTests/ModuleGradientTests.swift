import FoveaNN
import FoveaTensor
import OrderedCollections
import Testing

/// Layers of an encoder, with dropout.
private struct Layers: Module {
    var layers = (0..<3).map { TransformerBlock(8, heads: 2, dropout: 0.3, key: RandomKey(seed: UInt64($0))) }

    mutating func visit(_ visitor: inout ModuleVisitor) { visitor.modules("layers", &layers) }

    /// The loss, and how much memory is live when it is known.
    func loss(_ x: Tensor) -> (Tensor, Int) {
        let y = layers.reduce(x) { $1($0) }.square().sum()
        return (y, StoragePool.statistics.liveBytes)
    }
}

/// Two members under one path.
private struct Twins: Module {
    var first = Tensor.ones([2])
    var second = Tensor.ones([2])

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("a", &first)
        visitor.parameter("a", &second)
    }
}

@Suite struct ModuleGradientTests {
    private let model = Linear(3, 2, key: RandomKey(seed: 5)).cast(to: .float64)
    private let x = Tensor.sample([4, 3], "x")

    @Test("value and gradients of a linear layer against the formula")
    func formula() {
        let cotangent = Tensor.sample([4, 2], "cotangent")
        let (value, gradients) = valueAndGradient(of: model) { ($0(x) * cotangent).sum() }
        #expect(abs(value.item() - (model(x) * cotangent).sum().item()) < 1e-12)
        #expect(gradients.tensors.keys.elements == ["weight", "bias"])
        let (xs, gs) = (x.doubles, cotangent.doubles)
        var (weight, bias) = ([Double](repeating: 0, count: 6), [0.0, 0.0])
        for row in 0..<4 {
            for output in 0..<2 {
                bias[output] += gs[row * 2 + output]
                for input in 0..<3 { weight[output * 3 + input] += gs[row * 2 + output] * xs[row * 3 + input] }
            }
        }
        #expect(gradients["weight"]?.shape == [2, 3])
        #expect(difference(gradients["weight"]!.doubles, weight) < 1e-12)
        #expect(difference(gradients["bias"]!.doubles, bias) < 1e-12)
    }

    @Test("gradients stand in the order of visit, with the parameters' shapes and types")
    func shapes() {
        let probe = Probe()
        let (_, gradients) = valueAndGradient(of: probe) { probe in
            probe.parameters.values.map { $0.square().sum() }.reduce(.zeros([])) { $0 + $1 }
        }
        #expect(gradients.tensors.keys == probe.parameters.keys)
        for (path, parameter) in probe.parameters {
            #expect(gradients[path]?.shape == parameter.shape, "\(path)")
            #expect(gradients[path]?.dtype == .float32, "\(path)")
            #expect(difference(gradients[path]!.doubles, parameter.doubles.map { 2 * $0 }) < 1e-6, "\(path)")
        }
    }

    @Test("frozen parameters are absent, and the others' gradients are as before")
    func frozen() {
        let everything = valueAndGradient(of: model) { $0(x).square().sum() }
        let (value, gradients) = valueAndGradient(of: model, where: !.path("bias")) { $0(x).square().sum() }
        #expect(gradients.tensors.keys.elements == ["weight"])
        #expect(gradients["bias"] == nil)
        #expect(value.item() == everything.value.item())
        #expect(gradients["weight"]!.bytes() == everything.gradients["weight"]!.bytes())
    }

    @Test("with everything frozen there is a value and no gradient")
    func allFrozen() {
        let (value, gradients) = valueAndGradient(of: model, where: !.all) { $0(x).sum() }
        #expect(gradients.tensors.isEmpty)
        #expect(value.item() == model(x).sum().item())
    }

    @Test("a gradient of a gradient traps, as one of two parameters under one path does")
    func mistakes() async {
        let nested = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let model = Linear(3, 2, key: RandomKey(seed: 5))
            _ = valueAndGradient(of: model) { model in
                valueAndGradient(of: model) { $0(.ones([1, 3])).sum() }.gradients["weight"]!.square().sum()
            }
        }
        #expect(
            message(nested).contains("valueAndGradient: a gradient cannot be differentiated again"),
            "\(message(nested))")
        let twins = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = valueAndGradient(of: Twins()) { ($0.first * $0.second).sum() }
        }
        #expect(message(twins).contains("two parameters of Twins have the path a"), "\(message(twins))")
    }

    @Test("a module's gradients against finite differences, right and wrong")
    func checks() {
        let inputs = [Tensor.uniform([2, 3, 8], key: RandomKey(seed: 1)), Tensor([Int64(1), 0])]
        let right = checkGradients(of: Layers(), at: inputs) { model, inputs in
            model.layers.reduce(inputs[0].selecting(axis: 0, inputs[1])) { $1($0) }
        }
        #expect(right.passed && right.worst != nil, "\(right.message)")
        let wrong = checkGradients(of: Linear(3, 2, key: RandomKey(seed: 5)), at: [.ones([4, 3])], named: ["x"]) {
            linear, inputs in
            // What is detached has an influence and no gradient.
            linear(inputs[0]) * linear.bias!.detached
        }
        #expect(!wrong.passed && wrong.worst?.input == "bias", "\(wrong.message)")
        let blind = checkGradients(of: Linear(3, 2, key: RandomKey(seed: 5)), at: [.ones([4, 3])], named: ["x"]) {
            $0($1[0].detached)
        }
        #expect(!blind.passed && blind.worst?.input == "x", "\(blind.message)")
    }

    @Test("layers that are computed again for their gradients give the same bits, and hold less until then")
    func recomputation() async {
        // In a process of its own: the pool is everybody's.
        await #expect(processExitsWith: .success) {
            let x = Tensor.uniform([2, 24, 8], key: RandomKey(seed: 9))
            func run(_ isOn: Bool) -> (bits: [[UInt8]], live: Int) {
                let (value, gradients, live) = valueAndGradient(of: Layers(), randomness: RandomKey(seed: 3)) { model in
                    recomputingLayers(isOn) { model.loss(x) }
                }
                return ([value.bytes()] + gradients.tensors.values.map { $0.bytes() }, live)
            }
            let (kept, recomputed) = (run(false), run(true))
            #expect(kept.bits == recomputed.bits && kept.bits.count > 30)
            #expect(recomputed.live * 2 < kept.live, "\(recomputed.live) of \(kept.live) bytes")
        }
    }

    @Test("the auxiliary result comes back, as a constant")
    func auxiliary() {
        let (loss, gradients, logits) = valueAndGradient(of: model) { model -> (Tensor, Tensor) in
            let logits = model(x)
            return (logits.sum(), logits)
        }
        #expect(loss.item() == logits.sum().item())
        #expect(logits.bytes() == model(x).bytes())
        #expect(gradients.tensors.count == 2)
        // Nothing of the first gradient clings to what came out of it.
        let again = valueAndGradient(of: model) { ($0(x) * logits).sum() }
        #expect(difference(again.gradients["bias"]!.doubles, logits.sum(axes: [0]).doubles) < 1e-12)
    }

    @Test("a parameter without influence has zeros")
    func unused() {
        let (_, gradients) = valueAndGradient(of: Probe()) { $0.gate.sum() }
        #expect(gradients.tensors.keys == Probe().parameters.keys)
        #expect(gradients["gate"]!.doubles == [1, 1, 1])
        for (path, gradient) in gradients.tensors where path != "gate" {
            #expect(gradient.shape == Probe().parameters[path]!.shape, "\(path)")
            #expect(gradient.doubles.allSatisfy { $0 == 0 }, "\(path)")
        }
    }

    @Test("a parameter used twice gets the sum")
    func usedTwice() {
        let (_, gradients) = valueAndGradient(of: model) { $0($0(x).sum() * x).sum() + $0.bias!.sum() }
        let check = checkGradients(
            of: { arguments in
                var model = model
                (model.weight, model.bias) = (arguments[0], arguments[1])
                return model(model(x).sum() * x).sum() + model.bias!.sum()
            }, at: [model.weight, model.bias!])
        #expect(check.passed, "\(check.message)")
        // The same loss once more by hand: d/db of Σ(W (s x) + b) + Σ b with s = Σ(W x + b).
        let (weight, xs) = (model.weight.doubles, x.doubles)
        var slope = 0.0
        for row in 0..<4 {
            for output in 0..<2 {
                for input in 0..<3 { slope += weight[output * 3 + input] * xs[row * 3 + input] }
            }
        }
        // Each bias adds 1 to s for each of the 4 rows.
        #expect(difference(gradients["bias"]!.doubles, [4 * slope + 5, 4 * slope + 5]) < 1e-10)
    }

    @Test("the model itself is not touched, and errors pass through")
    func modelStays() {
        struct Stop: Error {}
        let before = bits(model)
        _ = valueAndGradient(of: model) { $0(x).sum() }
        #expect(bits(model) == before)
        #expect(throws: Stop.self) {
            _ = try valueAndGradient(of: model) { _ -> Tensor in throw Stop() }
        }
        // The failed call left nothing open on this thread.
        #expect(valueAndGradient(of: model) { $0.bias!.sum() }.gradients["bias"]!.doubles == [1, 1])
    }

    @Test("integer members are carried along and not differentiated")
    func integers() {
        struct Counted: Module {
            var weight = Tensor([2.0, 3.0])
            var index = Tensor([Int64(0), 1])

            mutating func visit(_ visitor: inout ModuleVisitor) {
                visitor.parameter("weight", &weight)
                visitor.parameter("index", &index)
            }
        }
        let (_, gradients) = valueAndGradient(of: Counted()) { ($0.weight * $0.index.cast(to: .float64)).sum() }
        #expect(gradients.tensors.keys.elements == ["weight"])
        #expect(gradients["weight"]!.doubles == [0, 1])
    }
}

@Suite struct GradientsTests {
    private func gradients() -> Gradients {
        Gradients(["a": Tensor([3.0, 0.0]), "b": Tensor([0.0, -4.0, 12.0], shape: [3, 1])])
    }

    @Test func norm() {
        #expect(gradients().norm == 13)
        #expect(Gradients([:]).norm == 0)
        // Adds up in double precision, over more elements than one chunk.
        let many = Gradients(["a": .full([300_000], 0.1)])
        #expect(abs(many.norm - (300_000 * Double(Float(0.1)) * Double(Float(0.1))).squareRoot()) < 1e-9)
    }

    @Test("clipping scales all gradients by limit / (norm + 1e-6), as PyTorch does")
    func clipped() {
        let clipped = gradients().clipped(toNorm: 2)
        let factor = 2 / (13 + 1e-6)
        #expect(difference(clipped["a"]!.doubles, [3 * factor, 0]) < 1e-15)
        #expect(difference(clipped["b"]!.doubles, [0, -4 * factor, 12 * factor]) < 1e-15)
        #expect(abs(clipped.norm - 2) < 1e-6)
    }

    @Test("gradients below the limit stay as they are")
    func belowLimit() {
        #expect(gradients().clipped(toNorm: 13)["b"]!.doubles == [0, -4, 12])
        #expect(gradients().clipped(toNorm: 100)["b"]!.doubles == [0, -4, 12])
    }

    @Test("a norm that is not finite leaves them for the loop to notice")
    func notFinite() {
        for bad in [Double.nan, .infinity] {
            let clipped = Gradients(["a": Tensor([1.0, bad])]).clipped(toNorm: 0.5)
            #expect(clipped["a"]!.doubles[0] == 1)
            #expect(!clipped["a"]!.doubles[1].isFinite)
        }
    }

    @Test func scaled() {
        #expect(gradients().scaled(by: -0.5)["b"]!.doubles == [0, 2, -6])
    }

    @Test("+= adds by path, keeps what only one side has, and leaves copies alone")
    func addition() {
        var sum = gradients()
        let snapshot = sum
        sum += Gradients(["b": Tensor([1.0, 1.0, 1.0], shape: [3, 1]), "c": Tensor([7.0])])
        #expect(sum.tensors.keys.elements == ["a", "b", "c"])
        #expect(sum["a"]!.doubles == [3, 0])
        #expect(sum["b"]!.doubles == [1, -3, 13])
        #expect(sum["c"]!.doubles == [7])
        #expect(snapshot["b"]!.doubles == [0, -4, 12])
        #expect(snapshot["c"] == nil)
    }
}

@Suite struct DropoutTests {
    private struct Pair: Module {
        var first = Dropout(0.5)
        var second = Dropout(0.5)
        var weight = Tensor.ones([1])

        mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.module("first", &first)
            visitor.module("second", &second)
            visitor.parameter("weight", &weight)
        }
    }

    private let x = Tensor.ones([40, 50])

    /// What the two layers make of ones in a step with this key.
    private func outputs(_ key: RandomKey?) -> (first: [Double], second: [Double]) {
        let (first, second) = valueAndGradient(of: Pair(), randomness: key) {
            ($0.weight.sum(), ($0.first(x), $0.second(x)))
        }.auxiliary
        return (first.doubles, second.doubles)
    }

    @Test("plain calls, and gradients without randomness, drop nothing")
    func off() {
        #expect(Dropout(0.5)(x).bytes() == x.bytes())
        #expect(outputs(nil).first == x.doubles)
    }

    @Test("about the rate becomes zero and the rest is scaled up")
    func share() {
        for rate in [0.1, 0.5, 0.9] {
            struct One: Module {
                var dropout: Dropout
                var weight = Tensor.ones([1])

                mutating func visit(_ visitor: inout ModuleVisitor) {
                    visitor.module("dropout", &dropout)
                    visitor.parameter("weight", &weight)
                }
            }
            let values = valueAndGradient(of: One(dropout: Dropout(rate)), randomness: RandomKey(seed: 1)) {
                ($0.weight.sum(), $0.dropout(x))
            }.auxiliary.doubles
            let zeros = Double(values.count { $0 == 0 }) / Double(values.count)
            // Five standard deviations of 2,000 draws.
            #expect(abs(zeros - rate) < 5 * (rate * (1 - rate) / 2_000).squareRoot(), "\(rate)")
            #expect(values.allSatisfy { $0 == 0 || abs($0 - 1 / (1 - rate)) < 1e-6 }, "\(rate)")
        }
    }

    @Test("the same key drops the same elements")
    func deterministic() {
        let key = RandomKey(seed: 3).folding(UInt64(17))
        #expect(outputs(key).first == outputs(key).first)
    }

    @Test("steps and paths have masks of their own")
    func streams() {
        let run = RandomKey(seed: 3)
        let (first, second) = outputs(run.folding(UInt64(1)))
        #expect(first != second)
        #expect(first != outputs(run.folding(UInt64(2))).first)
        #expect(first != outputs(RandomKey(seed: 4).folding(UInt64(1))).first)
        // Independent: two masks of half zeros agree in about half the places.
        let agreement = Double(zip(first, second).count { $0 == $1 }) / Double(first.count)
        #expect(abs(agreement - 0.5) < 0.06)
    }

    @Test("the gradient passes where the value passed, with the same factor")
    func gradient() {
        let (_, gradients, output) = valueAndGradient(of: Scaled(), randomness: RandomKey(seed: 9)) { model in
            let output = model.dropout(model.weight)
            return (output.sum(), output)
        }
        #expect(gradients["weight"]!.doubles == output.doubles)
        #expect(Set(output.doubles).count == 2)
    }

    private struct Scaled: Module {
        var weight = Tensor.ones([64])
        var dropout = Dropout(0.25)

        mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.parameter("weight", &weight)
            visitor.module("dropout", &dropout)
        }
    }

    @Test("randomness ends with the gradient: the model stays off")
    func modelStaysOff() {
        let model = Scaled()
        _ = valueAndGradient(of: model, randomness: RandomKey(seed: 9)) { $0.dropout($0.weight).sum() }
        #expect(model.dropout(model.weight).bytes() == model.weight.bytes())
    }
}
