import FoveaNN
import FoveaTensor

/// A Q-Former with all that its first stage of training needs: queries, words, and the heads of the three objectives.
/// (Li et al., "BLIP-2", 2023, §3.2; published as `Blip2Qformer` in LAVIS `lavis/models/blip2_models/blip2_qformer.py`.)
///
/// The vision encoder stays outside: what goes in are its tokens. `QFormerObjectives.swift` has the losses.
public struct QFormerPretraining: Module {
    /// The learned queries, [1, R, D].
    public var queryTokens: Tensor
    public var qFormer: QFormer
    public var embeddings: QFormerEmbeddings
    public var wordHead: QFormerWordHead
    /// [D] → [P], of the queries.
    public var visionProjection: Linear
    /// [D] → [P], of the text's first token.
    public var textProjection: Linear
    /// [D] → no match, match.
    public var matchHead: Linear
    /// What similarities are divided by, one number.
    public var temperature: Tensor
    /// The word [DEC], which text to be generated begins with.
    public let beginning: Int

    /// Sizes besides the Q-Former's own; those of BLIP-2 unless given.
    public struct Options: Sendable, Equatable {
        /// Of the Q-Former, which gets a text branch in any case.
        public var qFormer: QFormer.Options
        /// R.
        public var queries: Int
        /// P, the width in which pictures and texts are compared.
        public var projection: Int
        /// V; BERT's 30,522 words and [DEC].
        public var vocabulary: Int
        /// The longest text.
        public var maxPositions: Int
        /// The word that pads.
        public var padding: Int
        /// The word [DEC].
        public var beginning: Int
        /// What the temperature starts at.
        public var temperature: Double

        public init(
            _ qFormer: QFormer.Options = .init(), queries: Int = 32, projection: Int = 256, vocabulary: Int = 30_523,
            maxPositions: Int = 512, padding: Int = 0, beginning: Int = 30_522, temperature: Double = 0.07
        ) {
            self.qFormer = qFormer
            self.qFormer.hasText = true
            self.queries = queries
            self.projection = projection
            self.vocabulary = vocabulary
            self.maxPositions = maxPositions
            self.padding = padding
            self.beginning = beginning
            self.temperature = temperature
        }
    }

    /// A model with fresh weights. The queries' MLPs start as copies of the text's, as in LAVIS.
    public init(_ options: Options, key: RandomKey) {
        let sizes = options.qFormer
        let start = Initializer.normal(deviation: sizes.deviation)
        queryTokens = start([1, options.queries, sizes.width], key: key.folding("queryTokens"))
        qFormer = QFormer(sizes, key: key.folding("qFormer"))
        for index in qFormer.layers.indices { qFormer.layers[index].queryMLP = qFormer.layers[index].textMLP! }
        embeddings = QFormerEmbeddings(
            vocabulary: options.vocabulary, maxPositions: options.maxPositions, width: sizes.width,
            padding: options.padding, deviation: sizes.deviation, key: key.folding("embeddings"))
        wordHead = QFormerWordHead(sizes, vocabulary: options.vocabulary, key: key.folding("wordHead"))
        visionProjection = Linear(sizes.width, options.projection, key: key.folding("visionProjection"))
        textProjection = Linear(sizes.width, options.projection, key: key.folding("textProjection"))
        matchHead = Linear(sizes.width, 2, key: key.folding("matchHead"))
        temperature = .full([], options.temperature)
        beginning = options.beginning
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("queryTokens", &queryTokens)
        visitor.module("qFormer", &qFormer)
        visitor.module("embeddings", &embeddings)
        visitor.module("wordHead", &wordHead)
        visitor.module("visionProjection", &visionProjection)
        visitor.module("textProjection", &textProjection)
        visitor.module("matchHead", &matchHead)
        visitor.parameter("temperature", &temperature)
    }

    /// R.
    public var queryCount: Int { queryTokens.shape[1] }

    /// The queries behind all layers, [B, R, D], for visual tokens [B, N, C], and the cache that text to be generated
    /// stands behind.
    ///
    /// - Parameters:
    ///   - tokens: [B, N, C].
    ///   - mask: bool [B, N], true where there is a token; everywhere unless given.
    public func encode(_ tokens: Tensor, mask: Tensor? = nil) -> (queries: Tensor, cache: QFormerCache?) {
        var cache: QFormerCache?
        let states = qFormer(queries(tokens.shape[0]), context: tokens, contextMask: mask, cache: &cache)
        return (states, cache)
    }

    /// Queries behind all layers [B, R, D] → vectors of length one, [B, R, P].
    public func imageFeatures(_ queries: Tensor) -> Tensor { visionProjection(queries).ofUnitLength() }

    /// Texts → vectors of length one, [B, P]: what the first token, [CLS], became without a picture.
    ///
    /// - Parameters:
    ///   - ids: int64 [B, L], L > 0.
    ///   - mask: bool [B, L], true where there is a word.
    public func textFeatures(_ ids: Tensor, mask: Tensor) -> Tensor {
        let states = qFormer(embeddings(ids), queryLength: 0, mask: mask.unsqueezed(1).unsqueezed(1))
        return textProjection(states.sliced(axis: 1, 0..<1).squeezed(1)).ofUnitLength()
    }

    /// Whether pictures and texts belong together: logits [B, 2] of no and yes, the mean over the queries.
    ///
    /// - Parameters:
    ///   - tokens: [B, N, C].
    ///   - tokenMask: bool [B, N].
    ///   - ids: int64 [B, L].
    ///   - mask: bool [B, L], true where there is a word.
    public func matchLogits(_ tokens: Tensor, tokenMask: Tensor? = nil, ids: Tensor, mask: Tensor) -> Tensor {
        let states = qFormer(
            concatenated([queries(ids.shape[0]), embeddings(ids)], axis: 1), queryLength: queryCount,
            mask: QFormerMask.bidirectional(queries: queryCount, text: ids.shape[1], textMask: mask),
            context: tokens, contextMask: tokenMask)
        return matchHead(states.sliced(axis: 1, 0..<queryCount)).mean(axes: [1])
    }

    /// The logits of each next word, [B, L, V], for words behind a cache; the cache then holds them too.
    ///
    /// - Parameters:
    ///   - ids: int64 [B, L], the first ones with `beginning` in front.
    ///   - mask: bool [B, M+L] for all words so far, those in the cache among them; everywhere unless given.
    ///   - cache: of `encode`, with the words that went through before.
    public func wordLogits(_ ids: Tensor, mask: Tensor? = nil, cache: inout QFormerCache?) -> Tensor {
        guard let before = cache, before.count >= queryCount else {
            trap("QFormerPretraining", "words stand behind the cache of the \(queryCount) queries", ids)
        }
        let past = before.count - queryCount
        let visible = QFormerMask.multimodalCausal(queries: queryCount, text: past + ids.shape[1], textMask: mask)
        let states = qFormer(
            embeddings(ids, from: past), queryLength: 0,
            mask: visible.sliced(axis: -2, before.count..<before.count + ids.shape[1]), cache: &cache)
        return wordHead(states, words: embeddings.words)
    }

    private func queries(_ batch: Int) -> Tensor { queryTokens.expanded(to: [batch] + queryTokens.shape.dropFirst()) }
}

extension Tensor {
    /// x / max(‖x‖, 10⁻¹²) along the last axis.
    fileprivate func ofUnitLength() -> Tensor {
        self / maximum(l2Norm(axes: [-1], keepingAxes: true), Tensor.full([1], 1e-12, dtype: dtype))
    }
}

extension WeightLayout where Model == QFormerPretraining {
    /// The names of LAVIS' `Blip2Qformer`, without its vision encoder. The table of words, which the word head shares, is
    /// written once.
    public static var lavis: Self {
        let cls = "Qformer.cls.predictions."
        let words = "Qformer.bert.embeddings.word_embeddings.weight"
        let members = [
            ("queryTokens", "query_tokens"), ("temperature", "temp"), ("embeddings.words", words),
            ("embeddings.positions", "Qformer.bert.embeddings.position_embeddings.weight"),
            ("wordHead.bias", cls + "bias"),
        ]
        let linears = [
            ("wordHead.transform", cls + "transform.dense"), ("wordHead.norm", cls + "transform.LayerNorm"),
            ("visionProjection", "vision_proj"), ("textProjection", "text_proj"), ("matchHead", "itm_head"),
        ]
        let pairs = ["weight", "bias"].flatMap { end in linears.map { ("\($0.0).\(end)", "\($0.1).\(end)") } }
        let own: [Rule] = (members + pairs).map { .rename($0.0, $0.1) }
        return WeightLayout(
            "lavis", qFormerRules(at: "qFormer.", as: "Qformer.bert.", naming: .lavis) + own,
            besides: ["ln_vision.", "visual_encoder.", "Qformer.bert.embeddings.position_ids"],
            copies: [(cls + "decoder.weight", words), (cls + "decoder.bias", cls + "bias")])
    }
}
