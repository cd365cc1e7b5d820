import FoveaNN
import FoveaTensor

/// VLoRA: a picture becomes weights of low rank that are added to those of a language model. Pictures take no place in
/// the sequence.
/// (Ma et al., "Visual perception by large language model's weights", 2024; published in
/// `llava/model/VLoRA/weights_generater.py` and `modeling_llama_vlora.py` of FeipengMa6/VLoRA.)
///
///     f = W x + positions                                       a picture's tokens x
///     A = generator(f)                                          [D, r] for each layer and target
///     y ← y + (x·A)·(α/r · B)ᵀ                                  B learned, of no picture; zero at the start
///
/// Targets are the projections of queries, keys, values and attention's output, and the MLP as a whole. The layers are
/// every s-th one, layer s − 1 first. All that is changed goes from D features to D: keys and values have as many heads
/// as queries.
///
/// `WeightGenerator` tells of the generator: one for each target, or one for all.
public struct VLoRA: Module {
    /// Of the picture's tokens, [Cv] → [C].
    public var projection: Linear
    /// [1, N, C].
    public var positions: Tensor
    /// For each target one, or one for all targets.
    public var generators: [WeightGenerator]
    /// B, [1, K·k, D·r]: for each of K targets one for each of k layers.
    public var outputs: Tensor
    /// The sizes that the module was made with.
    public let options: Options

    /// Sizes of VLoRA.
    public struct Options: Sendable, Equatable {
        /// C, the width of the generators.
        public var width: Int
        /// The layers of a generator.
        public var depth: Int
        /// Cv, the width of the picture's tokens.
        public var imageWidth: Int
        /// N, the tokens of a picture.
        public var imageTokens: Int
        /// D, the width of the language model.
        public var modelWidth: Int
        /// How many layers the language model has.
        public var modelDepth: Int
        /// r.
        public var rank: Int
        /// What is changed in a layer, in the order of the weights.
        public var targets = GeneratedWeights.Target.allCases
        /// Whether each target has a generator of its own.
        public var isSeparate = true
        /// The width inside the generators' MLPs.
        public var hidden: Int
        /// Of the generators' attention.
        public var heads = 16
        /// s: every how many layers of the language model one is changed.
        public var stride = 1
        /// α; r unless given.
        public var alpha: Double?

        /// - Parameters:
        ///   - width: C.
        ///   - depth: the layers of a generator.
        ///   - imageWidth: Cv.
        ///   - imageTokens: N.
        ///   - modelWidth: D.
        ///   - modelDepth: how many layers the language model has.
        ///   - rank: r.
        public init(
            width: Int, depth: Int, imageWidth: Int, imageTokens: Int, modelWidth: Int, modelDepth: Int, rank: Int
        ) {
            self.width = width
            self.depth = depth
            self.imageWidth = imageWidth
            self.imageTokens = imageTokens
            self.modelWidth = modelWidth
            self.modelDepth = modelDepth
            self.rank = rank
            hidden = 4 * width
        }

        /// k, how many layers are changed.
        public var changedLayers: Int { modelDepth / stride }
    }

    /// How the published linear layers start.
    static let start = Initializer.normal(deviation: 0.02)

    /// Fresh weights as published: matrices from N(0, 0.02²), queries and positions from N(0, 1), B zero.
    ///
    /// Traps unless the width divides by the heads.
    public init(_ options: Options, key: RandomKey) {
        self.options = options
        projection = Linear(
            options.imageWidth, options.width, initializer: VLoRA.start, key: key.folding("projection"))
        positions = .normal([1, options.imageTokens, options.width], key: key.folding("positions"))
        let count = options.targets.count
        let own = options.isSeparate ? (count, options.changedLayers) : (1, count * options.changedLayers)
        generators = (0..<own.0).map {
            WeightGenerator(options, queries: own.1, key: key.folding("generators").folding(UInt64($0)))
        }
        outputs = .zeros([1, count * options.changedLayers, options.modelWidth * options.rank])
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("projection", &projection)
        visitor.parameter("positions", &positions)
        visitor.parameter("outputs", &outputs)
        if options.isSeparate {
            visitor.modules("generators", &generators)
        } else {
            visitor.module("generator", &generators[0])
        }
    }

    /// Pictures [B, N, Cv] → what they add to the language model. Traps for other shapes.
    public func callAsFunction(_ image: Tensor) -> GeneratedWeights {
        guard image.rank == 3, image.shape[1] == options.imageTokens, image.shape[2] == options.imageWidth else {
            trap("VLoRA", "pictures [B, \(options.imageTokens), \(options.imageWidth)] are needed", image)
        }
        let features = projection(image) + positions
        let (batch, count, layers) = (image.shape[0], options.targets.count, options.changedLayers)
        // A picture's matrices, those of one target after the other.
        let downs = concatenated(generators.map { $0(features) }, axis: 1)
            .split(axis: 1, into: Array(repeating: 1, count: count * layers))
        let ups = (outputs * ((options.alpha ?? Double(options.rank)) / Double(options.rank)))
            .split(axis: 1, into: Array(repeating: 1, count: count * layers))
        var changed = [[GeneratedWeights.Target: LowRankDelta]](repeating: [:], count: options.modelDepth)
        for (place, target) in options.targets.enumerated() {
            for layer in 0..<layers {
                let matrix = [options.modelWidth, options.rank]
                changed[(layer + 1) * options.stride - 1][target] = LowRankDelta(
                    down: downs[place * layers + layer].reshaped(to: [batch] + matrix),
                    up: ups[place * layers + layer].reshaped(to: matrix))
            }
        }
        return GeneratedWeights(layers: changed)
    }

    /// What making the weights of one picture takes; `GeneratedWeights.cost` says what applying them does.
    public var cost: Cost {
        generators.reduce(projection.cost(rows: options.imageTokens)) { $0 + $1.cost(tokens: options.imageTokens) }
    }
}
