import Foundation
import Fovea

/// The patches that `fovea compress` reduces, and how they look.
struct PatchSource {
    /// Tracked, so that provenance tells of each patch.
    let tokens: VisualTokens
    /// Colours of each sample's patches, [rows · p, columns · p, 3], uint8, with p pixels a side.
    let pictures: [Tensor]
    /// p.
    let pixels: Int

    /// - Parameters:
    ///   - path: npy or safetensors with features, or a PNG picture.
    ///   - grid: rows and columns such as 24x24; a square where nil.
    ///   - patchSize: pixels along a patch's side, for a picture.
    init(_ path: String, grid: String?, patchSize: Int) throws {
        let format = try FileFormat(of: path)
        if format == .png {
            guard grid == nil else { throw CommandError("--grid: a picture's patches follow from --patch-size") }
            (tokens, pictures) = try PatchSource.patches(of: path, size: patchSize)
            pixels = patchSize
            return
        }
        let features = try PatchSource.features(path, format)
        try PatchSource.requireNumbers(features, "features", path)
        let raster = try PatchSource.raster(grid, count: features.shape[1], path)
        var patches = VisualTokens(patches: features, grid: raster, tracked: true)
        if format == .safetensors { patches.signals = try PatchSource.signals(path, features) }
        tokens = patches
        pixels = 12
        pictures = (0..<features.shape[0]).map {
            PatchSource.lengths(features.sliced(axis: 0, $0..<$0 + 1), raster, pixels: 12)
        }
    }

    /// Features as [B, N, C], float32 or float64.
    private static func features(_ path: String, _ format: FileFormat) throws -> Tensor {
        let found: Tensor
        switch format {
        case .npy: found = try readNPY(path)
        case .safetensors: found = try SafetensorsFile(reading: path).tensor("features")
        default:
            throw FileError(path: path, problem: "holds no features; expected is npy, safetensors or a PNG picture")
        }
        guard found.dtype.isFloatingPoint, [2, 3].contains(found.rank), found.count > 0 else {
            throw FileError(
                path: path,
                problem:
                    "holds \(found.dtype) \(found.shape); expected are features [N, C] or [B, N, C] of a float type, each of "
                    + "the numbers 1 or more")
        }
        let wide = found.dtype.isDifferentiable ? found : found.cast(to: .float32)
        return wide.rank == 2 ? wide.unsqueezed(0) : wide
    }

    private static func numbers(_ x: Tensor) -> [Double] { x.cast(to: .float64).scalars() }

    /// Throws where one of the numbers is none: it would choose, or become part of what is merged, without a word.
    private static func requireNumbers(_ x: Tensor, _ name: String, _ path: String) throws {
        let strays = numbers(x).count { !$0.isFinite }
        guard strays == 0 else {
            throw FileError(path: path, problem: "\(name): \(strays) of \(x.count) numbers are NaN or infinite")
        }
        // Lengths and products of tokens would be infinite, and choices by them none.
        let squares = x.square().sum().item()
        guard squares.isFinite else {
            throw FileError(
                path: path, problem: "\(name): the numbers are too large, their squares do not add up; scale them first"
            )
        }
    }

    /// What the file says of the encoder's attention; nil where it says nothing.
    private static func signals(_ path: String, _ features: Tensor) throws -> EncoderSignals? {
        let file = try SafetensorsFile(reading: path)
        let (batch, count) = (features.shape[0], features.shape[1])
        let known = ["features", "class_attention", "keys", "relevance"]
        let unknown = file.entries.keys.filter { !known.contains($0) }
        if !unknown.isEmpty {
            Terminal.warn(
                "\(path): not looked at: \(unknown.sorted().joined(separator: ", ")); known are "
                    + known.joined(separator: ", "))
        }
        // What belongs to features without a batch axis has none either.
        let isAlone = try file.tensor("features").rank == 2
        func tensor(_ name: String, _ shape: String, fits: ([Int]) -> Bool) throws -> Tensor? {
            guard let entry = file.entries[name] else { return nil }
            let own = isAlone ? [1] + entry.shape : entry.shape
            let found = try file.tensor(name)
            guard found.dtype.isFloatingPoint, fits(own) else {
                throw FileError(
                    path: path,
                    problem:
                        "tensor \"\(name)\" is \(found.dtype) \(entry.shape); expected is "
                        + "[\(isAlone ? "" : "\(batch), ")\(shape)] of a float type")
            }
            try requireNumbers(found, "tensor \"\(name)\"", path)
            return found.reshaped(to: own).cast(to: features.dtype)
        }
        let signals = EncoderSignals(
            classAttention: try tensor("class_attention", "H, \(count)") {
                $0.count == 3 && $0[0] == batch && $0[1] > 0 && $0[2] == count
            },
            keys: try tensor("keys", "\(count), d") {
                $0.count == 3 && $0[0] == batch && $0[1] == count && $0[2] > 0
            },
            relevance: try tensor("relevance", "\(count)") { $0 == [batch, count] })
        if let attention = signals.classAttention, numbers(attention).contains(where: { $0 < 0 }) {
            throw FileError(
                path: path,
                problem: "tensor \"class_attention\" has negative numbers; expected is attention after softmax")
        }
        let isSilent = signals.classAttention == nil && signals.keys == nil && signals.relevance == nil
        return isSilent ? nil : signals
    }

    /// The raster that an argument names, if it has as many cells as there are patches.
    private static func raster(_ argument: String?, count: Int, _ path: String) throws -> VisualTokens.Grid {
        guard let argument else {
            let side = Int(Double(count).squareRoot().rounded())
            guard side * side == count else {
                throw CommandError(
                    "\(path): \(count) patches are no square; give their rows and columns as --grid ROWSxCOLUMNS")
            }
            return .init(rows: side, columns: side)
        }
        let sides = argument.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        guard sides.count == 2, sides.allSatisfy({ $0 > 0 && $0 <= 1 << 20 }) else {
            throw CommandError("--grid \(argument): expected are rows and columns, such as 24x24")
        }
        let grid = VisualTokens.Grid(rows: sides[0], columns: sides[1])
        guard grid.count == count else {
            throw CommandError(
                "--grid \(argument): \(path) has \(count) patches, a raster of \(grid) has \(grid.count)")
        }
        return grid
    }

    /// The patches of a picture by their pixels, and the picture itself.
    private static func patches(of path: String, size: Int) throws -> (VisualTokens, [Tensor]) {
        guard size > 0 else { throw CommandError("--patch-size \(size): expected is a number from 1 on") }
        var picture = try readPNG(path)
        let grid = VisualTokens.Grid(rows: picture.shape[0] / size, columns: picture.shape[1] / size)
        guard grid.rows * size == picture.shape[0], grid.columns * size == picture.shape[1] else {
            throw CommandError(
                "\(path): patches of \(size) × \(size) do not tile \(picture.shape[0]) × \(picture.shape[1]) pixels; "
                    + "give another --patch-size or resize the picture")
        }
        // Opacity says nothing of how a patch looks.
        if picture.shape[2] == 4 { picture = picture.sliced(axis: 2, 0..<3).contiguous() }
        let width = size * size * picture.shape[2]
        let features = (picture.cast(to: .float32) * (1 / 255))
            .reshaped(to: [1, grid.rows, size, grid.columns, size, picture.shape[2]])
            .permuted(to: [0, 1, 3, 2, 4, 5]).reshaped(to: [1, grid.count, width])
        let colours = picture.shape[2] == 1 ? picture.repeated(3, axis: 2) : picture
        return (VisualTokens(patches: features, grid: grid, tracked: true), [colours])
    }

    /// Patches of one sample [1, N, C] in greys: the longer a feature, the brighter.
    private static func lengths(_ features: Tensor, _ grid: VisualTokens.Grid, pixels: Int) -> Tensor {
        let lengths = features.cast(to: .float64).l2Norm(axes: [2]).scalars(as: Double.self)
            .map { $0.isFinite ? $0 : 0 }
        let (low, high) = (lengths.min() ?? 0, lengths.max() ?? 0)
        let greys = lengths.map { UInt8(90 + 150 * (high > low ? ($0 - low) / (high - low) : 0.5)) }
        return Tensor(greys, shape: [grid.rows, grid.columns, 1]).repeated(pixels, axis: 0).repeated(pixels, axis: 1)
            .repeated(3, axis: 2)
    }
}
