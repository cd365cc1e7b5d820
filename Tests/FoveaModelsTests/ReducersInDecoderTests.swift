import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// float64 agrees to rounding.
private let close = 1e-10

/// A reducer whose choice is not taken away but hidden: the tokens stay where they are, and nobody sees them. What others
/// were merged into is what it became.
private struct Hiding: LayerReducer {
    let base: any LayerReducer

    var countsSizes: Bool { base.countsSizes }
    func entering(_ tokens: LayerTokens) -> LayerTokens { base.entering(tokens) }
    func seat(inLayer layer: Int) -> LayerSeat? { base.seat(inLayer: layer) }
    func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] { base.taps(inLayer: layer, for: tokens) }

    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let left = base.reduced(tokens, inLayer: layer, attention: attention)
        let (before, after): ([Double], [Double]) = (tokens.positions.scalars(), left.positions.scalars())
        let real = left.real
        var hidden = tokens
        // Where each token that is left stood; any place for the others.
        let places = tokens.real.enumerated().map { sample, flags -> [Int?] in
            let kept = Dictionary(
                uniqueKeysWithValues: (0..<left.count).filter { real[sample][$0] }
                    .map { (after[sample * left.count + $0], $0) })
            return flags.indices.map { flags[$0] ? kept[before[sample * tokens.count + $0]] : nil }
        }
        let shape = [tokens.batch, tokens.count]
        let rows = Tensor(places.joined().map { Int64($0 ?? 0) }, shape: shape)
        func standing(_ x: Tensor) -> Tensor {
            stacked((0..<tokens.batch).map { x[$0].selecting(axis: 0, rows[$0]) }, axis: 0)
        }
        hidden.mask = Tensor(places.joined().map { $0 != nil }, shape: shape)
        (hidden.features, hidden.sizes) = (standing(left.features), standing(left.sizes))
        return hidden
    }
}

@Suite("reducers between the layers of a decoder") struct ReducersInDecoderTests {
    /// Two pictures of four and three tokens in the first sample, one of five in the second, whose question is shorter.
    static func prompt(_ length: Int = 12) -> LayerTokens {
        let numbers: [Int64] = [-1, 0, 0, 0, 0, -1, 1, 1, 1, -1, -1, -1] + [-1, -1, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1]
        return LayerTokens(
            features: DecoderCase.features(2, 12), pictures: Tensor(numbers, shape: [2, 12]),
            mask: Tensor((0..<24).map { $0 < 21 }, shape: [2, 12]),
            // A key token of each sample.
            marks: Tensor((0..<24).map { $0 == 2 || $0 == 16 }, shape: [2, 12]))
    }

    static let choosing: [(String, any LayerReducer)] = [
        ("fastv", FastV(keep: 3, layer: 2)), ("pyramiddrop", PyramidDrop(ratio: 0.5, layer: 2)),
        ("sparsevlm", SparseVLM(keep: 3, recycles: false, layer: 2)),
        ("mustdrop", MustDropFilter(alpha: 0.3, beta: 0.2, layer: 2)),
        ("mustdrop to a count", MustDropFilter(alpha: 0.2, beta: 0.2, targetCount: 2, layer: 1)),
        ("focus-text-sampler", FocusTextSampler(keep: 3, layer: 2)),
        ("tome", ToMeLayers(ReductionSchedule([1, 0, 1, 0]))),
        ("ficoco-l", FiCoCoLLayers(ReductionSchedule([1, 1, 0, 0]), FiCoCoL(remove: 0, epsilon: 0.5))),
        (
            "ficoco-l by probabilities",
            FiCoCoLLayers(ReductionSchedule([1, 1, 0, 0]), FiCoCoL(mode: .probabilities, remove: 0, epsilon: 0.5))
        ),
    ]

    /// What makes new tokens, and what cuts caches: nothing of the whole text stands for these.
    static let others: [(String, [any LayerReducer])] = [
        ("sparsevlm with recycling", [SparseVLM(keep: 2, layer: 2)]),
        (
            "mustdrop with its cache",
            [
                MustDropFilter(alpha: 0.2, beta: 0.2, targetCount: 3, layer: 1),
                MustDropFilter(alpha: 0.2, beta: 0.2, targetCount: 1, layer: 3), OutputAwareCache(from: 0),
            ]
        ),
    ]

    static let all: [(String, [any LayerReducer])] = choosing.map { ($0.0, [$0.1]) } + others

    /// Drops the first of the visual tokens, and notes what another reducer behind it sees.
    private struct DroppingFirst: LayerReducer {
        func seat(inLayer layer: Int) -> LayerSeat? { layer == 1 ? .afterAttention : nil }

        func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
            tokens.keeping(visual: tokens.visual.map { Array($0.dropFirst()) })
        }
    }

    @Test("a reducer behind another in the same layer goes by the attention to what is left")
    func twoInALayer() {
        let model = DecoderCase.model()
        let prompt = LayerTokens(
            features: DecoderCase.features(1, 10),
            pictures: Tensor((0..<10).map { 0..<7 ~= $0 ? Int64(0) : -1 }, shape: [1, 10]))
        func positions(_ reducers: [any LayerReducer]) -> [Double] {
            var cache = KeyValueCache(for: model)
            return Array(
                model.reading(prompt, cache: &cache, reducers: reducers).positions[0].scalars().prefix { $0 < 7 })
        }
        // All but the first: what FastV likes best of those is what it likes best of all, the first left out.
        let order = (1...7).map { positions([FastV(keep: $0, layer: 2)]) }
        let ranking = zip(order, [[]] + order).map { kept, before in kept.first { !before.contains($0) }! }
        let others = ranking.filter { $0 != 0 }
        for keep in 1...5 {
            #expect(
                positions([DroppingFirst(), FastV(keep: keep, layer: 2)]) == others.prefix(keep).sorted(), "\(keep)")
        }
        // And what merges by queries and keys finds those of its tokens.
        let both: [any LayerReducer] = [DroppingFirst(), FiCoCoLLayers(ReductionSchedule([0, 2]))]
        #expect(positions(both).count == 4 && !positions(both).contains(0))
    }

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
        all.indices)
    func cached(_ policy: PositionPolicy, _ index: Int) {
        let (name, reducers) = Self.all[index]
        let model = DecoderCase.model()
        let more = DecoderCase.features(2, 38, seed: 6)
        func read(_ pieces: [Range<Int>]) -> Tensor {
            var cache = KeyValueCache(for: model, policy: policy)
            _ = model.reading(Self.prompt(), cache: &cache, reducers: reducers)
            return concatenated(
                pieces.map {
                    model.reading(
                        LayerTokens(features: more.sliced(axis: 1, $0)), cache: &cache, reducers: reducers
                    ).features
                }, axis: 1)
        }
        let single = read((0..<32).map { $0..<$0 + 1 } + [32..<38])
        #expect(relativeDifference(single, read([0..<32, 32..<38])) < close, "\(name)")
    }

    @Test(
        "a cache that readmits gives in each turn what the whole text gives in one call",
        arguments: PositionPolicy.allCases, all.indices)
    func readmitting(_ policy: PositionPolicy, _ index: Int) {
        let (name, reducers) = Self.all[index]
        // Its raters are those of the first turn.
        guard !name.hasPrefix("sparsevlm") else { return }
        let model = DecoderCase.model()
        let more = DecoderCase.features(2, 9, seed: 6)
        func text(_ range: Range<Int>) -> LayerTokens { LayerTokens(features: more.sliced(axis: 1, range)) }
        var turns = KeyValueCache(for: model, policy: policy, turns: .readmit)
        _ = model.reading(Self.prompt(), cache: &turns, reducers: reducers)
        // An answer token by token, and the next question.
        for place in 0..<4 { _ = model.reading(text(place..<place + 1), cache: &turns) }
        let asked = model.reading(text(4..<8), cache: &turns, reducers: reducers)
        let answered = model.reading(text(8..<9), cache: &turns).features

        var once = KeyValueCache(for: model, policy: policy)
        let prompt = Self.prompt()
        let whole = LayerTokens(
            features: concatenated([prompt.features, more.sliced(axis: 1, 0..<8)], axis: 1),
            pictures: concatenated([prompt.pictures, .full([2, 8], -1, dtype: .int64)], axis: 1),
            mask: concatenated([prompt.mask!, .full([2, 8], 1, dtype: .bool)], axis: 1),
            marks: concatenated([prompt.marks!, .full([2, 8], 0, dtype: .bool)], axis: 1))
        let expected = model.reading(whole, cache: &once, reducers: reducers)
        #expect(asked.counts == expected.counts, "\(name)")
        #expect(relativeDifference(asked.last, expected.last) < close, "\(name)")
        #expect(
            relativeDifference(answered, model.reading(text(8..<9), cache: &once).features) < close, "\(name)")

        // Frozen, a turn takes nothing away and brings nothing back.
        var frozen = KeyValueCache(for: model, policy: policy)
        _ = model.reading(prompt, cache: &frozen, reducers: reducers)
        let before = frozen.layers.map { $0.counts(batch: 2) }
        _ = model.reading(text(0..<8), cache: &frozen, reducers: reducers)
        #expect(frozen.layers.map { $0.counts(batch: 2) } == before.map { $0.map { $0 + 8 } }, "\(name)")
    }

    @Test("a batch gives what its members give alone", arguments: all.indices)
    func members(_ index: Int) {
        let (name, reducers) = Self.all[index]
        let model = DecoderCase.model()
        let prompt = Self.prompt()
        let next = DecoderCase.features(2, 1, seed: 8)
        var cache = KeyValueCache(for: model)
        let both = model.reading(prompt, cache: &cache, reducers: reducers)
        let later = model.reading(LayerTokens(features: next), cache: &cache).features
        for (sample, length) in [(0, 12), (1, 9)] {
            func own(_ x: Tensor) -> Tensor {
                x.sliced(axis: 0, sample..<sample + 1).sliced(axis: 1, 0..<length).contiguous()
            }
            var alone = KeyValueCache(for: model)
            let read = model.reading(
                LayerTokens(
                    features: own(prompt.features), pictures: own(prompt.pictures), marks: own(prompt.marks!)),
                cache: &alone, reducers: reducers)
            #expect(both.counts[sample] == read.count, "\(name)")
            let part = both.features.sliced(axis: 0, sample..<sample + 1).sliced(axis: 1, 0..<read.count)
            #expect(relativeDifference(part, read.features) < close, "\(name)")
            let decoded = model.reading(
                LayerTokens(features: next.sliced(axis: 0, sample..<sample + 1)), cache: &alone
            ).features
            #expect(relativeDifference(later.sliced(axis: 0, sample..<sample + 1), decoded) < close, "\(name)")
        }
    }

    @Test("a picture is cut as it is without the other ones before it that nothing is taken of")
    func eachPicture() {
        let model = DecoderCase.model()
        var cache = KeyValueCache(for: model)
        // Pictures of four and three tokens: of the smaller one nothing goes.
        let left = model.reading(Self.prompt(), cache: &cache, reducers: [FastV(keep: 3)])
        let (numbers, real): ([Int64], [Bool]) = (left.pictures.scalars(), left.real[0])
        let own = (0..<left.count).filter { real[$0] }.map { numbers[$0] }
        #expect(own == [-1, 0, 0, 0, -1, 1, 1, 1, -1, -1, -1])
    }

    @Test("the cache that knows what came through holds what MustDrop's lists say")
    func outputAwareCache() {
        let model = DecoderCase.model()
        let (front, visual, text) = (2, 6, 3)
        let pictures = Tensor((0..<11).map { $0 < front || $0 >= front + visual ? -1 : Int64(0) }, shape: [1, 11])
        let prompt = LayerTokens(features: DecoderCase.features(1, 11), pictures: pictures)
        let filters: [any LayerReducer] = [(4, 1), (2, 3)].map {
            MustDropFilter(alpha: 0.2, beta: 0.2, targetCount: $0.0, layer: $0.1)
        }
        var (plain, cut) = (KeyValueCache(for: model, policy: .original), KeyValueCache(for: model, policy: .original))
        _ = model.reading(prompt, cache: &plain, reducers: filters)
        _ = model.reading(prompt, cache: &cut, reducers: filters + [OutputAwareCache(from: 0)])
        /// The visual tokens that a layer saw, by their number in the picture.
        func seen(_ layer: Int) -> [Int] {
            let places: [Double] = plain.layers[layer].places.scalars()
            return places.map { Int($0) - front }.filter { (0..<visual).contains($0) }
        }
        let stages = [seen(0), seen(1), seen(3)]
        let survivors = (1...2).map { cut in stages[cut].map { stages[cut - 1].firstIndex(of: $0)! } }
        let entries = MustDropCache(layers: 4, cutLayers: [0, 2], system: front, visual: visual, text: text)
            .entries(survivors: survivors)
        for layer in 0..<4 {
            let (all, left): ([Double], [Double]) = (
                plain.layers[layer].places.scalars(), cut.layers[layer].places.scalars()
            )
            #expect(left == entries[layer].map { all[$0] }, "layer \(layer)")
        }
        #expect(cut.byteCount < plain.byteCount)
    }

    @Test("with nothing taken away logits are what they are without a reducer, to the bit")
    func identity() {
        let model = DecoderCase.model()
        func logits(_ reducers: [any LayerReducer]) -> Tensor {
            var cache = KeyValueCache(for: model)
            return model.logits(model.reading(Self.prompt(), cache: &cache, reducers: reducers).features)
        }
        let plain = logits([])
        let reducers: [any LayerReducer] = [
            FastV(keep: 7), PyramidDrop(ratio: 1, layer: 1), PyramidDrop(keep: 9, layer: 1), SparseVLM(keep: 7),
            MustDropFilter(alpha: 0, beta: 0), MustDropFilter(alpha: 0.1, beta: 0.1, targetCount: 7),
            FocusTextSampler(keep: 7), FiCoCoLLayers(ReductionSchedule([0, 0])), OutputAwareCache(from: 0),
        ]
        for reducer in reducers { expectSameBits(logits([reducer]), plain) }
    }

    @Test("each method leaves exactly its budget", arguments: ReductionMethod.all.map(\.name))
    func methods(_ name: String) throws {
        let model = DecoderCase.model()
        let grid = VisualTokens.Grid(rows: 3, columns: 5)
        let place = ReductionPlace(grid: grid, encoderLayers: 3, decoderLayers: 4)
        let prompt = LayerTokens(
            features: DecoderCase.features(2, 20),
            pictures: Tensor((0..<40).map { (1..<16).contains($0 % 20) ? Int64(0) : -1 }, shape: [2, 20]))
        for keep in 1...15 {
            let reducers = try ReductionMethod.named(name)!.reducers(keeping: keep, in: place)
            // What is taken away before the decoder, by the statements of the methods.
            let seen = reducers.encoder.reduce(15) { n, reducer in
                (0..<3).reduce(n) { reducer.count(of: $0, inLayer: $1) ?? $0 }
            }
            let behind = reducers.tokens.reduce(TokenShape(grid: grid, width: 8)) { $1.outputShape($0) }
            let given = min(seen, behind.count)
            guard !reducers.decoder.isEmpty else {
                // The raster that fits 7, 11 and 13 has one fewer, of 14 two.
                let isExact = name == "downsample" ? given <= keep && given >= keep - 2 : given == keep
                #expect(isExact, "\(keep): \(given)")
                continue
            }
            let own = given < 15 ? prompt.keeping(visual: [Array(1...given), Array(1...given)]) : prompt
            var cache = KeyValueCache(for: model)
            let left = model.reading(own, cache: &cache, reducers: reducers.decoder)
            #expect(left.visual.map(\.count) == [keep, keep], "\(keep)")
            #expect(
                (0..<4).reduce(given) { n, layer in
                    reducers.decoder.reduce(n) { $1.count(of: $0, inLayer: layer) ?? $0 }
                } == keep)
            // Of pictures with fewer tokens, as a compressor may leave of some, no more than the budget asks.
            let counts = [min(9, given), min(4, given)]
            let fewer = prompt.keeping(visual: counts.map { Array(1...$0) })
            cache = KeyValueCache(for: model)
            let rest = model.reading(fewer, cache: &cache, reducers: reducers.decoder)
            #expect(rest.visual.map(\.count) == counts.map { min(keep, $0) }, "\(keep) of fewer")
        }
    }

    @Test("what methods state of a text is what the products multiply, and what the cache holds")
    func cost() async {
        // In a process of its own: other tests multiply too.
        await #expect(processExitsWith: .success) {
            let model = DecoderCase.model()
            let (front, visual, question) = (1, 15, 4)
            let pictures = Tensor(
                (0..<20).map { (front..<front + visual).contains($0) ? Int64(0) : -1 }, shape: [1, 20])
            let prompt = LayerTokens(features: DecoderCase.features(1, 20), pictures: pictures)
            let place = ReductionPlace(grid: .init(rows: 3, columns: 5), encoderLayers: 3, decoderLayers: 4)
            let guided = ReductionMethod.all.filter(\.isGuidedByText)
            let byProbabilities = try ReductionMethod.named("ficoco-l")!
                .reducers(keeping: 4, in: place, options: ["mode": .string("probabilities")])
            let cases =
                try [("none", Reducers()), ("ficoco-l by probabilities", byProbabilities)]
                + guided.map { ($0.name, try $0.reducers(keeping: 4, in: place)) }
            for (name, reducers) in cases {
                let stated = model.cost(
                    ofReading: visual, before: front, question: question, reducers: reducers.decoder)
                let multiplyAdds = stated.reduce(0) { $0 + $1.layer.multiplyAdds + $1.reducers.multiplyAdds }
                var cache = KeyValueCache(for: model)
                let before = MatrixProduct.multiplyAdds
                _ = model.reading(prompt, cache: &cache, reducers: reducers.decoder)
                let counted = MatrixProduct.multiplyAdds - before
                // How many words rate depends on the words.
                let isTrue =
                    name == "sparsevlm"
                    ? counted <= multiplyAdds && multiplyAdds < counted + counted / 5 : counted == multiplyAdds
                #expect(isTrue, "\(name): \(multiplyAdds) stated, \(counted) counted")
                #expect(cache.byteCount == stated.reduce(0) { $0 + model.cacheBytes(of: $1.held) }, "\(name)")
            }
        }
    }

    @Test("budgets and depths that cannot be are said in a line", arguments: ReductionMethod.all.map(\.name))
    func refusals(_ name: String) throws {
        let method = try #require(ReductionMethod.named(name))
        let place = ReductionPlace(grid: .init(rows: 2, columns: 2), encoderLayers: 2, decoderLayers: 3)
        for keep in [0, 5] {
            #expect(throws: ModuleInputError.self) { try method.reducers(keeping: keep, in: place) }
        }
        #expect(throws: ModuleInputError.self) {
            try method.reducers(keeping: 2, in: place, options: ["colour": .int(1)])
        }
        #expect(try method.reducers(keeping: 4, in: place).isEmpty)
        var behind = place
        behind.keepsTokens = false
        let isInEncoder = try !method.reducers(keeping: 2, in: place).encoder.isEmpty
        if isInEncoder {
            #expect(throws: ModuleInputError.self) { try method.reducers(keeping: 2, in: behind) }
        } else {
            #expect(try !method.reducers(keeping: 2, in: behind).isEmpty)
        }
        guard method.isGuidedByText else { return }
        let shallow = ReductionPlace(grid: place.grid, encoderLayers: 2, decoderLayers: 1)
        #expect(throws: ModuleInputError.self) { try method.reducers(keeping: 2, in: shallow) }
    }

    @Test("budgets are met by each picture, and a text without pictures or a question loses nothing")
    func budgets() {
        let model = DecoderCase.model()
        func left(_ reducer: any LayerReducer, _ prompt: LayerTokens = Self.prompt()) -> [Int] {
            var cache = KeyValueCache(for: model)
            return model.reading(prompt, cache: &cache, reducers: [reducer]).visual.map(\.count)
        }
        for keep in 1...8 {
            let kept = [min(4, keep) + min(3, keep), min(5, keep)]
            #expect(left(FastV(keep: keep)) == kept)
            #expect(left(FocusTextSampler(keep: keep)) == kept)
            #expect(left(MustDropFilter(alpha: 0.1, beta: 0.1, targetCount: keep)) == kept)
            #expect(left(PyramidDrop(keep: keep, layer: 1)) == kept)
        }
        #expect(left(PyramidDrop(ratio: 0.5, layer: 1)) == [3, 2])
        #expect(left(PyramidDrop(ratio: 0.25, layer: 1, original: 12)) == [6, 3])
        // Four become two and one, three two and one, five three and two.
        #expect(left(ToMeLayers(ReductionSchedule([2, 1]))) == [2, 2])
        #expect(left(FiCoCoLLayers(ReductionSchedule([2, 9]))) == [2, 1])
        #expect(left(FiCoCoLLayers(ReductionSchedule([2, 0]))) == [3, 3])
        // A cluster of what each picture drops.
        #expect(left(SparseVLM(keep: 2)) == [6, 3])
        let text = LayerTokens(features: DecoderCase.features(1, 6))
        #expect(left(FastV(keep: 1), text) == [0])
        let unasked = LayerTokens(
            features: DecoderCase.features(1, 4), pictures: Tensor([Int64(-1), 0, 0, 0], shape: [1, 4]))
        #expect(left(FocusTextSampler(keep: 1), unasked) == [3])
    }
}
