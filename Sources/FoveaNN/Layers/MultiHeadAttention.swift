import FoveaTensor

/// Attention in several heads, of a sequence to itself or to another one.
///
/// Heads are consecutive stretches of the projected features: feature h·d + i is element i of head h. There may be fewer
/// heads of keys and values than of queries; head h of the query then reads key head ⌊h · G / H⌋.
/// (Vaswani et al., "Attention is all you need", 2017, §3.2.2; Ainslie et al., "GQA", 2023.)
public struct MultiHeadAttention: Module {
    /// [C] → [H·d].
    public var query: Linear
    /// [Cm] → [G·d].
    public var key: Linear
    /// [Cm] → [G·d].
    public var value: Linear
    /// [H·d] → [C].
    public var output: Linear
    /// Over the d features of each head of the query; nil without.
    public var queryNorm: (any UnaryLayer)?
    /// Over the d features of each head of the keys; nil without.
    public var keyNorm: (any UnaryLayer)?
    /// Of the attention weights, in training.
    public var dropout: Dropout
    /// H.
    public let heads: Int
    /// G.
    public let keyHeads: Int

    /// What queries look at, projected once: keys and values, [B, G, M, d] each.
    public struct Context: Sendable {
        public var keys: Tensor
        public var values: Tensor

        public init(keys: Tensor, values: Tensor) {
            self.keys = keys
            self.values = values
        }

        /// These M and then the others.
        public func followed(by others: Self) -> Self {
            Self(
                keys: concatenated([keys, others.keys], axis: 2),
                values: concatenated([values, others.values], axis: 2))
        }
    }

    /// - Parameters:
    ///   - width: C of the queries and of the result.
    ///   - contextWidth: Cm of what is attended to; C unless given.
    ///   - heads: H.
    ///   - keyHeads: G, a divisor of H; H unless given.
    ///   - headWidth: d; C / H unless given.
    ///   - bias: whether the four projections have biases.
    ///   - headNorm: the norm over each head of queries and keys; none unless given.
    ///   - dropout: the share of attention weights that is dropped in training.
    ///   - initializer: how the projections start; as PyTorch's linear layers unless given.
    ///   - randomKey: of the random numbers that the weights start with.
    public init(
        _ width: Int, contextWidth: Int? = nil, heads: Int, keyHeads: Int? = nil, headWidth: Int? = nil,
        bias: Bool = true, headNorm: Norm? = nil, dropout: Double = 0, initializer: Initializer? = nil,
        key randomKey: RandomKey
    ) {
        let groups = keyHeads ?? heads
        if let problem = MultiHeadAttention.problem(width, heads: heads, keyHeads: groups, headWidth: headWidth) {
            trap("MultiHeadAttention", problem)
        }
        let headWidth = headWidth ?? width / heads
        func linear(_ inputs: Int, _ outputs: Int, _ name: String) -> Linear {
            Linear(inputs, outputs, bias: bias, initializer: initializer, key: randomKey.folding(name))
        }
        self.heads = heads
        self.keyHeads = groups
        self.dropout = Dropout(dropout)
        query = linear(width, heads * headWidth, "query")
        key = linear(contextWidth ?? width, groups * headWidth, "key")
        value = linear(contextWidth ?? width, groups * headWidth, "value")
        output = linear(heads * headWidth, width, "output")
        queryNorm = headNorm?(headWidth)
        keyNorm = headNorm?(headWidth)
    }

    /// What does not fit between these sizes, in a few words; nil when they do.
    public static func problem(_ width: Int, heads: Int, keyHeads: Int, headWidth: Int?) -> String? {
        guard heads > 0, headWidth != nil || width % heads == 0 else {
            return "width \(width) does not divide by \(heads) heads; give the width of a head"
        }
        guard keyHeads > 0, heads % keyHeads == 0 else {
            return "\(heads) heads cannot share \(keyHeads) key heads evenly"
        }
        return nil
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("query", &query)
        visitor.module("key", &key)
        visitor.module("value", &value)
        visitor.module("output", &output)
        visitor.module("queryNorm", &queryNorm)
        visitor.module("keyNorm", &keyNorm)
        visitor.module("dropout", &dropout)
    }

    /// H·d.
    public var innerWidth: Int { query.weight.shape[0] }

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
        self(x, to: projected(context ?? x, values: values), mask: mask, taps: taps)
    }

    /// Keys and values of a context [B, M, Cm], to be attended to more than once.
    ///
    /// - Parameters:
    ///   - context: [B, M, Cm], what the keys are made of.
    ///   - values: [B, M, Cm], what the values are made of; the context unless given.
    public func projected(_ context: Tensor, values: Tensor? = nil) -> Context {
        guard context.rank == 3 else { trap("MultiHeadAttention", "context [B, M, Cm] is needed", context) }
        // What all keys have in common shifts the scores of a query alike, which no softmax sees: its gradient is zero,
        // and is not left to rounding. So a bias with no norm behind it is a constant.
        let keys =
            keyNorm == nil ? linear(context, weight: key.weight, bias: key.bias?.detached) : key(context)
        return self.context(keys: keys, values: value(values ?? context))
    }

    /// Keys and values that are projected already, [B, M, G·d] each, in their heads and the keys under their norm.
    public func context(keys: Tensor, values: Tensor) -> Context {
        let keys = keys.splitIntoHeads(keyHeads)
        // The norm's own bias, which all keys share, is left out for the same reason.
        let normed = (keyNorm as? LayerNorm)?.withoutBias(keys) ?? keyNorm?(keys) ?? keys
        return Context(keys: normed, values: values.splitIntoHeads(keyHeads))
    }

    /// x [B, N, C] attends to what has been projected → [B, N, C].
    ///
    /// - Parameters:
    ///   - x: [B, N, C].
    ///   - context: keys and values.
    ///   - mask: bool, broadcast to [B, H, N, M]; true where x may look.
    ///   - taps: what to hand out.
    /// - Returns: [B, N, C], and a constant for each tap.
    public func callAsFunction(
        _ x: Tensor, to context: Context, mask: Tensor? = nil, taps: [AttentionTap] = []
    ) -> (output: Tensor, taps: [Tensor]) {
        self(queries: queries(x), to: context, mask: mask, taps: taps)
    }

    /// Whether `callAsFunction(_:absorbing:)` has a way through: not with norms over the keys, biases or shared key heads.
    public var canAbsorbContext: Bool {
        keyHeads == heads && keyNorm == nil && key.bias == nil && value.bias == nil
    }

    /// Whether N queries are for `callAsFunction(_:absorbing:)`: it does the same as projecting a long context, with fewer
    /// multiply-adds where N is less than about d, and was measured to be faster up to half of that.
    public func absorbsContext(queries count: Int) -> Bool {
        canAbsorbContext && 2 * count <= innerWidth / heads
    }

    /// x [B, N, C] attends to context [B, M, Cm] as it is, its projections absorbed by what asks and what is found → [B, N, C].
    ///
    /// Since q·(W_k m) = (W_kᵀ q)·m and Σ p W_v m = W_v Σ p m, each head brings its few queries to the width of the context, and
    /// what they find there back to d; the context is neither projected nor copied for each head. (DeepSeek-AI, "DeepSeek-V2", 2024,
    /// §2.1.2, says so of its compressed keys.)
    ///
    /// Traps unless `canAbsorbContext`.
    ///
    /// - Parameters:
    ///   - x: [B, N, C].
    ///   - context: [B, M, Cm].
    ///   - mask: bool, broadcast to [B, H, N, M]; true where x may look.
    ///   - taps: what to hand out.
    /// - Returns: [B, N, C], and a constant for each tap.
    public func callAsFunction(
        _ x: Tensor, absorbing context: Tensor, mask: Tensor? = nil, taps: [AttentionTap] = []
    ) -> (output: Tensor, taps: [Tensor]) {
        guard x.rank == 3, context.rank == 3, canAbsorbContext else {
            trap(
                "MultiHeadAttention",
                "x [B, N, C], a context [B, M, Cm] and projections without biases, norms and shared heads are needed",
                x, context)
        }
        let width = innerWidth / heads
        let asked = query(x)
        let normed = queryNorm.map { $0(asked.splitIntoHeads(heads)).joiningHeads() } ?? asked
        let absorbed = groupedLinear(normed, weight: key.weight, groups: heads, transposed: true)
        let shared = context.unsqueezed(1)
        let (found, tapped) = attention(
            query: absorbed.splitIntoHeads(heads), keys: shared, values: shared, mask: mask,
            scale: 1 / Double(width).squareRoot(), dropout: dropout.draw, taps: taps)
        return (output(groupedLinear(found.joiningHeads(), weight: value.weight, groups: heads)), tapped)
    }

    /// What x [B, N, C] asks with, [B, H, N, d].
    public func queries(_ x: Tensor) -> Tensor {
        guard x.rank == 3 else { trap("MultiHeadAttention", "x [B, N, C] is needed", x) }
        let queries = query(x).splitIntoHeads(heads)
        return queryNorm?(queries) ?? queries
    }

    /// What queries [B, H, N, d] find in what has been projected → [B, N, C].
    ///
    /// - Parameters:
    ///   - queries: [B, H, N, d].
    ///   - context: keys and values.
    ///   - mask: bool, broadcast to [B, H, N, M]; true where they may look.
    ///   - taps: what to hand out.
    /// - Returns: [B, N, C], and a constant for each tap.
    public func callAsFunction(
        queries: Tensor, to context: Context, mask: Tensor? = nil, taps: [AttentionTap] = []
    ) -> (output: Tensor, taps: [Tensor]) {
        let (attended, tapped) = attention(
            query: queries, keys: context.keys, values: context.values, mask: mask, dropout: dropout.draw, taps: taps)
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
                    .size("keyHeads", "G, or null for H", default: .null),
                    .size("headWidth", "d, or null for C / H", default: .null),
                    .flag("bias", "whether there are biases", default: true, from: .presence(of: "query.bias")),
                    .flag(
                        "headNorm", "whether each head of queries and keys has a layer norm", default: false,
                        from: .presence(of: "queryNorm.weight")),
                ],
                inputs: [.init("x", "[B, N, width]"), .init("context", "[B, M, contextWidth]")],
                outputs: [.init("y", "[B, N, width]")],
                sample: ["width": 8, "contextWidth": 4, "heads": 4, "keyHeads": 2, "headWidth": 3, "headNorm": true],
                sampleInputs: { ["x": $0.uniform([2, 3, 8]), "context": $0.uniform([2, 5, 4])] },
                make: { configuration in
                    let (width, heads) = (configuration.int("width"), configuration.int("heads"))
                    let keyHeads = configuration.optionalInt("keyHeads") ?? heads
                    let headWidth = configuration.optionalInt("headWidth")
                    if let problem = problem(width, heads: heads, keyHeads: keyHeads, headWidth: headWidth) {
                        throw configuration.error(problem)
                    }
                    return MultiHeadAttention(
                        width, contextWidth: configuration.optionalInt("contextWidth"), heads: heads,
                        keyHeads: keyHeads, headWidth: headWidth, bias: configuration.bool("bias"),
                        headNorm: configuration.bool("headNorm") ? .layer() : nil, key: configuration.key)
                },
                run: { ["y": $0($1["x"], context: $1["context"])] })
        ])
}
