import Foundation
import FoveaCompression
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// A small Q-Former in float64 whose norms are away from one and zero, which would hide one in the wrong place.
private func qFormer(text: Bool = true, frequency: Int = 2, depth: Int = 3) -> QFormer {
    var model = QFormer(
        .init(
            width: 8, depth: depth, heads: 2, hidden: 12, contextWidth: 6, crossAttentionFrequency: frequency,
            hasText: text, deviation: 0.4), key: RandomKey(seed: 3)
    ).cast(to: .float64)
    model.forEachParameter { path, tensor in
        if path.lowercased().contains("norm") { tensor = .sample(tensor.shape, path) }
    }
    return model
}

@Suite("transformers' Blip2QFormerModel") struct QFormerGoldenTests {
    /// The 56 tensors of two layers, in the order of the published class.
    private static let order: [String] = {
        func pair(_ name: String) -> [String] { ["\(name).weight", "\(name).bias"] }
        func attention(_ name: String) -> [String] {
            ["attention.query", "attention.key", "attention.value", "output.dense", "output.LayerNorm"]
                .flatMap { pair("\(name).\($0)") }
        }
        return pair("layernorm")
            + (0..<2).flatMap { layer in
                (attention("attention") + (layer == 0 ? attention("crossattention") : [])
                    + [
                        "intermediate.dense", "output.dense", "output.LayerNorm", "intermediate_query.dense",
                        "output_query.dense", "output_query.LayerNorm",
                    ].flatMap(pair)).map { "encoder.layer.\(layer).\($0)" }
            }
    }()

    /// Tensor k of the order, element j: 0.5 · sin(0.37 j + 1.1 k).
    private func model() throws -> QFormer {
        let form = QFormer.entry.forms[0]
        var instance = try form.instance(
            [
                "hidden_size": .int(8), "num_hidden_layers": .int(2), "num_attention_heads": .int(2),
                "intermediate_size": .int(12), "encoder_hidden_size": .int(6), "use_qformer_text_input": .bool(true),
            ], dtype: .float64, owner: "G10")
        try #require(Self.order.count == 56 && Set(instance.weights.keys) == Set(Self.order))
        var weights: NamedTensors = [:]
        for (k, name) in Self.order.enumerated() {
            let shape = try #require(instance.weights[name]?.shape)
            weights[name] = Tensor(
                (0..<shape.reduce(1, *)).map { 0.5 * sin(0.37 * Double($0) + 1.1 * Double(k)) }, shape: shape)
        }
        _ = try instance.load(weights, source: "G10")
        return try #require(instance.module as? QFormer)
    }

    private func wave(_ shape: [Int], _ step: Double = 0.21) -> Tensor {
        Tensor((0..<shape.reduce(1, *)).map { cos(step * Double($0)) }, shape: shape)
    }

    /// Five decimals are known; the published class computed in float32.
    private func agrees(_ got: Tensor, sum: Double, first: [Double], last: [Double] = []) {
        let values = got.doubles
        #expect(abs(values.reduce(0, +) - sum) < 2e-5, "\(values.reduce(0, +))")
        for (value, want) in zip(values, first) { #expect(abs(value - want) < 1e-5, "\(value)") }
        for (value, want) in zip(values.suffix(2), last) { #expect(abs(value - want) < 1e-5, "\(value)") }
    }

    @Test("golden vectors G10a to G10e, from their fill rule")
    func golden() throws {
        let model = try model()
        let context = wave([1, 4, 6], 0.33)
        let queries = model(wave([1, 3, 8]), context: context)
        agrees(
            queries, sum: -4.50686, first: [-0.23681, -0.50586, -0.34861, -0.22162], last: [0.89052, -0.12802])
        let both = wave([1, 5, 8])
        func run(_ mask: Tensor?) -> Tensor { model(both, queryLength: 3, mask: mask, context: context) }
        agrees(run(nil), sum: -7.80079, first: [-0.23708, -0.50576, -0.34815, -0.22135], last: [0.70901, -0.44285])
        let causal = run(QFormerMask.multimodalCausal(queries: 3, text: 2))
        agrees(causal, sum: -7.79181, first: [-0.23681, -0.50586, -0.34861, -0.22162], last: [0.70901, -0.44285])
        #expect(relativeDifference(causal.sliced(axis: 1, 0..<3), queries) < 1e-14)
        agrees(
            model(wave([1, 2, 8]), queryLength: 0), sum: -3.28286, first: [0.06868, -0.28695, -0.41284, -0.43938],
            last: [0.70491, -0.43836])
        let padding = Tensor([true, false], shape: [1, 2])
        agrees(
            run(QFormerMask.bidirectional(queries: 3, text: 2, textMask: padding)), sum: -7.79695,
            first: [-0.23701, -0.5058, -0.34833, -0.22149])
    }

    @Test("BLIP-2 has 105,137,664 parameters, 161,825,280 with the text's MLPs")
    func parameterCount() {
        func count(_ width: Int, _ depth: Int, text: Bool) -> Int {
            QFormer(
                .init(
                    width: width, depth: depth, heads: 2, hidden: 4 * width, contextWidth: 11 * width / 6, hasText: text
                ), key: RandomKey(seed: 0)
            ).parameterCount
        }
        // Linear in pairs of layers and quadratic in the width: small ones fix it, without drawing 105 million numbers.
        func extrapolated(text: Bool) -> Int {
            func six(_ width: Int) -> Int { 6 * count(width, 2, text: text) - 5 * count(width, 0, text: text) }
            let (a, b, c) = (six(12), six(24), six(36))
            let n = 768 / 12 - 1
            return a + n * (b - a) + n * (n - 1) / 2 * (c - 2 * b + a)
        }
        #expect(extrapolated(text: false) == 105_137_664)
        #expect(extrapolated(text: true) == 161_825_280)
    }
}

@Suite struct QFormerTests {
    private let context = Tensor.sample([2, 5, 6], "context")
    private let embeddings = Tensor.sample([2, 7, 8], "embeddings")

    private func part(_ x: Tensor, _ range: Range<Int>) -> Tensor { x.sliced(axis: 1, range) }

    @Test("the unimodal mask gives what queries and text give in two calls")
    func unimodal() {
        let model = qFormer()
        let padding = Tensor([true, true, true, false, true, false, false, false], shape: [2, 4])
        let whole = model(
            embeddings, queryLength: 3, mask: QFormerMask.unimodal(queries: 3, text: 4, textMask: padding),
            context: context)
        #expect(relativeDifference(part(whole, 0..<3), model(part(embeddings, 0..<3), context: context)) < 1e-13)
        let text = model(
            part(embeddings, 3..<7), queryLength: 0, mask: padding.unsqueezed(1).unsqueezed(1))
        #expect(relativeDifference(part(whole, 3..<7), text) < 1e-13)
    }

    @Test("text behind the cache of the queries, at once or word by word, gives what the combined mask gives")
    func cache() {
        let model = qFormer()
        let padding = Tensor([true, true, true, true, true, true, true, false], shape: [2, 4])
        let mask = QFormerMask.multimodalCausal(queries: 3, text: 4, textMask: padding)
        let whole = model(embeddings, queryLength: 3, mask: mask, context: context)
        for steps in [[3..<7], [3..<4, 4..<5, 5..<6, 6..<7], [3..<5, 5..<7]] {
            var cache: QFormerCache?
            let queries = model(part(embeddings, 0..<3), context: context, cache: &cache)
            #expect(cache?.count == 3 && relativeDifference(queries, part(whole, 0..<3)) < 1e-13)
            for step in steps {
                let visible = mask.sliced(axis: -2, step).sliced(axis: -1, 0..<step.upperBound)
                let text = model(part(embeddings, step), queryLength: 0, mask: visible, cache: &cache)
                #expect(relativeDifference(text, part(whole, step)) < 1e-13, "\(step)")
                #expect(cache?.count == step.upperBound)
            }
        }
    }

    @Test("what each mask lets through, and what not")
    func masks() {
        let model = qFormer()
        // A change of the second of two words, or of a query, reaches these rows of [q, q, q, w, w].
        let x = part(embeddings, 0..<5)
        func reached(_ mask: QFormerMask, changing row: Int) -> [Bool] {
            let visible = mask(queries: 3, text: 2)
            let change = Tensor.sample([2, 1, 8], "change")
            let changed = x.replacing(axis: 1, row..<row + 1, with: change)
            let (a, b) = (
                model(x, queryLength: 3, mask: visible, context: context),
                model(changed, queryLength: 3, mask: visible, context: context)
            )
            return (0..<5).map { part(a, $0..<$0 + 1).bytes() != part(b, $0..<$0 + 1).bytes() }
        }
        #expect(reached(.unimodal, changing: 4) == [false, false, false, true, true])
        #expect(reached(.unimodal, changing: 0) == [true, true, true, false, false])
        #expect(reached(.bidirectional, changing: 4) == [true, true, true, true, true])
        #expect(reached(.multimodalCausal, changing: 4) == [false, false, false, false, true])
        #expect(reached(.multimodalCausal, changing: 3) == [false, false, false, true, true])
        #expect(reached(.multimodalCausal, changing: 0) == [true, true, true, true, true])
    }

    @Test("visual tokens that are masked out are as good as absent")
    func contextMask() {
        let model = qFormer(frequency: 1)
        let queries = part(embeddings, 0..<3)
        let mask = Tensor((0..<10).map { $0 % 5 < 3 }, shape: [2, 5])
        let short = model(queries, context: part(context, 0..<3))
        #expect(relativeDifference(model(queries, context: context, contextMask: mask), short) < 1e-13)
        let nothing = Tensor((0..<10).map { _ in false }, shape: [2, 5])
        #expect(model(queries, context: context, contextMask: nothing).doubles.allSatisfy { $0.isFinite })
    }

    @Test("queries see visual tokens in every so many layers, from the first on")
    func frequency() {
        for (frequency, layers) in [(1, [0, 1, 2]), (2, [0, 2]), (3, [0]), (4, [0])] {
            let model = qFormer(frequency: frequency)
            #expect(model.layers.indices.filter { model.layers[$0].crossAttention != nil } == layers)
        }
    }

    @Test("dropout acts in training alone, and on every sub-layer")
    func dropout() {
        let model = qFormer()
        func value(_ key: RandomKey?) -> Tensor {
            valueAndGradient(of: model, randomness: key) { model in
                let y = model(part(embeddings, 0..<3), context: context)
                return (y.sum(), y)
            }.auxiliary
        }
        let plain = model(part(embeddings, 0..<3), context: context)
        #expect(value(nil).bytes() == plain.bytes())
        let (a, b) = (value(RandomKey(seed: 1)), value(RandomKey(seed: 1)))
        #expect(a.bytes() == b.bytes() && a.bytes() != plain.bytes())
        #expect(a.bytes() != value(RandomKey(seed: 2)).bytes())
    }

    @Test("configurations and inputs that do not fit are errors of one line")
    func refusals() throws {
        let form = QFormer.entry.forms[0]
        func refusal(
            _ changes: [String: ConfigurationValue], _ inputs: NamedTensors
        ) throws -> String {
            let error = try #require(throws: ModuleInputError.self) {
                let instance = try form.instance(form.sample.merging(changes) { $1 }, owner: "config.json")
                _ = try instance.outputs(inputs)
            }
            #expect(!error.description.contains("\n"))
            return error.description
        }
        let (x, tokens) = (Tensor.ones([2, 4, 4]), Tensor.ones([2, 5, 3]))
        let both: NamedTensors = ["query_embeds": x, "encoder_hidden_states": tokens]
        #expect(
            try refusal(["use_qformer_text_input": false], both).contains(
                "2 text tokens stand behind the 2 queries, but there is no text branch"))
        #expect(try refusal(["query_length": 5], both).contains("the first 5 of 4 tokens cannot be queries"))
        #expect(try refusal([:], ["query_embeds": x]).contains("2 queries have no visual tokens to look at"))
        #expect(
            try refusal([:], both.merging(["encoder_attention_mask": .ones([2, 6])]) { $1 })
                .contains("input encoder_attention_mask is float32; int64 is needed"))
        #expect(
            try refusal([:], both.merging(["encoder_attention_mask": .ones([2, 6], dtype: .int64)]) { $1 })
                .contains("[2, 6]; expected is [B, N] with B = 2 as in query_embeds, N = 5"))
        #expect(
            try refusal([:], ["query_embeds": x, "encoder_hidden_states": .ones([3, 5, 3])]).contains("B = 2"))
        #expect(try refusal(["num_attention_heads": 3], both).contains("4 does not divide by 3 heads"))
        #expect(try refusal(["hidden_dropout_prob": 1], both).contains("\"hidden_dropout_prob\" must be in 0 ..< 1"))
    }
}

@Suite struct QFormerConnectorTests {
    private func connector() -> QFormerConnector {
        QFormerConnector(
            .init(width: 8, depth: 3, heads: 2, hidden: 12, contextWidth: 6, deviation: 0.4), queries: 4, outputs: 5,
            key: RandomKey(seed: 5)
        ).cast(to: .float64)
    }

    @Test("R tokens for every picture, an equal share of it each; the mask is kept")
    func tokens() {
        let model = connector()
        let features = Tensor.sample([2, 6, 6], "features")
        var tokens = VisualTokens(patches: features, grid: .init(rows: 2, columns: 3))
        let out = model(tokens)
        #expect(out.shape == model.outputShape(tokens.shape) && out.grid == nil && out.mask == nil)
        #expect(out.features.bytes() == model(features).bytes() && out.provenance == nil)
        #expect(out.sizes.doubles.allSatisfy { abs($0 - 1.5) < 1e-6 })
        #expect(relativeDifference(out.positions[0][0], Tensor([0.5, 1.0])) < 1e-6)

        // The second picture has four real tokens: the others leave no trace.
        tokens.mask = Tensor((0..<12).map { $0 < 10 }, shape: [2, 6])
        tokens.sizes = tokens.mask!.cast(to: .float32)
        let ragged = model(tokens)
        let short = model(features.sliced(axis: 0, 1..<2).sliced(axis: 1, 0..<4))
        #expect(relativeDifference(ragged.features[1], short[0]) < 1e-13)
        #expect(ragged.sizes[1].doubles.allSatisfy { abs($0 - 1) < 1e-6 })
    }

    @Test("provenance is how the last layer that looks at the patches weighs them")
    func provenance() {
        let model = connector()
        let features = Tensor.sample([2, 6, 6], "features")
        var tokens = VisualTokens(patches: features, grid: .init(rows: 2, columns: 3), tracked: true)
        tokens.mask = Tensor((0..<12).map { $0 < 10 }, shape: [2, 6])
        tokens.sizes = tokens.mask!.cast(to: .float32)
        let out = model(tokens)
        #expect(out.features.bytes() == model(features, mask: tokens.mask).bytes())

        // The layers by hand, with the softmax of the last cross-attention written out.
        let qFormer = model.qFormer
        var z = qFormer.norm(model.queryTokens.expanded(to: [2, 4, 8]))
        var weights = Tensor.zeros([])
        for layer in qFormer.layers {
            z = layer.selfAttentionNorm.norm(z + layer.selfAttention(z))
            if let attention = layer.crossAttention {
                func heads(_ x: Tensor) -> Tensor { x.reshaped(to: [2, x.shape[1], 2, 4]).transposed(1, 2) }
                let scores = matmul(heads(attention.query(z)), heads(attention.key(features)).transposed(2, 3)) * 0.5
                let hidden = (.!tokens.mask!).unsqueezed(1).unsqueezed(1)
                weights = scores.maskedFill(hidden, -.infinity).softmax(axis: 3).mean(axes: [1])
                let read = attention(z, context: features, mask: tokens.mask!.unsqueezed(1).unsqueezed(1))
                z = layer.crossAttentionNorm!.norm(z + read)
            }
            z = layer.queryNorm.norm(z + layer.queryMLP(z))
        }
        #expect(relativeDifference(out.provenance!.weights, weights) < 1e-6)
        let rows = (0..<6).map { Double($0 / 3) }
        let row = zip(weights[0][1].doubles, rows).reduce(0) { $0 + $1.0 * $1.1 }
        #expect(abs(out.positions[0][1].doubles[0] - row) < 1e-5)
        #expect(abs(out.sizes[1].doubles.reduce(0, +) - 4) < 1e-5)
    }

    @Test("what it cannot take it says")
    func problem() {
        let model = connector()
        #expect(model.problem(with: TokenShape(count: 9, width: 6)) == nil)
        #expect(model.problem(with: TokenShape(count: 9, width: 7)) == "tokens of width 6 are needed, not 7")
    }

    @Test("its cost is that of its products, added up layer by layer")
    func cost() {
        let (tokens, queries, width) = (9, 4, 8)
        let layer =
            4 * queries * width * width + 2 * queries * queries * width + 2 * queries * width * 12
        let reading = 2 * queries * width * width + 2 * tokens * 6 * width + 2 * queries * tokens * width
        #expect(
            connector().cost(TokenShape(count: tokens, width: 6)).multiplyAdds
                == 3 * layer + 2 * reading + queries * width * 5)
    }
}
