import FoveaTensor

/// What takes tokens away on the way through a vision-language model, each part where it sits.
public struct Reducers: Sendable {
    /// Between the layers of the encoder.
    public var encoder: [any LayerReducer]
    /// Between encoder and decoder, one after the other.
    public var tokens: [any Compressor]
    /// Between the layers of the decoder.
    public var decoder: [any LayerReducer]

    /// - Parameters:
    ///   - encoder: between the layers of the encoder.
    ///   - tokens: between encoder and decoder, one after the other.
    ///   - decoder: between the layers of the decoder.
    public init(
        encoder: [any LayerReducer] = [], tokens: [any Compressor] = [], decoder: [any LayerReducer] = []
    ) {
        self.encoder = encoder
        self.tokens = tokens
        self.decoder = decoder
    }

    /// Whether there are none.
    public var isEmpty: Bool { encoder.isEmpty && tokens.isEmpty && decoder.isEmpty }

    /// Tokens after what sits between encoder and decoder. Traps where one of them cannot take them; `problem` says why.
    public func reduced(_ tokens: VisualTokens) -> VisualTokens {
        self.tokens.reduce(tokens) { $1($0) }
    }

    /// Why these tokens cannot be reduced between encoder and decoder, in a few words; nil when they can. Each method is
    /// asked about the shape that the one before it leaves, and about what the encoder says of its tokens.
    public func problem(with tokens: VisualTokens) -> String? {
        var shape = tokens.shape
        for method in self.tokens {
            if let problem = method.refusal(of: shape) ?? method.problem(with: tokens) {
                return problem
            }
            shape = method.outputShape(shape)
        }
        return nil
    }
}
