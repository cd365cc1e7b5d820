import FoveaNN
import FoveaTensor
import Testing

/// A published form to try: y = scale ⊙ (x·Wᵀ) for each of some layers, with an optional mask.
private struct Stack: Module {
    var layers: [Linear]
    var scale: Tensor?

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.modules("layers", &layers)
        visitor.parameter("scale", &scale)
    }

    static let form = PublishedForm(
        WeightLayout<Stack>("published", [.rename("layers.*.weight", "blocks.*.proj")]),
        keys: [
            .size("dim", "width", from: .axis(1, of: "blocks.0.proj")),
            .size("heads", "heads", default: 2),
            .size("head_dim", "width of a head", default: 4, from: .axis(0, of: "blocks.0.proj", over: "heads")),
            .size("depth", "layers", default: 1, from: .count(of: "blocks.*.proj")),
            .flag("scaled", "whether there is a scale", default: false, from: .presence(of: "scale")),
            .choice("mode", "how", of: ["fast", "slow"], default: "fast"),
            .sizes("grid", "rows and columns", count: 2, default: .null),
        ],
        inputs: [
            .init("x", "[B, N, dim]"), .init("y", "[B, 2*N+1]", optional: true),
            .init("mask", "[B, N]", .mask, optional: true),
        ],
        outputs: [.init("out", "[B, N, dim]")],
        sample: ["dim": 4], sampleInputs: { ["x": $0.uniform([2, 3, 4])] },
        make: { configuration in
            let inner = configuration.int("heads") * configuration.int("head_dim")
            return Stack(
                layers: (0..<configuration.int("depth")).map { _ in
                    Linear(configuration.int("dim"), inner, bias: false, key: RandomKey(seed: 0))
                }, scale: configuration.bool("scaled") ? Tensor.ones([inner]) : nil)
        },
        run: { stack, inputs in ["out": stack.layers.reduce(inputs["x"]) { x, layer in layer(x) }] })
}

@Suite("A published form") struct PublishedFormTests {
    private let weights: NamedTensors = [
        "model.blocks.0.proj": .ones([6, 6]), "model.blocks.1.proj": .ones([6, 6]), "model.scale": .ones([6]),
        "model.other.weight": .ones([1]), "lm_head.weight": .ones([3]),
    ]

    private func instance(_ given: [String: ConfigurationValue], _ weights: NamedTensors) throws -> any ModuleInstance {
        try Stack.form.instance(given, weights: weights, owner: "config.json", source: "w.safetensors")
    }

    private func refusal(_ given: [String: ConfigurationValue]) throws -> String {
        let error = try #require(throws: ModuleInputError.self) { _ = try instance(given, weights) }
        #expect(!error.description.contains("\n"))
        return error.description
    }

    @Test("takes its sizes from the weights, behind any prefix, and leaves other modules' tensors alone")
    func sizes() throws {
        let built = try instance([:], weights)
        #expect(built.configuration.int("dim") == 6)
        #expect(built.configuration.int("head_dim") == 3)
        #expect(built.configuration.int("depth") == 2)
        #expect(built.configuration.bool("scaled"))
        #expect(built.weights.keys.elements == ["model.blocks.0.proj", "model.blocks.1.proj", "model.scale"])
        for (name, tensor) in built.weights { #expect(tensor.bytes() == weights[name]!.bytes()) }
    }

    @Test("tells what goes into a length from what is left of it")
    func divisor() throws {
        let given = try #require(try instance(["head_dim": .int(2)], weights).module as? Stack)
        #expect(given.layers.count == 2)
        #expect(throws: ModuleInputError.self) { try instance(["head_dim": .int(4)], weights) }
        let empty: NamedTensors = ["blocks.0.proj": .ones([0, 6])]
        #expect(throws: ModuleInputError.self) { try instance(["heads": .int(0)], empty) }
    }

    @Test("takes masks of 0 and 1 in any type of whole numbers")
    func masks() throws {
        let made = try instance([:], weights)
        let x = Tensor.ones([1, 3, 6])
        for type in [DType.int64, .int32, .uint8, .bool] {
            _ = try made.outputs(["x": x, "mask": Tensor([Int64(1), 0, 1], shape: [1, 3]).cast(to: type)])
        }
        #expect(throws: ModuleInputError.self) {
            try made.outputs(["x": x, "mask": Tensor([Int64(1), 0, 2], shape: [1, 3])])
        }
    }

    @Test("holds a given configuration against the weights, and names both")
    func contradictions() throws {
        #expect(try refusal(["dim": 8]) == "config.json: \"dim\" is 8, but blocks.0.proj is [6, 6] in the weights")
        #expect(try refusal(["depth": 3]).contains("\"depth\" is 3, but there are 2 tensors blocks.*.proj"))
        #expect(try refusal(["scaled": false]).contains("\"scaled\" is false, but there is a tensor scale"))
        #expect(try refusal(["heads": 4]).contains("6 does not divide by 4, which \"heads\" says"))
        #expect(
            try instance(["dim": 6, "heads": 3, "head_dim": 2, "depth": 2, "scaled": true], weights).module is Stack)
    }

    @Test("takes no more layers than a model may have, since each takes time to make")
    func layers() throws {
        let built = try Stack.form.instance(["dim": 2, "heads": 1, "head_dim": 2, "depth": 1024], owner: "config.json")
        #expect(built.module.parameters.count == 1024)
        let error = try #require(throws: ModuleInputError.self) {
            _ = try Stack.form.instance(["dim": 2, "depth": 1025], owner: "config.json")
        }
        #expect(error.description.contains("\"depth\" must be from 1 to 1024, not 1025"))
    }

    @Test("lays no layers out that the weights have no tensor for")
    func layersWithoutWeights() throws {
        let error = try #require(throws: ModuleInputError.self) {
            _ = try instance(["dim": 2, "depth": 900], ["other.weight": .ones([1])])
        }
        #expect(
            error.description == "config.json: \"depth\" is 900, but there is no tensor blocks.*.proj in the weights")
        // Where nobody asks for layers, the tensors that are missing say it.
        #expect(throws: WeightsError.self) { _ = try instance(["dim": 2], ["other.weight": .ones([1])]) }
    }

    @Test("refuses values that a key cannot have")
    func values() throws {
        #expect(try refusal(["mode": "quick"]).contains("\"mode\" must be \"fast\" or \"slow\", not \"quick\""))
        #expect(try refusal(["grid": [2]]).contains("\"grid\" must be a list of 2 whole numbers from 1 on or null"))
        #expect(try refusal(["grid": [2, 0]]).contains("\"grid\""))
        #expect(try refusal(["heads": .null]).contains("\"heads\" must be a whole number"))
        #expect(try refusal(["colour": 1]).contains("unknown configuration key \"colour\"; known are dim"))
        #expect(try instance(["grid": [2, 3], "mode": "slow"], weights).configuration.ints("grid") == [2, 3])
    }

    @Test("loads no tensor of a shape that does not fit, and says which prefix's are too many")
    func strict() throws {
        var more = weights
        more["model.blocks.1.bias"] = .ones([6])
        let error = try #require(throws: WeightsError.self) { _ = try instance([:], more) }
        #expect(error.report.unexpected == ["model.blocks.1.bias"])
        var less = weights
        less["model.blocks.1.proj"] = .ones([6, 5])
        #expect(throws: WeightsError.self) { _ = try instance([:], less) }
    }

    @Test("checks the inputs' types and shapes against the symbolic ones")
    func inputs() throws {
        let built = try instance([:], weights)
        func refusal(_ inputs: NamedTensors) throws -> String {
            try #require(throws: ModuleInputError.self) { _ = try built.outputs(inputs) }.description
        }
        let x = Tensor.ones([2, 3, 6])
        #expect(
            try built.outputs([
                "x": x, "y": .ones([2, 7]), "mask": Tensor(Array(repeating: true, count: 6), shape: [2, 3]),
            ])["out"]!.shape == [2, 3, 6])
        #expect(try refusal(["x": .ones([2, 3, 5])]) == "input x is [2, 3, 5]; expected is [B, N, dim] with dim = 6")
        #expect(
            try refusal(["x": x, "y": .ones([2, 6])])
                == "input y is [2, 6]; expected is [B, 2*N+1] with B = 2 as in x, N = 3 as in x")
        #expect(try refusal(["x": x, "y": .ones([3, 7])]).contains("B = 2 as in x"))
        #expect(try refusal(["x": x, "mask": .ones([2, 3])]) == "input mask is float32; bool is needed")
        #expect(try refusal([:]).contains("the inputs lack \"x\""))
        #expect(try refusal(["x": x, "z": x]).contains("unknown input \"z\""))
    }
}
