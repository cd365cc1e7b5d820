import FoveaNN
import FoveaTensor

/// Hyper attention: in some layers of a language model, text looks at pictures and at itself with the same queries.
/// Pictures take no place in the sequence.
/// (Ye et al., "mPLUG-Owl3", 2024, §2.2; published with the weights `mPLUG-Owl3-7B-240728` and `-241101`, in
/// `modeling_hyper_qwen2.py`.)
///
/// q, k, v are the layer's own for the text, turned by rotary angles; x the tokens of all pictures behind the norm that
/// the text has, too:
///
///     k', v' = W_kv x                                    k' turned by the angle of the picture's placeholder
///     S = attention(q; k, v),  C = attention(q; k', v')  a token sees the pictures in front of it
///     gates   S ← (1 − g) S + g C                        g = sigmoid(γ) for each feature, or sigmoid(w·S) for each token
///     joint   S ← attention(q; [k, k'], [v, v'])         one softmax over text and pictures
///
/// What text does not see changes nothing: tokens in front of the first picture keep their bits. The output projection
/// is the layer's. W_kv starts as the layer's own projections of keys and values.
public struct HyperAttention: Module {
    /// W_kv, [D] → [G·2d]: for each head d features of keys and then d of values.
    public var keyValue: Linear
    /// γ, [H·d]; where each feature has a gate.
    public var featureGate: Tensor?
    /// w, [H·d] → [1]; where each token has a gate.
    public var tokenGate: Linear?
    /// Of the weights with which text looks at pictures, in training.
    public var dropout: Dropout
    /// H.
    public let heads: Int
    /// G.
    public let keyHeads: Int
    /// How fast the rotary angles grow.
    public let rotary: RotaryFrequencies
    /// Which of the definitions this is.
    public let fusion: Fusion

    /// The three definitions of what text makes of itself and of pictures.
    public enum Fusion: Sendable, Equatable, CaseIterable {
        /// A gate for each feature. A placeholder does not see its own picture, whose angle is that of the token behind
        /// it. (The code of 240728.)
        case featureGates
        /// One softmax over text and pictures. A placeholder sees its own picture. (The code of 241101.)
        case joint
        /// A gate for each token, made of what it found in the text. A token sees the pictures that precede it. (The
        /// paper, equations 1 and 2. It leaves the shape of w open; one number for a token is what forks of the code
        /// have.)
        case tokenGates

        /// By how much a picture's angle is ahead of its placeholder's.
        var shift: Int { self == .featureGates ? 1 : 0 }
        /// Whether a placeholder sees its own picture.
        var seesOwn: Bool { self == .joint }
    }

    /// What the texts of a batch see of their pictures in one layer: made once, looked at by every token.
    public struct Pictures: Sendable {
        /// Keys, turned, and values, [B, G, P·L, d] each.
        public let context: MultiHeadAttention.Context
        /// Of the placeholder of each key's picture, float64 [B, 1, 1, P·L]; infinity where there is none.
        let starts: Tensor
        /// Of each text's first placeholder, float64 [B, 1, 1, 1]; infinity where there is none.
        let first: Tensor
    }

    /// The injection of a layer whose attention to the text is given.
    ///
    /// - Parameters:
    ///   - attention: the layer's own; keys and values of pictures start as its keys and values of text, in float32 where
    ///     these are of half precision.
    ///   - fusion: which of the definitions.
    ///   - rotary: of the layer's rotary angles.
    ///   - dropout: the share of attention weights that is dropped in training.
    public init(in attention: SelfAttention, fusion: Fusion, rotary: RotaryFrequencies = .init(), dropout: Double = 0) {
        heads = attention.heads
        keyHeads = attention.keyHeads
        self.rotary = rotary
        self.fusion = fusion
        self.dropout = Dropout(dropout)
        keyValue = attention.key
        keyValue.weight = attention.key.weight.interleaved(with: attention.value.weight, heads: keyHeads)
        keyValue.bias = attention.key.bias.flatMap { bias in
            attention.value.bias.map { bias.interleaved(with: $0, heads: attention.keyHeads) }
        }
        let inner = attention.query.weight.shape[0]
        // In the layer's type; half precision is for weights that stay as they are.
        let dtype = attention.key.weight.dtype.isDifferentiable ? attention.key.weight.dtype : .float32
        keyValue = keyValue.cast(to: dtype)
        switch fusion {
        case .featureGates: featureGate = .zeros([inner], dtype: dtype)
        case .tokenGates:
            tokenGate = Linear(inner, 1, bias: false, initializer: .zeros, key: RandomKey(seed: 0)).cast(to: dtype)
        case .joint: break
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("keyValue", &keyValue)
        visitor.parameter("featureGate", &featureGate)
        visitor.module("tokenGate", &tokenGate)
        visitor.module("dropout", &dropout)
    }

    /// d.
    public var headWidth: Int { keyValue.weight.shape[0] / (2 * keyHeads) }

    /// Keys and values of pictures [N, L, D] for the texts that they belong to.
    ///
    /// Traps unless there are as many pictures as places.
    ///
    /// - Parameters:
    ///   - tokens: [N, L, D], all pictures of the batch, behind the norm of the layer.
    ///   - places: where they stand.
    public func pictures(_ tokens: Tensor, at places: PicturePlaces) -> Pictures {
        let (batch, most) = (places.batch, places.most)
        guard tokens.rank == 3, tokens.shape[0] == places.count else {
            trap("HyperAttention", "\(places.count) pictures [N, L, D] are needed", tokens)
        }
        let length = tokens.shape[1]
        let projected = places.spread(keyValue(tokens))
            .reshaped(to: [batch, most, length, keyHeads, 2 * headWidth]).permuted(to: [0, 3, 1, 2, 4])
            .split(axis: 4, into: [headWidth, headWidth])
        let angles = RotaryAngles(
            positions: (places.table(absent: 0) + Double(fusion.shift)).reshaped(to: [batch, 1, most, 1]),
            width: headWidth, frequencies: rotary)
        let starts = places.table(absent: .infinity)
        return Pictures(
            context: MultiHeadAttention.Context(
                keys: projected[0].rotaryEmbedded(angles).flattened(from: 2, to: 3),
                values: projected[1].flattened(from: 2, to: 3)),
            starts: starts.unsqueezed(2).expanded(to: [batch, most, length]).reshaped(to: [batch, 1, 1, most * length]),
            first: most == 0
                ? .full([batch, 1, 1, 1], .infinity, dtype: .float64)
                : starts.sliced(axis: 1, 0..<1).reshaped(to: [batch, 1, 1, 1]))
    }

    /// What each head of each token found, in text and pictures: [B, H, T, d], for the layer's output projection.
    ///
    /// - Parameters:
    ///   - queries: [B, H, T, d], turned.
    ///   - text: keys, turned, and values of the text.
    ///   - mask: bool, broadcast to [B, H, T, M]; true where a token may look at text; nil for anywhere.
    ///   - isCausal: whether token n may look at keys 0 ... n of the text alone.
    ///   - positions: of the tokens, [T] or [B, T].
    ///   - pictures: what there is to see besides.
    ///   - attend: the layer's own attention from its queries to keys and values, with a mask and the causal order.
    public func callAsFunction(
        queries: Tensor, text: MultiHeadAttention.Context, mask: Tensor?, isCausal: Bool, positions: Tensor,
        pictures: Pictures, attend: (MultiHeadAttention.Context, _ mask: Tensor?, _ isCausal: Bool) -> Tensor
    ) -> Tensor {
        let context = pictures.context
        guard context.keys.shape[2] > 0 else { return attend(text, mask, isCausal) }
        let length = queries.shape[2]
        let here = positions.cast(to: .float64)
            .reshaped(to: [positions.rank == 1 ? 1 : positions.shape[0], 1, length, 1])
        let visible = fusion.seesOwn ? pictures.starts .<= here : pictures.starts .< here
        guard fusion != .joint else {
            // Text stands in front: what it sees of itself alone lies in the same blocks of keys as without pictures.
            let mask = text.joinedMask(mask, isCausal: isCausal, from: queries, with: visible)
            return attend(text.followed(by: context), mask, false)
        }
        let own = attend(text, mask, isCausal)
        let seen = attention(
            query: queries, keys: context.keys, values: context.values, mask: visible, dropout: dropout.draw)
        return select(pictures.first .< here, own + gate(of: own) * (seen - own), else: own)
    }

    /// How open the gates are, in 0 ... 1: [H, 1, d], or [B, 1, T, 1] for what tokens found in the text [B, H, T, d].
    private func gate(of own: Tensor) -> Tensor {
        if let featureGate { return featureGate.sigmoid().reshaped(to: [heads, 1, headWidth]) }
        guard let tokenGate else { trap("HyperAttention", "one softmax has no gates", own) }
        return tokenGate(own.joiningHeads()).sigmoid().unsqueezed(1)
    }

    /// What one sample of so many tokens takes besides the layer's own attention.
    ///
    /// - Parameters:
    ///   - text: T.
    ///   - pictureTokens: P·L.
    public func cost(text: Int, pictureTokens: Int) -> Cost {
        keyValue.cost(rows: pictureTokens)
            + .attention(queries: text, keys: pictureTokens, width: heads * headWidth)
            + (pictureTokens > 0 ? tokenGate?.cost(rows: text) ?? Cost() : Cost())
    }
}

extension Tensor {
    /// Rows of keys [G·d, ...] and of values as they lie in W_kv, head by head: [G·2d, ...].
    fileprivate func interleaved(with values: Tensor, heads: Int) -> Tensor {
        let head = [heads, 1, shape[0] / heads] + shape.dropFirst()
        return concatenated([reshaped(to: head), values.reshaped(to: head)], axis: 1)
            .reshaped(to: [2 * shape[0]] + shape.dropFirst())
    }
}

extension MultiHeadAttention.Context {
    /// Where queries [B, H, T, d] may look in this text of M keys and in pictures behind it: [B, 1 or H, T, M + P·L].
    ///
    /// - Parameters:
    ///   - mask: of the text, broadcast to [B, H, T, M]; bool, or added to the scores; nil for everywhere.
    ///   - isCausal: whether query n may look at keys 0 ... n of the text alone.
    ///   - queries: [B, H, T, d].
    ///   - visible: of the pictures, bool [B or 1, 1, T, P·L].
    fileprivate func joinedMask(
        _ mask: Tensor?, isCausal: Bool, from queries: Tensor, with visible: Tensor
    ) -> Tensor {
        let (length, count) = (queries.shape[2], keys.shape[2])
        let order = Tensor.arange(length, dtype: .int64).unsqueezed(1) .>= .arange(count, dtype: .int64)
        let isAdded = mask.map { $0.dtype != .bool } ?? false
        func hiding(_ mask: Tensor, where allowed: Tensor) -> Tensor {
            isAdded ? select(allowed, mask, else: -.infinity) : mask .& allowed
        }
        var own = mask ?? .full([1], 1, dtype: .bool)
        if isCausal { own = hiding(own, where: order) }
        let all = isAdded ? select(visible, 0, else: Tensor.full([1], -.infinity, dtype: own.dtype)) : visible
        let lead = [queries.shape[0], own.rank == 4 ? own.shape[1] : 1, length]
        return concatenated(
            [own.expanded(to: lead + [count]), all.expanded(to: lead + [visible.shape[3]])], axis: 3)
    }
}
