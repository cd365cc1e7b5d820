import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

private let close = 1e-5

/// Pictures of 4 × 4 patches, read through a compressor, with learned positions.
private func model(
    _ compressor: any Compressor, pictures: Int = 1
) -> VisionLanguageModel<CompactEncoder, AnyCompressor> {
    let encoder = CompactEncoder(
        .init(channels: 1, imageSize: (8, 8), patchSize: 2, width: 8, depth: 1, heads: 2), key: RandomKey(seed: 1))
    let decoder = LanguageModel(.init(vocabulary: 5, width: 8, hidden: 8, depth: 2, heads: 2), key: RandomKey(seed: 2))
    return VisionLanguageModel(
        encoder: encoder, compressor: AnyCompressor(compressor), decoder: decoder, projects: true, pictures: pictures,
        key: RandomKey(seed: 3))
}

private func pictures(_ count: Int) -> Tensor { .uniform([count, 1, 8, 8], in: 0...1, key: RandomKey(seed: 4)) }

/// What tokens get besides their features, [N, M, D].
private func places(
    _ model: VisionLanguageModel<CompactEncoder, AnyCompressor>, _ pictures: Tensor, reducers: Reducers = Reducers()
) throws -> Tensor {
    func features(_ model: VisionLanguageModel<CompactEncoder, AnyCompressor>) throws -> Tensor {
        let numbers = [Int](repeating: 0, count: pictures.shape[0])
        return try model.visualTokens(pictures, numbers: numbers, reducers: reducers).features
    }
    var blank = model
    blank.media?.positions = .zeros(model.media!.positions.shape)
    return try features(model) - features(blank)
}

/// Takes some patches in some order.
private struct Chosen: TokenReducer {
    let order: [Int]
    func reduction(of sample: SampleTokens) -> TokenReduction { TokenReduction(keeping: order) }
    func count(of n: Int) -> Int? { order.count }
}

@Suite("Positions of visual tokens") struct MediaPositionsTests {
    @Test(
        "a token takes its place along wherever it stands in the list",
        arguments: [[9, 2], [2, 9], [15, 0, 7, 3]])
    func chosen(order: [Int]) throws {
        let (all, some) = (model(MLPProjector(8, outputs: 8, key: RandomKey(seed: 5))), model(Chosen(order: order)))
        let table = try #require(some.media).positions
        #expect(some.media?.areOfPlaces == true && table.shape == [16, 8])
        let whole = try places(all, pictures(2))
        let own = try places(some, pictures(2))
        let wanted = table.selecting(axis: 0, Tensor(order.map(Int64.init)))
        for sample in 0..<2 {
            #expect(relativeDifference(whole[sample], table) < close)
            #expect(relativeDifference(own[sample], wanted) < close)
        }
        // What tokens are made of was followed for the positions' sake, and nobody else asked for it.
        let silent = try some.visualTokens(pictures(1), numbers: [0])
        let told = try some.visualTokens(pictures(1), numbers: [0], tracked: true)
        #expect(silent.provenance == nil && told.provenance?.weights.shape == [1, order.count, 16])
    }

    @Test("each picture of a sample is told apart, and no more of them than there are numbers")
    func media() throws {
        let model = model(MLPProjector(8, outputs: 8, key: RandomKey(seed: 5)), pictures: 2)
        let table = try #require(model.media?.mediaEmbeddings)
        // The same picture twice.
        let same = concatenated([pictures(1), pictures(1)], axis: 0)
        let seen = try model.visualTokens(same, numbers: [1, 0]).features
        let apart = (table[1] - table[0]).unsqueezed(0).expanded(to: [16, 8])
        #expect(relativeDifference(seen[0] - seen[1], apart) < close)
        let many = #expect(throws: LanguageModelError.self) { try model.visualTokens(same, numbers: [0, 2]) }
        #expect(many?.description == "3 pictures are more than the 2 that the model was made for")
    }

    @Test("tokens of other places than there are positions are refused")
    func otherCount() throws {
        var model = model(MLPProjector(8, outputs: 8, key: RandomKey(seed: 5)))
        model.media = MediaPositions(places: 9, tokens: 9, pictures: 1, width: 8, key: RandomKey(seed: 1))
        let error = #expect(throws: LanguageModelError.self) { try model.visualTokens(pictures(1), numbers: [0]) }
        #expect(error?.description == "16 places have no positions of the 9 that there are")
    }

    @Test("a pooled cell stands in the mean of its places, and is told apart from the patch in its middle")
    func pooled() throws {
        let pooled = model(SpatialPool(mode: .average, stride: 2, key: RandomKey(seed: 8)))
        let own = try places(pooled, pictures(1))[0]
        let table = try #require(pooled.media).positions.reshaped(to: [2, 2, 2, 2, 8])
        #expect(relativeDifference(own, table.mean(axes: [1, 3]).reshaped(to: [4, 8])) < close)
        // All cells of a picture of one window: the whole, and each patch. None stands where another does.
        let sampled = model(
            FocusTokenSampler(8, keyWidth: 4, window: 4, scales: [4, 1], keep: 17, key: RandomKey(seed: 6)))
        let cells = try places(sampled, pictures(1))[0]
        let all = try #require(sampled.media).positions
        #expect(relativeDifference(cells[0], all.mean(axes: [0])) < close)
        #expect(relativeDifference(cells.sliced(axis: 0, 1..<17), all) < close)
    }

    @Test("what was merged in the encoder stands in the mean of its places")
    func merged() throws {
        let model = model(MLPProjector(8, outputs: 8, key: RandomKey(seed: 5)))
        let own = try places(model, pictures(1), reducers: Reducers(encoder: [PairMerger()]))[0]
        let table = try #require(model.media).positions.reshaped(to: [8, 2, 8])
        #expect(relativeDifference(own, table.mean(axes: [1])) < close)
    }

    private static let latentMakers: [any Compressor] = [
        PerceiverResampler(.init(width: 8, depth: 1, heads: 2, headWidth: 4, latents: 3), key: RandomKey(seed: 7)),
        QFormerConnector(
            .init(width: 8, depth: 2, heads: 2, hidden: 8, contextWidth: 8, deviation: 0.3), queries: 3, outputs: 8,
            key: RandomKey(seed: 7)),
    ]

    @Test("latents are of no place: each has a position of its own", arguments: latentMakers.indices)
    func latents(_ index: Int) throws {
        let model = model(Self.latentMakers[index])
        let table = try #require(model.media).positions
        #expect(model.media?.areOfPlaces == false && table.shape == [3, 8])
        let own = try places(model, pictures(2))
        for sample in 0..<2 { #expect(relativeDifference(own[sample], table) < close) }
        // Also where what they look at is followed.
        let tracked = try model.visualTokens(pictures(2), numbers: [0, 0], tracked: true)
        #expect(tracked.provenance != nil)
        let plain = try model.visualTokens(pictures(2), numbers: [0, 0])
        #expect(plain.provenance == nil && relativeDifference(tracked.features, plain.features) < close)
    }
}
