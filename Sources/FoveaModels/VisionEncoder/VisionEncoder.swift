import FoveaNN
import FoveaTensor

/// A vision transformer as CLIP and SigLIP have it: from pictures to a token for each patch.
/// (Radford et al., "Learning transferable visual models from natural language supervision", 2021, §2.4; Zhai et al.,
/// "Sigmoid loss for language image pre-training", 2023; the forms published as `CLIPVisionModel` and
/// `SiglipVisionModel`.)
///
///     x ← patches with positions                   CLIP: behind a class token, and then LN x
///     for each layer:
///         x ← x + attention(LN x)
///         x ← x + W₂ act(W₁ LN x)
///     SigLIP: x ← LN x
public struct VisionEncoder: Module {
    public var patches: PatchEmbedding
    /// Before the layers; nil in SigLIP.
    public var preNorm: LayerNorm?
    public var layers: [TransformerBlock]
    /// Of what comes out of the last layer; in CLIP of the class token alone, once it is to stand for the picture.
    public var postNorm: LayerNorm
    /// The sizes that the encoder was made with.
    public let options: Options
    /// How many layers the tokens for a language model go through: all but the last unless set, as LLaVA has it
    /// (`vision_feature_layer` −2).
    public var visualLayers: Int

    /// Whose architecture and whose fresh weights an encoder has.
    public enum Family: String, Sendable {
        case clip, siglip
    }

    /// Sizes of an encoder.
    public struct Options: Sendable, Equatable {
        public var family: Family
        /// Height and width of the pictures that the positions are for, in pixels.
        public var imageSize: Int
        /// Pixels along a patch's side.
        public var patchSize: Int
        public var channels: Int
        /// D.
        public var width: Int
        /// The width inside the MLP.
        public var hidden: Int
        /// How many layers.
        public var depth: Int
        /// H, a divisor of D.
        public var heads: Int
        /// The function inside the MLP.
        public var activation: Activation
        /// Of the norms.
        public var epsilon: Double
        /// The share of attention weights that is dropped in training.
        public var attentionDropout: Double
        /// Of the normal numbers that CLIP's patches and positions start with.
        public var deviation: Double
        /// What the deviation of all fresh weights of CLIP is multiplied by.
        public var deviationFactor: Double

        /// The family's activation and epsilon unless given.
        public init(
            _ family: Family, imageSize: Int, patchSize: Int, channels: Int = 3, width: Int, hidden: Int, depth: Int,
            heads: Int, activation: Activation? = nil, epsilon: Double? = nil, attentionDropout: Double = 0,
            deviation: Double = 0.02, deviationFactor: Double = 1
        ) {
            self.family = family
            self.imageSize = imageSize
            self.patchSize = patchSize
            self.channels = channels
            self.width = width
            self.hidden = hidden
            self.depth = depth
            self.heads = heads
            self.activation = activation ?? (family == .clip ? .quickGelu : .geluTanh)
            self.epsilon = epsilon ?? (family == .clip ? 1e-5 : 1e-6)
            self.attentionDropout = attentionDropout
            self.deviation = deviation
            self.deviationFactor = deviationFactor
        }
    }

    /// An encoder with fresh weights, as the family's published code draws them.
    public init(_ options: Options, key: RandomKey) {
        self.options = options
        visualLayers = max(0, options.depth - 1)
        patches = PatchEmbedding(
            imageSize: (options.imageSize, options.imageSize), patchSize: options.patchSize,
            channels: options.channels, width: options.width, bias: options.family == .siglip,
            classToken: options.family == .clip, key: key.folding("patches"))
        preNorm = options.family == .clip ? LayerNorm(options.width, epsilon: options.epsilon) : nil
        layers = (0..<options.depth).map {
            TransformerBlock(
                options.width, heads: options.heads, hidden: options.hidden, activation: options.activation,
                epsilon: options.epsilon, attentionWeightDropout: options.attentionDropout,
                key: key.folding("layers").folding(UInt64($0)))
        }
        postNorm = LayerNorm(options.width, epsilon: options.epsilon)
        let start = key.folding("start")
        forEachParameter { path, tensor in
            guard let initializer = options.initializer(of: path) else { return }
            tensor = initializer(tensor.shape, key: start.folding(path))
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("patches", &patches)
        visitor.module("preNorm", &preNorm)
        visitor.modules("layers", &layers)
        visitor.module("postNorm", &postNorm)
    }

    /// Pictures [B, channels, height, width] → tokens [B, N, D]; behind CLIP's class token [B, 1 + N, D].
    ///
    /// Pictures of another size get the positions in between; see `PatchEmbedding`.
    public func callAsFunction(_ pictures: Tensor) -> Tensor {
        let x = hiddenStates(pictures)[layers.count]
        return options.family == .clip ? x : postNorm(x)
    }

    /// Pictures → what goes into the first layer and what comes out of each one, without the norm behind the last:
    /// depth + 1 of [B, N, D].
    ///
    /// - Parameters:
    ///   - pictures: [B, channels, height, width].
    ///   - count: how many layers to go through; all unless given.
    public func hiddenStates(_ pictures: Tensor, through count: Int? = nil) -> [Tensor] {
        let count = count ?? layers.count
        guard (0...layers.count).contains(count) else {
            trap("VisionEncoder", "\(count) layers are not among the \(layers.count)", pictures)
        }
        let embedded = patches(pictures)
        var states = [preNorm?(embedded) ?? embedded]
        for layer in layers.prefix(count) { states.append(layer(states[states.count - 1])) }
        return states
    }
}

extension VisionEncoder.Options {
    /// How the published code starts the parameter at this path; nil where our layers start it so themselves.
    ///
    /// SigLIP's patches start as LeCun's normal; the published code cuts it off at two deviations.
    fileprivate func initializer(of path: String) -> Initializer? {
        let inverseRoot = { (value: Int) in 1 / Double(value).squareRoot() }
        let name = path.split(separator: ".").suffix(3).joined(separator: ".")
        let residual = inverseRoot(width) * inverseRoot(2 * depth)
        if path.contains("orm.") { return nil }
        switch (family, name) {
        case (.clip, "patches.classToken"): return .normal(deviation: deviationFactor * inverseRoot(width))
        case (.clip, "patches.weight"), (.clip, "patches.positions"):
            return .normal(deviation: deviationFactor * deviation)
        case (.clip, "attention.query.weight"), (.clip, "attention.key.weight"), (.clip, "attention.value.weight"),
            (.clip, "mlp.contract.weight"):
            return .normal(deviation: deviationFactor * residual)
        case (.clip, "attention.output.weight"): return .normal(deviation: deviationFactor * inverseRoot(width))
        case (.clip, "mlp.expand.weight"): return .normal(deviation: deviationFactor * inverseRoot(2 * width))
        case (.siglip, "patches.weight"):
            return .normal(deviation: inverseRoot(channels * patchSize * patchSize))
        case (.siglip, "patches.positions"): return .normal(deviation: inverseRoot(width))
        case (.siglip, "mlp.expand.bias"), (.siglip, "mlp.contract.bias"): return .normal(deviation: 1e-6)
        case (.siglip, "mlp.expand.weight"), (.siglip, "mlp.contract.weight"):
            return .xavierUniform(inputs: width, outputs: hidden)
        case (.siglip, _) where name.hasSuffix("weight"): return .xavierUniform(inputs: width, outputs: width)
        default: return .zeros
        }
    }
}
