import FoveaNN
import FoveaTensor

extension LanguageModel {
    /// Answers to questions about what a prefix shows: logits [B, A, V].
    ///
    /// The prefix sees itself, in both directions; a question sees the prefix, and itself up to each token. All tokens of
    /// the prefix stand at position 0 and each question starts there: where a visual token comes from is in its features,
    /// and what is answered does not depend on what else is asked. The last layer computes the rows of the answers alone.
    ///
    /// Traps for another width, and for ids outside the vocabulary.
    ///
    /// - Parameters:
    ///   - questions: packed, of the same B.
    ///   - prefix: visual tokens [B, N, D].
    ///   - prefixMask: bool [B, N], true where there is a token; nil for everywhere.
    public func answers(to questions: PackedQuestions, prefix: Tensor, prefixMask: Tensor? = nil) -> Tensor {
        let (batch, length) = (questions.ids.shape[0], questions.ids.shape[1])
        guard prefix.rank == 3, prefix.shape[0] == batch, prefix.shape[2] == options.width else {
            trap("LanguageModel", "a prefix [\(batch), N, \(options.width)] is needed", prefix)
        }
        guard let last = layers.last else { trap("LanguageModel", "a decoder without layers answers nothing") }
        let count = prefix.shape[1]
        let seen = prefixMask ?? Tensor([Bool](repeating: true, count: batch * count), shape: [batch, count])
        // [B, T, N + T]
        let mask = concatenated(
            [seen.unsqueezed(1).expanded(to: [batch, length, count]), questions.textMask], axis: 2)
        let among = prefixMask.map { $0.unsqueezed(1).unsqueezed(1) }
        let angles = self.angles(of: questions.positions)

        var (visual, text) = (prefix, embed(questions.ids))
        for layer in layers.dropLast() {
            let (own, asked) = (layer.attentionNorm(visual), layer.attentionNorm(text))
            let context = layer.attention.context(visual: own, text: asked, angles: angles)
            let alone = MultiHeadAttention.Context(
                keys: context.keys.sliced(axis: 2, 0..<count), values: context.values.sliced(axis: 2, 0..<count))
            let queries = layer.attention.queries(asked, angles: angles)
            visual = visual + layer.attention.found(layer.attention.queries(own), in: alone, mask: among)
            text = text + layer.attention.found(queries, in: context, mask: mask.unsqueezed(1))
            visual = visual + layer.mlp(layer.mlpNorm(visual))
            text = text + layer.mlp(layer.mlpNorm(text))
        }

        let places = questions.answerPlaces
        func rows(_ x: Tensor) -> Tensor {
            x.gathered(axis: 1, places.unsqueezed(2).expanded(to: places.shape + [x.shape[2]]))
        }
        let normed = last.attentionNorm(text)
        let context = last.attention.context(visual: last.attentionNorm(visual), text: normed, angles: angles)
        let queries = last.attention.queries(
            rows(normed), angles: self.angles(of: questions.positions.gathered(axis: 1, places)))
        let x = rows(text) + last.attention.found(queries, in: context, mask: rows(mask).unsqueezed(1))
        return logits(x + last.mlp(last.mlpNorm(x)))
    }

    /// Of positions [B, T], for every head.
    private func angles(of positions: Tensor) -> RotaryAngles {
        RotaryAngles(positions: positions.unsqueezed(1), width: options.headWidth, base: options.rotaryBase)
    }
}

extension SelfAttention {
    /// Queries [B, H, N, d] of tokens [B, N, C]; unturned without angles, which is position 0.
    fileprivate func queries(_ x: Tensor, angles: RotaryAngles? = nil) -> Tensor {
        let queries = query(x).splitIntoHeads(heads)
        return angles.map { queries.rotaryEmbedded($0) } ?? queries
    }

    /// Keys and values of visual tokens [B, N, C] at position 0 and of text [B, T, C] behind them: [B, G, N + T, d].
    fileprivate func context(visual: Tensor, text: Tensor, angles: RotaryAngles) -> MultiHeadAttention.Context {
        let keys = [
            key(visual).splitIntoHeads(keyHeads), key(text).splitIntoHeads(keyHeads).rotaryEmbedded(angles),
        ]
        let values = [value(visual), value(text)].map { $0.splitIntoHeads(keyHeads) }
        return .init(keys: concatenated(keys, axis: 2), values: concatenated(values, axis: 2))
    }

    /// What queries find in keys and values, [B, N, C].
    fileprivate func found(_ queries: Tensor, in context: MultiHeadAttention.Context, mask: Tensor?) -> Tensor {
        output(attended(queries, to: context, mask: mask, isCausal: false).output.joiningHeads())
    }
}
