import FoveaCompression
import FoveaNN
import FoveaTensor

extension VisionLanguageModel where Encoder == CompactEncoder, Method == MLPProjector {
    /// The catalogue entry: packed questions about pictures, which stand in front of the text or in the decoder's layers.
    public static var entry: ModuleEntry {
        ModuleEntry(
            "vision-language-model", "pictures and packed questions to answers",
            forms: [
                form("prefix") { _, _, _ in nil },
                form("gated-cross-attention") { decoder, _, key in
                    var options = GatedCrossAttention.Options(
                        width: decoder.options.width, mediaWidth: decoder.options.width, heads: decoder.options.heads,
                        headWidth: decoder.options.headWidth, hidden: decoder.options.hidden)
                    options.seesLastMediumOnly = false
                    // Open gates, so that what is behind them is seen.
                    options.gateInitializer = .ones
                    return GatedCrossAttentionLayers(options, layers: decoder.layers.count, interval: 1, key: key)
                },
                form("hyper-attention") { decoder, _, _ in
                    HyperAttentionLayers(Array(decoder.layers.indices), of: decoder, fusion: .tokenGates)
                },
                form("vlora", pictures: 1) { decoder, tokens, key in
                    var options = VLoRA.Options(
                        width: decoder.options.width, depth: 1, imageWidth: tokens.width, imageTokens: tokens.count,
                        modelWidth: decoder.options.width, modelDepth: decoder.layers.count, rank: 1)
                    options.heads = decoder.options.heads
                    return VLoRA(options, key: key)
                },
            ])
    }

    /// One way for pictures into the decoder.
    ///
    /// - Parameters:
    ///   - name: of the form.
    ///   - pictures: how many the sample's questions have.
    ///   - injector: for a decoder and what the compressor makes of a picture.
    private static func form(
        _ name: String, pictures: Int = 2,
        injector: @escaping @Sendable (LanguageModel, TokenShape, RandomKey) -> (any Injector)?
    ) -> PublishedForm {
        PublishedForm(
            WeightLayout<VisionLanguageModel>(name, []),
            keys: [
                .size("imageSize", "pixels along a side"), .size("channels", "channels", default: 1),
                .size("pictures", "the most pictures of a sample", default: 1),
                .size("patchSize", "pixels along a patch's side"),
                .size("stemChannels", "channels of the encoder's stem, 0 for none", default: 0, atLeast: 0),
                .size("width", "C and D"),
                .size("heads", "heads everywhere"), .size("encoderDepth", "encoder layers", atLeast: 0),
                .size("decoderDepth", "decoder layers"), .size("vocabulary", "V"),
                .number("deviation", "of the numbers that the decoder starts with", default: 0.02),
            ],
            inputs: [
                .init("pictures", "[B, P, channels, imageSize, imageSize]"),
                .init("picture_mask", "[B, P]", .mask, optional: true), .init("ids", "[B, T]", .indices),
                .init("positions", "[B, T]", .indices), .init("questions", "[B, T]", .indices),
                .init("answer_places", "[B, A]", .indices),
            ],
            outputs: [.init("logits", "[B, A, vocabulary]")],
            sample: [
                "imageSize": 4, "pictures": 2, "patchSize": 2, "stemChannels": 2, "width": 4, "heads": 2,
                "encoderDepth": 1,
                "decoderDepth": 2, "vocabulary": 5, "deviation": 0.5,
            ],
            sampleInputs: { source in
                // Two questions of two words and of one.
                let rows = { (row: [Int64]) in Tensor(row + row, shape: [2, row.count]) }
                return [
                    "pictures": source.uniform([2, pictures, 1, 4, 4]), "ids": source.integers([2, 3], below: 5),
                    "positions": rows([0, 1, 0]), "questions": rows([0, 0, 1]), "answer_places": rows([1, 2]),
                ]
            },
            make: { configuration in
                let (size, patch) = (configuration.int("imageSize"), configuration.int("patchSize"))
                let (width, heads) = (configuration.int("width"), configuration.int("heads"))
                guard size % patch == 0, width % 4 == 0, width % heads == 0 else {
                    throw configuration.error(
                        "\(size) pixels must divide by patches of \(patch), and width \(width) by 4 and by \(heads) heads"
                    )
                }
                if let problem = SelfAttention.problem(width, heads: heads, keyHeads: heads, headWidth: width / heads) {
                    throw configuration.error(problem)
                }
                let stem = configuration.int("stemChannels")
                guard stem == 0 || patch > 1 && patch & (patch - 1) == 0 else {
                    throw configuration.error("a stem halves: it cannot make patches of \(patch) pixels")
                }
                let key = configuration.key
                let encoder = CompactEncoder(
                    .init(
                        channels: configuration.int("channels"), imageSize: (size, size), patchSize: patch,
                        stemChannels: stem, width: width, depth: configuration.int("encoderDepth"), heads: heads),
                    key: key)
                let decoder = LanguageModel(
                    .init(
                        vocabulary: configuration.int("vocabulary"), width: width, hidden: 2 * width,
                        depth: configuration.int("decoderDepth"), heads: heads,
                        deviation: configuration.double("deviation")), key: key.folding("decoder"))
                let compressor = MLPProjector(width, outputs: width, key: key.folding("compressor"))
                return VisionLanguageModel(
                    encoder: encoder, compressor: compressor, decoder: decoder,
                    injector: injector(decoder, compressor.outputShape(encoder.tokenShape), key.folding("injector")),
                    pictures: configuration.int("pictures"), key: key)
            },
            run: { model, inputs in
                let (ids, places) = (inputs["ids"], inputs["answer_places"])
                let numbers: [Int64] = ids.scalars()
                if let problem = model.decoder.options.problem(with: numbers.map { Int($0) }) {
                    throw ModuleInputError("input ids: \(problem)")
                }
                let length = ids.shape[1]
                guard places.scalars(as: Int64.self).allSatisfy({ (0..<Int64(length)).contains($0) }) else {
                    throw ModuleInputError("input answer_places: a place is outside the \(length) tokens of input ids")
                }
                let packed = PackedQuestions(
                    pictures: inputs["pictures"], pictureMask: inputs.optional("picture_mask"), ids: ids,
                    positions: inputs["positions"], questions: inputs["questions"], answerPlaces: places,
                    labels: .zeros(places.shape, dtype: .int64), types: .zeros(places.shape, dtype: .int64))
                do {
                    return ["logits": try model.answers(to: packed).logits]
                } catch let error as LanguageModelError {
                    throw ModuleInputError(error.description)
                }
            })
    }
}
