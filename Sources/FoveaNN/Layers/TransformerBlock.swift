import FoveaTensor

/// One layer of a pre-norm transformer encoder: x += attention(norm x), x += mlp(norm x).
public struct TransformerBlock: Module {
    public var attentionNorm: LayerNorm
    public var attention: MultiHeadAttention
    public var mlpNorm: LayerNorm
    public var mlp: MLP
    public var attentionDropout: Dropout
    public var mlpDropout: Dropout

    /// - Parameters:
    ///   - width: C.
    ///   - heads: H, a divisor of C.
    ///   - hidden: the width inside the MLP; four times the width unless given.
    ///   - activation: the function inside the MLP.
    ///   - epsilon: of the norms.
    ///   - dropout: the rate after attention and MLP, in training.
    ///   - attentionWeightDropout: the share of attention weights that is dropped in training.
    ///   - key: of the random numbers that the weights start with.
    public init(
        _ width: Int, heads: Int, hidden: Int? = nil, activation: Activation = .gelu, epsilon: Double = 1e-5,
        dropout: Double = 0, attentionWeightDropout: Double = 0, key: RandomKey
    ) {
        attentionNorm = LayerNorm(width, epsilon: epsilon)
        attention = MultiHeadAttention(
            width, heads: heads, dropout: attentionWeightDropout, key: key.folding("attention"))
        mlpNorm = LayerNorm(width, epsilon: epsilon)
        mlp = MLP(width, hidden: hidden ?? 4 * width, activation: activation, key: key.folding("mlp"))
        attentionDropout = Dropout(dropout)
        mlpDropout = Dropout(dropout)
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("attentionNorm", &attentionNorm)
        visitor.module("attention", &attention)
        visitor.module("mlpNorm", &mlpNorm)
        visitor.module("mlp", &mlp)
        visitor.module("attentionDropout", &attentionDropout)
        visitor.module("mlpDropout", &mlpDropout)
    }

    /// x [B, N, C] → [B, N, C]; see `recomputingLayers`.
    public func callAsFunction(_ x: Tensor) -> Tensor { recomputable { self(x, taps: []).output } }

    /// The same, and what token reducers need to know of the attention.
    ///
    /// - Parameters:
    ///   - x: [B, N, C].
    ///   - taps: what to hand out.
    /// - Returns: [B, N, C], a constant for each tap, and the keys [B, G, N, d].
    public func callAsFunction(
        _ x: Tensor, taps: [AttentionTap]
    ) -> (output: Tensor, taps: [Tensor], keys: Tensor) {
        let normed = attentionNorm(x)
        let context = attention.projected(normed)
        let (attended, tapped) = attention(normed, to: context, taps: taps)
        let x = x + attentionDropout(attended)
        return (x + mlpDropout(mlp(mlpNorm(x))), tapped, context.keys)
    }
}

extension TransformerBlock {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "transformer-block", "one pre-norm layer of an encoder",
        forms: [
            PublishedForm(
                WeightLayout<TransformerBlock>.native,
                keys: [
                    .size("width", "C", from: .axis(0, of: "attentionNorm.weight")), .size("heads", "H"),
                    .size("hidden", "the width inside the MLP", from: .axis(0, of: "mlp.expand.weight")),
                ],
                inputs: [.init("x", "[B, N, width]")], outputs: [.init("y", "[B, N, width]")],
                sample: ["width": 6, "heads": 2, "hidden": 8], sampleInputs: { ["x": $0.uniform([2, 3, 6])] },
                make: { configuration in
                    let (width, heads) = (configuration.int("width"), configuration.int("heads"))
                    guard width % heads == 0 else {
                        throw configuration.error("\"width\" \(width) does not divide by \(heads) heads")
                    }
                    return TransformerBlock(
                        width, heads: heads, hidden: configuration.int("hidden"), key: configuration.key)
                },
                run: { ["y": $0($1["x"])] })
        ])
}
