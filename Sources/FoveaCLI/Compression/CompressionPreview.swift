import Fovea

/// Patches as they look, with what became of them: kept ones as they are, dropped ones dark, and those that share a token
/// in one colour, with a line around them. One sample below the other.
struct CompressionPreview {
    /// [rows, columns, 3], uint8.
    let pixels: Tensor

    init(_ source: PatchSource, _ origins: TokenOrigins) {
        let (grid, size) = (source.tokens.grid ?? .init(rows: 0, columns: 0), source.pixels)
        let (height, width, gap) = (grid.rows * size, grid.columns * size, 8)
        let samples = source.pictures.count
        var values = [UInt8](repeating: 255, count: (samples * (height + gap) - gap) * width * 3)
        for (sample, picture) in source.pictures.enumerated() {
            let colours = picture.scalars(as: UInt8.self)
            let owners = origins.owners.isEmpty ? [Int?](repeating: nil, count: grid.count) : origins.owners[sample]
            for y in 0..<height {
                for x in 0..<width {
                    let patch = y / size * grid.columns + x / size
                    let target = ((sample * (height + gap) + y) * width + x) * 3
                    let isEdge = CompressionPreview.isEdge(x, y, size, grid, owners)
                    for channel in 0..<3 {
                        let colour = Double(colours[(y * width + x) * 3 + channel])
                        var shown = colour
                        if let token = owners[patch] {
                            if isEdge {
                                shown = 255
                            } else if origins.parts[sample][token] > 1 {
                                shown = 0.45 * colour + 0.55 * CompressionPreview.tint(token)[channel]
                            }
                        } else {
                            shown = 0.15 * colour
                        }
                        values[target + channel] = UInt8(shown)
                    }
                }
            }
        }
        pixels = Tensor(values, shape: [samples * (height + gap) - gap, width, 3])
    }

    /// Whether the patch at the left or above belongs to another token, seen from a pixel at the patch's rim.
    private static func isEdge(
        _ x: Int, _ y: Int, _ size: Int, _ grid: VisualTokens.Grid, _ owners: [Int?]
    ) -> Bool {
        let (row, column) = (y / size, x / size)
        let own = owners[row * grid.columns + column]
        if x % size == 0, column > 0, owners[row * grid.columns + column - 1] != own { return true }
        return y % size == 0 && row > 0 && owners[(row - 1) * grid.columns + column] != own
    }

    /// A colour for each token; neighbours in number are far apart in hue.
    private static func tint(_ token: Int) -> [Double] {
        let hue = (Double(token) * 0.618_033_988_75).truncatingRemainder(dividingBy: 1) * 6
        func channel(_ shift: Double) -> Double {
            let place = (hue + shift).truncatingRemainder(dividingBy: 6)
            return 255 * min(1, max(0, abs(place - 3) - 1))
        }
        return [channel(0), channel(4), channel(2)]
    }
}
