import FoveaNN
import FoveaTensor

// What the methods on rasters say of shapes and costs.

extension TokenShape {
    /// Why tokens are of another width than a method's; nil when they are not.
    func problem(width: Int) -> String? {
        self.width == width ? nil : "tokens of width \(width) are needed, not \(self.width)"
    }

    /// Why a method on rasters cannot take the tokens; nil when it can.
    func problemWithoutRaster() -> String? {
        guard let grid else { return "the \(count) tokens form no raster" }
        return grid.count > 0 ? nil : "a raster of \(grid) has no tokens"
    }

    /// Why blocks of k × k do not tile the tokens; nil when they do.
    func problem(blocks k: Int) -> String? {
        if let problem = problemWithoutRaster() { return problem }
        guard let grid, grid.rows % k != 0 || grid.columns % k != 0 else { return nil }
        return "blocks of \(k) × \(k) do not tile a raster of \(grid)"
    }

    /// The shape after blocks of k × k became one token each.
    func merged(by k: Int, width: Int) -> TokenShape {
        guard let grid else { return TokenShape(count: count / (k * k), width: width) }
        return TokenShape(grid: .init(rows: grid.rows / k, columns: grid.columns / k), width: width)
    }
}

extension VisualTokens.Grid {
    /// The square raster of this many tokens; nil where there is none.
    init?(squareOf count: Int) {
        let side = Int(Double(count).squareRoot().rounded())
        guard side * side == count else { return nil }
        self.init(rows: side, columns: side)
    }

    /// As the size of a picture.
    var size: Size2D { Size2D(rows, columns) }
}

extension Tensor {
    /// Tokens [B, rows · columns, C] as pictures [B, C, rows, columns].
    func pictures(_ grid: VisualTokens.Grid) -> Tensor {
        reshaped(to: [shape[0], grid.rows, grid.columns, shape[2]]).permuted(to: [0, 3, 1, 2])
    }

    /// Pictures [B, C, H, W] as tokens [B, H · W, C] in raster order.
    func tokens() -> Tensor { flattened(from: 2, to: 3).transposed(1, 2) }
}

extension Linear {
    /// What this many rows take.
    func cost(rows: Int) -> Cost { .product(rows, weight.shape[1], weight.shape[0]) }
}

extension MLP {
    /// What this many rows take.
    func cost(rows: Int) -> Cost { expand.cost(rows: rows) + contract.cost(rows: rows) }
}

extension Convolution2D {
    /// What one picture takes whose result has this many pixels.
    func cost(pixels: Int) -> Cost {
        .product(pixels, weight.shape[1] * weight.shape[2] * weight.shape[3], weight.shape[0])
    }
}

extension SqueezeExcitation {
    /// What one picture takes.
    var cost: Cost { reduce.cost(pixels: 1) + expand.cost(pixels: 1) }
}
