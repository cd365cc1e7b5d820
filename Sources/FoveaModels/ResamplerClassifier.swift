import FoveaCompression
import FoveaNN
import FoveaTensor

/// A small picture classifier around a Perceiver Resampler: the shortest path from pixels through a compressor to a
/// loss.
///
///     pictures → patches → encoder layers → norm → resampler → R latents → logits
///
/// What the classifier reads are the latents alone, side by side: whatever it knows of the picture went through them.
public struct ResamplerClassifier: ImageClassifier {
    public var patches: PatchEmbedding
    public var encoder: [TransformerBlock]
    public var encoderNorm: LayerNorm
    public var resampler: PerceiverResampler
    public var classifier: Linear

    /// Sizes of the model.
    public struct Options: Sendable, Equatable {
        /// Height and width of the pictures in pixels.
        public var imageSize: (height: Int, width: Int)
        public var channels: Int
        public var classes: Int
        /// Pixels along a patch's side.
        public var patchSize: Int
        /// D of tokens and latents.
        public var width: Int
        /// Layers of the encoder.
        public var encoderDepth: Int
        /// Heads of the encoder.
        public var encoderHeads: Int
        /// The rate of the encoder's dropout.
        public var dropout: Double
        /// Deviation of the normal numbers that positions start with.
        public var positionDeviation: Double
        public var resampler: PerceiverResampler.Options

        public init(
            imageSize: (height: Int, width: Int), channels: Int = 1, classes: Int, patchSize: Int, width: Int,
            encoderDepth: Int, encoderHeads: Int, dropout: Double = 0, positionDeviation: Double = 0.02,
            resampler: PerceiverResampler.Options
        ) {
            self.imageSize = imageSize
            self.channels = channels
            self.classes = classes
            self.patchSize = patchSize
            self.width = width
            self.encoderDepth = encoderDepth
            self.encoderHeads = encoderHeads
            self.dropout = dropout
            self.positionDeviation = positionDeviation
            self.resampler = resampler
        }

        public static func == (a: Options, b: Options) -> Bool {
            a.imageSize == b.imageSize && a.channels == b.channels && a.classes == b.classes
                && a.patchSize == b.patchSize && a.width == b.width && a.encoderDepth == b.encoderDepth
                && a.encoderHeads == b.encoderHeads && a.dropout == b.dropout
                && a.positionDeviation == b.positionDeviation && a.resampler == b.resampler
        }
    }

    /// A model with fresh weights that depend on the key alone.
    public init(_ options: Options, key: RandomKey) {
        patches = PatchEmbedding(
            imageSize: options.imageSize, patchSize: options.patchSize, channels: options.channels,
            width: options.width, positionDeviation: options.positionDeviation, key: key.folding("patches"))
        encoder = (0..<options.encoderDepth).map {
            TransformerBlock(
                options.width, heads: options.encoderHeads, dropout: options.dropout,
                key: key.folding("encoder").folding(UInt64($0)))
        }
        encoderNorm = LayerNorm(options.width)
        resampler = PerceiverResampler(options.resampler, key: key.folding("resampler"))
        classifier = Linear(
            options.resampler.latents * options.resampler.width, options.classes, key: key.folding("classifier"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("patches", &patches)
        visitor.modules("encoder", &encoder)
        visitor.module("encoderNorm", &encoderNorm)
        visitor.module("resampler", &resampler)
        visitor.module("classifier", &classifier)
    }

    /// What the resampler gets: pictures [B, channels, height, width] → tokens [B, N, D].
    public func tokens(_ images: Tensor) -> Tensor {
        var x = patches(images)
        for block in encoder { x = block(x) }
        return encoderNorm(x)
    }

    /// Pictures [B, channels, height, width] → logits [B, classes].
    public func callAsFunction(_ images: Tensor) -> Tensor {
        let x = tokens(images)
        // One medium of one frame for each sample.
        let latents = resampler(x.reshaped(to: [x.shape[0], 1, 1, x.shape[1], x.shape[2]]))
        return classifier(latents.flattened(from: 1))
    }
}

extension ResamplerClassifier {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "resampler-classifier", "patches, an encoder, a resampler and a classifier",
        forms: [
            PublishedForm(
                WeightLayout<ResamplerClassifier>.native,
                keys: [
                    .size("imageSize", "pixels along a side"), .size("channels", "channels", default: 1),
                    .size("classes", "classes"), .size("patchSize", "pixels along a patch's side"),
                    .size("width", "D"), .size("encoderDepth", "encoder layers", atLeast: 0),
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
                            "\(size) pixels must divide by patches of \(patch), and width \(width) by \(heads) heads")
                    }
                    return ResamplerClassifier(
                        Options(
                            imageSize: (size, size), channels: configuration.int("channels"),
                            classes: configuration.int("classes"), patchSize: patch, width: width,
                            encoderDepth: configuration.int("encoderDepth"), encoderHeads: heads,
                            resampler: .init(
                                width: width, depth: configuration.int("resamplerDepth"), heads: heads,
                                headWidth: width / heads, latents: configuration.int("latents"))),
                        key: RandomKey(seed: 0))
                },
                run: { ["logits": $0($1["images"])] })
        ])
}
