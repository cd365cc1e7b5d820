import FoveaNN
import FoveaTensor

/// The part of VLoRA that turns a picture into matrices: learned queries that read it, and a head.
///
///     q ← queries
///     for each layer:
///         q ← q + attention(LN q)
///         q ← q + attention(LN q; f)         f has no norm of its own
///         q ← q + MLP(LN q)
///     A = W LN q                             one matrix for each query
public struct WeightGenerator: Module {
    /// [1, n, C].
    public var queries: Tensor
    public var layers: [Layer]
    public var norm: LayerNorm
    /// [C] → [D·r].
    public var head: Linear

    /// One layer.
    public struct Layer: Module {
        public var selfNorm: LayerNorm
        public var selfAttention: MultiHeadAttention
        public var crossNorm: LayerNorm
        public var crossAttention: MultiHeadAttention
        public var mlpNorm: LayerNorm
        public var mlp: MLP

        init(_ options: VLoRA.Options, key: RandomKey) {
            let width = options.width
            func attention(_ name: String) -> MultiHeadAttention {
                let key = key.folding(name)
                // PyTorch draws its three input projections as one matrix.
                var attention = MultiHeadAttention(
                    width, heads: options.heads, initializer: .xavierUniform(inputs: width, outputs: 3 * width),
                    key: key)
                attention.output = Linear(width, width, initializer: VLoRA.start, key: key.folding("output"))
                return attention
            }
            selfNorm = LayerNorm(width)
            selfAttention = attention("selfAttention")
            crossNorm = LayerNorm(width)
            crossAttention = attention("crossAttention")
            mlpNorm = LayerNorm(width)
            mlp = MLP(width, hidden: options.hidden, initializer: VLoRA.start, key: key.folding("mlp"))
        }

        public mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.module("selfNorm", &selfNorm)
            visitor.module("selfAttention", &selfAttention)
            visitor.module("crossNorm", &crossNorm)
            visitor.module("crossAttention", &crossAttention)
            visitor.module("mlpNorm", &mlpNorm)
            visitor.module("mlp", &mlp)
        }

        /// Queries [B, n, C] read features [B, N, C] → [B, n, C].
        public func callAsFunction(_ x: Tensor, context: Tensor) -> Tensor {
            var x = x
            x = x + selfAttention(selfNorm(x))
            x = x + crossAttention(crossNorm(x), context: context)
            return x + mlp(mlpNorm(x))
        }
    }

    init(_ options: VLoRA.Options, queries count: Int, key: RandomKey) {
        queries = .normal([1, count, options.width], key: key.folding("queries"))
        layers = (0..<options.depth).map { Layer(options, key: key.folding("layers").folding(UInt64($0))) }
        norm = LayerNorm(options.width)
        head = Linear(
            options.width, options.modelWidth * options.rank, initializer: VLoRA.start, key: key.folding("head"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("queries", &queries)
        visitor.modules("layers", &layers)
        visitor.module("norm", &norm)
        visitor.module("head", &head)
    }

    /// Features of a picture [B, N, C] → [B, n, D·r].
    public func callAsFunction(_ features: Tensor) -> Tensor {
        let start = queries.expanded(to: [features.shape[0]] + queries.shape.dropFirst())
        return head(norm(layers.reduce(start) { x, layer in layer(x, context: features) }))
    }

    /// What reading one picture of so many tokens takes.
    func cost(tokens: Int) -> Cost {
        let (count, width) = (queries.shape[1], norm.weight.shape[0])
        let layer = layers.first.map { layer in
            layer.selfAttention.cost(rows: count) + .attention(queries: count, keys: count, width: width)
                + layer.crossAttention.query.cost(rows: count) + layer.crossAttention.output.cost(rows: count)
                + layer.crossAttention.key.cost(rows: tokens) + layer.crossAttention.value.cost(rows: tokens)
                + .attention(queries: count, keys: tokens, width: width) + layer.mlp.cost(rows: count)
        }
        return layers.count * (layer ?? Cost()) + head.cost(rows: count)
    }
}
