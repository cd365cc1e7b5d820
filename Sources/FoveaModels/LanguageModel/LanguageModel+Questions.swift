import FoveaCompression
import FoveaNN
import FoveaTensor

extension LanguageModel {
    /// Answers to questions about what a prefix shows, or an injection: logits [B, A, V].
    ///
    /// The prefix sees itself, in both directions; a question sees the prefix, and itself up to each token. All tokens of
    /// the prefix stand at position 0: where a visual token comes from is in its features. What is answered does not depend
    /// on what else is asked. The last layer computes the rows of the answers alone.
    ///
    /// Traps for another width, for ids outside the vocabulary, and for both a prefix and an injection.
    ///
    /// - Parameters:
    ///   - questions: packed, of the same B.
    ///   - prefix: visual tokens [B, N, D]; nil for none.
    ///   - prefixMask: bool [B, N], true where there is a token; nil for everywhere.
    ///   - injection: what takes part in the layers instead of a prefix.
    public func answers(
        to questions: PackedQuestions, prefix: Tensor?, prefixMask: Tensor? = nil, injection: (any Injection)? = nil
    ) -> Tensor {
        let (batch, length) = (questions.ids.shape[0], questions.ids.shape[1])
        guard prefix == nil || prefix!.rank == 3 && prefix!.shape[0] == batch && prefix!.shape[2] == options.width
        else {
            trap("LanguageModel", "a prefix [\(batch), N, \(options.width)] is needed", prefix!)
        }
        guard prefix == nil || injection == nil else {
            trap("LanguageModel", "pictures are a prefix, or an injection, not both", prefix!)
        }
        guard !layers.isEmpty else { trap("LanguageModel", "a decoder without layers answers nothing") }
        // [B, T, N + T]
        var mask = questions.textMask
        if let count = prefix?.shape[1] {
            let seen = prefixMask ?? Tensor([Bool](repeating: true, count: batch * count), shape: [batch, count])
            mask = concatenated([seen.unsqueezed(1).expanded(to: [batch, length, count]), mask], axis: 2)
        }
        let places = questions.answerPlaces
        func rows(_ x: Tensor) -> Tensor {
            x.gathered(axis: 1, places.unsqueezed(2).expanded(to: places.shape + [x.shape[2]]))
        }
        func tokens(at positions: Tensor, seeing mask: Tensor) -> QuestionTokens {
            QuestionTokens(
                positions: positions, mask: mask.unsqueezed(1),
                angles: RotaryAngles(
                    positions: positions.unsqueezed(1), width: options.headWidth, base: options.rotaryBase))
        }
        let all = tokens(at: questions.positions, seeing: mask)
        let asking = tokens(at: questions.positions.gathered(axis: 1, places), seeing: rows(mask))

        var (visual, text) = (prefix, embed(questions.ids))
        for (index, layer) in layers.enumerated() {
            let layer = PackedLayer(layer, index, injection)
            text = injection?.entering(text, layer: index, positions: questions.positions) ?? text
            let (own, normed) = (visual.map { layer.base.attentionNorm($0) }, layer.base.attentionNorm(text))
            let context = layer.context(visual: own, text: normed, angles: all.angles)
            guard index < layers.count - 1 else {
                text = layer.attending(rows(text), layer.queries(rows(normed), asking), asking, context)
                text = layer.transforming(text)
                break
            }
            let queries = layer.queries(normed, all)
            visual = visual.map { layer.attendingPrefix($0, own!, context, prefixMask) }
            text = layer.attending(text, queries, all, context)
            visual = visual.map { layer.transforming($0) }
            text = layer.transforming(text)
        }
        return logits(text)
    }
}

/// Where tokens of questions stand, and what they see.
private struct QuestionTokens {
    /// [B, T].
    let positions: Tensor
    /// bool [B, 1, T, M].
    let mask: Tensor
    let angles: RotaryAngles
}

/// One layer of a decoder, for a prefix and packed questions.
private struct PackedLayer {
    let base: DecoderLayer
    private let index: Int
    private let injection: (any Injection)?

    init(_ base: DecoderLayer, _ index: Int, _ injection: (any Injection)?) {
        self.base = base
        self.index = index
        self.injection = injection
    }

    /// What a part of the layer gives of x, with what the injection adds.
    private func changed(_ target: GeneratedWeights.Target, _ x: Tensor, _ part: (Tensor) -> Tensor) -> Tensor {
        injection?.change(of: target, for: x, layer: index).map { part(x) + $0 } ?? part(x)
    }

    /// Keys and values [B, G, N + T, d] of visual tokens [B, N, C] at position 0 and of text [B, T, C] behind them.
    func context(visual: Tensor?, text: Tensor, angles: RotaryAngles) -> MultiHeadAttention.Context {
        let attention = base.attention
        func inHeads(_ x: Tensor) -> Tensor { x.splitIntoHeads(attention.keyHeads) }
        func behind(_ visual: Tensor?, _ text: Tensor) -> Tensor {
            visual.map { concatenated([$0, text], axis: 2) } ?? text
        }
        let keys = behind(
            visual.map { inHeads(attention.key($0)) },
            inHeads(changed(.key, text) { attention.key($0) }).rotaryEmbedded(angles))
        let values = behind(
            visual.map { inHeads(attention.value($0)) }, inHeads(changed(.value, text) { attention.value($0) }))
        return MultiHeadAttention.Context(keys: keys, values: values)
    }

    /// Queries [B, H, T, d] of text x [B, T, C], turned.
    func queries(_ x: Tensor, _ tokens: QuestionTokens) -> Tensor {
        changed(.query, x) { base.attention.query($0) }.splitIntoHeads(base.attention.heads)
            .rotaryEmbedded(tokens.angles)
    }

    /// The first half of the layer for text x [B, T, C] with its queries.
    func attending(
        _ x: Tensor, _ queries: Tensor, _ tokens: QuestionTokens, _ context: MultiHeadAttention.Context
    ) -> Tensor {
        let attend = { (context: MultiHeadAttention.Context, mask: Tensor?, isCausal: Bool) in
            base.attention.attended(queries, to: context, mask: mask, isCausal: isCausal).output
        }
        let found =
            injection?.attended(
                queries: queries, text: context, mask: tokens.mask, isCausal: false, layer: index,
                positions: tokens.positions, attend: attend) ?? attend(context, tokens.mask, false)
        return x + changed(.output, found.joiningHeads()) { base.attention.output($0) }
    }

    /// The first half for visual tokens x [B, N, C], which see one another alone, at position 0.
    func attendingPrefix(
        _ x: Tensor, _ normed: Tensor, _ context: MultiHeadAttention.Context, _ mask: Tensor?
    ) -> Tensor {
        let (attention, count) = (base.attention, x.shape[1])
        let alone = MultiHeadAttention.Context(
            keys: context.keys.sliced(axis: 2, 0..<count), values: context.values.sliced(axis: 2, 0..<count))
        let found = attention.attended(
            attention.query(normed).splitIntoHeads(attention.heads), to: alone,
            mask: mask.map { $0.unsqueezed(1).unsqueezed(1) }, isCausal: false
        ).output
        return x + attention.output(found.joiningHeads())
    }

    /// The second half.
    func transforming(_ x: Tensor) -> Tensor { x + changed(.mlp, base.mlpNorm(x)) { base.mlp($0) } }
}
