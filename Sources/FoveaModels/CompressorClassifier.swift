import FoveaCompression
import FoveaNN
import FoveaTensor

/// Sizes of a `CompressorClassifier` but for those of its compressor.
public struct CompressorClassifierOptions: Sendable {
    /// Height and width of the pictures in pixels.
    public var imageSize: (height: Int, width: Int)
    public var channels: Int
    public var classes: Int
    /// K, how many things are read in each picture; nil for one class of the whole.
    public var readings: Int?
    /// Pixels along a patch's side.
    public var patchSize: Int
    /// Channels of the first of the convolutions that halve pictures down to patches, so that `patchSize` is a power of
    /// 2; 0 for plain patches.
    public var stemChannels: Int
    /// C of the encoder's tokens.
    public var width: Int
    /// Layers of the encoder.
    public var encoderDepth: Int
    /// Heads of the encoder.
    public var encoderHeads: Int
    /// The rate of the encoder's dropout.
    public var dropout: Double
    /// Deviation of the normal numbers that positions start with.
    public var positionDeviation: Double

    public init(
        imageSize: (height: Int, width: Int), channels: Int = 1, classes: Int, readings: Int? = nil,
        patchSize: Int, stemChannels: Int = 0, width: Int, encoderDepth: Int, encoderHeads: Int,
        dropout: Double = 0, positionDeviation: Double = 0.02
    ) {
        self.imageSize = imageSize
        self.channels = channels
        self.classes = classes
        self.readings = readings
        self.patchSize = patchSize
        self.stemChannels = stemChannels
        self.width = width
        self.encoderDepth = encoderDepth
        self.encoderHeads = encoderHeads
        self.dropout = dropout
        self.positionDeviation = positionDeviation
    }

    /// The shape of the tokens that the compressor gets.
    public var tokens: TokenShape {
        TokenShape(
            grid: .init(rows: imageSize.height / patchSize, columns: imageSize.width / patchSize), width: width)
    }
}

/// A small picture classifier around a compressor: the shortest path from pixels through a compressor to a loss.
///
///     pictures → (stem) → patches → encoder layers → norm → compressor → logits
///
/// It may stand without its front, on features that were computed elsewhere, and without its head, to match what another
/// compressor makes of them.
///
/// What the classifier reads are the compressed tokens alone, side by side: whatever it knows of the picture went
/// through them.
public struct CompressorClassifier<Method: Compressor>: ImageClassifier {
    /// The convolutions in front of the patches; nil for plain patches.
    public var stem: ConvolutionalStem?
    /// Nil where features come in.
    public var patches: PatchEmbedding?
    public var encoder: [TransformerBlock]
    /// Nil where features come in.
    public var encoderNorm: LayerNorm?
    public var compressor: Method
    /// Nil where the compressed tokens themselves are what is asked for.
    public var classifier: Linear?
    /// Rows and columns of the patches; nil where features form none.
    public let grid: VisualTokens.Grid?
    /// K, how many things are read in each picture; nil for one class of the whole.
    public let readings: Int?

    public typealias Options = CompressorClassifierOptions

    /// A model with fresh weights around a compressor. Traps where the compressor cannot take the encoder's tokens, and
    /// where a stem is to halve pictures down to patches whose size is no power of 2.
    ///
    /// - Parameters:
    ///   - options: sizes of everything but the compressor.
    ///   - compressor: for tokens of shape `options.tokens`.
    ///   - key: of the random numbers that the other weights start with.
    public init(_ options: Options, compressor: Method, key: RandomKey) {
        let tokens = options.tokens
        if let problem = compressor.problem(with: tokens) { trap("CompressorClassifier", problem) }
        let compressed = compressor.outputShape(tokens)
        let patch = options.patchSize
        if options.stemChannels > 0 {
            guard patch > 1, patch & (patch - 1) == 0 else {
                trap("CompressorClassifier", "a stem halves: it cannot make patches of \(patch) pixels")
            }
            stem = ConvolutionalStem(
                options.channels, channels: options.stemChannels, halvings: patch.trailingZeroBitCount,
                key: key.folding("stem"))
        }
        // What the stem leaves to do is one pixel a patch.
        patches = PatchEmbedding(
            imageSize: stem == nil ? options.imageSize : (tokens.grid!.rows, tokens.grid!.columns),
            patchSize: stem == nil ? patch : 1, channels: stem?.outputs ?? options.channels, width: options.width,
            positionDeviation: options.positionDeviation, key: key.folding("patches"))
        encoder = (0..<options.encoderDepth).map {
            TransformerBlock(
                options.width, heads: options.encoderHeads, dropout: options.dropout,
                key: key.folding("encoder").folding(UInt64($0)))
        }
        encoderNorm = LayerNorm(options.width)
        self.compressor = compressor
        classifier = Linear(
            compressed.count * compressed.width, (options.readings ?? 1) * options.classes,
            key: key.folding("classifier"))
        grid = tokens.grid
        readings = options.readings
    }

    /// A compressor with a fresh classifier behind it, for features [B, N, C]. Traps where the compressor cannot take
    /// them.
    ///
    /// - Parameters:
    ///   - features: the shape of the features of one sample.
    ///   - classes: how many classes there are; nil for the compressed tokens themselves.
    ///   - readings: K, how many things are read in each sample; nil for one class of the whole.
    ///   - compressor: for tokens of that shape.
    ///   - key: of the random numbers that the classifier starts with.
    public init(
        features: TokenShape, classes: Int?, readings: Int? = nil, compressor: Method, key: RandomKey
    ) {
        if let problem = compressor.problem(with: features) { trap("CompressorClassifier", problem) }
        let compressed = compressor.outputShape(features)
        encoder = []
        self.compressor = compressor
        classifier = classes.map {
            Linear(compressed.count * compressed.width, (readings ?? 1) * $0, key: key.folding("classifier"))
        }
        grid = features.grid
        self.readings = readings
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("stem", &stem)
        visitor.module("patches", &patches)
        visitor.modules("encoder", &encoder)
        visitor.module("encoderNorm", &encoderNorm)
        visitor.module("compressor", &compressor)
        visitor.module("classifier", &classifier)
    }

    /// What the compressor gets of pictures [B, channels, height, width], or of features [B, N, C].
    ///
    /// - Parameters:
    ///   - images: the pictures, or the features where there are no patches.
    ///   - tracked: whether to keep track of which patches go where.
    public func tokens(_ images: Tensor, tracked: Bool = false) -> VisualTokens {
        var x = patches?(stem?(images) ?? images) ?? images
        for block in encoder { x = block(x) }
        x = encoderNorm?(x) ?? x
        guard let grid else {
            // Without a raster, each token stands at the origin.
            let (batch, count) = (x.shape[0], x.shape[1])
            return VisualTokens(
                features: x, positions: .zeros([batch, count, 2]), sizes: .ones([batch, count]),
                provenance: tracked ? .identity(batch: batch, patches: count) : nil)
        }
        return VisualTokens(patches: x, grid: grid, tracked: tracked)
    }

    /// Pictures [B, channels, height, width], or features [B, N, C] → logits [B, classes], [B, K, classes] where K things
    /// are read, or the compressed tokens [B, R, D] where there is no classifier.
    public func callAsFunction(_ images: Tensor) -> Tensor {
        let compressed = compressor(tokens(images))
        guard let classifier else { return compressed.features }
        let logits = classifier(compressed.features.flattened(from: 1))
        guard let readings else { return logits }
        return logits.reshaped(to: [logits.shape[0], readings, logits.shape[1] / readings])
    }
}

extension CompressorClassifier where Method == PerceiverResampler {
    /// The catalogue entry, with a resampler for a compressor.
    public static var entry: ModuleEntry {
        ModuleEntry(
            "compressor-classifier", "patches, an encoder, a compressor and a classifier",
            forms: [
                PublishedForm(
                    WeightLayout<CompressorClassifier<PerceiverResampler>>.native,
                    keys: [
                        .size("imageSize", "pixels along a side"), .size("channels", "channels", default: 1),
                        .size("classes", "classes"),
                        .size("readings", "things to read, or null for one", default: .null),
                        .size("patchSize", "pixels along a patch's side"),
                        .size("stemChannels", "channels of the stem, 0 for none", default: 0, atLeast: 0),
                        .size("width", "C"), .size("encoderDepth", "encoder layers", atLeast: 0),
                        .size("heads", "heads everywhere"), .size("latents", "R"),
                        .size("resamplerDepth", "resampler layers", atLeast: 0),
                    ],
                    inputs: [.init("images", "[B, channels, imageSize, imageSize]")],
                    outputs: [.init("logits", "[B, classes]")],
                    sample: [
                        "imageSize": 4, "classes": 3, "patchSize": 2, "width": 4, "encoderDepth": 1, "heads": 2,
                        "latents": 2, "resamplerDepth": 1,
                    ],
                    sampleInputs: { ["images": $0.uniform([2, 1, 4, 4])] },
                    make: { configuration in
                        let (size, patch) = (configuration.int("imageSize"), configuration.int("patchSize"))
                        let (width, heads) = (configuration.int("width"), configuration.int("heads"))
                        guard size % patch == 0, width % heads == 0 else {
                            throw configuration.error(
                                "\(size) pixels must divide by patches of \(patch), and width \(width) by \(heads) heads"
                            )
                        }
                        let resampler = PerceiverResampler(
                            .init(
                                width: width, depth: configuration.int("resamplerDepth"), heads: heads,
                                headWidth: width / heads, latents: configuration.int("latents")),
                            key: configuration.key.folding("compressor"))
                        let stem = configuration.int("stemChannels")
                        guard stem == 0 || patch > 1 && patch & (patch - 1) == 0 else {
                            throw configuration.error("a stem halves: it cannot make patches of \(patch) pixels")
                        }
                        return CompressorClassifier(
                            Options(
                                imageSize: (size, size), channels: configuration.int("channels"),
                                classes: configuration.int("classes"), readings: configuration.optionalInt("readings"),
                                patchSize: patch, stemChannels: stem, width: width,
                                encoderDepth: configuration.int("encoderDepth"), encoderHeads: heads),
                            compressor: resampler, key: configuration.key)
                    },
                    run: { ["logits": $0($1["images"])] })
            ])
    }
}
