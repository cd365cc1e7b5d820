import FoveaCompression
import FoveaNN
import FoveaTensor

/// A vision-language model: what an encoder sees goes through a compressor into the text of a decoder, or into its layers.
///
///     pictures → encoder → compressor → projector (→ + positions) → in the text ────────────────────────┐
///                                                                 → or an injector, into the layers ────┼→ decoder → logits
///     text, or packed questions ────────────────────────────────────────────────────────────────────────┘
///
/// A text-guided sampler may sit inside the decoder, in training as afterwards: from its layer on each question sees the
/// visual tokens that it attends to.
///
/// It reads two kinds of input. An `InterleavedText` has a placeholder where a picture stands: without an injector each
/// becomes as many tokens as its picture has; with one it stays a token as any other. `PackedQuestions` hold all that is
/// asked about the same pictures, which are encoded once. Samples may have any number of pictures and any length.
public struct VisionLanguageModel<Encoder: PictureEncoder, Method: Compressor>: Module {
    public var encoder: Encoder
    public var compressor: Method
    /// To the width of the decoder, or that of the injector's pictures; nil where the compressor has it.
    public var projector: Linear?
    /// Of the tokens behind the projector; nil where features alone say where they come from.
    public var media: MediaPositions?
    public var decoder: LanguageModel
    /// What puts pictures into the decoder's layers; nil where they stand in the text.
    public var injector: (any Injector)?
    /// What takes visual tokens away inside the decoder, by the question; nil where they stay.
    public var sampler: FocusTextSampler?

    /// Traps where the compressor cannot take what the encoder makes of pictures of its own size.
    ///
    /// - Parameters:
    ///   - encoder: of the pictures.
    ///   - compressor: of what the encoder gives.
    ///   - decoder: of the text.
    ///   - injector: what puts pictures into the decoder's layers; into the text unless given.
    ///   - sampler: what takes visual tokens away inside the decoder; they stay unless given.
    ///   - projects: whether there is a projector; where the widths differ unless given.
    ///   - pictures: P, the most pictures of a sample, where tokens and pictures get learned positions; nil for none.
    ///   - key: of the random numbers that projector and positions start with.
    public init(
        encoder: Encoder, compressor: Method, decoder: LanguageModel, injector: (any Injector)? = nil,
        sampler: FocusTextSampler? = nil, projects: Bool? = nil, pictures: Int? = nil, key: RandomKey
    ) {
        self.encoder = encoder
        self.compressor = compressor
        self.decoder = decoder
        self.injector = injector
        self.sampler = sampler
        let seen = encoder.tokenShape
        // In the text pictures may have different numbers of tokens.
        if let problem = injector == nil ? compressor.refusal(of: seen) : compressor.problem(with: seen) {
            trap("VisionLanguageModel", problem)
        }
        if let sampler, injector != nil || sampler.layer >= decoder.layers.count {
            trap(
                "VisionLanguageModel",
                "a sampler sits between the \(decoder.layers.count) layers of the decoder; pictures stand in the text")
        }
        let compressed = compressor.outputShape(seen)
        let wanted = injector?.mediaWidth(in: decoder) ?? decoder.options.width
        if projects ?? (compressed.width != wanted) {
            projector = Linear(compressed.width, wanted, key: key.folding("projector"))
        }
        media = pictures.map {
            MediaPositions(
                places: compressor.keepsPlaces ? seen.count : nil, tokens: compressed.count, pictures: $0,
                width: wanted,
                key: key)
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("encoder", &encoder)
        visitor.module("compressor", &compressor)
        visitor.module("projector", &projector)
        visitor.module("media", &media)
        visitor.module("decoder", &decoder)
        visitor.module("sampler", &sampler)
        guard var injector else { return }
        // Empties the member first, so that the walk holds the only reference to the memory.
        self.injector = nil
        visitor.module("injector", &injector)
        self.injector = injector
    }

    /// What takes tokens away between the decoder's layers: the model's own sampler, and reducers besides.
    public func layerReducers(_ reducers: Reducers) -> [any LayerReducer] {
        (sampler.map { [$0] } ?? []) + reducers.decoder
    }

    /// Pictures → what decoder or injector get of them, [N, M, D] with all that is known of them.
    ///
    /// - Parameters:
    ///   - pictures: [N, channels, height, width].
    ///   - numbers: which of its sample's pictures each is.
    ///   - reducers: what takes tokens away on the way.
    ///   - tracked: whether to keep track of which patches go where.
    /// - Throws: `LanguageModelError` for pictures that encoder, compressor or reducers cannot take.
    public func visualTokens(
        _ pictures: Tensor, numbers: [Int], reducers: Reducers = Reducers(), tracked: Bool = false
    ) throws(LanguageModelError) -> VisualTokens {
        if let problem = encoder.problem(with: pictures) { throw LanguageModelError(problem) }
        // Positions follow what tokens are made of; where nothing moves them, the raster says as much.
        let raster = encoder.tokenShape.grid
        let isRaster = reducers.encoder.isEmpty && compressor.outputShape(encoder.tokenShape).grid == raster
        let seen = encoder.visualTokens(
            pictures, reducers: reducers.encoder, tracked: tracked || media?.areOfPlaces == true && !isRaster,
            signals: compressor.readsSignals || !reducers.tokens.isEmpty)
        if let problem = compressor.refusal(of: seen.shape) ?? compressor.problem(with: seen) {
            throw LanguageModelError("pictures of \(pictures.shape[2]) × \(pictures.shape[3]): \(problem)")
        }
        var tokens = compressor(seen)
        if let projector { tokens.features = projector(tokens.features) }
        if let media {
            if let problem = media.problem(with: tokens, numbers: numbers) { throw LanguageModelError(problem) }
            tokens = media(tokens, numbers: numbers)
            if !tracked { tokens.provenance = nil }
        }
        if let problem = reducers.problem(with: tokens) { throw LanguageModelError(problem) }
        return reducers.reduced(tokens)
    }
}
