import FoveaCompression

/// What takes visual tokens away on their way through a vision-language model.
public struct Reducers: Sendable {
    /// Between the layers of the encoder.
    public var encoder: [any LayerReducer]
    /// Of the tokens of each picture, behind the projector: as the decoder would get them.
    public var tokens: (any Compressor)?
    /// Between the layers of the decoder, where pictures stand in its text.
    public var decoder: [any LayerReducer]

    public init(
        encoder: [any LayerReducer] = [], tokens: (any Compressor)? = nil, decoder: [any LayerReducer] = []
    ) {
        self.encoder = encoder
        self.tokens = tokens
        self.decoder = decoder
    }
}
