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
    /// Traps for another width, for ids outside the vocabulary, for both a prefix and an injection, and for a sampler without
    /// a prefix or in front of another layer than the last.
    ///
    /// - Parameters:
    ///   - questions: packed, of the same B.
    ///   - prefix: visual tokens [B, N, D]; nil for none.
    ///   - prefixMask: bool [B, N], true where there is a token; nil for everywhere.
    ///   - injection: what takes part in the layers instead of a prefix.
    ///   - sampler: what hides tokens of the prefix from the last layer, for each question and picture by itself, and how
    ///     many pictures the prefix shows; nil where all are seen.
    public func answers(
        to questions: PackedQuestions, prefix: Tensor?, prefixMask: Tensor? = nil, injection: (any Injection)? = nil,
        sampler: (method: FocusTextSampler, pictures: Int)? = nil
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
        guard sampler == nil || prefix != nil && sampler!.method.layer == layers.count - 1 else {
            trap("LanguageModel", "packed questions are sampled for in front of the last layer, of a prefix")
        }
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
                    positions: positions.unsqueezed(1), width: options.headWidth, frequencies: options.rotary))
        }
        let all = tokens(at: questions.positions, seeing: mask)
        var asking = tokens(at: questions.positions.gathered(axis: 1, places), seeing: rows(mask))

        var (visual, text) = (prefix, embed(questions.ids))
        for (index, layer) in layers.enumerated() {
            let layer = PackedLayer(layer, index, injection)
            text = injection?.entering(text, layer: index, positions: questions.positions) ?? text
            let (own, normed) = (visual.map { layer.base.attentionNorm($0) }, layer.base.attentionNorm(text))
            let context = layer.context(visual: own, text: normed, angles: all.angles)
            guard index < layers.count - 1 else {
                text = layer.attending(rows(text), layer.queries(rows(normed), asking), asking, context).text
                text = layer.transforming(text)
                break
            }
            let queries = layer.queries(normed, all)
            visual = visual.map { layer.attendingPrefix($0, own!, context, prefixMask) }
            let isSampled = sampler != nil && index == layers.count - 2
            let read = layer.attending(
                text, queries, all, context, taps: isSampled ? [.rows(Array(0..<length))] : [])
            text = read.text
            if isSampled, let sampler, let attention = read.taps.first {
                let kept = questions.kept(by: sampler.method, attention, prefixMask, pictures: sampler.pictures)
                asking = asking.seeing(only: kept)
            }
            visual = visual.map { layer.transforming($0) }
            text = layer.transforming(text)
        }
        return logits(text)
    }
}

extension PackedQuestions {
    /// Which tokens of a prefix, and of the text behind it, each question sees once a sampler has chosen: bool [B, A, N + T].
    ///
    /// - Parameters:
    ///   - sampler: what chooses, among the tokens of each picture by itself.
    ///   - attention: of the text's rows, [B, T, N + T].
    ///   - prefixMask: bool [B, N], true where there is a token; nil for everywhere.
    ///   - count: how many pictures the prefix shows.
    fileprivate func kept(
        by sampler: FocusTextSampler, _ attention: Tensor, _ prefixMask: Tensor?, pictures count: Int
    ) -> Tensor {
        withoutGradient {
            let (batch, length, slots) = (ids.shape[0], ids.shape[1], labels.shape[1])
            let visual = attention.shape[2] - length
            // Which rows ask what, [B, A, T].
            let asks = questions.unsqueezed(1) .== Tensor.arange(slots, dtype: .int64).unsqueezed(1)
            let sums = matmul(
                asks.cast(to: attention.dtype), attention.detached.sliced(axis: 2, 0..<visual))
            let real: [Bool] = prefixMask?.scalars() ?? [Bool](repeating: true, count: batch * visual)
            let scores: [Double] = sums.cast(to: .float64).scalars()
            var sees = [Bool](repeating: false, count: batch * slots * visual)
            for row in 0..<batch * slots {
                let sample = row / slots
                for picture in 0..<count {
                    let own = (picture * visual / count..<(picture + 1) * visual / count)
                        .filter { real[sample * visual + $0] }
                    for place in sampler.kept(scores: own.map { scores[row * visual + $0] }) {
                        sees[row * visual + own[place]] = true
                    }
                }
            }
            let text = Tensor.full([batch, slots, length], 1, dtype: .bool)
            return concatenated([Tensor(sees, shape: [batch, slots, visual]), text], axis: 2)
        }
    }
}

/// Where tokens of questions stand, and what they see.
private struct QuestionTokens {
    /// [B, T].
    let positions: Tensor
    /// bool [B, 1, T, M].
    let mask: Tensor
    let angles: RotaryAngles

    /// The same where they see no more than bool [B, T, M].
    func seeing(only kept: Tensor) -> QuestionTokens {
        QuestionTokens(positions: positions, mask: mask .& kept.unsqueezed(1), angles: angles)
    }
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

    /// The first half of the layer for text x [B, T, C] with its queries, and what is tapped where there is no injection.
    func attending(
        _ x: Tensor, _ queries: Tensor, _ tokens: QuestionTokens, _ context: MultiHeadAttention.Context,
        taps: [AttentionTap] = []
    ) -> (text: Tensor, taps: [Tensor]) {
        guard let injection else {
            let (found, tapped) = base.attention.attended(
                queries, to: context, mask: tokens.mask, isCausal: false, taps: taps)
            return (x + base.attention.output(found.joiningHeads()), tapped)
        }
        let found = injection.attended(
            queries: queries, text: context, mask: tokens.mask, isCausal: false, layer: index,
            positions: tokens.positions
        ) { context, mask, isCausal in
            base.attention.attended(queries, to: context, mask: mask, isCausal: isCausal).output
        }
        return (x + changed(.output, found.joiningHeads()) { base.attention.output($0) }, [])
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
