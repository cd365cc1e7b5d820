import FoveaTensor

/// Attention in several heads, of a sequence to itself or to another one.
///
/// Heads are consecutive stretches of the projected features: feature h·d + i is element i of head h.
/// (Vaswani et al., "Attention is all you need", 2017, §3.2.2.)
public struct MultiHeadAttention: Module {
    /// [C] → [H·d].
    public var query: Linear
    /// [Cm] → [H·d].
    public var key: Linear
    /// [Cm] → [H·d].
    public var value: Linear
    /// [H·d] → [C].
    public var output: Linear
    /// Of the attention weights, in training.
    public var dropout: Dropout
    /// H.
    public let heads: Int

    /// - Parameters:
    ///   - width: C of the queries and of the result.
    ///   - contextWidth: Cm of what is attended to; C unless given.
    ///   - heads: H.
    ///   - headWidth: d; C / H unless given.
    ///   - bias: whether the four projections have biases.
    ///   - dropout: the share of attention weights that is dropped in training.
    ///   - randomKey: of the random numbers that the weights start with.
    public init(
        _ width: Int, contextWidth: Int? = nil, heads: Int, headWidth: Int? = nil, bias: Bool = true,
        dropout: Double = 0, key randomKey: RandomKey
    ) {
        guard heads > 0, headWidth != nil || width % heads == 0 else {
            trap("MultiHeadAttention", "width \(width) does not divide by \(heads) heads; give headWidth")
        }
        let inner = heads * (headWidth ?? width / heads)
        let context = contextWidth ?? width
        self.heads = heads
        self.dropout = Dropout(dropout)
        query = Linear(width, inner, bias: bias, key: randomKey.folding("query"))
        key = Linear(context, inner, bias: bias, key: randomKey.folding("key"))
        value = Linear(context, inner, bias: bias, key: randomKey.folding("value"))
        output = Linear(inner, width, bias: bias, key: randomKey.folding("output"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("query", &query)
        visitor.module("key", &key)
        visitor.module("value", &value)
        visitor.module("output", &output)
        visitor.module("dropout", &dropout)
    }

    /// x [B, N, C] attends to context [B, M, Cm], or to itself → [B, N, C].
    ///
    /// - Parameters:
    ///   - x: [B, N, C], what the queries are made of.
    ///   - context: [B, M, Cm], what the keys and values are made of; x unless given.
    ///   - values: [B, M, Cm], what the values are made of where that is not the context.
    ///   - mask: bool, broadcast to [B, H, N, M]; true where x may look.
    public func callAsFunction(
        _ x: Tensor, context: Tensor? = nil, values: Tensor? = nil, mask: Tensor? = nil
    ) -> Tensor {
        self(x, context: context, values: values, mask: mask, taps: []).output
    }

    /// The same, and what token reducers need to know of the attention.
    ///
    /// - Parameters:
    ///   - x: [B, N, C].
    ///   - context: [B, M, Cm]; x unless given.
    ///   - values: [B, M, Cm]; the context unless given.
    ///   - mask: bool, broadcast to [B, H, N, M]; true where x may look.
    ///   - taps: what to hand out.
    /// - Returns: [B, N, C], and a constant for each tap; `AttentionTap` says of what shape.
    public func callAsFunction(
        _ x: Tensor, context: Tensor? = nil, values: Tensor? = nil, mask: Tensor? = nil, taps: [AttentionTap]
    ) -> (output: Tensor, taps: [Tensor]) {
        let context = context ?? x
        guard x.rank == 3, context.rank == 3 else {
            trap("MultiHeadAttention", "x [B, N, C] and context [B, M, Cm] are needed", x, context)
        }
        let (attended, tapped) = attention(
            query: query(x).splitIntoHeads(heads), keys: key(context).splitIntoHeads(heads),
            values: value(values ?? context).splitIntoHeads(heads), mask: mask, dropout: dropout.draw, taps: taps)
        return (output(attended.joiningHeads()), tapped)
    }
}

extension MultiHeadAttention {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "multi-head-attention", "attention in several heads, to another sequence",
        forms: [
            PublishedForm(
                WeightLayout<MultiHeadAttention>.native,
                keys: [
                    .size("width", "C", from: .axis(1, of: "query.weight")),
                    .size("contextWidth", "Cm, or null for C", default: .null, from: .axis(1, of: "key.weight")),
                    .size("heads", "H"),
                    .size("headWidth", "d, or null for C / H", default: .null),
                    .flag("bias", "whether there are biases", default: true, from: .presence(of: "query.bias")),
                ],
                inputs: [.init("x", "[B, N, width]"), .init("context", "[B, M, contextWidth]")],
                outputs: [.init("y", "[B, N, width]")],
                sample: ["width": 6, "contextWidth": 4, "heads": 2, "headWidth": 4],
                sampleInputs: { ["x": $0.uniform([2, 3, 6]), "context": $0.uniform([2, 5, 4])] },
                make: { configuration in
                    let (width, heads) = (configuration.int("width"), configuration.int("heads"))
                    let headWidth = configuration.optionalInt("headWidth")
                    guard headWidth != nil || width % heads == 0 else {
                        throw configuration.error(
                            "\"width\" \(width) does not divide by \(heads) heads; give \"headWidth\"")
                    }
                    return MultiHeadAttention(
                        width, contextWidth: configuration.optionalInt("contextWidth"), heads: heads,
                        headWidth: headWidth, bias: configuration.bool("bias"), key: configuration.key)
                },
                run: { ["y": $0($1["x"], context: $1["context"])] })
        ])
}
