import FoveaTensor

/// The order in which Qwen2-VL's encoder has its patches: blocks of m × m in raster order, each block's patches in raster
/// order, frame after frame. So m² consecutive rows are what a merger joins.
/// (`transformers/models/qwen2_vl/image_processing_qwen2_vl.py`.)
public enum BlockOrder {
    /// For each place in block-major order, the place of the same patch in raster order (frame, row, column).
    ///
    /// - Parameters:
    ///   - grid: rows and columns of patches of a frame. Traps unless m divides both.
    ///   - frames: how many frames there are.
    ///   - m: patches along a block's side.
    public static func blockMajor(_ grid: VisualTokens.Grid, frames: Int = 1, mergedBy m: Int) -> [Int] {
        guard m > 0, grid.rows % m == 0, grid.columns % m == 0 else {
            trap("BlockOrder", "blocks of \(m) × \(m) do not tile a grid of \(grid)")
        }
        var order: [Int] = []
        order.reserveCapacity(frames * grid.count)
        for frame in 0..<frames {
            for row in stride(from: 0, to: grid.rows, by: m) {
                for column in stride(from: 0, to: grid.columns, by: m) {
                    for place in 0..<m * m {
                        order.append(
                            (frame * grid.rows + row + place / m) * grid.columns + column + place % m)
                    }
                }
            }
        }
        return order
    }

    /// How Qwen2.5-VL puts merged units into windows of attention, before its blocks: for each place in window order, the
    /// unit (frame, row, column in raster order) that stands there; and where the windows begin and the last one ends, in
    /// units. Windows at the right and lower edges may be partial.
    /// (`transformers/vision_utils.py`, `get_vision_window_index`; its lengths count patches, m² for each unit.)
    ///
    /// - Parameters:
    ///   - units: rows and columns of merged units of a frame.
    ///   - frames: how many frames there are.
    ///   - side: units along a window's side; 4 in the released models (112 pixels of 14-pixel patches, merged by 2).
    public static func windows(
        _ units: VisualTokens.Grid, frames: Int = 1, side: Int = 4
    ) -> (order: [Int], bounds: [Int]) {
        guard side > 0 else { trap("BlockOrder", "a window needs a side of at least 1, not \(side)") }
        var order: [Int] = []
        var bounds = [0]
        for frame in 0..<frames {
            for top in stride(from: 0, to: units.rows, by: side) {
                for left in stride(from: 0, to: units.columns, by: side) {
                    for row in top..<min(top + side, units.rows) {
                        for column in left..<min(left + side, units.columns) {
                            order.append((frame * units.rows + row) * units.columns + column)
                        }
                    }
                    bounds.append(order.count)
                }
            }
        }
        return (order, bounds)
    }

    /// The permutation that undoes one: place order[i] gets i. Traps for what is no permutation.
    public static func inverse(_ order: [Int]) -> [Int] {
        var inverse = [Int](repeating: -1, count: order.count)
        for (place, value) in order.enumerated() {
            guard inverse.indices.contains(value), inverse[value] < 0 else {
                trap("BlockOrder", "\(order.count) numbers with \(value) twice, or out of range, are no permutation")
            }
            inverse[value] = place
        }
        return inverse
    }

    /// Rows of x [P, C] in blocks of `rows` consecutive ones, the blocks in this order: rows = m² moves merged units, and
    /// 1 rows themselves.
    public static func reordered(_ x: Tensor, by order: [Int], rows: Int = 1) -> Tensor {
        guard x.rank == 2, x.shape[0] == order.count * rows else {
            trap("BlockOrder", "[\(order.count * rows), C] is needed", x)
        }
        return x.reshaped(to: [order.count, rows * x.shape[1]])
            .selecting(axis: 0, Tensor(order.map(Int64.init), shape: [order.count])).reshaped(to: x.shape)
    }
}
