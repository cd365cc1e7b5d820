import Foundation
import FoveaCompression
import FoveaNN
import FoveaTensor

/// A small vision transformer that learns from scratch in a few thousand steps.
///
///     x ← convolution 3 × 3 (GELU (convolution p × p, stride p))      patches, then neighbouring patches mixed
///     x ← x ⊙ (1 + positions)
///     for each layer:  x ← x + attention(LN x),  x ← x + MLP(LN x)
///     x ← LN x
///
/// With a stem, convolutions halve the pictures down to one pixel a patch, and the first convolution above is 1 × 1.
///
/// Positions multiply what is seen: an empty patch stays empty wherever it is, and a full one carries its place through
/// every layer. Added ones, at this size and in a few thousand steps, leave a model guessing between left and right.
/// They start as sines of row and column.
public struct CompactEncoder: PictureEncoder {
    /// Halves pictures down to one pixel a patch; nil for plain patches.
    public var stem: PoolingStem?
    /// Cuts pictures, or what the stem makes of them, into patches.
    public var patches: Convolution2D
    /// Mixes neighbouring patches.
    public var mixing: Convolution2D
    /// [N, C].
    public var positions: Tensor
    public var layers: [TransformerBlock]
    public var norm: LayerNorm
    /// Rows and columns of the patches.
    public let grid: VisualTokens.Grid

    /// Sizes of a `CompactEncoder`.
    public struct Options: Sendable {
        /// Of each picture.
        public var channels: Int
        /// Height and width of the pictures in pixels, multiples of the patch size.
        public var imageSize: (height: Int, width: Int)
        /// Pixels along a patch's side.
        public var patchSize: Int
        /// Channels of the first of the convolutions that halve pictures down to patches, so that `patchSize` is a power
        /// of 2 from 2 on; 0 for plain patches.
        public var stemChannels: Int
        /// C, a multiple of 4.
        public var width: Int
        /// How many layers.
        public var depth: Int
        /// H, a divisor of C.
        public var heads: Int
        /// The rate of dropout after attention and MLP, in training.
        public var dropout: Double

        public init(
            channels: Int, imageSize: (height: Int, width: Int), patchSize: Int, stemChannels: Int = 0, width: Int,
            depth: Int, heads: Int, dropout: Double = 0
        ) {
            self.channels = channels
            self.imageSize = imageSize
            self.patchSize = patchSize
            self.stemChannels = stemChannels
            self.width = width
            self.depth = depth
            self.heads = heads
            self.dropout = dropout
        }

        /// The shape of the tokens of a picture.
        public var tokenShape: TokenShape {
            TokenShape(
                grid: .init(rows: imageSize.height / patchSize, columns: imageSize.width / patchSize), width: width)
        }
    }

    /// An encoder with fresh weights. Traps on a width that does not divide by 4, and on a stem in front of patches
    /// whose side is no power of 2.
    public init(_ options: Options, key: RandomKey) {
        let width = options.width
        guard width % 4 == 0 else {
            trap("CompactEncoder", "sines of rows and columns need a width that divides by 4, not \(width)")
        }
        var (channels, side) = (options.channels, options.patchSize)
        if options.stemChannels > 0 {
            guard side > 1, side & (side - 1) == 0 else {
                trap("CompactEncoder", "a stem halves: it cannot make patches of \(side) pixels")
            }
            let halving = PoolingStem(
                channels, channels: options.stemChannels, halvings: side.trailingZeroBitCount, key: key.folding("stem"))
            stem = halving
            (channels, side) = (halving.outputs, 1)
        }
        patches = Convolution2D(
            channels, width, kernel: Size2D(side), stride: Size2D(side), key: key.folding("patches"))
        mixing = Convolution2D(width, width, kernel: 3, padding: 1, key: key.folding("mixing"))
        grid = options.tokenShape.grid!
        positions = CompactEncoder.sines(grid, width: width)
        layers = (0..<options.depth).map {
            TransformerBlock(
                width, heads: options.heads, hidden: 2 * width, dropout: options.dropout,
                key: key.folding("encoder").folding(UInt64($0)))
        }
        norm = LayerNorm(width)
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("stem", &stem)
        visitor.module("patches", &patches)
        visitor.module("mixing", &mixing)
        visitor.parameter("positions", &positions)
        visitor.modules("layers", &layers)
        visitor.module("norm", &norm)
    }

    public var blocks: [TransformerBlock] { layers }

    public var tokensInFront: Int { 0 }

    /// The convolutions of the stem, over patches, and over their neighbours.
    public var frontCost: Cost {
        let width = positions.shape[1]
        var halvings = Cost()
        if let stem {
            for (layer, halving) in stem.layers.enumerated() {
                let (outputs, left) = (halving.weight.shape[0], 2 * (stem.layers.count - layer))
                halvings = halvings + .product(grid.count << left, halving.weight.count / outputs, outputs)
            }
        }
        return halvings + .product(grid.count, patches.weight.count / width, width)
            + .product(grid.count, 9 * width, width)
    }

    public var tokenShape: TokenShape { TokenShape(grid: grid, width: positions.shape[1]) }

    /// Positions are for one raster: pictures have the size that the encoder was made for.
    public func problem(with pictures: Tensor) -> String? {
        let weight = patches.weight.shape
        let side = weight[2] << (stem?.layers.count ?? 0)
        let wanted = [stem?.layers[0].weight.shape[1] ?? weight[1], grid.rows * side, grid.columns * side]
        guard pictures.rank == 4, Array(pictures.shape.dropFirst()) == wanted else {
            return "pictures \(pictures.shape) are not [B, \(wanted[0]), \(wanted[1]), \(wanted[2])]"
        }
        return nil
    }

    public func visualTokens(
        _ pictures: Tensor, reducers: [any LayerReducer], tracked: Bool, signals: Bool
    ) -> VisualTokens {
        if let problem = problem(with: pictures) { trap("CompactEncoder", problem, pictures) }
        let front = mixing(patches(stem?(pictures) ?? pictures).gelu()).flattened(from: 2).transposed(1, 2)
        return layers.visualTokens(
            of: front * (positions + 1), grid: grid, reducers: reducers, tracked: tracked, signals: signals,
            norm: { norm($0) })
    }

    /// Sines and cosines of row and column, a quarter of the width each, at frequencies from 1 down to 1/16: [N, C].
    private static func sines(_ grid: VisualTokens.Grid, width: Int) -> Tensor {
        let quarter = width / 4
        let frequencies = (0..<quarter).map { pow(16, -Double($0) / Double(max(1, quarter - 1))) }
        var values: [Float] = []
        values.reserveCapacity(grid.count * width)
        for row in 0..<grid.rows {
            for column in 0..<grid.columns {
                for place in [row, column] {
                    values += frequencies.map { Float(sin(Double(place) * $0)) }
                    values += frequencies.map { Float(cos(Double(place) * $0)) }
                }
            }
        }
        return Tensor(values, shape: [grid.count, width])
    }
}
