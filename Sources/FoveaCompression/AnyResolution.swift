import Foundation
import FoveaNN
import FoveaTensor

/// LLaVA-OneVision's any-resolution packing: a picture as a small whole and as a grid of tiles at full size, put
/// together into one sequence.
///
/// (Li et al., "LLaVA-OneVision", 2024; `llava/model/llava_arch.py` of LLaVA-NeXT, and `pack_image_features` in
/// `transformers/models/llava_onevision/modeling_llava_onevision.py`, whose rounding this follows.)
///
///  1. The tiles' tokens, n × n each, form a raster of a·n × b·n.
///  2. Unpadding: the rows or columns that stand for the letterbox are cut off, at least one is left.
///  3. With h × w left and ratio = √(h·w / (k·n²)) above 1.1, the raster is resized bilinearly to
///     ⌊h / ratio⌋ × ⌊w / ratio⌋ (`anyres_max_k`).
///  4. A learned token ends every row, and the whole picture's n² tokens stand in front.
///
/// The number of tokens is n² + h'·(w' + 1).
public struct AnyResolution: Module {
    /// The token that ends a row, [D].
    public var imageNewline: Tensor
    public let options: Options

    /// What tells a picture's tiles and tokens.
    public struct Options: Sendable, Equatable {
        /// Heights and widths in pixels that a picture may be fitted into.
        public var pinpoints: [Size2D]
        /// Height and width of a tile in pixels.
        public var tile: Int
        /// n, rows and columns of a tile's tokens.
        public var side: Int
        /// k, above how many tiles' worth of tokens the raster is resized; nil for never.
        public var maxTiles: Int?

        /// - Parameters:
        ///   - pinpoints: heights and widths that a picture may be fitted into; all grids up to 6 × 6 unless given, as
        ///     released. Traps for sides that are no multiples of the tile's.
        ///   - tile: height and width of a tile in pixels.
        ///   - side: n, rows and columns of a tile's tokens.
        ///   - maxTiles: k, above how many tiles' worth of tokens the raster is resized.
        public init(pinpoints: [Size2D]? = nil, tile: Int = 384, side: Int = 27, maxTiles: Int? = 9) {
            self.pinpoints =
                pinpoints ?? (1...6).flatMap { rows in (1...6).map { Size2D(rows * tile, $0 * tile) } }
            self.tile = tile
            self.side = side
            self.maxTiles = maxTiles
            guard tile > 0, side > 0, maxTiles ?? 1 > 0, !self.pinpoints.isEmpty,
                self.pinpoints.allSatisfy({
                    $0.height > 0 && $0.width > 0 && $0.height % tile == 0 && $0.width % tile == 0
                })
            else { trap("AnyResolution", "pinpoints must be whole numbers of tiles of \(tile) pixels") }
        }
    }

    /// How one picture is packed.
    public struct Packing: Sendable, Equatable {
        /// Rows and columns of tiles.
        public let tiles: VisualTokens.Grid
        /// The rows of the tiles' raster that show the picture.
        public let rows: Range<Int>
        /// The columns likewise.
        public let columns: Range<Int>
        /// The raster that these are resized to; their own size where it is not.
        public let grid: VisualTokens.Grid
        /// Tokens of the whole picture in front.
        public let base: Int

        /// Tokens in all: the whole picture's, and the raster's with a token behind each row.
        public var tokenCount: Int { base + grid.rows * (grid.columns + 1) }
    }

    /// - Parameters:
    ///   - options: what tells a picture's tiles and tokens.
    ///   - width: D.
    ///   - key: of the random numbers that the end token starts with, N(0, 1 / D).
    public init(_ options: Options = Options(), width: Int, key: RandomKey) {
        imageNewline = .endOfLine(width: width, key: key.folding("imageNewline"))
        self.options = options
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("imageNewline", &imageNewline)
    }

    /// Tokens of one size of pictures → one sequence for each.
    ///
    /// Positions are in units of the unpadded raster's tokens before it is resized, of which the whole picture's tokens
    /// cover several each; a row's end stands where its last token stands. With provenance, the patches are those of the
    /// whole picture, then those of the unpadded raster.
    ///
    /// - Parameters:
    ///   - features: [B, 1 + a·b, n², D], the whole picture and then its tiles row by row; or [B, 1, n², D] for pictures
    ///     that were not tiled, which get one end token.
    ///   - picture: height and width in pixels.
    ///   - tracked: whether to keep track of which patches go where.
    public func callAsFunction(_ features: Tensor, picture: Size2D, tracked: Bool = false) -> VisualTokens {
        let side = options.side
        guard features.rank == 4, features.shape[2] == side * side, features.shape[3] == imageNewline.shape[0] else {
            trap(
                "AnyResolution", "tokens [B, 1 + tiles, \(side * side), \(imageNewline.shape[0])] are needed", features)
        }
        if let problem = problem(crops: features.shape[1], picture: picture) {
            trap("AnyResolution", problem, features)
        }
        let square = VisualTokens.Grid(rows: side, columns: side)
        var whole = VisualTokens(
            patches: features.sliced(axis: 1, 0..<1).squeezed(1), grid: square, tracked: tracked)
        guard features.shape[1] > 1 else { return whole.ending(with: imageNewline) }

        let packing = packing(of: picture)
        let (batch, width) = (features.shape[0], features.shape[3])
        let kept = VisualTokens.Grid(rows: packing.rows.count, columns: packing.columns.count)
        let raster = features.sliced(axis: 1, 1..<features.shape[1])
            .reshaped(to: [batch, packing.tiles.rows, packing.tiles.columns, side, side, width])
            .permuted(to: [0, 1, 3, 2, 4, 5])
            .reshaped(to: [batch, packing.tiles.rows * side, packing.tiles.columns * side, width])
            .sliced(axis: 1, packing.rows).sliced(axis: 2, packing.columns).flattened(from: 1, to: 2)
        var tiles = VisualTokens(patches: raster, grid: kept, tracked: tracked)
        if packing.grid != kept {
            let size = packing.grid.size
            tiles = tiles.resampled(
                features: raster.pictures(kept).interpolatedBilinear(to: size).tokens(),
                rows: .rowWeights(kept.rows) { $0.interpolatedBilinear(to: Size2D(size.height, 1)) },
                columns: .rowWeights(kept.columns) { $0.interpolatedBilinear(to: Size2D(size.width, 1)) })
        }
        // A token of the whole picture covers h / n rows and w / n columns of the raster.
        let scale = Tensor([Float(kept.rows) / Float(side), Float(kept.columns) / Float(side)], shape: [2])
        whole.positions = (whole.positions + 0.5) * scale - 0.5
        whole.provenance = whole.provenance.map { .init(weights: $0.weights.padded([(0, kept.count)])) }
        tiles.provenance = tiles.provenance.map { .init(weights: $0.weights.padded([(side * side, 0)])) }
        return VisualTokens.joined([whole, tiles.endingRows(with: imageNewline)])
    }

    /// Why so many crops cannot be those of a picture of this size; nil when they can.
    func problem(crops: Int, picture: Size2D) -> String? {
        guard picture.height > 0, picture.width > 0 else {
            return "a picture of \(picture.height) × \(picture.width) pixels has no tiles"
        }
        if crops == 1 { return nil }
        let tiles = packing(of: picture).tiles
        return crops == tiles.count + 1
            ? nil
            : "a picture of \(picture.height) × \(picture.width) pixels has 1 + \(tiles.count) crops "
                + "(\(tiles) tiles), not \(crops)"
    }

    /// How a tiled picture of this height and width in pixels is packed.
    public func packing(of picture: Size2D) -> Packing { options.packing(of: picture) }
}

extension AnyResolution.Options {
    /// The pinpoint that shows the most of a picture, and of those that show the same the one that wastes the least.
    public func bestFit(_ picture: Size2D) -> Size2D {
        var best = (size: pinpoints[0], shown: 0, wasted: Int.max)
        for pinpoint in pinpoints {
            let scale = min(
                Double(pinpoint.width) / Double(picture.width), Double(pinpoint.height) / Double(picture.height))
            let scaled = Int(Double(picture.width) * scale) * Int(Double(picture.height) * scale)
            let shown = min(scaled, picture.width * picture.height)
            let wasted = pinpoint.width * pinpoint.height - shown
            if shown > best.shown || (shown == best.shown && wasted < best.wasted) {
                best = (pinpoint, shown, wasted)
            }
        }
        return best.size
    }

    /// How a tiled picture of this height and width in pixels is packed. Traps for a picture without pixels.
    public func packing(of picture: Size2D) -> AnyResolution.Packing {
        guard picture.height > 0, picture.width > 0 else {
            trap("AnyResolution", "a picture of \(picture.height) × \(picture.width) pixels cannot be packed")
        }
        let fit = bestFit(picture)
        let tiles = VisualTokens.Grid(rows: fit.height / tile, columns: fit.width / tile)
        let (height, width) = (tiles.rows * side, tiles.columns * side)
        let (rows, columns): (Range<Int>, Range<Int>)
        if Double(picture.width) / Double(picture.height) > Double(width) / Double(height) {
            rows = shown(picture.height, scaledBy: Double(width) / Double(picture.width), within: height)
            columns = 0..<width
        } else {
            rows = 0..<height
            columns = shown(picture.width, scaledBy: Double(height) / Double(picture.height), within: width)
        }
        return AnyResolution.Packing(
            tiles: tiles, rows: rows, columns: columns, grid: resized(rows.count, columns.count), base: side * side)
    }

    /// The rows that show a picture of this length in the middle of a letterbox of `total`; where an odd number is over,
    /// one line of the letterbox stays.
    private func shown(_ length: Int, scaledBy scale: Double, within total: Int) -> Range<Int> {
        // Rounded to seven digits, so that a whole number is not cut to the one below.
        let exact = (Double(length) * scale * 1e7).rounded(.toNearestOrEven) / 1e7
        // A line thinner than a token would vanish.
        let padding = (total - max(1, Int(exact))) / 2
        return padding..<total - padding
    }

    /// The raster after the token threshold.
    private func resized(_ rows: Int, _ columns: Int) -> VisualTokens.Grid {
        guard let maxTiles else { return .init(rows: rows, columns: columns) }
        let ratio = (Double(rows * columns) / (Double(maxTiles) * Double(side * side))).squareRoot()
        guard ratio > 1.1 else { return .init(rows: rows, columns: columns) }
        return .init(
            rows: max(1, Int(floorDivision(Double(rows), ratio))),
            columns: max(1, Int(floorDivision(Double(columns), ratio))))
    }

    /// ⌊a / b⌋ from the exact remainder: a quotient that only rounds up to a whole number is the one below.
    private func floorDivision(_ a: Double, _ b: Double) -> Double { ((a - fmod(a, b)) / b).rounded() }
}

extension WeightLayout where Model == AnyResolution {
    /// The name that LLaVA-OneVision gives the end token; files keep it behind `model.`.
    public static var llavaOneVision: Self {
        WeightLayout("llava-onevision", [.rename("imageNewline", "image_newline")])
    }
}

extension AnyResolution {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "any-resolution", "a picture and its tiles packed into one sequence",
        forms: [
            PublishedForm(
                WeightLayout<AnyResolution>.llavaOneVision,
                keys: [
                    .size("hidden_size", "width D", from: .axis(0, of: "image_newline")),
                    .sizes("original_size", "height and width of the pictures in pixels", count: 2),
                    .pairs(
                        "image_grid_pinpoints", "heights and widths that a picture may be fitted into",
                        default: .list(
                            Options().pinpoints.map { .list([.int($0.height), .int($0.width)]) })),
                    .size("image_size", "height and width of a tile in pixels", default: 384),
                    .size("patch_size", "pixels along a patch's side", default: 14),
                    .text(
                        "vision_aspect_ratio", "above how many tiles' worth of tokens to resize",
                        default: "anyres_max_9", expected: "\"anyres\" or \"anyres_max_{k}\" with k from 1 on",
                        where: { $0 == "anyres" || maxTiles($0) != nil }),
                ],
                inputs: [.init("image_features", "[B, P, V, hidden_size]")],
                outputs: [.init("tokens", "[B, N, hidden_size]")],
                sample: [
                    "hidden_size": 2, "original_size": [7, 11], "image_size": 6, "patch_size": 2,
                    "image_grid_pinpoints": [[6, 6], [6, 12], [12, 6]], "vision_aspect_ratio": "anyres_max_1",
                ],
                sampleInputs: { ["image_features": $0.uniform([2, 3, 9, 2])] },
                make: { configuration in
                    let (tile, patch) = (configuration.int("image_size"), configuration.int("patch_size"))
                    let pinpoints = configuration.pairs("image_grid_pinpoints")
                    guard patch <= tile, pinpoints.allSatisfy({ $0.0 % tile == 0 && $0.1 % tile == 0 }) else {
                        throw configuration.error(
                            "\"image_grid_pinpoints\" must be multiples of \"image_size\", \(tile), and that at least "
                                + "\"patch_size\", \(patch)")
                    }
                    return AnyResolution(
                        Options(
                            pinpoints: pinpoints.map { Size2D($0.0, $0.1) }, tile: tile, side: tile / patch,
                            maxTiles: maxTiles(configuration.string("vision_aspect_ratio"))),
                        width: configuration.int("hidden_size"), key: configuration.key)
                },
                run: { model, inputs in
                    let features = inputs["image_features"]
                    let size = inputs.configuration.ints("original_size")
                    let (picture, side) = (Size2D(size[0], size[1]), model.options.side)
                    guard features.shape[2] == side * side else {
                        throw ModuleInputError(
                            "input image_features is \(features.shape); expected is [B, P, V, hidden_size] with "
                                + "V = \(side * side), the square of image_size / patch_size")
                    }
                    if let problem = model.problem(crops: features.shape[1], picture: picture) {
                        throw ModuleInputError("input image_features is \(features.shape): \(problem)")
                    }
                    return ["tokens": model(features, picture: picture).features]
                })
        ])

    /// k of `anyres_max_k`; nil for another word.
    private static func maxTiles(_ word: String) -> Int? {
        guard word.hasPrefix("anyres_max_"), let count = Int(word.dropFirst(11)), count > 0 else { return nil }
        return count
    }
}
