import FoveaTensor

/// Cuts pictures into square patches, projects each to a token, puts a class token in front where there is one, and
/// adds a learned position to each.
/// (Dosovitskiy et al., "An image is worth 16×16 words", 2021, §3.1.)
///
/// Pictures of another size than the embedding was made for get the patches' positions in between, by bicubic
/// interpolation on the grid of patches; the class token keeps its own.
public struct PatchEmbedding: Module {
    /// [D, channels, p, p]: the weight of a convolution whose stride is the patch size p.
    public var weight: Tensor
    /// [D], or nil.
    public var bias: Tensor?
    /// [D], or nil without a class token.
    public var classToken: Tensor?
    /// [N, D], a row for each patch in raster order; behind a class token [1 + N, D], its row first.
    public var positions: Tensor
    /// Rows and columns of the patches that the positions are for.
    public let grid: Size2D

    /// - Parameters:
    ///   - imageSize: height and width in pixels, at least one patch.
    ///   - patchSize: pixels along a patch's side.
    ///   - channels: of the pictures; 1 for grey, 3 for colour.
    ///   - width: D of the tokens.
    ///   - bias: whether the projection has a bias.
    ///   - classToken: whether a learned token stands in front of the patches.
    ///   - positionDeviation: of the normal numbers that positions and class token start with. The usual 0.02 takes a
    ///     small model hundreds of steps to grow out of.
    ///   - key: of the random numbers that everything starts with.
    public init(
        imageSize: (height: Int, width: Int), patchSize: Int, channels: Int, width: Int, bias: Bool = true,
        classToken: Bool = false, positionDeviation: Double = 0.02, key: RandomKey
    ) {
        guard patchSize > 0, imageSize.height >= patchSize, imageSize.width >= patchSize else {
            trap("PatchEmbedding", "a picture of \(imageSize) pixels holds no patch of \(patchSize)")
        }
        grid = Size2D(imageSize.height / patchSize, imageSize.width / patchSize)
        let start = Initializer.torchLinear(inputs: channels * patchSize * patchSize)
        let projection = key.folding("projection")
        weight = start([width, channels, patchSize, patchSize], key: projection.folding("weight"))
        self.bias = bias ? start([width], key: projection.folding("bias")) : nil
        self.classToken =
            classToken ? .normal([width], deviation: positionDeviation, key: key.folding("classToken")) : nil
        positions = .normal(
            [grid.height * grid.width + (classToken ? 1 : 0), width], deviation: positionDeviation,
            key: key.folding("positions"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("weight", &weight)
        visitor.parameter("bias", &bias)
        visitor.parameter("classToken", &classToken)
        visitor.parameter("positions", &positions)
    }

    /// Pixels along a patch's side.
    public var patchSize: Int { weight.shape[3] }

    /// Pictures [B, channels, height, width] → tokens [B, N, D] in raster order, [B, 1 + N, D] behind a class token.
    ///
    /// Pixels at the right and bottom edge that fill no patch are left out. Traps on other channels, and on pictures
    /// smaller than a patch.
    public func callAsFunction(_ pictures: Tensor) -> Tensor {
        let (s, p) = (pictures.shape, patchSize)
        guard s.count == 4, s[1] == weight.shape[1], s[2] >= p, s[3] >= p else {
            trap(
                "PatchEmbedding", "pictures [B, \(weight.shape[1]), height, width] of \(p) pixels or more are needed",
                pictures)
        }
        let (rows, columns) = (s[2] / p, s[3] / p)
        let whole = pictures.sliced(axis: 2, 0..<rows * p).sliced(axis: 3, 0..<columns * p)
        // A patch's pixels in the order channel, row, column: the order of a convolution's weight.
        let patches = whole.reshaped(to: [s[0], s[1], rows, p, columns, p])
            .permuted(to: [0, 2, 4, 1, 3, 5]).reshaped(to: [s[0], rows * columns, s[1] * p * p])
        var tokens = linear(patches, weight: weight.flattened(from: 1), bias: bias)
        if let classToken {
            let first = classToken.expanded(to: [s[0], 1, weight.shape[0]])
            tokens = concatenated([first, tokens], axis: 1)
        }
        return tokens + positions(on: Size2D(rows, columns))
    }

    /// The positions of a grid of patches: [N, D], or [1 + N, D].
    private func positions(on grid: Size2D) -> Tensor {
        guard grid != self.grid else { return positions }
        let front = classToken == nil ? 0 : 1
        let (width, count) = (positions.shape[1], positions.shape[0])
        let own = positions.sliced(axis: 0, front..<count).transposed(0, 1)
            .reshaped(to: [1, width, self.grid.height, self.grid.width])
        let between = own.interpolatedBicubic(to: grid).reshaped(to: [width, grid.height * grid.width]).transposed(0, 1)
        return front == 0 ? between : concatenated([positions.sliced(axis: 0, 0..<1), between], axis: 0)
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
                    .size("patchSize", "pixels along a patch's side", from: .axis(2, of: "weight")),
                    .size("channels", "channels", default: 3, from: .axis(1, of: "weight")),
                    .size("tokenWidth", "D", from: .axis(0, of: "weight")),
                    .flag("bias", "whether there is a bias", default: true, from: .presence(of: "bias")),
                    .flag(
                        "classToken", "whether a class token stands in front", default: false,
                        from: .presence(of: "classToken")),
                ],
                inputs: [.init("x", "[B, channels, height, width]")], outputs: [.init("tokens", "[B, N, tokenWidth]")],
                sample: ["height": 4, "width": 6, "patchSize": 2, "channels": 2, "tokenWidth": 3],
                sampleInputs: { ["x": $0.uniform([2, 2, 4, 6])] },
                make: { configuration in
                    let patch = configuration.int("patchSize")
                    let (height, width) = (configuration.int("height"), configuration.int("width"))
                    guard height >= patch, width >= patch else {
                        throw configuration.error("\(height) × \(width) pixels hold no patch of \(patch)")
                    }
                    return PatchEmbedding(
                        imageSize: (height, width), patchSize: patch, channels: configuration.int("channels"),
                        width: configuration.int("tokenWidth"), bias: configuration.bool("bias"),
                        classToken: configuration.bool("classToken"), key: configuration.key)
                },
                run: { ["tokens": $0($1["x"])] })
        ])
}
