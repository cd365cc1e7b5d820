import FoveaNN
import FoveaTensor

/// One layer of a Q-Former; `QFormer` gives the equations.
public struct QFormerLayer: Module {
    public var selfAttention: MultiHeadAttention
    public var selfAttentionNorm: PostNorm
    /// From the queries to the visual tokens; nil in layers without.
    public var crossAttention: MultiHeadAttention?
    /// Where there is a cross-attention.
    public var crossAttentionNorm: PostNorm?
    public var queryMLP: MLP
    public var queryNorm: PostNorm
    /// nil where there is no text.
    public var textMLP: MLP?
    /// Where there is text.
    public var textNorm: PostNorm?

    /// The end of a sub-layer: x ← LN(x + dropout(update)).
    public struct PostNorm: Module {
        public var norm: LayerNorm
        /// Of the update, in training.
        public var dropout: Dropout

        init(_ options: QFormer.Options) {
            norm = LayerNorm(options.width, epsilon: options.epsilon)
            dropout = Dropout(options.dropout)
        }

        public mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.module("norm", &norm)
            visitor.module("dropout", &dropout)
        }

        /// x and what is added to it, [B, N, D] → [B, N, D].
        func callAsFunction(_ x: Tensor, adding update: Tensor) -> Tensor { norm(x + dropout(update)) }
    }

    init(_ options: QFormer.Options, looksAtTokens: Bool, key: RandomKey) {
        func attention(_ contextWidth: Int, _ name: String) -> MultiHeadAttention {
            MultiHeadAttention(
                options.width, contextWidth: contextWidth, heads: options.heads, dropout: options.attentionDropout,
                initializer: .normal(deviation: options.deviation), key: key.folding(name))
        }
        func mlp(_ name: String) -> MLP {
            MLP(
                options.width, hidden: options.hidden, activation: options.activation,
                initializer: .normal(deviation: options.deviation), key: key.folding(name))
        }
        selfAttention = attention(options.width, "selfAttention")
        selfAttentionNorm = PostNorm(options)
        if looksAtTokens {
            crossAttention = attention(options.contextWidth, "crossAttention")
            crossAttentionNorm = PostNorm(options)
        }
        queryMLP = mlp("queryMLP")
        queryNorm = PostNorm(options)
        if options.hasText {
            textMLP = mlp("textMLP")
            textNorm = PostNorm(options)
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("selfAttention", &selfAttention)
        visitor.module("selfAttentionNorm", &selfAttentionNorm)
        visitor.module("crossAttention", &crossAttention)
        visitor.module("crossAttentionNorm", &crossAttentionNorm)
        visitor.module("textMLP", &textMLP)
        visitor.module("textNorm", &textNorm)
        visitor.module("queryMLP", &queryMLP)
        visitor.module("queryNorm", &queryNorm)
    }

    /// Queries and text x [B, Q+L, D] → [B, Q+L, D], and what the taps take of the queries' look at the visual tokens.
    ///
    /// - Parameters:
    ///   - x: [B, Q+L, D].
    ///   - seen: keys and values of all that x may look at, x itself among them.
    ///   - call: what is the same for all layers.
    func callAsFunction(
        _ x: Tensor, seen: MultiHeadAttention.Context, in call: QFormerCall
    ) -> (states: Tensor, taps: [Tensor]) {
        let x = selfAttentionNorm(x, adding: selfAttention(x, to: seen, mask: call.mask).output)
        let (count, queryLength) = (x.shape[1], call.queryLength)
        if queryLength == count, count > 0 { return read(x, in: call) }
        guard let textMLP, let textNorm else { return (x, []) }
        guard queryLength > 0 else { return (textNorm(x, adding: textMLP(x)), []) }
        let parts = x.split(axis: 1, into: [queryLength, count - queryLength])
        let (queries, taps) = read(parts[0], in: call)
        return (concatenated([queries, textNorm(parts[1], adding: textMLP(parts[1]))], axis: 1), taps)
    }

    /// What becomes of the queries x [B, Q, D] behind the self-attention.
    private func read(_ x: Tensor, in call: QFormerCall) -> (states: Tensor, taps: [Tensor]) {
        var x = x
        var taps: [Tensor] = []
        if let crossAttention, let crossAttentionNorm, let context = call.context {
            let (seen, tapped) = crossAttention(x, context: context, mask: call.contextMask, taps: call.taps)
            (x, taps) = (crossAttentionNorm(x, adding: seen), tapped)
        }
        return (queryNorm(x, adding: queryMLP(x)), taps)
    }
}

/// What is the same for all layers in one call of a Q-Former.
struct QFormerCall {
    /// Q.
    let queryLength: Int
    /// bool, broadcast to [B, H, Q+L, M].
    let mask: Tensor?
    /// The visual tokens, [B, N, C].
    let context: Tensor?
    /// bool [B, 1, 1, N].
    let contextMask: Tensor?
    /// What to take of the queries' look at the visual tokens.
    let taps: [AttentionTap]
}
