import FoveaCompression
import FoveaNN
import FoveaTensor

/// A causal decoder, as the Llama and Qwen2 families have it: from tokens to the logits of the next ones.
/// (Touvron et al., "LLaMA", 2023, §2.2; the forms published as `LlamaForCausalLM` and `Qwen2ForCausalLM`.)
///
///     x ← the embeddings of the tokens
///     for each layer:
///         x ← x + attention(RMSNorm x)            rotary positions, causal, shared key heads
///         x ← x + SwiGLU(RMSNorm x)
///     logits = W_head RMSNorm x                    W_head is the embedding's table where the two are tied
public struct LanguageModel: Module {
    /// The table of token embeddings, [V, D].
    public var embedding: Tensor
    public var layers: [DecoderLayer]
    public var norm: RMSNorm
    /// [D] → [V]; nil where the embedding's table serves as head.
    public var head: Linear?
    /// The sizes that the model was made with.
    public internal(set) var options: Options

    /// Sizes of a language model.
    public struct Options: Sendable, Equatable {
        /// V, how many tokens there are.
        public var vocabulary: Int
        /// D.
        public var width: Int
        /// The width inside the MLP.
        public var hidden: Int
        /// How many layers.
        public var depth: Int
        /// H.
        public var heads: Int
        /// G, the heads of keys and values.
        public var keyHeads: Int
        /// d.
        public var headWidth: Int
        /// Whether queries, keys and values have biases.
        public var attentionBias: Bool
        /// Whether the output of attention has a bias.
        public var outputBias: Bool
        /// Whether the MLP has biases.
        public var mlpBias: Bool
        /// The function of the MLP's gate.
        public var activation: Activation
        /// Whether the embedding's table is the head too.
        public var tiesHead: Bool
        /// Of the norms.
        public var epsilon: Double
        /// How fast the rotary angles grow.
        public var rotary: RotaryFrequencies
        /// The most tokens that a sequence may have.
        public var contextLength: Int
        /// The share of attention weights that is dropped in training.
        public var attentionDropout: Double
        /// Deviation of the normal numbers that all matrices start with.
        public var deviation: Double

        public init(
            vocabulary: Int, width: Int, hidden: Int, depth: Int, heads: Int, keyHeads: Int? = nil,
            headWidth: Int? = nil, attentionBias: Bool = false, outputBias: Bool = false, mlpBias: Bool = false,
            activation: Activation = .silu, tiesHead: Bool = false, epsilon: Double = 1e-6,
            rotary: RotaryFrequencies = .init(), contextLength: Int = 2048, attentionDropout: Double = 0,
            deviation: Double = 0.02
        ) {
            self.vocabulary = vocabulary
            self.width = width
            self.hidden = hidden
            self.depth = depth
            self.heads = heads
            self.keyHeads = keyHeads ?? heads
            self.headWidth = headWidth ?? width / max(1, heads)
            self.attentionBias = attentionBias
            self.outputBias = outputBias
            self.mlpBias = mlpBias
            self.activation = activation
            self.tiesHead = tiesHead
            self.epsilon = epsilon
            self.rotary = rotary
            self.contextLength = contextLength
            self.attentionDropout = attentionDropout
            self.deviation = deviation
        }
    }

    /// A model with fresh weights: matrices from N(0, deviation²), biases zero, norms one.
    public init(_ options: Options, key: RandomKey) {
        self.options = options
        let start = Initializer.normal(deviation: options.deviation)
        embedding = start([options.vocabulary, options.width], key: key.folding("embedding"))
        layers = (0..<options.depth).map { DecoderLayer(options, key: key.folding("layers").folding(UInt64($0))) }
        norm = RMSNorm(options.width, epsilon: options.epsilon)
        if !options.tiesHead {
            head = Linear(
                options.width, options.vocabulary, bias: false, initializer: start, key: key.folding("head"))
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("embedding", &embedding)
        visitor.modules("layers", &layers)
        visitor.module("norm", &norm)
        visitor.module("head", &head)
    }

    /// Token ids [B, T] → logits [B, T, V]; see `hiddenStates(embeddings:positions:mask:isCausal:injection:)`.
    ///
    /// Traps on ids outside the vocabulary.
    public func callAsFunction(
        _ ids: Tensor, positions: Tensor? = nil, mask: Tensor? = nil, isCausal: Bool = true,
        injection: (any Injection)? = nil
    ) -> Tensor {
        callAsFunction(
            embeddings: embed(ids), positions: positions, mask: mask, isCausal: isCausal, injection: injection)
    }

    /// Embedded tokens [B, T, D], of text or of pictures → logits [B, T, V]; see
    /// `hiddenStates(embeddings:positions:mask:isCausal:injection:)`.
    public func callAsFunction(
        embeddings: Tensor, positions: Tensor? = nil, mask: Tensor? = nil, isCausal: Bool = true,
        injection: (any Injection)? = nil
    ) -> Tensor {
        var x = embeddings
        through(&x, positions, mask, isCausal, injection) { _ in }
        return logits(x)
    }

    /// Token ids, int64 [B, T] → their embeddings [B, T, D]. Traps on ids outside the vocabulary.
    public func embed(_ ids: Tensor) -> Tensor {
        guard ids.rank == 2 else { trap("LanguageModel", "token ids [B, T] are needed", ids) }
        let x = FoveaTensor.embedding(ids, table: embedding)
        return x.dtype.isDifferentiable ? x : x.cast(to: norm.weight.dtype)
    }

    /// Embedded tokens [B, T, D] → what goes into each layer and what comes out of the last one, depth + 1 of [B, T, D].
    /// The final norm belongs to `logits`.
    ///
    /// Traps for another width and for more tokens than the context holds.
    ///
    /// - Parameters:
    ///   - embeddings: [B, T, D].
    ///   - positions: of the tokens, [T] or [B, T]; 0, 1, … unless given.
    ///   - mask: bool, true where there is a token to look at: [B, T]; or for each query, [B, T, T]; or [B, H, T, T].
    ///     A token that may look nowhere gets nothing from attention.
    ///   - isCausal: whether a token sees itself and what stands before it alone, the mask's word notwithstanding.
    ///   - injection: what takes part in the layers.
    public func hiddenStates(
        embeddings: Tensor, positions: Tensor? = nil, mask: Tensor? = nil, isCausal: Bool = true,
        injection: (any Injection)? = nil
    ) -> [Tensor] {
        var (x, states) = (embeddings, [embeddings])
        through(&x, positions, mask, isCausal, injection) { states.append($0) }
        return states
    }

    private func through(
        _ x: inout Tensor, _ positions: Tensor?, _ mask: Tensor?, _ isCausal: Bool, _ injection: (any Injection)?,
        _ behindLayer: (Tensor) -> Void
    ) {
        var context = SequenceContext(
            of: x, positions: positions, mask: mask, isCausal: isCausal, injection: injection, options: options)
        for (index, layer) in layers.enumerated() {
            context.layer = index
            x = layer(x, in: context)
            behindLayer(x)
        }
    }

    /// What comes out of the last layer [..., D] → logits [..., V].
    public func logits(_ x: Tensor) -> Tensor {
        let x = norm(x)
        return head?(x) ?? linear(x, weight: embedding)
    }
}
