import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

private let close = 1e-10
/// Stands for a picture.
private let picture = 10

/// Pictures of 6 × 6 in patches of 2: 9 tokens, of which a pixel shuffle would make other ones; a projector keeps them.
private func model(_ way: Way = .text) -> VisionLanguageModel<VisionEncoder, AnyCompressor> {
    let encoder = VisionEncoder(
        .init(.clip, imageSize: 6, patchSize: 2, channels: 1, width: 5, hidden: 7, depth: 2, heads: 1),
        key: RandomKey(seed: 1))
    let decoder = DecoderCase.model(way.options)
    let injector: (any Injector)? =
        switch way {
        case .text: nil
        case .gated:
            GatedCrossAttentionLayers(
                .init(width: 8, mediaWidth: 5, heads: 2, headWidth: 3), layers: 4, interval: 2, key: RandomKey(seed: 7))
        case .hyper: HyperAttentionLayers([1], of: decoder, fusion: .joint)
        case .vlora:
            VLoRA(
                .init(width: 16, depth: 1, imageWidth: 5, imageTokens: 4, modelWidth: 8, modelDepth: 4, rank: 2),
                key: RandomKey(seed: 7))
        }
    var model = VisionLanguageModel(
        encoder: encoder, compressor: AnyCompressor(Halves()), decoder: decoder, injector: injector,
        key: RandomKey(seed: 2)
    ).cast(to: .float64)
    model.forEachParameter { path, tensor in
        if !path.hasPrefix("decoder") {
            tensor = .uniform(tensor.shape, in: -0.6...0.6, key: RandomKey(seed: 5).folding(path), dtype: .float64)
        }
    }
    return model
}

/// Where pictures go.
private enum Way: CaseIterable {
    case text, gated, hyper, vlora

    /// VLoRA changes projections from D to D, and so takes as many key heads as there are heads.
    var options: LanguageModel.Options {
        var options = DecoderCase.options
        if self == .vlora { options.keyHeads = options.heads }
        return options
    }
}

/// Keeps the first half of the tokens.
private struct Halves: Compressor {
    mutating func visit(_ visitor: inout ModuleVisitor) {}
    func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        let kept = tokens.count / 2
        return VisualTokens(
            features: tokens.features.sliced(axis: 1, 0..<kept), positions: tokens.positions.sliced(axis: 1, 0..<kept),
            sizes: tokens.sizes.sliced(axis: 1, 0..<kept))
    }
    func problem(with input: TokenShape) -> String? { input.count < 2 ? "one token has no half" : nil }
    func outputShape(_ input: TokenShape) -> TokenShape { TokenShape(count: input.count / 2, width: input.width) }
    func cost(_ input: TokenShape) -> Cost { Cost() }
}

private func pictures(_ count: Int, side: Int = 6) -> Tensor {
    .uniform([count, 1, side, side], in: -1...1, key: RandomKey(seed: 11), dtype: .float64)
}

@Suite("VisionLanguageModel") struct VisionLanguageModelTests {
    @Test("a placeholder becomes the tokens of its picture, several in a text, in texts of any length")
    func expansion() throws {
        let model = model()
        let all = pictures(3)
        let texts = [[1, picture, 2, picture, 3], [4], [picture, 5]]
        let tokens = try model.sequence(InterleavedText(ids: texts, placeholder: picture, pictures: all)).tokens
        #expect(tokens.counts == [11, 1, 5])
        #expect(tokens.visual.map(\.count) == [8, 0, 4])
        let projected = try model.visualTokens(all, numbers: [0, 1, 0]).features
        #expect(model.projector != nil && projected.shape == [3, 4, 8])
        #expect(relativeDifference(tokens.features[0].sliced(axis: 0, 1..<5), projected[0]) < close)
        #expect(relativeDifference(tokens.features[0].sliced(axis: 0, 6..<10), projected[1]) < close)
        #expect(relativeDifference(tokens.features[2].sliced(axis: 0, 0..<4), projected[2]) < close)
        let text = model.decoder.embed(Tensor([Int64(1), 2, 3, 4, 5], shape: [1, 5]))[0]
        for (sample, place, word) in [(0, 0, 0), (0, 5, 1), (0, 10, 2), (1, 0, 3), (2, 4, 4)] {
            expectSameBits(tokens.features[sample][place], text[word])
        }
        let numbers: [Int64] = tokens.pictures.scalars()
        #expect(numbers.prefix(11) == [-1, 0, 0, 0, 0, -1, 1, 1, 1, 1, -1])
    }

    @Test(
        "a reducer that takes nothing away leaves the compressor's choice as it is",
        arguments: [
            AnyCompressor(PruMerge(neighbours: 2, budget: 4)), .init(VisionZip(budget: 4)), .init(ToMe(keep: 4)),
        ])
    private func signals(compressor: AnyCompressor) throws {
        let own = model()
        let other = VisionLanguageModel(
            encoder: own.encoder, compressor: compressor, decoder: own.decoder, projects: false, key: RandomKey(seed: 2)
        )
        let plain = try other.visualTokens(pictures(2), numbers: [0, 0])
        let reduced = try other.visualTokens(
            pictures(2), numbers: [0, 0], reducers: Reducers(tokens: [UniformSelection(keep: 9)]))
        expectSameBits(plain.features, reduced.features)
        #expect(plain.count == 4)
        // They choose by the attention of the encoder's class token, which features alone do not tell.
        if compressor.base is PruMerge {
            var seen = own.encoder.visualTokens(pictures(2), reducers: [], tracked: false, signals: true)
            #expect(seen.signals?.classAttention != nil)
            expectSameBits(compressor(seen).features, plain.features)
            seen.signals = nil
            #expect(compressor(seen).features.bytes() != plain.features.bytes())
        }
    }

    @Test("a batch answers as its members do, with pictures in the text or in the layers", arguments: Way.allCases)
    private func members(way: Way) throws {
        let model = model(way)
        // VLoRA makes weights of one picture.
        let first = way == .vlora ? [1, picture, 2, 3] : [1, picture, 2, picture, 3]
        let count = way == .vlora ? 1 : 2
        let all = pictures(count + 1)
        let texts = [first, [4, 6], [picture, 5]]
        let batch = try model.generate(InterleavedText(ids: texts, placeholder: picture, pictures: all), limit: 5)
        for (sample, range) in [0..<count, count..<count, count..<count + 1].enumerated() {
            let alone = InterleavedText(
                ids: [texts[sample]], placeholder: picture, pictures: all.sliced(axis: 0, range))
            let own = try model.generate(alone, limit: 5)
            #expect(own[0] == batch[sample])
        }
        // A text without pictures is the decoder's alone, but for Flamingo's feed-forwards; what is seen matters.
        if way != .gated {
            let blind = try model.decoder.generate([[4, 6]], limit: 5)
            #expect(blind[0] == batch[1])
        }
        let logits = try [all, all * -1].map { pictures in
            let sequence = try model.sequence(InterleavedText(ids: texts, placeholder: picture, pictures: pictures))
            var cache = KeyValueCache(for: model.decoder)
            return model.decoder.reading(sequence.tokens, cache: &cache, injection: sequence.injection).last
        }
        #expect(relativeDifference(logits[0][0], logits[1][0]) > 1e-3)
        #expect(relativeDifference(logits[0][1], logits[1][1]) < close)
    }

    @Test("the loss is that of the labelled tokens alone, and nothing without any")
    func loss() throws {
        let model = model()
        let no = InterleavedText.ignored
        let texts = [[1, picture, 2, 3], [4, 6, 7]]
        let labels = [[no, no, 2, no], [no, 6, 7]]
        let batch = InterleavedText(ids: texts, placeholder: picture, pictures: pictures(1), labels: labels)
        let loss = try model.loss(batch)
        // By hand: token 2 behind the picture's last token, tokens 6 and 7 of the second text.
        let sequence = try model.sequence(batch)
        let states = model.decoder.hiddenStates(embeddings: sequence.tokens.features)[4]
        let rows = concatenated([states[0].sliced(axis: 0, 4..<5), states[1].sliced(axis: 0, 0..<2)], axis: 0)
        let want = crossEntropy(model.decoder.logits(rows), Tensor([Int64(2), 6, 7]))
        #expect(relativeDifference(loss, want) < close)
        // A sample without labels takes nothing away and adds nothing.
        let less = InterleavedText(
            ids: texts, placeholder: picture, pictures: pictures(1), labels: [[no, no, no, no], [no, 6, 7]])
        let alone = InterleavedText(ids: [texts[1]], placeholder: picture, pictures: pictures(0), labels: [[no, 6, 7]])
        let (some, only) = (try model.loss(less), try model.loss(alone))
        #expect(relativeDifference(some, only) < close)
        let none = InterleavedText(
            ids: texts, placeholder: picture, pictures: pictures(1), labels: [[no, no, no, no], [no, no, no]])
        let (value, gradients) = try valueAndGradient(of: model) { try $0.loss(none) }
        #expect(value.scalars(as: Double.self) == [0])
        #expect(gradients["decoder.norm.weight"]!.scalars(as: Double.self).allSatisfy { $0 == 0 })
    }

    @Test("a label behind a picture that is cut is predicted by what is left before it")
    func behindCutPicture() throws {
        let model = model()
        let no = InterleavedText.ignored
        let batch = InterleavedText(
            ids: [[1, picture, 2]], placeholder: picture, pictures: pictures(1), labels: [[no, no, 2]])
        let reducers = Reducers(decoder: [FastV(keep: 1, layer: 1)])
        #expect(try model.loss(batch, reducers: reducers).item() > 0.01)
        #expect(try valueAndGradient(of: model) { try $0.loss(batch, reducers: reducers) }.gradients.norm > 1e-6)
    }

    @Test("the loss survives reducers in encoder and decoder, and its gradient reaches the encoder")
    func reduced() throws {
        let model = model()
        let no = InterleavedText.ignored
        let batch = InterleavedText(
            ids: [[1, picture, 2, 3], [4, 6, 7, 8]], placeholder: picture, pictures: pictures(1),
            labels: [[no, no, no, 3], [no, 6, 7, 8]])
        let reducers = Reducers(
            encoder: [PairMerger()], decoder: [LastRowReducer()])
        let (loss, gradients) = try valueAndGradient(of: model) { try $0.loss(batch, reducers: reducers) }
        #expect(loss.scalars(as: Double.self)[0].isFinite)
        let whole = try model.loss(batch)
        #expect(relativeDifference(loss, whole) > 1e-9)
        #expect(gradients["encoder.patches.weight"]!.scalars(as: Double.self).contains { $0 != 0 })
        // Nine patches become five, behind the class token; half of them are two.
        let seen = model.encoder.visualTokens(batch.pictures, reducers: [PairMerger()], tracked: true)
        #expect(seen.count == 5)
        #expect(seen.sizes.scalars(as: Float.self) == [2, 2, 2, 2, 1])
        #expect(seen.positions.scalars(as: Float.self) == [0, 0.5, 0.5, 1, 1, 1.5, 2, 0.5, 2, 2])
    }

    @Test("VLoRA makes weights of one picture of each text")
    func onePicture() {
        let batch = InterleavedText(ids: [[picture, picture]], placeholder: picture, pictures: pictures(2))
        let error = #expect(throws: LanguageModelError.self) { _ = try model(.vlora).loss(batch) }
        #expect(error?.description.contains("sample 0 has 2 pictures") == true)
    }

    @Test("what does not fit is said in one line")
    func refusals() {
        let model = model()
        let cases: [(String, InterleavedText)] = [
            (
                "the texts have 1 placeholders ([1, 0] by sample), and there are 2 pictures",
                .init(ids: [[picture], [1]], placeholder: picture, pictures: pictures(2))
            ),
            (
                "sample 0: token 12 is outside the vocabulary of 11",
                .init(ids: [[12]], placeholder: picture, pictures: pictures(0))
            ),
            ("sample 1 has no tokens", .init(ids: [[1], []], placeholder: picture, pictures: pictures(0))),
            ("hold no patch of 2 × 2", .init(ids: [[picture]], placeholder: picture, pictures: pictures(1, side: 1))),
            ("one token has no half", .init(ids: [[picture]], placeholder: picture, pictures: pictures(1, side: 2))),
            (
                "a label for each token",
                .init(ids: [[1, 2]], placeholder: picture, pictures: pictures(0), labels: [[1]])
            ),
            (
                "label 11 is outside",
                .init(ids: [[1, 2]], placeholder: picture, pictures: pictures(0), labels: [[1, 11]])
            ),
            (
                "sample 0 would have 201 tokens; the context holds 200",
                .init(ids: [[Int](repeating: 1, count: 201)], placeholder: picture, pictures: pictures(0))
            ),
        ]
        let outside = InterleavedText(ids: [[99, 1]], placeholder: 99, pictures: pictures(1))
        #expect(throws: Never.self) { _ = try model.loss(outside) }
        let stays = #expect(throws: LanguageModelError.self) {
            _ = try FoveaModelsTests.model(.gated).loss(outside)
        }
        #expect(stays?.description.contains("the placeholder 99 stays in the text") == true)
        for (words, batch) in cases {
            let error = #expect(throws: LanguageModelError.self) { _ = try model.loss(batch) }
            #expect(error?.description.contains(words) == true, "\(String(describing: error))")
        }
    }
}
