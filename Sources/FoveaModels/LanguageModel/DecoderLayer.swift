import FoveaNN
import FoveaTensor

/// One layer of a causal decoder: x += attention(norm x), x += mlp(norm x).
public struct DecoderLayer: Module {
    public var attentionNorm: RMSNorm
    public var attention: SelfAttention
    public var mlpNorm: RMSNorm
    public var mlp: GatedMLP

    init(_ options: LanguageModel.Options, key: RandomKey) {
        let start = Initializer.normal(deviation: options.deviation)
        attentionNorm = RMSNorm(options.width, epsilon: options.epsilon)
        attention = SelfAttention(
            options.width, heads: options.heads, keyHeads: options.keyHeads, headWidth: options.headWidth,
            bias: options.attentionBias, outputBias: options.outputBias, dropout: options.attentionDropout,
            initializer: start, key: key.folding("attention"))
        mlpNorm = RMSNorm(options.width, epsilon: options.epsilon)
        mlp = GatedMLP(
            options.width, hidden: options.hidden, activation: options.activation, bias: options.mlpBias,
            initializer: start, key: key.folding("mlp"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("attentionNorm", &attentionNorm)
        visitor.module("attention", &attention)
        visitor.module("mlpNorm", &mlpNorm)
        visitor.module("mlp", &mlp)
    }

    /// x [B, T, D] → [B, T, D].
    public func callAsFunction(_ x: Tensor, in context: SequenceContext) -> Tensor {
        let x =
            x
            + attention(
                attentionNorm(x), angles: context.angles, mask: context.mask, isCausal: context.isCausal)
        return x + mlp(mlpNorm(x))
    }
}
