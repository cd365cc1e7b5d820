import FoveaNN
import FoveaTensor

/// The first half of a layer with hyper attention: norm, attention to the text, and the injection that they share.
/// `HyperAttention` gives the equations.
public struct HyperSelfAttention: Module {
    /// Over the text, and over the tokens of pictures.
    public var norm: RMSNorm
    public var attention: SelfAttention
    public var injection: HyperAttention

    /// Sizes; those of the published class unless given.
    public struct Options: Sendable, Equatable {
        /// D.
        public var width: Int
        /// H.
        public var heads: Int
        /// G.
        public var keyHeads: Int
        /// Which of the definitions.
        public var fusion: HyperAttention.Fusion
        /// Of the norm.
        public var epsilon = 1e-6
        /// Of the rotary angles.
        public var rotary = RotaryFrequencies()
        /// The share of attention weights that is dropped in training.
        public var dropout = 0.0
        /// Deviation of the normal numbers that all matrices start with.
        public var deviation = 0.02

        /// - Parameters:
        ///   - width: D.
        ///   - heads: H, a divisor of D.
        ///   - keyHeads: G, a divisor of H; H unless given.
        ///   - fusion: which of the definitions.
        public init(width: Int, heads: Int, keyHeads: Int? = nil, fusion: HyperAttention.Fusion) {
            self.width = width
            self.heads = heads
            self.keyHeads = keyHeads ?? heads
            self.fusion = fusion
        }
    }

    /// Fresh weights: matrices from N(0, deviation²), biases zero; those of the pictures start as those of the text.
    public init(_ options: Options, key: RandomKey) {
        norm = RMSNorm(options.width, epsilon: options.epsilon)
        attention = SelfAttention(
            options.width, heads: options.heads, keyHeads: options.keyHeads, bias: true, dropout: options.dropout,
            initializer: .normal(deviation: options.deviation), key: key.folding("attention"))
        injection = HyperAttention(
            in: attention, fusion: options.fusion, rotary: options.rotary, dropout: options.dropout)
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("norm", &norm)
        visitor.module("attention", &attention)
        visitor.module("injection", &injection)
    }

    /// Text [B, T, D] in front of the layer and pictures [N, L, D] → what the layer adds to the text, [B, T, D].
    ///
    /// Traps for pictures and places that do not fit.
    ///
    /// - Parameters:
    ///   - x: [B, T, D].
    ///   - pictures: [N, L, D], all of the batch, as wide as the text.
    ///   - places: where they stand.
    public func callAsFunction(_ x: Tensor, pictures: Tensor, at places: PicturePlaces) -> Tensor {
        if let problem = places.problem(pictures: pictures.shape[0], batch: x.shape[0], length: x.shape[1]) {
            trap("HyperAttention", problem, x, pictures)
        }
        let positions = Tensor.arange(x.shape[1], dtype: .int64)
        let angles = RotaryAngles(positions: positions, width: attention.headWidth, frequencies: injection.rotary)
        let (queries, text) = attention.projected(norm(x), angles: angles)
        let attended = injection(
            queries: queries, text: text, mask: nil, isCausal: true, positions: positions,
            pictures: injection.pictures(norm(pictures), at: places)
        ) { context, mask, isCausal in
            attention.attended(queries, to: context, mask: mask, isCausal: isCausal).output
        }
        return attention.output(attended.joiningHeads())
    }

    /// What one sample of so many tokens takes.
    ///
    /// - Parameters:
    ///   - text: T.
    ///   - pictureTokens: P·L.
    public func cost(text: Int, pictureTokens: Int) -> Cost {
        attention.cost(rows: text) + .attention(queries: text, keys: text, width: attention.heads * attention.headWidth)
            + injection.cost(text: text, pictureTokens: pictureTokens)
    }
}
