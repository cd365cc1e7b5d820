import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// float64 agrees to rounding.
private let close = 1e-10

/// A reducer whose choice is not taken away but hidden: the tokens stay where they are, and nobody sees them.
private struct Hiding: LayerReducer {
    let base: any LayerReducer

    func seat(inLayer layer: Int) -> LayerSeat? { base.seat(inLayer: layer) }
    func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] { base.taps(inLayer: layer, for: tokens) }

    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let left = base.reduced(tokens, inLayer: layer, attention: attention)
        let (before, after): ([Double], [Double]) = (tokens.positions.scalars(), left.positions.scalars())
        let real = left.real
        var hidden = tokens
        hidden.mask = Tensor(
            tokens.real.enumerated().flatMap { sample, flags -> [Bool] in
                let kept = Set((0..<left.count).filter { real[sample][$0] }.map { after[sample * left.count + $0] })
                return flags.indices.map { flags[$0] && kept.contains(before[sample * tokens.count + $0]) }
            }, shape: [tokens.batch, tokens.count])
        return hidden
    }
}

@Suite("reducers between the layers of a decoder") struct ReducersInDecoderTests {
    /// Two pictures of four and three tokens in the first sample, one of five in the second, whose question is shorter.
    static func prompt(_ length: Int = 12) -> LayerTokens {
        let numbers: [Int64] = [-1, 0, 0, 0, 0, -1, 1, 1, 1, -1, -1, -1] + [-1, -1, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1]
        return LayerTokens(
            features: DecoderCase.features(2, 12), pictures: Tensor(numbers, shape: [2, 12]),
            mask: Tensor((0..<24).map { $0 < 21 }, shape: [2, 12]))
    }

    static let choosing: [(String, any LayerReducer)] = [
        ("fastv", FastV(keep: 3, layer: 2)), ("pyramiddrop", PyramidDrop(ratio: 0.5, layer: 2)),
        ("sparsevlm", SparseVLM(keep: 3, recycles: false, layer: 2, raters: SparseVLM.raters(in: prompt()))),
        ("mustdrop", MustDropFilter(alpha: 0.2, beta: 0.2, layer: 2, keyPositions: [[2], [4]])),
        ("mustdrop to a count", MustDropFilter(alpha: 0.2, beta: 0.2, targetCount: 2, layer: 1)),
        ("focus-text-sampler", FocusTextSampler(keep: 3, layer: 2)),
    ]

    static let merging: [(String, any LayerReducer)] = [
        ("sparsevlm with recycling", SparseVLM(keep: 2, layer: 2)),
        ("tome", ToMeLayers(ReductionSchedule([1, 0, 1, 0]))),
    ]

    @Test("what is gone is as good as masked, by its original position", arguments: choosing.indices)
    func maskedEqualsGone(_ index: Int) {
        let (name, reducer) = Self.choosing[index]
        let model = DecoderCase.model()
        var cache = KeyValueCache(for: model, policy: .original)
        let gone = model.reading(Self.prompt(), cache: &cache, reducers: [reducer])
        var other = KeyValueCache(for: model, policy: .original)
        let hidden = model.reading(Self.prompt(), cache: &other, reducers: [Hiding(base: reducer)])
        #expect(gone.count < hidden.count, "\(name) took nothing away")
        #expect(gone.counts == hidden.counts)
        let (real, own) = (hidden.real, gone.real)
        for sample in 0..<2 {
            func rows(_ tokens: LayerTokens, _ flags: [Bool]) -> Tensor {
                tokens.features[sample].selecting(
                    axis: 0, Tensor(flags.indices.filter { flags[$0] }.map(Int64.init)))
            }
            #expect(relativeDifference(rows(gone, own[sample]), rows(hidden, real[sample])) < close, "\(name)")
        }
        // And so it is for what is decoded afterwards.
        let next = LayerTokens(features: DecoderCase.features(2, 1, seed: 8))
        let a = model.reading(next, cache: &cache).features
        let b = model.reading(next, cache: &other).features
        #expect(relativeDifference(a, b) < close, "\(name)")
    }

    @Test(
        "32 tokens one by one, then a second turn, are what they are at once", arguments: PositionPolicy.allCases,
        (choosing + merging).indices)
    func cached(_ policy: PositionPolicy, _ index: Int) {
        let (name, reducer) = (Self.choosing + Self.merging)[index]
        let model = DecoderCase.model()
        let more = DecoderCase.features(2, 38, seed: 6)
        func read(_ pieces: [Range<Int>]) -> Tensor {
            var cache = KeyValueCache(for: model, policy: policy)
            _ = model.reading(Self.prompt(), cache: &cache, reducers: [reducer])
            return concatenated(
                pieces.map {
                    model.reading(
                        LayerTokens(features: more.sliced(axis: 1, $0)), cache: &cache, reducers: [reducer]
                    ).features
                }, axis: 1)
        }
        let single = read((0..<32).map { $0..<$0 + 1 } + [32..<38])
        #expect(relativeDifference(single, read([0..<32, 32..<38])) < close, "\(name)")
    }

    @Test("a batch gives what its members give alone", arguments: (choosing + merging).indices)
    func members(_ index: Int) {
        let (name, reducer) = (Self.choosing + Self.merging)[index]
        // What a rule knows of each sample's text goes by the sample's number.
        guard !name.hasPrefix("mustdrop"), name != "sparsevlm" else { return }
        let model = DecoderCase.model()
        let prompt = Self.prompt()
        var cache = KeyValueCache(for: model)
        let both = model.reading(prompt, cache: &cache, reducers: [reducer])
        for (sample, length) in [(0, 12), (1, 9)] {
            func own(_ x: Tensor) -> Tensor { x.sliced(axis: 0, sample..<sample + 1).sliced(axis: 1, 0..<length) }
            var alone = KeyValueCache(for: model)
            let read = model.reading(
                LayerTokens(features: own(prompt.features), pictures: own(prompt.pictures).contiguous()),
                cache: &alone, reducers: [reducer])
            #expect(both.counts[sample] == read.count, "\(name)")
            let part = both.features.sliced(axis: 0, sample..<sample + 1).sliced(axis: 1, 0..<read.count)
            #expect(relativeDifference(part, read.features) < close, "\(name)")
        }
    }

    @Test("budgets are met, and a text without pictures or a question loses nothing")
    func budgets() {
        let model = DecoderCase.model()
        func left(_ reducer: any LayerReducer, _ prompt: LayerTokens = Self.prompt()) -> [Int] {
            var cache = KeyValueCache(for: model)
            return model.reading(prompt, cache: &cache, reducers: [reducer]).visual.map(\.count)
        }
        for keep in 1...8 {
            #expect(left(FastV(keep: keep)) == [min(7, keep), min(5, keep)])
            #expect(left(FocusTextSampler(keep: keep)) == [min(7, keep), min(5, keep)])
            #expect(left(MustDropFilter(alpha: 0.1, beta: 0.1, targetCount: keep)) == [min(7, keep), min(5, keep)])
        }
        #expect(left(PyramidDrop(ratio: 0.5, layer: 1)) == [3, 2])
        #expect(left(PyramidDrop(ratio: 0.25, layer: 1, original: 12)) == [3, 3])
        #expect(left(ToMeLayers(ReductionSchedule([2, 1]))) == [4, 2])
        // Two of the five dropped tokens in one cluster, and one of the three.
        #expect(left(SparseVLM(keep: 2)) == [3, 3])
        let text = LayerTokens(features: DecoderCase.features(1, 6))
        #expect(left(FastV(keep: 1), text) == [0])
        let unasked = LayerTokens(
            features: DecoderCase.features(1, 4), pictures: Tensor([Int64(-1), 0, 0, 0], shape: [1, 4]))
        #expect(left(FocusTextSampler(keep: 1), unasked) == [3])
    }
}
