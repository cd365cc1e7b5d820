import FoveaCompression
import FoveaNN
import FoveaTensor

/// One layer of a causal decoder: x += attention(norm x), x += mlp(norm x).
public struct DecoderLayer: Module {
    public var attentionNorm: RMSNorm
    public var attention: SelfAttention
    public var mlpNorm: RMSNorm
    public var mlp: GatedMLP

    init(_ options: LanguageModel.Options, key: RandomKey) {
        let start = Initializer.normal(deviation: options.deviation)
        attentionNorm = RMSNorm(options.width, epsilon: options.epsilon)
        attention = SelfAttention(
            options.width, heads: options.heads, keyHeads: options.keyHeads, headWidth: options.headWidth,
            bias: options.attentionBias, outputBias: options.outputBias, dropout: options.attentionDropout,
            initializer: start, key: key.folding("attention"))
        mlpNorm = RMSNorm(options.width, epsilon: options.epsilon)
        mlp = GatedMLP(
            options.width, hidden: options.hidden, activation: options.activation, bias: options.mlpBias,
            initializer: start, key: key.folding("mlp"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("attentionNorm", &attentionNorm)
        visitor.module("attention", &attention)
        visitor.module("mlpNorm", &mlpNorm)
        visitor.module("mlp", &mlp)
    }

    /// x [B, T, D] → [B, T, D].
    public func callAsFunction(_ x: Tensor, in context: SequenceContext) -> Tensor {
        let entered = context.injection?.entering(x, layer: context.layer, positions: context.positions) ?? x
        return transforming(attending(entered, in: context).output, in: context)
    }

    /// The first half, x + attention(norm x): [B, T, D].
    ///
    /// - Parameters:
    ///   - x: [B, T, D].
    ///   - context: where the tokens stand and what they see.
    ///   - taps: what attention is to hand out.
    ///   - remembering: what there is to look at besides, given the tokens' own keys and values: what stands before them,
    ///     and then they.
    /// - Returns: the output, a constant for each tap, and the tokens' own keys.
    func attending(
        _ x: Tensor, in context: SequenceContext, taps: [AttentionTap] = [],
        remembering: (MultiHeadAttention.Context) -> MultiHeadAttention.Context = { $0 }
    ) -> (output: Tensor, attention: LayerAttention) {
        let normed = attentionNorm(x)
        let (queries, own) = attention.inHeads(
            queries: context.changed(attention.query(normed), .query, normed),
            keys: context.changed(attention.key(normed), .key, normed),
            values: context.changed(attention.value(normed), .value, normed), angles: context.angles)
        let text = remembering(own)
        var tapped: [Tensor] = []
        let attend = { (text: MultiHeadAttention.Context, mask: Tensor?, isCausal: Bool) -> Tensor in
            let (output, taken) = attention.attended(queries, to: text, mask: mask, isCausal: isCausal, taps: taps)
            tapped = taken
            return output
        }
        let found =
            context.injection?.attended(
                queries: queries, text: text, mask: context.mask, isCausal: context.isCausal, layer: context.layer,
                positions: context.positions, attend: attend) ?? attend(text, context.mask, context.isCausal)
        let joined = found.joiningHeads()
        let (all, count) = (text.keys.shape[2], x.shape[1])
        return (
            x + context.changed(attention.output(joined), .output, joined),
            LayerAttention(
                taps: tapped.map { $0.sliced(axis: -1, all - count..<all) }, queries: queries, keys: own.keys)
        )
    }

    /// What reducers before the layer see of its attention: the rows that taps name, and nothing that these do not need.
    ///
    /// - Parameters:
    ///   - x: [B, T, D].
    ///   - context: where the tokens stand and what they see.
    ///   - taps: rows alone.
    ///   - past: what stands before them.
    func scoring(
        _ x: Tensor, in context: SequenceContext, taps: [AttentionTap], behind past: MultiHeadAttention.Context?
    ) -> LayerAttention {
        let normed = attentionNorm(x)
        let own = context.changed(attention.key(normed), .key, normed)
            .splitIntoHeads(attention.keyHeads).rotaryEmbedded(context.angles)
        let keys = past.map { concatenated([$0.keys, own], axis: 2) } ?? own
        let (all, count) = (keys.shape[2], x.shape[1])
        let tapped = taps.map { tap -> Tensor in
            guard let rows = tap.singleRows(batch: x.shape[0]) else {
                trap("DecoderLayer", "before a layer attention hands out single rows alone", x)
            }
            let asking = normed.rowsOfSamples(rows)
            let queries = context.changed(attention.query(asking), .query, asking)
                .splitIntoHeads(attention.heads).rotaryEmbedded(context.angles.ofTokens(rows))
            let weights = FoveaTensor.attention(
                query: queries, keys: keys, values: keys, mask: context.mask(ofRows: rows, keys: all),
                taps: [.rows(Array(0..<rows.shape[1]), heads: tap.heads)]
            ).taps[0]
            return weights.sliced(axis: -1, all - count..<all)
        }
        return LayerAttention(taps: tapped, queries: nil, keys: own)
    }

    /// The second half, x + mlp(norm x): [B, T, D].
    func transforming(_ x: Tensor, in context: SequenceContext) -> Tensor {
        let normed = mlpNorm(x)
        return x + context.changed(mlp(normed), .mlp, normed)
    }
}
