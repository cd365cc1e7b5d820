import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor
import OrderedCollections
import Testing

/// Attention whose visit lists values before keys: the fused tensor must follow the rule, not the visit.
private struct Mixer: Module {
    var value: Linear
    var query: Linear
    var key: Linear

    init(_ seed: UInt64) {
        let random = RandomKey(seed: seed)
        value = Linear(3, 2, bias: false, key: random.folding("value"))
        query = Linear(3, 2, key: random.folding("query"))
        key = Linear(3, 4, bias: false, key: random.folding("key"))
    }

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("value", &value)
        visitor.module("query", &query)
        visitor.module("key", &key)
    }
}

/// Two mixers in a row and a scale that no rule names.
private struct Stack: Module {
    var mixers: [Mixer]
    var scale: Tensor

    init(_ seed: UInt64) {
        mixers = [Mixer(seed), Mixer(seed + 100)]
        scale = .normal([5], key: RandomKey(seed: seed))
    }

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.modules("mixers", &mixers)
        visitor.parameter("scale", &scale)
    }
}

extension WeightLayout where Model == Stack {
    fileprivate static var published: Self {
        WeightLayout(
            "published",
            [
                .fuse(["mixers.*.key.weight", "mixers.*.value.weight"], into: "blocks.*.attn.kv"),
                .rename("mixers.*.query.weight", "blocks.*.attn.to_q.weight"),
                .rename("mixers.*.query.bias", "blocks.*.attn.to_q.bias"),
            ])
    }
}

private func fit(_ model: inout Stack, _ tensors: OrderedDictionary<String, Tensor>, strict: Bool = true) throws
    -> LoadReport
{
    try model.load(from: tensors, source: "a test", layout: .published, strict: strict)
}

@Suite struct WeightLayoutTests {
    @Test("names and shapes under a layout; what no rule names keeps its path")
    func names() {
        let published = WeightLayout<Stack>.published.published(Stack(1).parameters)
        #expect(
            published.mapValues(\.shape) == [
                "blocks.0.attn.kv": [6, 3], "blocks.0.attn.to_q.weight": [2, 3], "blocks.0.attn.to_q.bias": [2],
                "blocks.1.attn.kv": [6, 3], "blocks.1.attn.to_q.weight": [2, 3], "blocks.1.attn.to_q.bias": [2],
                "scale": [5],
            ])
    }

    @Test("a fused tensor has its parts in the rule's order, whatever the order of visit")
    func fusedOrder() {
        let model = Stack(1)
        let fused = WeightLayout<Stack>.published.published(model.parameters)["blocks.1.attn.kv"]!
        #expect(fused.doubles == model.mixers[1].key.weight.doubles + model.mixers[1].value.weight.doubles)
    }

    @Test("published tensors load back to the same bits")
    func roundTrip() throws {
        let model = Stack(1)
        var other = Stack(2)
        let report = try fit(&other, WeightLayout<Stack>.published.published(model.parameters))
        #expect(report.isComplete)
        #expect(report.matched.count == 7)
        #expect(bits(other) == bits(model))
    }

    @Test("the native layout is the paths themselves")
    func native() throws {
        let model = Stack(1)
        #expect(WeightLayout<Stack>.native.name == "native")
        #expect(WeightLayout<Stack>.native.published(model.parameters).keys == model.parameters.keys)
        var other = Stack(2)
        try other.load(from: model.parameters, source: "a test")
        #expect(bits(other) == bits(model))
    }

    @Test("gradients take the same names and fusing")
    func gradients() {
        let model = Stack(1)
        let (_, gradients) = valueAndGradient(of: model) { model in
            (model.mixers[0].key.weight.sum() * 2) + model.mixers[0].value.weight.sum() * 3
        }
        let published = WeightLayout<Stack>.published.published(gradients.tensors)
        #expect(
            published["blocks.0.attn.kv"]?.doubles == Array(repeating: 2, count: 12) + Array(repeating: 3, count: 6))
        #expect(published["scale"]?.doubles == [0, 0, 0, 0, 0])
    }

    @Test("layers of one fused tensor load after parameters were frozen or shared")
    func loadedPartsAreIndependent() throws {
        var model = Stack(1)
        _ = try fit(&model, WeightLayout<Stack>.published.published(Stack(3).parameters))
        let value = model.mixers[0].value.weight.doubles
        model.mixers[0].key.weight += .ones([4, 3])
        #expect(model.mixers[0].value.weight.doubles == value)
    }
}

@Suite struct LoadingTests {
    private let source = WeightLayout<Stack>.published.published(Stack(1).parameters)

    @Test("a prefix that all names have is found by itself, and what lies outside it is left alone")
    func prefix() throws {
        var tensors = OrderedDictionary(
            uniqueKeysWithValues: source.map { ("model.perceiver." + $0.key, $0.value) })
        tensors["model.head.weight"] = .ones([4])
        tensors["scale"] = .ones([9])
        var model = Stack(2)
        let report = try fit(&model, tensors)
        #expect(report.prefix == "model.perceiver.")
        #expect(report.isComplete && report.unexpected == [])
        #expect(bits(model) == bits(Stack(1)))
    }

    @Test("a prefix is found although a tensor is missing")
    func prefixWithMissing() throws {
        var tensors = OrderedDictionary(uniqueKeysWithValues: source.map { ("perceiver." + $0.key, $0.value) })
        tensors["perceiver.blocks.0.attn.kv"] = nil
        var model = Stack(2)
        let report = try fit(&model, tensors, strict: false)
        #expect(report.prefix == "perceiver.")
        #expect(report.missing == ["blocks.0.attn.kv"])
        #expect(report.matched.count == 6)
    }

    @Test("the report of what is missing, unexpected, misshapen and cast; strict leaves the module as it was")
    func strict() throws {
        var tensors = source
        tensors["blocks.0.attn.to_q.bias"] = nil
        tensors["blocks.0.attn.kv"] = .ones([7, 3])
        tensors["scale"] = source["scale"]!.cast(to: .float64)
        tensors["blocks.2.attn.kv"] = .ones([6, 3])
        var model = Stack(2)
        let before = bits(model)
        let error = try #require(throws: WeightsError.self) { _ = try fit(&model, tensors) }
        #expect(bits(model) == before)
        #expect(error.source == "a test" && error.layout == "published")
        let report = error.report
        #expect(report.missing == ["blocks.0.attn.to_q.bias"])
        #expect(report.unexpected == ["blocks.2.attn.kv"])
        #expect(report.mismatched.map(\.name) == ["blocks.0.attn.kv"])
        #expect(report.mismatched.map(\.expected) == [[6, 3]] && report.mismatched.map(\.found) == [[7, 3]])
        #expect(report.cast.map(\.name) == ["scale"] && report.cast.map(\.from) == ["float64"])
        #expect(
            report.matched == [
                "blocks.0.attn.to_q.weight", "blocks.1.attn.kv", "blocks.1.attn.to_q.weight", "blocks.1.attn.to_q.bias",
            ])
        #expect(!report.isComplete)
        let text = error.description
        #expect(!text.contains("\n") && text.contains("a test") && text.contains("published"))
        for part in [
            "blocks.0.attn.kv is [7, 3], not [6, 3]", "1 missing", "1 unexpected", "scale from float64", "5 matched",
        ] {
            #expect(text.contains(part), "\(part) in \(text)")
        }
    }

    @Test("each way of not fitting is an error by itself")
    func strictEach() {
        let changes: [(String, (inout OrderedDictionary<String, Tensor>) -> Void)] = [
            ("missing", { $0["scale"] = nil }),
            ("unexpected", { $0["extra"] = .ones([1]) }),
            ("another shape", { $0["scale"] = .ones([5, 1]) }),
            ("another shape of a fused tensor", { $0["blocks.0.attn.kv"] = .ones([6, 4]) }),
        ]
        for (label, change) in changes {
            var tensors = source
            change(&tensors)
            var model = Stack(2)
            let before = bits(model)
            #expect(throws: WeightsError.self, "\(label)") { _ = try fit(&model, tensors) }
            #expect(bits(model) == before, "\(label)")
        }
    }

    @Test("not strict: what fits is taken, the rest stays")
    func lenient() throws {
        var tensors = source
        tensors["scale"] = .ones([4])
        tensors["blocks.0.attn.to_q.bias"] = nil
        tensors["extra"] = .ones([1])
        var model = Stack(2)
        let before = bits(model)
        let report = try fit(&model, tensors, strict: false)
        #expect(report.missing == ["blocks.0.attn.to_q.bias"] && report.unexpected == ["extra"])
        #expect(report.mismatched.map(\.name) == ["scale"])
        let expected = bits(Stack(1)).merging(
            before.filter { ["scale", "mixers.0.query.bias"].contains($0.key) }
        ) { $1 }
        #expect(bits(model) == expected)
    }

    @Test("weights are cast to the parameters' type", arguments: [DType.float64, .float16, .bfloat16])
    func cast(dtype: DType) throws {
        var model = Stack(2)
        let report = try fit(&model, source.mapValues { $0.cast(to: dtype) })
        #expect(report.isComplete && report.matched == [])
        #expect(Set(report.cast.map(\.from)) == [dtype.rawValue])
        let want = Stack(1).parameters.mapValues { $0.cast(to: dtype).cast(to: .float32).bytes() }
        for (path, tensor) in model.parameters {
            #expect(tensor.dtype == .float32, "\(path)")
            #expect(tensor.bytes() == want[path], "\(path)")
        }
    }

    @Test("through a file: names, metadata, the same bits back")
    func file() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/stack.safetensors"
            let model = Stack(1)
            try model.save(to: path, layout: .published, metadata: ["origin": "a test"])
            let file = try SafetensorsFile(reading: path)
            #expect(Set(file.entries.keys) == Set(source.keys))
            #expect(file.metadata["format"] == "pt" && file.metadata["origin"] == "a test")
            #expect(try file.tensor("blocks.0.attn.kv").bytes() == source["blocks.0.attn.kv"]!.bytes())
            var other = Stack(2)
            let report = try other.load(from: path, layout: .published)
            #expect(report.isComplete)
            #expect(bits(other) == bits(model))
            // Parameters that are views of the file are updated in a copy.
            other.scale += .ones([5])
            #expect(try SafetensorsFile(reading: path).tensor("scale").bytes() == model.scale.bytes())
        }
    }

    @Test("a missing and a damaged file are errors of the file, and leave the module as it was")
    func badFile() throws {
        try withTemporaryFolder { folder in
            var model = Stack(2)
            let before = bits(model)
            #expect(throws: FileError.self) { try model.load(from: folder + "/none.safetensors") }
            try Stack(1).save(to: folder + "/cut.safetensors")
            let whole = try Data(contentsOf: URL(fileURLWithPath: folder + "/cut.safetensors"))
            try whole.dropLast(3).write(to: URL(fileURLWithPath: folder + "/cut.safetensors"))
            #expect(throws: FileError.self) { try model.load(from: folder + "/cut.safetensors") }
            #expect(bits(model) == before)
        }
    }

    @Test("loaded parameters carry their paths into shape errors")
    func loadedNames() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            var model = Stack(2)
            try model.load(from: Stack(1).parameters, source: "a test")
            _ = model.mixers[1].key(.ones([9]))
        }
        #expect(message(result).contains("\"mixers.1.key.weight\""), "\(message(result))")
    }
}
