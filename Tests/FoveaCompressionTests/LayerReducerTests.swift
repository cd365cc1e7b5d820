import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// float64 agrees to rounding.
private let close = 1e-10

/// Two samples in a layer, with queries and keys of its attention: 12 visual tokens behind some and in front of some.
private struct LayerCase {
    let batch = 2
    let visual = 12
    let width = 3
    let front, question: Int
    let features, queries, keys: Tensor
    var count: Int { front + visual + question }

    init(front: Int = 1, question: Int = 3) {
        (self.front, self.question) = (front, question)
        let count = front + 12 + question
        features = .sample([2, count, 5], "features")
        queries = .sample([2, 4, count, 3], "queries")
        keys = .sample([2, 2, count, 3], "keys")
    }

    var tokens: LayerTokens {
        LayerTokens(
            features: features,
            pictures: Tensor(
                (0..<batch * count).map { (front..<front + visual).contains($0 % count) ? Int64(0) : -1 },
                shape: [batch, count]))
    }

    /// What attention hands out, without a causal mask.
    func attention(_ taps: [AttentionTap]) -> LayerAttention {
        let tapped = FoveaTensor.attention(query: queries, keys: keys, values: keys, taps: taps).taps
        return LayerAttention(taps: tapped, queries: queries, keys: keys)
    }

    /// Scores before softmax of a sample, [H, rows, columns].
    func logits(_ sample: Int, rows: Range<Int>, columns: Range<Int>) -> Tensor {
        let shared = keys[sample].selecting(axis: 0, Tensor([Int64(0), 0, 1, 1]))
        return matmul(queries[sample], shared.transposed(1, 2)).sliced(axis: 1, rows).sliced(axis: 2, columns)
            * (1 / Double(width).squareRoot())
    }

    /// The visual tokens of a sample after a reduction.
    func reduced(_ sample: Int, _ reduction: TokenReduction) -> Tensor {
        let own = features.sliced(axis: 0, sample..<sample + 1).sliced(axis: 1, front..<front + visual)
        return VisualTokens(patches: own.contiguous(), grid: .init(rows: 3, columns: 4)).reduced(by: [reduction])
            .features[0]
    }
}

@Suite("reducers in layers do what their definitions say") struct LayerReducerTests {
    @Test("FiCoCo-V, by what attention hands out", arguments: FiCoCoMode.allCases)
    func fiCoCoV(_ mode: FiCoCoMode) {
        // In an encoder nothing stands behind the patches.
        let own = LayerCase(question: 0)
        let method = FiCoCoV(mode: mode, grid: .init(rows: 3, columns: 4), remove: 5, epsilon: 0.7)
        let layers = FiCoCoVLayers(ReductionSchedule([0, 5]), method)
        #expect(layers.seat(inLayer: 0) == nil && layers.seat(inLayer: 1) == .afterAttention)
        let left = layers.reduced(
            own.tokens, inLayer: 1, attention: own.attention(layers.taps(inLayer: 1, for: own.tokens)))
        #expect(left.count == 13 - 5)
        for sample in 0..<2 {
            let expected = own.reduced(
                sample,
                method.reduction(
                    logits: own.logits(sample, rows: 0..<13, columns: 0..<13), positions: Array(0..<12)))
            expectClose(left.features[sample].sliced(axis: 0, 1..<8), expected, tolerance: close)
        }
        // A kept token stays where it was: the next layer finds its cell.
        let positions: [Double] = left.positions.scalars()
        #expect(positions.allSatisfy { $0 == $0.rounded() })
    }

    @Test("FiCoCo-V without a class token goes by the proxy")
    func proxy() {
        let own = LayerCase(front: 0, question: 0)
        let layers = FiCoCoVLayers(
            ReductionSchedule([5]), FiCoCoV(grid: .init(rows: 3, columns: 4), remove: 0, lambda: 0, epsilon: 0.7))
        let left = layers.reduced(
            own.tokens, inLayer: 0, attention: own.attention(layers.taps(inLayer: 0, for: own.tokens)))
        let positions: [Double] = left.positions[0].scalars()
        // With λ = 0 the most important token is the least redundant one.
        let keys = own.keys[0].mean(axes: [0])
        let unit = keys / keys.square().sum(axes: [1], keepingAxes: true).sqrt()
        let centre = keys.mean(axes: [0], keepingAxes: true)
        let importance = matmul(unit, (centre / centre.square().sum().sqrt()).transposed(0, 1)).doubles.map { 1 - $0 }
        let best = importance.indices.max { importance[$0] < importance[$1] }!
        #expect(left.count == 7 && positions.contains(Double(best)))
    }

    @Test("FiCoCo goes by logits unless asked otherwise, in Swift and by its name")
    func standard() throws {
        #expect(FiCoCoLLayers(ReductionSchedule([1])).method.mode == .logits)
        let place = ReductionPlace(grid: .init(rows: 3, columns: 4), encoderLayers: 2, decoderLayers: 2)
        for name in ["ficoco-v", "ficoco-l", "ficoco-vl"] {
            let method = try #require(ReductionMethod.named(name))
            for mode in [nil, FiCoCoMode.logits, .probabilities] {
                let made = try method.reducers(
                    keeping: 4, in: place, options: mode.map { ["mode": .string($0.rawValue)] } ?? [:])
                let modes = (made.encoder + made.decoder).map {
                    ($0 as? FiCoCoVLayers)?.method.mode ?? ($0 as? FiCoCoLLayers)?.method.mode
                }
                #expect(!modes.isEmpty && modes.allSatisfy { $0 == mode ?? .logits }, "\(name)")
            }
        }
    }

    @Test("FiCoCo-L, from queries and keys alone", arguments: FiCoCoMode.allCases, [0, 3])
    func fiCoCoL(_ mode: FiCoCoMode, words: Int) {
        let own = LayerCase(question: words)
        let method = FiCoCoL(mode: mode, remove: 5, epsilon: 0.7)
        let layers = FiCoCoLLayers(ReductionSchedule([5]), method)
        let left = layers.reduced(own.tokens, inLayer: 0, attention: own.attention([]))
        #expect(left.count == 13 + words - 5)
        for sample in 0..<2 {
            let expected = own.reduced(
                sample,
                method.reduction(
                    visual: own.logits(sample, rows: 1..<13, columns: 1..<13),
                    text: own.logits(sample, rows: 13..<13 + words, columns: 1..<13)))
            expectClose(left.features[sample].sliced(axis: 0, 1..<8), expected, tolerance: close)
            expectSameBits(
                left.features[sample].sliced(axis: 0, 8..<8 + words).contiguous(),
                own.features[sample].sliced(axis: 0, 13..<13 + words).contiguous())
        }
    }

    @Test("what is merged keeps the target's place, adds sizes up, and knows what it is made of")
    func bookkeeping() {
        let own = LayerCase()
        var tokens = own.tokens
        tokens.origins = VisualTokens.Provenance.identity(batch: 2, patches: 16).weights.cast(to: .float64)
        tokens.marks = Tensor((0..<32).map { $0 % 16 == 4 }, shape: [2, 16])
        let left = ToMeLayers(ReductionSchedule([6])).reduced(tokens, inLayer: 0, attention: own.attention([]))
        #expect(left.counts == [10, 10])
        #expect(abs(left.sizes.doubles.reduce(0, +) - 32) < 1e-6)
        expectClose(matmul(left.origins!, tokens.features), left.features, tolerance: close)
        let (positions, marks): ([Double], [Bool]) = (left.positions.scalars(), left.marks!.scalars())
        #expect(zip(positions, positions.dropFirst()).allSatisfy { $0 < $1 || $1 == 0 })
        // Whatever became of the marked token is marked.
        let origins = left.origins!.doubles
        for place in 0..<20 { #expect(marks[place] == (origins[place * 16 + 4] > 0)) }
    }

    @Test("windows merged behind a layer: those of the definition, in raster order or as published")
    func windows() {
        let grid = VisualTokens.Grid(rows: 4, columns: 6)
        let x = Tensor.sample([2, 24, 3], "patches")
        // Windows that are alike to different degrees.
        let smooth = concatenated([x.sliced(axis: 1, 0..<3) * 0.1 + 1, x.sliced(axis: 1, 3..<24) * 0.4 + 1], axis: 1)
        let tokens = LayerTokens(features: smooth, pictures: .zeros([2, 24], dtype: .int64))
        let attention = LayerAttention(taps: [], queries: nil, keys: .zeros([2, 1, 24, 1], dtype: .float64))
        for isFirst in [false, true] {
            let method = MustDropMerge(window: 2, threshold: 0.9, mergedFirst: isFirst)
            let left = MustDropMergeLayer(method, grid: grid).reduced(tokens, inLayer: 0, attention: attention)
            for sample in 0..<2 {
                let expected = method(
                    VisualTokens(patches: smooth.sliced(axis: 0, sample..<sample + 1).contiguous(), grid: grid))
                #expect(expected.count < 24, "nothing was merged")
                let own = left.features[sample].sliced(axis: 0, 0..<expected.count)
                expectClose(own, expected.features[0], tolerance: close)
                let sizes = expected.sizes.doubles
                let isSorted = zip(sizes, sizes.dropFirst()).allSatisfy { $0 >= $1 }
                #expect(isSorted == isFirst)
            }
        }
    }

    @Test("key tokens are marked and stay marked in what they are merged into")
    func keys() {
        var tokens = VisualTokens(patches: .sample([2, 12, 3], "patches"), grid: .init(rows: 3, columns: 4))
        tokens.signals = EncoderSignals(classAttention: Tensor.sample([2, 2, 12], "attention").abs())
        let marked = MustDropKeys(fraction: 0.25)(tokens)
        let (scores, flags): ([Double], [Bool]) = (
            tokens.signals!.classAttention!.mean(axes: [1]).doubles, marked.marks!.scalars()
        )
        for sample in 0..<2 {
            let own = Array(scores[sample * 12..<sample * 12 + 12])
            let best = own.indices.sorted { own[$0] > own[$1] }.prefix(3).sorted()
            #expect(best == (0..<12).filter { flags[sample * 12 + $0] })
        }
        let pooled: [Bool] = AveragePooling(keep: 1)(marked).marks!.scalars()
        #expect(pooled == [true, true])
        // Without a class token the proxy says which.
        tokens.signals = nil
        let proxied: [Bool] = MustDropKeys(fraction: 0.25)(tokens).marks!.scalars()
        #expect(proxied.count { $0 } == 6)
    }
}
