import FoveaNN
import FoveaTensor

/// The Q-Former of BLIP-2: learned queries that read visual tokens, in one stack of layers with text.
/// (Li et al., "BLIP-2", 2023, §3.1; the forms published as transformers' `Blip2QFormerModel` and in LAVIS
/// `lavis/models/blip2_models/Qformer.py`.)
///
/// Q queries stand in front, L text tokens behind them. Post-norm, as in BERT; every linear layer has a bias:
///
///     h ← LN(input)
///     for each layer:
///         h          ← LN(h + attention(h, h))                    queries and text, as far as the mask lets them
///         h[:Q]      ← LN(h[:Q] + attention(h[:Q], tokens))       every so many layers, from the first one on
///         h[:Q]      ← LN(h[:Q] + MLP_query(h[:Q]))
///         h[Q:]      ← LN(h[Q:] + MLP_text(h[Q:]))                text never looks at the tokens itself
///
/// There is no norm behind the last layer. A query with nothing to look at gets nothing from attention, where published
/// code averages over what is hidden.
public struct QFormer: Module {
    /// Of everything that comes in.
    public var norm: LayerNorm
    /// Of everything that comes in, in training.
    public var dropout: Dropout
    public var layers: [QFormerLayer]
    /// The sizes that the module was made with.
    public let options: Options

    /// Sizes of a Q-Former; those of BLIP-2 unless given.
    public struct Options: Sendable, Equatable {
        /// D, the width of queries and text.
        public var width: Int
        /// How many layers.
        public var depth: Int
        /// H.
        public var heads: Int
        /// The width inside the MLPs.
        public var hidden: Int
        /// C, the width of the visual tokens.
        public var contextWidth: Int
        /// Every how many layers the queries look at the visual tokens.
        public var crossAttentionFrequency: Int
        /// Whether there are MLPs for text.
        public var hasText: Bool
        /// The function inside the MLPs.
        public var activation: Activation
        /// Of the norms.
        public var epsilon: Double
        /// The share of features that is dropped in training.
        public var dropout: Double
        /// The share of attention weights that is dropped in training.
        public var attentionDropout: Double
        /// Deviation of the normal numbers that all matrices start with.
        public var deviation: Double

        public init(
            width: Int = 768, depth: Int = 12, heads: Int = 12, hidden: Int = 3072, contextWidth: Int = 1408,
            crossAttentionFrequency: Int = 2, hasText: Bool = false, activation: Activation = .gelu,
            epsilon: Double = 1e-12, dropout: Double = 0.1, attentionDropout: Double = 0.1, deviation: Double = 0.02
        ) {
            self.width = width
            self.depth = depth
            self.heads = heads
            self.hidden = hidden
            self.contextWidth = contextWidth
            self.crossAttentionFrequency = crossAttentionFrequency
            self.hasText = hasText
            self.activation = activation
            self.epsilon = epsilon
            self.dropout = dropout
            self.attentionDropout = attentionDropout
            self.deviation = deviation
        }
    }

    /// A Q-Former with fresh weights: matrices from N(0, deviation²), biases zero, norms one.
    public init(_ options: Options, key: RandomKey) {
        guard options.crossAttentionFrequency > 0 else {
            trap("QFormer", "the queries look at the tokens every \(options.crossAttentionFrequency) layers")
        }
        self.options = options
        norm = LayerNorm(options.width, epsilon: options.epsilon)
        dropout = Dropout(options.dropout)
        layers = (0..<options.depth).map { index in
            QFormerLayer(
                options, looksAtTokens: index % options.crossAttentionFrequency == 0,
                key: key.folding("layers").folding(UInt64(index)))
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("norm", &norm)
        visitor.module("dropout", &dropout)
        visitor.modules("layers", &layers)
    }

    /// Queries and text [B, Q+L, D] → [B, Q+L, D]: all that the layers made of them.
    ///
    /// Traps for other ranks and widths, for text without a branch for it, and for queries without tokens to look at.
    ///
    /// - Parameters:
    ///   - embeddings: [B, Q+L, D], the queries and behind them the embedded text, both without norm.
    ///   - queryLength: Q; all of them unless given.
    ///   - mask: bool, broadcast to [B, H, Q+L, Q+L]; true where a row may look. `QFormerMask` makes the usual ones.
    ///   - context: the visual tokens, [B, N, C]; needed where there are queries.
    ///   - contextMask: bool [B, N], true where there is a token; everywhere unless given.
    public func callAsFunction(
        _ embeddings: Tensor, queryLength: Int? = nil, mask: Tensor? = nil, context: Tensor? = nil,
        contextMask: Tensor? = nil
    ) -> Tensor {
        var cache: QFormerCache?
        return self(
            embeddings, queryLength: queryLength, mask: mask, context: context, contextMask: contextMask, cache: &cache)
    }

    /// The same behind M tokens that went through before, and whose keys and values a cache holds: queries once, then
    /// text in one piece or token by token. It gives what all of them in one call give, where no earlier row may look
    /// at a later one.
    ///
    /// - Parameters:
    ///   - embeddings: [B, Q+L, D].
    ///   - queryLength: Q; all of them unless given.
    ///   - mask: bool, broadcast to [B, H, Q+L, M+Q+L].
    ///   - context: the visual tokens, [B, N, C].
    ///   - contextMask: bool [B, N].
    ///   - cache: what went through before, or nil; afterwards with these behind it.
    public func callAsFunction(
        _ embeddings: Tensor, queryLength: Int? = nil, mask: Tensor? = nil, context: Tensor? = nil,
        contextMask: Tensor? = nil, cache: inout QFormerCache?
    ) -> Tensor {
        pass(
            embeddings, queryLength: queryLength, mask: mask, context: context, contextMask: contextMask, taps: [],
            cache: &cache
        ).states
    }

    /// Queries [B, Q, D] alone → what the layers made of them, and how the last layer that looks at the visual tokens
    /// weighs them: the mean over its heads, [B, Q, N], a constant to any gradient.
    ///
    /// - Parameters:
    ///   - queries: [B, Q, D].
    ///   - context: the visual tokens, [B, N, C].
    ///   - contextMask: bool [B, N], true where there is a token; everywhere unless given.
    public func reading(
        _ queries: Tensor, context: Tensor, contextMask: Tensor? = nil
    ) -> (states: Tensor, weights: Tensor?) {
        var cache: QFormerCache?
        let (states, taps) = pass(
            queries, queryLength: nil, mask: nil, context: context, contextMask: contextMask,
            taps: [.rows(Array(0..<queries.shape[1]))], cache: &cache)
        return (states, taps.last)
    }

    /// All that goes through the layers goes through here.
    private func pass(
        _ embeddings: Tensor, queryLength: Int?, mask: Tensor?, context: Tensor?, contextMask: Tensor?,
        taps: [AttentionTap], cache: inout QFormerCache?
    ) -> (states: Tensor, taps: [Tensor]) {
        guard embeddings.rank == 3, embeddings.shape[2] == options.width else {
            trap("QFormer", "queries and text [B, Q+L, \(options.width)] are needed", embeddings)
        }
        let count = embeddings.shape[1]
        let call = QFormerCall(
            queryLength: queryLength ?? count, mask: mask, context: context,
            contextMask: contextMask?.unsqueezed(1).unsqueezed(1), taps: taps)
        if let problem = problem(of: count, queryLength: call.queryLength, hasContext: context != nil) {
            trap("QFormer", problem, embeddings)
        }
        if let context, context.rank != 3 || context.shape[2] != options.contextWidth {
            trap("QFormer", "visual tokens [B, N, \(options.contextWidth)] are needed", context)
        }
        var x = dropout(norm(embeddings))
        var (seen, tapped): ([MultiHeadAttention.Context], [Tensor]) = ([], [])
        for (index, layer) in layers.enumerated() {
            let own = layer.selfAttention.projected(x)
            seen.append(cache.map { $0.layers[index].followed(by: own) } ?? own)
            let (states, taken) = layer(x, seen: seen[index], in: call)
            x = states
            tapped += taken
        }
        cache = QFormerCache(layers: seen, count: (cache?.count ?? 0) + count)
        return (x, tapped)
    }

    /// Why so many tokens, so many of them queries, cannot go through, in a few words; nil when they can.
    func problem(of count: Int, queryLength: Int, hasContext: Bool) -> String? {
        guard (0...count).contains(queryLength) else {
            return "the first \(queryLength) of \(count) tokens cannot be queries"
        }
        guard queryLength == count || options.hasText else {
            return
                "\(count - queryLength) text tokens stand behind the \(queryLength) queries, but there is no text branch"
        }
        guard queryLength == 0 || options.depth == 0 || hasContext else {
            return "\(queryLength) queries have no visual tokens to look at"
        }
        return nil
    }
}

/// What a Q-Former keeps of tokens that went through: their keys and values in each layer.
public struct QFormerCache: Sendable {
    /// Of each layer, [B, H, M, d].
    public let layers: [MultiHeadAttention.Context]
    /// M.
    public let count: Int
}
