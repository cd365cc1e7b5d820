import FoveaNN
import FoveaTensor

/// Words and their positions as a Q-Former reads them: E[b, t] = word[id] + position[t]. The norm behind it is the
/// Q-Former's own.
public struct QFormerEmbeddings: Module {
    /// [V, D].
    public var words: Tensor
    /// [P, D].
    public var positions: Tensor
    /// The word that pads, whose row gets no gradient from here; nil for none.
    public let padding: Int?

    /// Both tables from N(0, deviation²), the row of padding zero.
    ///
    /// - Parameters:
    ///   - vocabulary: V.
    ///   - maxPositions: P, the longest text.
    ///   - width: D.
    ///   - padding: the word that pads.
    ///   - deviation: of the normal numbers.
    ///   - key: of the random numbers that the weights start with.
    public init(
        vocabulary: Int, maxPositions: Int, width: Int, padding: Int?, deviation: Double = 0.02, key: RandomKey
    ) {
        let start = Initializer.normal(deviation: deviation)
        let words = start([vocabulary, width], key: key.folding("words"))
        self.words = padding.map { words.replacing(axis: 0, $0..<$0 + 1, with: .zeros([1, width])) } ?? words
        positions = start([maxPositions, width], key: key.folding("positions"))
        self.padding = padding
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("words", &words)
        visitor.parameter("positions", &positions)
    }

    /// Words int64 [B, L] → [B, L, D]. Traps on words outside the table, and for more of them than there are positions.
    ///
    /// - Parameters:
    ///   - ids: int64 [B, L].
    ///   - start: the position of the first one.
    public func callAsFunction(_ ids: Tensor, from start: Int = 0) -> Tensor {
        guard ids.rank == 2 else { trap("QFormerEmbeddings", "words [B, L] are needed", ids) }
        let end = start + ids.shape[1]
        guard end <= positions.shape[0] else {
            trap("QFormerEmbeddings", "\(end) words exceed the \(positions.shape[0]) positions", ids)
        }
        return embedding(ids, table: words, paddingIndex: padding) + positions.sliced(axis: 0, start..<end)
    }
}

/// The head that predicts words: logits = words · LN(GELU(W x + b)) + c, with the words' own table.
public struct QFormerWordHead: Module {
    public var transform: Linear
    public var norm: LayerNorm
    /// c, [V].
    public var bias: Tensor
    public let activation: Activation

    /// A head with fresh weights.
    ///
    /// - Parameters:
    ///   - options: of the Q-Former.
    ///   - vocabulary: V.
    ///   - key: of the random numbers that the weights start with.
    public init(_ options: QFormer.Options, vocabulary: Int, key: RandomKey) {
        transform = Linear(
            options.width, options.width, initializer: .normal(deviation: options.deviation),
            key: key.folding("transform"))
        norm = LayerNorm(options.width, epsilon: options.epsilon)
        bias = .zeros([vocabulary])
        activation = options.activation
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("transform", &transform)
        visitor.module("norm", &norm)
        visitor.parameter("bias", &bias)
    }

    /// x [B, L, D] and the words' table [V, D] → logits [B, L, V].
    public func callAsFunction(_ x: Tensor, words: Tensor) -> Tensor {
        linear(norm(activation(transform(x))), weight: words, bias: bias)
    }
}
