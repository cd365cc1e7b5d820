import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

private typealias Target = GeneratedWeights.Target

/// A small VLoRA; nothing of it is at its start, unless `fresh`.
private func vlora(
    separate: Bool = true, targets: String = "qkvom", fresh: Bool = false, _ dtype: DType = .float64
) -> VLoRA {
    var options = VLoRA.Options(
        width: 8, depth: 2, imageWidth: 5, imageTokens: 4, modelWidth: 6, modelDepth: 4, rank: 2)
    options.targets = targets.compactMap { GeneratedWeights.Target(rawValue: String($0)) }
    options.isSeparate = separate
    options.heads = 2
    options.stride = 2
    options.alpha = 3
    var model = VLoRA(options, key: RandomKey(seed: 7)).cast(to: dtype)
    if !fresh { model.forEachParameter { path, tensor in tensor = Tensor.sample(tensor.shape, path).cast(to: dtype) } }
    return model
}

@Suite struct VLoRATests {
    @Test("at the start nothing is added, to the bit", arguments: [DType.float32, .float64])
    func start(_ dtype: DType) {
        let weights = vlora(fresh: true, dtype)(Tensor.sample([2, 4, 5], "image").cast(to: dtype))
        let x = Tensor.sample([2, 3, 6], "x").cast(to: dtype)
        let linear = Linear(6, 6, key: RandomKey(seed: 1)).cast(to: dtype)
        for target in Target.allCases {
            let delta = weights.change(of: target, for: x, layer: 1)
            #expect(delta != nil)
            expectSameBits(linear(x) + (delta ?? .zeros([])), linear(x), "\(target)")
        }
    }

    @Test("fresh weights are those of the published code: N(0, 0.02²), N(0, 1) for queries and positions, B zero")
    func fresh() throws {
        var options = VLoRA.Options(
            width: 64, depth: 1, imageWidth: 48, imageTokens: 50, modelWidth: 40, modelDepth: 32, rank: 4)
        options.targets = [.query]
        let weights = VLoRA(options, key: RandomKey(seed: 2)).parameters
        func deviation(_ path: String) throws -> Double {
            let values = try #require(weights[path], "\(path)").doubles
            return (values.reduce(0) { $0 + $1 * $1 } / Double(values.count)).squareRoot()
        }
        let bound = (6 / 256.0).squareRoot()
        for (path, want) in [
            ("projection.weight", 0.02), ("positions", 1), ("generators.0.queries", 1),
            ("generators.0.head.weight", 0.02),
            ("generators.0.layers.0.mlp.expand.weight", 0.02),
            ("generators.0.layers.0.crossAttention.output.weight", 0.02),
            ("generators.0.layers.0.crossAttention.key.weight", bound / 3.0.squareRoot()),
            ("outputs", 0), ("generators.0.head.bias", 0), ("generators.0.layers.0.selfAttention.query.bias", 0),
        ] {
            #expect(try abs(deviation(path) - want) <= 0.05 * want, "\(path)")
        }
    }

    @Test("the layers are every s-th one, and all targets of each", arguments: [true, false])
    func layers(_ separate: Bool) {
        let weights = vlora(separate: separate, targets: "mvq")(.sample([2, 4, 5], "image"))
        #expect(weights.layers.map { Set($0.keys) } == [[], [.mlp, .value, .query], [], [.mlp, .value, .query]])
        #expect(weights.change(of: .query, for: .ones([2, 1, 6], dtype: .float64), layer: 0) == nil)
        #expect(weights.change(of: .key, for: .ones([2, 1, 6], dtype: .float64), layer: 1) == nil)
        #expect(weights.change(of: .query, for: .ones([2, 1, 6], dtype: .float64), layer: 9) == nil)
        // All differ.
        let deltas = [1, 3].flatMap { weights.layers[$0].values.map { $0.matrix(ofSample: 0) } }
        for (i, a) in deltas.enumerated() {
            for b in deltas[..<i] { #expect(relativeDifference(a, b) > 1e-2) }
        }
    }

    @Test("what is added is x times ΔW, and ΔW is B·Aᵀ with α / r in it")
    func dense() {
        let model = vlora()
        let weights = model(.sample([2, 4, 5], "image"))
        let x = Tensor.sample([2, 3, 6], "x")
        let linear = Linear(6, 6, key: RandomKey(seed: 1)).cast(to: .float64)
        for (layer, deltas) in weights.layers.enumerated() {
            for (target, delta) in deltas {
                for sample in 0..<2 {
                    var changed = linear
                    changed.weight = linear.weight + delta.matrix(ofSample: sample)
                    expectClose(
                        (linear(x) + delta(x))[sample], changed(x[sample]), tolerance: 1e-12, "\(layer), \(target)")
                }
            }
        }
        // B of the last target of the last layer, by hand: 5 targets for 2 layers.
        let last = weights.layers[3][.mlp]?.up ?? .zeros([])
        expectClose(last, model.outputs[0][9].reshaped(to: [6, 2]) * 1.5, tolerance: 1e-15)
    }

    @Test("a batch has the bits of its members", arguments: [true, false])
    func batch(_ separate: Bool) {
        let model = vlora(separate: separate, .float32)
        let image = Tensor.sample([3, 4, 5], "image").cast(to: .float32)
        let x = Tensor.sample([3, 9, 6], "x").cast(to: .float32)
        let together = model(image)
        for sample in 0..<3 {
            let alone = model(image.sliced(axis: 0, sample..<sample + 1))
            for layer in [1, 3] {
                for target in Target.allCases {
                    expectSameBits(
                        alone.change(of: target, for: x.sliced(axis: 0, sample..<sample + 1), layer: layer)![0],
                        together.change(of: target, for: x, layer: layer)![sample], "\(sample), \(layer), \(target)")
                }
            }
        }
    }

    @Test("samples without a picture get nothing, the others the same bits")
    func missing() {
        let weights = vlora()(.sample([3, 4, 5], "image"))
        let some = weights.only(where: Tensor([true, false, true]))
        let x = Tensor.sample([3, 2, 6], "x")
        for target in Target.allCases {
            let (all, some) = (
                weights.change(of: target, for: x, layer: 3)!, some.change(of: target, for: x, layer: 3)!
            )
            for sample in [0, 2] { expectSameBits(some[sample], all[sample]) }
            #expect(some[1].doubles.allSatisfy { $0 == 0 } && all[1].doubles.allSatisfy { $0 != 0 })
        }
    }

    @Test("gradients for every weight and input, with B at work", arguments: [true, false])
    func gradients(_ separate: Bool) throws {
        let form = try #require(VLoRA.entry.form("published"))
        let changes: [String: ConfigurationValue] = [
            "weights_sep": .bool(separate), "lora_type": "qvm", "skip_layers": 2,
        ]
        var instance = try form.instance(form.sample.merging(changes) { $1 }, dtype: .float64, owner: "a test")
        let drawn = Dictionary(uniqueKeysWithValues: instance.weights.map { ($0, .sample($1.shape, $0) * 0.6) })
        _ = try instance.load(NamedTensors(uniqueKeys: drawn.keys, values: drawn.values), source: "a test")
        let inputs: NamedTensors = ["img_feature": .sample([2, 2, 3], "image"), "x": .sample([2, 3, 3], "x")]
        #expect(try instance.outputs(inputs).keys.elements == ["delta.1.q", "delta.1.v", "delta.1.m"])
        let check = try #require(try instance.checkGradients(inputs, name: "vlora", seed: 1))
        #expect(check.passed, "\(check.message)")
    }

    @Test("what it says that it takes is what the products multiply")
    func cost() async {
        // In a process of its own: other tests multiply too.
        await #expect(processExitsWith: .success) {
            for separate in [true, false] {
                let model = vlora(separate: separate, targets: "qvm", .float32)
                let image = Tensor.sample([1, 4, 5], "image").cast(to: .float32)
                var before = MatrixProduct.multiplyAdds
                let weights = model(image)
                #expect(MatrixProduct.multiplyAdds - before == model.cost.multiplyAdds)
                before = MatrixProduct.multiplyAdds
                let x = Tensor.sample([1, 7, 6], "x").cast(to: .float32)
                for layer in 0..<4 {
                    for target in Target.allCases { _ = weights.change(of: target, for: x, layer: layer) }
                }
                #expect(MatrixProduct.multiplyAdds - before == weights.cost(text: 7).multiplyAdds)
            }
        }
        // One generator of 6 queries: the picture's projection, two layers, the head.
        let (n, width, tokens) = (6, 8, 4)
        let own = 4 * n * width * width + 2 * n * n * width + 2 * n * width * 32
        let reading = 2 * n * width * width + 2 * tokens * width * width + 2 * n * tokens * width
        #expect(
            vlora(separate: false, targets: "qvm").cost.multiplyAdds
                == tokens * 5 * width + 2 * (own + reading) + n * width * 12)
        #expect(vlora(targets: "qvm")(.ones([1, 4, 5], dtype: .float64)).cost(text: 7).multiplyAdds == 6 * 2 * 7 * 12)
    }

    @Test("configurations that make no sense are one line")
    func refusals() throws {
        let form = try #require(VLoRA.entry.form("published"))
        for (changes, part) in [
            (["lora_type": "qq"], "different letters of \"qkvom\""), (["lora_type": "x"], "\"x\""),
            (["lora_type": ""], "different letters"), (["num_heads": 3], "3 heads"),
            (["skip_layers": 3], "\"skip_layers\" 3 leaves no layer"),
            (["skip_layers": 2, "llm_depth": 3], "must divide"), (["mlp_ratio": 0], "\"mlp_ratio\""),
        ] as [([String: ConfigurationValue], String)] {
            let error = try #require(throws: ModuleInputError.self) {
                _ = try form.instance(form.sample.merging(changes) { $1 }, owner: "config.json")
            }
            #expect(error.description.contains(part), "\(error)")
            #expect(!error.description.contains("\n"))
        }
        // One type alone may leave layers over.
        _ = try form.instance(
            form.sample.merging(["skip_layers": 2, "llm_depth": 3, "lora_type": "o"]) { $1 }, owner: "config.json")
    }
}
