import FoveaNN
import FoveaTensor

/// Gated cross-attention: a block in front of a layer of a frozen language model, through which text looks at media. At
/// the start its gates are shut, and it changes nothing.
///
/// (Alayrac et al., "Flamingo", 2022, §3.1.2 and §3.1.3. Published as `GatedCrossAttentionBlock` in
/// `open_flamingo/src/helpers.py` and as `IdeficsGatedCrossAttentionLayer` in transformers.)
///
///     h ← h + tanh(α) W_o softmax(q kᵀ / √d) v         q = W_q norm(h);   k, v = W_k x, W_v x of the media's tokens x
///     h ← h + tanh(β) feedforward(norm'(h))
///
/// A text token sees the tokens of the last medium whose placeholder stands before it or is the token itself, or of all
/// those media; `locations` says where the placeholders are. A token that sees none gets nothing from attention. The
/// published code of open_flamingo lets it see the mean of all media where all previous ones are meant, and also where
/// the text has more placeholders than there are media; the second is an error here.
///
/// Nothing stands between media and projections: the paper's norm of the media is in neither published form. Gates are
/// one number, or one for each feature (Idefics).
public struct GatedCrossAttention: Module {
    /// Over the text.
    public var norm: any UnaryLayer
    public var attention: MultiHeadAttention
    /// α, [1] or [1, 1, D].
    public var attentionGate: Tensor
    public var feedForwardNorm: any UnaryLayer
    public var feedForward: any UnaryLayer
    /// β, [1] or [1, 1, D].
    public var feedForwardGate: Tensor
    /// Of what attention and feed-forward give, in training.
    public var attentionDropout: Dropout
    public var feedForwardDropout: Dropout
    /// Whether text sees the last medium before it alone, or all of them.
    public let seesLastMediumOnly: Bool

    /// Sizes of a block and which of the published forms it has, open_flamingo's unless said otherwise.
    public struct Options: Sendable, Equatable {
        /// D, the width of the text.
        public var width: Int
        /// C, the width of the media's tokens.
        public var mediaWidth: Int
        /// H.
        public var heads: Int
        /// d.
        public var headWidth: Int
        /// The width inside the feed-forward.
        public var hidden: Int
        public var norm = Norm.layer()
        /// The norm over each head of queries and keys; nil for none.
        public var headNorm: Norm?
        public var feedForward = FeedForward.plain(.gelu)
        /// Whether each feature has a gate of its own.
        public var hasVectorGates = false
        public var gateInitializer = Initializer.zeros
        /// Whether text sees the last medium before it alone, or all of them.
        public var seesLastMediumOnly = true
        /// The share dropped in training of attention weights, and of what attention and feed-forward give.
        public var dropout = 0.0
        /// How linear layers start; as PyTorch's unless given.
        public var initializer: Initializer?

        /// - Parameters:
        ///   - width: D.
        ///   - mediaWidth: C.
        ///   - heads: H.
        ///   - headWidth: d.
        ///   - hidden: the width inside the feed-forward; 4 D unless given.
        public init(width: Int, mediaWidth: Int, heads: Int = 8, headWidth: Int = 64, hidden: Int? = nil) {
            self.width = width
            self.mediaWidth = mediaWidth
            self.heads = heads
            self.headWidth = headWidth
            self.hidden = hidden ?? 4 * width
        }
    }

    /// A block with fresh weights and gates as the options say.
    public init(_ options: Options, key: RandomKey) {
        norm = options.norm(options.width)
        attention = MultiHeadAttention(
            options.width, contextWidth: options.mediaWidth, heads: options.heads, headWidth: options.headWidth,
            bias: false, headNorm: options.headNorm, dropout: options.dropout, initializer: options.initializer,
            key: key.folding("attention"))
        feedForwardNorm = options.norm(options.width)
        feedForward = options.feedForward(
            options.width, hidden: options.hidden, initializer: options.initializer, key: key.folding("feedForward"))
        let gate = options.hasVectorGates ? [1, 1, options.width] : [1]
        attentionGate = options.gateInitializer(gate, key: key.folding("attentionGate"))
        feedForwardGate = options.gateInitializer(gate, key: key.folding("feedForwardGate"))
        attentionDropout = Dropout(options.dropout)
        feedForwardDropout = Dropout(options.dropout)
        seesLastMediumOnly = options.seesLastMediumOnly
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("norm", &norm)
        visitor.module("attention", &attention)
        visitor.parameter("attentionGate", &attentionGate)
        visitor.module("feedForwardNorm", &feedForwardNorm)
        visitor.module("feedForward", &feedForward)
        visitor.parameter("feedForwardGate", &feedForwardGate)
        visitor.module("attentionDropout", &attentionDropout)
        visitor.module("feedForwardDropout", &feedForwardDropout)
    }

    /// Text x [B, T, D] and the media that it speaks of [B, N, R, C] → [B, T, D].
    ///
    /// Traps where a sample has more placeholders than media, and for shapes that do not fit.
    ///
    /// - Parameters:
    ///   - x: [B, T, D].
    ///   - media: [B, N, R, C], the tokens of N media in their order in the text.
    ///   - locations: bool, [B, T]: true where a medium's placeholder stands.
    public func callAsFunction(_ x: Tensor, media: Tensor, locations: Tensor) -> Tensor {
        var cache = MediaCache(of: media, for: self)
        return self(x, locations: locations, cache: &cache)
    }

    /// The next tokens of a text [B, T, D] whose media are known → [B, T, D]. One call after the other gives what the
    /// whole text gives in one.
    ///
    /// - Parameters:
    ///   - x: [B, T, D].
    ///   - locations: bool, [B, T]: true where a medium's placeholder stands; nil where there is none.
    ///   - cache: the media; it goes on counting placeholders.
    public func callAsFunction(_ x: Tensor, locations: Tensor?, cache: inout MediaCache) -> Tensor {
        let times = cache.advance(x, locations)
        let mask = withoutGradient {
            let medium = cache.mediumOfToken
            return seesLastMediumOnly ? times .== medium : medium .<= times
        }
        return self(x, to: cache.context, mask: mask)
    }

    /// Text x [B, T, D] looks at projected tokens of media → [B, T, D].
    ///
    /// - Parameters:
    ///   - x: [B, T, D].
    ///   - context: what `attention.projected` made of media [B, M, C].
    ///   - mask: bool, [B, T, M]: true where a text token may look; nil for everywhere. A token that may look nowhere gets
    ///     nothing from attention.
    public func callAsFunction(_ x: Tensor, to context: MultiHeadAttention.Context, mask: Tensor?) -> Tensor {
        guard mask == nil || mask!.shape == [x.shape[0], x.shape[1], context.keys.shape[2]] else {
            trap("GatedCrossAttention", "a mask [B, T, M] is needed", mask!, x, context.keys)
        }
        let (attended, _) = attention(norm(x), to: context, mask: mask?.unsqueezed(1))
        let h = x + attentionGate.tanh() * attentionDropout(attended)
        return h + feedForwardGate.tanh() * feedForwardDropout(feedForward(feedForwardNorm(h)))
    }

    /// What one sample of so many text tokens and so many tokens of media takes.
    public func cost(text: Int, mediaTokens: Int) -> Cost {
        attention.query.cost(rows: text) + attention.output.cost(rows: text)
            + attention.key.cost(rows: mediaTokens) + attention.value.cost(rows: mediaTokens)
            + .attention(queries: text, keys: mediaTokens, width: attention.innerWidth)
            + feedForward.cost(rows: text)
    }
}
