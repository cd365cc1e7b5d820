import FoveaTensor

/// Cuts pictures into square patches, projects each to a token and adds a learned position.
/// (Dosovitskiy et al., "An image is worth 16×16 words", 2021, §3.1.)
public struct PatchEmbedding: Module {
    public var projection: Linear
    /// [N, D], one row for each patch in raster order.
    public var positions: Tensor
    /// Pixels along a patch's side.
    public let patchSize: Int

    /// - Parameters:
    ///   - imageSize: height and width in pixels, multiples of the patch size.
    ///   - patchSize: pixels along a patch's side.
    ///   - channels: of the pictures; 1 for grey, 3 for colour.
    ///   - width: D of the tokens.
    ///   - positionDeviation: of the normal numbers that positions start with. The usual 0.02 takes a small model
    ///     hundreds of steps to grow out of.
    ///   - key: of the random numbers that the projection and the positions start with.
    public init(
        imageSize: (height: Int, width: Int), patchSize: Int, channels: Int, width: Int,
        positionDeviation: Double = 0.02, key: RandomKey
    ) {
        guard patchSize > 0, imageSize.height % patchSize == 0, imageSize.width % patchSize == 0 else {
            trap("PatchEmbedding", "patches of \(patchSize) pixels do not tile a picture of \(imageSize) pixels")
        }
        self.patchSize = patchSize
        projection = Linear(channels * patchSize * patchSize, width, key: key.folding("projection"))
        let patches = imageSize.height / patchSize * (imageSize.width / patchSize)
        positions = .normal([patches, width], deviation: positionDeviation, key: key.folding("positions"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("projection", &projection)
        visitor.parameter("positions", &positions)
    }

    /// Pictures [B, channels, height, width] → tokens [B, N, D] in raster order.
    public func callAsFunction(_ pictures: Tensor) -> Tensor {
        let s = pictures.shape
        guard s.count == 4, s[2] % patchSize == 0, s[3] % patchSize == 0,
            s[2] / patchSize * (s[3] / patchSize) == positions.shape[0]
        else {
            trap(
                "PatchEmbedding", "pictures [B, channels, height, width] of \(positions.shape[0]) patches are needed",
                pictures)
        }
        let (rows, columns) = (s[2] / patchSize, s[3] / patchSize)
        // A patch's pixels in the order channel, row, column: the order of a convolution's weight.
        let patches = pictures.reshaped(to: [s[0], s[1], rows, patchSize, columns, patchSize])
            .permuted(to: [0, 2, 4, 1, 3, 5]).reshaped(to: [s[0], rows * columns, s[1] * patchSize * patchSize])
        return projection(patches) + positions
    }
}

extension PatchEmbedding {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "patch-embedding", "pictures to tokens with learned positions",
        forms: [
            PublishedForm(
                WeightLayout<PatchEmbedding>.native,
                keys: [
                    .size("height", "pixels down"), .size("width", "pixels across"),
                    .size("patchSize", "pixels along a patch's side"), .size("channels", "channels", default: 3),
                    .size("tokenWidth", "D", from: .axis(0, of: "projection.weight")),
                ],
                inputs: [.init("x", "[B, channels, height, width]")], outputs: [.init("tokens", "[B, N, tokenWidth]")],
                sample: ["height": 4, "width": 6, "patchSize": 2, "channels": 2, "tokenWidth": 3],
                sampleInputs: { ["x": $0.uniform([2, 2, 4, 6])] },
                make: { configuration in
                    let patch = configuration.int("patchSize")
                    let (height, width) = (configuration.int("height"), configuration.int("width"))
                    guard height % patch == 0, width % patch == 0 else {
                        throw configuration.error(
                            "patches of \(patch) pixels do not tile \(height) × \(width) pixels")
                    }
                    return PatchEmbedding(
                        imageSize: (height, width), patchSize: patch, channels: configuration.int("channels"),
                        width: configuration.int("tokenWidth"), key: RandomKey(seed: 0))
                },
                run: { ["tokens": $0($1["x"])] })
        ])
}
