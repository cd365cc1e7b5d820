import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// What the issue of cached decoding asks for; float64 agrees to rounding.
private let close = 1e-10

@Suite("decoding with a cache") struct CachedDecodingTests {
    /// Text in two turns and 64 single tokens behind: `whole` at once, and in pieces.
    @Test(
        "equals decoding without: ragged batches, two turns, both policies, every injection",
        arguments: PositionPolicy.allCases, ["nothing", "gated", "generated"])
    func cached(policy: PositionPolicy, injected: String) {
        let model = DecoderCase.model()
        // Two turns of 7 and 5, then 64 tokens one by one; the second sample's turns are shorter.
        let x = DecoderCase.features(2, 76)
        let real = (0..<2).flatMap { sample in
            (0..<76).map { sample == 0 || !(5..<7).contains($0) && !(10..<12).contains($0) }
        }
        let mask = Tensor(real, shape: [2, 76])
        let media = Tensor.uniform([3, 3, 5], in: -1...1, key: RandomKey(seed: 2), dtype: .float64)
        let injection: (any Injection)? =
            switch injected {
            case "gated": DecoderCase.gated(media, at: PicturePlaces([[1, 9], [3]]))
            case "generated": DecoderCase.generated(media.sliced(axis: 0, 0..<2))
            default: nil
            }
        var none = KeyValueCache(for: model, policy: policy)
        let whole = model.reading(LayerTokens(features: x, mask: mask), cache: &none, injection: injection).features
        var cache = KeyValueCache(for: model, policy: policy)
        var parts: [Tensor] = []
        for range in [0..<7, 7..<12] + (12..<76).map({ $0..<$0 + 1 }) {
            let piece = LayerTokens(
                features: x.sliced(axis: 1, range), mask: mask.sliced(axis: 1, range).contiguous())
            parts.append(model.reading(piece, cache: &cache, injection: injection).features)
        }
        let pieced = concatenated(parts, axis: 1)
        #expect(relativeDifference(pieced[0], whole[0]) < close)
        let own = Tensor((0..<76).filter { real[76 + $0] }.map(Int64.init))
        #expect(relativeDifference(pieced[1].selecting(axis: 0, own), whole[1].selecting(axis: 0, own)) < close)
        #expect(cache.seen == [76, 72])
        // Without any cache, for the sample that is not padded.
        let plain = model.hiddenStates(
            embeddings: x.sliced(axis: 0, 0..<1),
            injection: injected == "gated"
                ? DecoderCase.gated(media.sliced(axis: 0, 0..<2), at: PicturePlaces([[1, 9]]))
                : injected == "generated" ? DecoderCase.generated(media.sliced(axis: 0, 0..<1)) : nil)[4]
        #expect(relativeDifference(pieced[0], plain[0]) < close)
        if injected != "nothing" {
            let without = model.hiddenStates(embeddings: x.sliced(axis: 0, 0..<1))[4]
            #expect(relativeDifference(without, plain) > 1e-3)
        }
    }

    @Test("a batch gives what its members give, wherever they are padded")
    func members() {
        let model = DecoderCase.model()
        let (long, short) = (DecoderCase.features(1, 6), DecoderCase.features(1, 4, seed: 4))
        func alone(_ x: Tensor) -> Tensor {
            var cache = KeyValueCache(for: model)
            return model.reading(LayerTokens(features: x), cache: &cache).features
        }
        let gap = Tensor.ones([1, 2, 8], dtype: .float64) * 100
        for (padded, places) in [
            (concatenated([short, gap], axis: 1), 0..<4), (concatenated([gap, short], axis: 1), 2..<6),
        ] {
            let mask = Tensor(
                [true, true, true, true, true, true] + (0..<6).map { places.contains($0) }, shape: [2, 6])
            var cache = KeyValueCache(for: model)
            let both = model.reading(
                LayerTokens(features: concatenated([long, padded], axis: 0), mask: mask), cache: &cache
            ).features
            #expect(relativeDifference(both.sliced(axis: 0, 0..<1), alone(long)) < close)
            #expect(relativeDifference(both[1].sliced(axis: 0, places).unsqueezed(0), alone(short)) < close)
        }
    }

    /// One picture of six tokens in the first sample, one of four in the second.
    private func prompt(_ x: Tensor) -> LayerTokens {
        LayerTokens(
            features: x,
            pictures: Tensor(
                (0..<18).map { Int64((1..<7).contains($0) || (11..<15).contains($0) ? 0 : -1) }, shape: [2, 9]),
            mask: Tensor((0..<18).map { $0 != 17 }, shape: [2, 9]))
    }

    @Test(
        "goes on after any reduction as if the reduced text had been read at once",
        arguments: PositionPolicy.allCases, [LayerSeat.beforeAttention, .afterAttention, .afterLayer])
    func reduced(policy: PositionPolicy, place: LayerSeat) {
        let model = DecoderCase.model()
        let x = DecoderCase.features(2, 9)
        let reducers: [any LayerReducer] = [LastRowReducer(place: place), PairMerger(layer: 2)]
        let next = DecoderCase.features(2, 5, seed: 6)
        func read(_ pieces: [Range<Int>]) -> (KeyValueCache, Tensor) {
            var cache = KeyValueCache(for: model, policy: policy)
            let kept = model.reading(prompt(x), cache: &cache, reducers: reducers)
            // Text alone: two visual tokens are left, and one after they were merged.
            #expect(kept.counts == [4, 5])
            let parts = pieces.map { range in
                model.reading(
                    LayerTokens(features: next.sliced(axis: 1, range)), cache: &cache, reducers: reducers
                ).features
            }
            return (cache, concatenated(parts, axis: 1))
        }
        let (once, whole) = read([0..<5])
        let (cache, single) = read((0..<5).map { $0..<$0 + 1 })
        #expect(relativeDifference(single, whole) < close)
        #expect(once.layers.map { $0.counts(batch: 2) } == cache.layers.map { $0.counts(batch: 2) })
        // A layer holds what it saw: 9 and 8 tokens, then 5 and 6, then 4 and 5, and the 5 that came later.
        let second = place == .beforeAttention ? [10, 11] : [14, 13]
        #expect(cache.layers.map { $0.counts(batch: 2) } == [[14, 13], second, [10, 11], [9, 10]])
    }

    @Test("positions after a reduction are those of the policy")
    func positions() {
        let model = DecoderCase.model()
        for (policy, expected) in [(PositionPolicy.compact, [0, 1, 2, 3, 4.0]), (.original, [0, 1, 2, 7, 8])] {
            var cache = KeyValueCache(for: model, policy: policy)
            let tokens = LayerTokens(
                features: DecoderCase.features(1, 9),
                pictures: Tensor((0..<9).map { Int64((1..<7).contains($0) ? 0 : -1) }, shape: [1, 9]))
            struct First: LayerReducer {
                func seat(inLayer layer: Int) -> LayerSeat? { layer == 0 ? .afterLayer : nil }
                func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
                    tokens.keeping(visual: tokens.visual.map { Array($0.prefix(2)) })
                }
            }
            _ = model.reading(tokens, cache: &cache, reducers: [First()])
            #expect(cache.layers[0].positions.scalars(as: Double.self) == (0..<9).map(Double.init))
            #expect(cache.layers[1].positions.scalars(as: Double.self) == expected)
            _ = model.reading(LayerTokens(features: DecoderCase.features(1, 1)), cache: &cache)
            #expect(cache.layers[1].positions.scalars(as: Double.self).last == (policy == .compact ? 5 : 9))
        }
    }

    @Test("a cache that is cut afterwards is that of a text without what was cut", arguments: PositionPolicy.allCases)
    func cut(policy: PositionPolicy) {
        // In the first layer keys depend on their own token alone, so that cutting is leaving out.
        var options = DecoderCase.options
        options.depth = 1
        let model = DecoderCase.model(options)
        let x = DecoderCase.features(1, 6)
        let kept = Tensor([Int64(0), 2, 5], shape: [1, 3])
        var cache = KeyValueCache(for: model, policy: policy)
        _ = model.reading(LayerTokens(features: x), cache: &cache)
        cache.keep(kept, inLayer: 0)
        var shorter = KeyValueCache(for: model, policy: policy)
        let positions: Tensor? = policy == .original ? Tensor([0, 2, 5.0], shape: [1, 3]) : nil
        _ = model.reading(
            LayerTokens(features: x.rowsOfSamples(kept), positions: positions), cache: &shorter)
        #expect(
            relativeDifference(cache.layers[0].context!.keys, shorter.layers[0].context!.keys) < close)
        #expect(
            cache.layers[0].positions.scalars(as: Double.self) == shorter.layers[0].positions.scalars(as: Double.self))
    }

    @Test("a token that counts twice is as good as two of it")
    func sizes() {
        var options = DecoderCase.options
        options.depth = 1
        let model = DecoderCase.model(options)
        // Two equal visual tokens in one place; merged before attention they are one of size 2.
        let x = DecoderCase.features(1, 4)
        let twice = x.selecting(axis: 1, Tensor([Int64(0), 1, 1, 2, 3]))
        let pictures = Tensor([Int64(-1), 0, 0, -1, -1], shape: [1, 5])
        let positions = Tensor([0, 1, 1, 2, 3.0], shape: [1, 5])
        var (plain, merged) = (
            KeyValueCache(for: model, policy: .original), KeyValueCache(for: model, policy: .original)
        )
        let want = model.reading(
            LayerTokens(features: twice, positions: positions, pictures: pictures), cache: &plain)
        let got = model.reading(
            LayerTokens(features: twice, positions: positions, pictures: pictures), cache: &merged,
            reducers: [PairMerger(place: .beforeAttention)])
        #expect(got.sizes.scalars(as: Float.self) == [1, 2, 1, 1])
        #expect(relativeDifference(got.features.sliced(axis: 1, 2..<4), want.features.sliced(axis: 1, 3..<5)) < close)
    }
}

@Suite("generation") struct GenerationTests {
    private let model = DecoderCase.model()

    @Test("greedy text is what the whole text without a cache says, for each member of a ragged batch")
    func greedy() throws {
        let prompts = [[1, 4, 2, 7], [3], [5, 5, 9]]
        let texts = try model.generate(prompts, limit: 6)
        for (prompt, text) in zip(prompts, texts) {
            var read = prompt
            for token in text {
                let logits = model(Tensor(read.map(Int64.init), shape: [1, read.count]))
                let next = logits[0][read.count - 1].argmax(axis: 0).scalars(as: Int64.self)[0]
                #expect(Int(next) == token)
                read.append(token)
            }
            #expect(text == (try model.generate([prompt], limit: 6))[0])
        }
    }

    @Test("a stop token ends its sample and is part of it; the others go on as if alone")
    func stops() throws {
        let prompts = [[1, 4, 2, 7], [3]]
        let free = try model.generate(prompts, limit: 8)
        let stop = free[0][1]
        let ended = try model.generate(prompts, limit: 8, stops: [stop])
        for (own, whole) in zip(ended, free) {
            let end = whole.firstIndex(of: stop).map { $0 + 1 } ?? whole.count
            #expect(own == Array(whole.prefix(end)))
        }
    }

    @Test("two turns with one cache are one text")
    func turns() throws {
        var cache = KeyValueCache(for: model)
        let first = try model.generate(after: try model.tokens([[1, 4], [3, 2, 6]]), limit: 3, cache: &cache)
        let turns = [[8, 1], [2]]
        let next = zip(first, turns).map { [$0.last!] + $1 }
        let second = try model.generate(after: try model.tokens(next), limit: 4, cache: &cache)
        let whole = try model.generate(
            zip([[1, 4], [3, 2, 6]], zip(first, turns)).map { $0 + $1.0 + $1.1 }, limit: 4)
        #expect(second == whole)
    }

    @Test("the same seed gives the same text, another seed another one")
    func seeds() throws {
        let draw = { (seed: UInt64) in
            try model.generate([[1, 2], [1, 2]], limit: 12, sampling: Sampling(temperature: 2, seed: seed))
        }
        let first = try draw(0)
        #expect(try draw(0) == first)
        #expect(try draw(1) != first)
        #expect(first[0] != first[1])
    }

    @Test("sampling follows the probabilities, of what top-k and top-p leave")
    func sampling() {
        let probabilities = [0.1, 0.4, 0.2, 0.3]
        let logits = Tensor(probabilities.map { Float($0) }, shape: [1, 4]).log().expanded(to: [4000, 4])
        func shares(_ sampling: Sampling) -> [Double] {
            var counts = [Double](repeating: 0, count: 4)
            for token in sampling.next(logits, at: Array(repeating: 3, count: 4000)) { counts[token] += 1 }
            return counts.map { $0 / 4000 }
        }
        // Four standard errors of a share of one half.
        func expectShares(_ got: [Double], _ want: [Double]) {
            for (got, want) in zip(got, want) {
                #expect(abs(got - want) < 0.032)
                if want == 0 { #expect(got == 0) }
            }
        }
        expectShares(shares(Sampling(temperature: 1)), probabilities)
        expectShares(shares(Sampling(temperature: 1, topK: 2)), [0, 4 / 7.0, 0, 3 / 7.0])
        expectShares(shares(Sampling(temperature: 1, topP: 0.65)), [0, 4 / 7.0, 0, 3 / 7.0])
        expectShares(shares(Sampling(temperature: 1, topP: 0.75)), [0, 4 / 9.0, 2 / 9.0, 3 / 9.0])
        expectShares(shares(Sampling(temperature: 1, topP: 1e-6)), [0, 1, 0, 0])
        let squares = probabilities.map { $0 * $0 / 0.3 }
        expectShares(shares(Sampling(temperature: 0.5)), squares)
        expectShares(shares(.greedy), [0, 1, 0, 0])
    }

    @Test("what cannot be continued is said in one line")
    func refusals() {
        let cases: [(String, () throws -> Void)] = [
            ("sample 1: token 11 is outside the vocabulary of 11", { _ = try model.generate([[1], [11]], limit: 1) }),
            ("sample 0: token -1 is outside", { _ = try model.generate([[-1]], limit: 1) }),
            ("sample 1 has no token to go on from", { _ = try model.generate([[1], []], limit: 1) }),
            (
                "sample 0 would have 201 tokens; the context holds 200",
                { _ = try model.generate([[1, 2]], limit: 200) }
            ),
        ]
        for (words, call) in cases {
            let error = #expect(throws: LanguageModelError.self) { try call() }
            #expect(error?.description.contains(words) == true, "\(String(describing: error))")
        }
    }
}
