import FoveaTensor

/// Attention of a sequence to itself as language models have it: rotary positions, and key heads that several query
/// heads share.
///
///     q, k, v = W_q x, W_k x, W_v x                 H heads of q, G ≤ H heads of k and v
///     q, k    ← rotated by the angles of their positions
///     y       = W_o [softmax(q_h kᵀ / √d) v for each head h]
///
/// Head h of the query reads key head ⌊h · G / H⌋. (Ainslie et al., "GQA", 2023; Su et al., "RoFormer", 2021.)
/// Heads are consecutive stretches of the projected features.
public struct SelfAttention: Module {
    /// [C] → [H·d].
    public var query: Linear
    /// [C] → [G·d].
    public var key: Linear
    /// [C] → [G·d].
    public var value: Linear
    /// [H·d] → [C].
    public var output: Linear
    /// Of the attention weights, in training.
    public var dropout: Dropout
    /// H.
    public let heads: Int
    /// G.
    public let keyHeads: Int

    /// - Parameters:
    ///   - width: C.
    ///   - heads: H.
    ///   - keyHeads: G, a divisor of H; H unless given.
    ///   - headWidth: d, even; C / H unless given.
    ///   - bias: whether queries, keys and values have biases.
    ///   - outputBias: whether the output has one.
    ///   - dropout: the share of attention weights that is dropped in training.
    ///   - initializer: how the weights start; as PyTorch's linear layers unless given.
    ///   - randomKey: of the random numbers that the weights start with.
    public init(
        _ width: Int, heads: Int, keyHeads: Int? = nil, headWidth: Int? = nil, bias: Bool = false,
        outputBias: Bool = false, dropout: Double = 0, initializer: Initializer? = nil, key randomKey: RandomKey
    ) {
        let groups = keyHeads ?? heads
        let headWidth = headWidth ?? width / max(1, heads)
        if let problem = SelfAttention.problem(width, heads: heads, keyHeads: groups, headWidth: headWidth) {
            trap("SelfAttention", problem)
        }
        func linear(_ inputs: Int, _ outputs: Int, bias: Bool, _ name: String) -> Linear {
            Linear(inputs, outputs, bias: bias, initializer: initializer, key: randomKey.folding(name))
        }
        self.heads = heads
        self.keyHeads = groups
        self.dropout = Dropout(dropout)
        query = linear(width, heads * headWidth, bias: bias, "query")
        key = linear(width, groups * headWidth, bias: bias, "key")
        value = linear(width, groups * headWidth, bias: bias, "value")
        output = linear(heads * headWidth, width, bias: outputBias, "output")
    }

    /// What does not fit between these sizes, in a few words; nil when they do.
    public static func problem(_ width: Int, heads: Int, keyHeads: Int, headWidth: Int) -> String? {
        guard heads > 0, keyHeads > 0, heads % keyHeads == 0 else {
            return "\(heads) heads cannot share \(keyHeads) key heads evenly"
        }
        guard headWidth > 0, headWidth % 2 == 0 else {
            return "rotary positions need heads of even width; \(width) channels in \(heads) heads make \(headWidth)"
        }
        return nil
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("query", &query)
        visitor.module("key", &key)
        visitor.module("value", &value)
        visitor.module("output", &output)
        visitor.module("dropout", &dropout)
    }

    /// d.
    public var headWidth: Int { query.weight.shape[0] / heads }

    /// x [B, T, C] → [B, T, C].
    ///
    /// - Parameters:
    ///   - x: [B, T, C].
    ///   - angles: of the positions of x: [T], or [B, 1, T].
    ///   - mask: bool, broadcast to [B, H, T, T]; true where a query may look.
    ///   - isCausal: whether each may look at itself and what stands before it alone.
    public func callAsFunction(
        _ x: Tensor, angles: RotaryAngles, mask: Tensor? = nil, isCausal: Bool = true
    ) -> Tensor {
        self(x, angles: angles, mask: mask, isCausal: isCausal, taps: []).output
    }

    /// The same, and what token reducers need to know of the attention.
    ///
    /// - Parameters:
    ///   - x: [B, T, C].
    ///   - angles: of the positions of x: [T], or [B, 1, T].
    ///   - mask: bool, broadcast to [B, H, T, T]; true where a query may look.
    ///   - isCausal: whether each may look at itself and what stands before it alone.
    ///   - taps: what to hand out.
    /// - Returns: [B, T, C], and a constant for each tap; `AttentionTap` says of what shape.
    public func callAsFunction(
        _ x: Tensor, angles: RotaryAngles, mask: Tensor? = nil, isCausal: Bool = true, taps: [AttentionTap]
    ) -> (output: Tensor, taps: [Tensor]) {
        let (queries, context) = projected(x, angles: angles)
        let (attended, tapped) = attended(queries, to: context, mask: mask, isCausal: isCausal, taps: taps)
        return (output(attended.joiningHeads()), tapped)
    }

    /// What x [B, T, C] asks with and what it shows: queries [B, H, T, d] and keys, turned, and values [B, G, T, d].
    public func projected(
        _ x: Tensor, angles: RotaryAngles
    ) -> (queries: Tensor, context: MultiHeadAttention.Context) {
        guard x.rank == 3 else { trap("SelfAttention", "[B, T, C] is needed", x) }
        return inHeads(queries: query(x), keys: key(x), values: value(x), angles: angles)
    }

    /// The same of what has been projected: queries [B, T, H·d], keys and values [B, T, G·d].
    public func inHeads(
        queries: Tensor, keys: Tensor, values: Tensor, angles: RotaryAngles
    ) -> (queries: Tensor, context: MultiHeadAttention.Context) {
        (
            queries.splitIntoHeads(heads).rotaryEmbedded(angles),
            MultiHeadAttention.Context(
                keys: keys.splitIntoHeads(keyHeads).rotaryEmbedded(angles), values: values.splitIntoHeads(keyHeads))
        )
    }

    /// What queries [B, H, T, d] find in keys and values [B, G, M, d]: [B, H, T, d], and a constant for each tap.
    ///
    /// - Parameters:
    ///   - queries: [B, H, T, d].
    ///   - context: keys and values.
    ///   - mask: bool, broadcast to [B, H, T, M]; true where a query may look.
    ///   - isCausal: whether query n may look at keys 0 ... n alone.
    ///   - taps: what to hand out.
    public func attended(
        _ queries: Tensor, to context: MultiHeadAttention.Context, mask: Tensor? = nil, isCausal: Bool = true,
        taps: [AttentionTap] = []
    ) -> (output: Tensor, taps: [Tensor]) {
        attention(
            query: queries, keys: context.keys, values: context.values, mask: mask, isCausal: isCausal,
            dropout: dropout.draw, taps: taps)
    }
}

extension SelfAttention {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "self-attention", "causal attention of a sequence to itself with rotary positions and shared key heads",
        forms: [
            PublishedForm(
                WeightLayout<SelfAttention>.native,
                keys: [
                    .size("width", "C", from: .axis(1, of: "query.weight")), .size("heads", "H"),
                    .size("keyHeads", "G, or null for H", default: .null),
                    .size("headWidth", "d, or null for C / H", default: .null),
                    .flag(
                        "bias", "whether queries, keys and values have biases", default: false,
                        from: .presence(of: "query.bias")),
                    .flag(
                        "outputBias", "whether the output has a bias", default: false,
                        from: .presence(of: "output.bias")),
                ],
                inputs: [.init("x", "[B, T, width]")], outputs: [.init("y", "[B, T, width]")],
                sample: ["width": 8, "heads": 4, "keyHeads": 2, "headWidth": 4, "bias": true],
                sampleInputs: { ["x": $0.uniform([2, 3, 8])] },
                make: { configuration in
                    let (width, heads) = (configuration.int("width"), configuration.int("heads"))
                    let keyHeads = configuration.optionalInt("keyHeads") ?? heads
                    let headWidth = configuration.optionalInt("headWidth") ?? width / heads
                    if let problem = problem(width, heads: heads, keyHeads: keyHeads, headWidth: headWidth) {
                        throw configuration.error(problem)
                    }
                    return SelfAttention(
                        width, heads: heads, keyHeads: keyHeads, headWidth: headWidth,
                        bias: configuration.bool("bias"), outputBias: configuration.bool("outputBias"),
                        key: configuration.key)
                },
                run: { attention, inputs in
                    let x = inputs["x"]
                    let angles = RotaryAngles(positions: .arange(x.shape[1]), width: attention.headWidth)
                    return ["y": attention(x, angles: angles)]
                })
        ])
}
