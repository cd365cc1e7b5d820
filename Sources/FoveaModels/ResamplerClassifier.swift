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
                    .init("imageSize", "pixels along a side"), .init("channels", "channels", default: .int(1)),
                    .init("classes", "classes"), .init("patchSize", "pixels along a patch's side"),
                    .init("width", "D"), .init("encoderDepth", "encoder layers"), .init("heads", "heads everywhere"),
                    .init("latents", "R"), .init("resamplerDepth", "resampler layers"),
                ],
                inputs: [.init("images", "[B, channels, height, width]")], outputs: [.init("logits", "[B, classes]")],
                sampleConfiguration: [
                    "imageSize": .int(4), "classes": .int(3), "patchSize": .int(2), "width": .int(4),
                    "encoderDepth": .int(1), "heads": .int(2), "latents": .int(2), "resamplerDepth": .int(1),
                ],
                sampleInputs: { ["images": $0.uniform([2, 1, 4, 4])] },
                make: { configuration in
                    let (size, patch) = (try configuration.int("imageSize"), try configuration.int("patchSize"))
                    let (width, heads) = (try configuration.int("width"), try configuration.int("heads"))
                    guard size % patch == 0, width % heads == 0 else {
                        throw ModuleInputError(
                            "resampler-classifier: \(size) pixels must divide by patches of \(patch), and width \(width) by \(heads) heads"
                        )
                    }
                    return ResamplerClassifier(
                        Options(
                            imageSize: (size, size), channels: try configuration.int("channels"),
                            classes: try configuration.int("classes"), patchSize: patch, width: width,
                            encoderDepth: try configuration.int("encoderDepth", atLeast: 0), encoderHeads: heads,
                            resampler: .init(
                                width: width, depth: try configuration.int("resamplerDepth", atLeast: 0), heads: heads,
                                headWidth: width / heads, latents: try configuration.int("latents"))),
                        key: RandomKey(seed: 0))
                },
                run: { model, inputs in
                    let x = try inputs.tensor("images", "[B, channels, height, width]", rank: 4)
                    let (s, p) = (x.shape, model.patches.patchSize)
                    guard s[2] % p == 0, s[3] % p == 0, s[2] / p * (s[3] / p) == model.patches.positions.shape[0],
                        s[1] * p * p == model.patches.projection.weight.shape[1]
                    else {
                        throw ModuleInputError(
                            "input images is \(s); expected are pictures of \(model.patches.positions.shape[0]) patches of \(p) × \(p) pixels"
                        )
                    }
                    return ["logits": model(x)]
                })
        ])
}
