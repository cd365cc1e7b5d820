import FoveaNN
import FoveaTensor

/// The pooled cells that FocusLLaVA's vision samplers choose from, for a raster of patches and windows of w × w.
///
/// Each window, from the top left in raster order, is pooled at each scale k in the listed order: its cells of k × k
/// patches, in raster order, by their maxima. A cell without a patch does not exist; one that is partly outside is the
/// maximum of what it has.
struct RegionCandidates {
    struct Cell {
        /// The window that the cell lies in, in raster order.
        let block: Int
        /// Which of the scales it is of.
        let scale: Int
        /// The patches that it covers.
        let rows: Range<Int>
        let columns: Range<Int>

        /// How many patches it covers.
        var size: Int { rows.count * columns.count }

        /// The mean row and column of what it covers.
        var centre: (row: Double, column: Double) {
            (Double(rows.lowerBound + rows.upperBound - 1) / 2, Double(columns.lowerBound + columns.upperBound - 1) / 2)
        }
    }

    let grid: VisualTokens.Grid
    let window: Int
    let scales: [Int]
    /// All cells, in the order of windows, scales, rasters.
    let cells: [Cell]
    /// For each cell its place among the cells of all scales, each scale's whole raster by itself.
    private let places: [Int]

    /// Why these windows and scales do not go together; nil when they do.
    static func problem(window: Int, scales: [Int]) -> String? {
        if window < 1 || scales.isEmpty { return "a window and at least one scale are needed" }
        if let scale = scales.first(where: { $0 < 1 || window % $0 != 0 }) {
            return "the scale \(scale) does not divide the window of \(window)"
        }
        return Set(scales).count == scales.count ? nil : "a scale stands twice in \(scales)"
    }

    /// Rows and columns of windows.
    static func blocks(_ grid: VisualTokens.Grid, window: Int) -> VisualTokens.Grid {
        .init(rows: (grid.rows + window - 1) / window, columns: (grid.columns + window - 1) / window)
    }

    init(_ grid: VisualTokens.Grid, window: Int, scales: [Int]) {
        self.grid = grid
        self.window = window
        self.scales = scales
        let blocks = RegionCandidates.blocks(grid, window: window)
        var cells: [Cell] = []
        var places: [Int] = []
        for block in 0..<blocks.count {
            let (top, left) = (block / blocks.columns * window, block % blocks.columns * window)
            var start = 0
            for (scale, k) in scales.enumerated() {
                let raster = RegionCandidates.blocks(grid, window: k)
                for row in stride(from: top, to: min(top + window, grid.rows), by: k) {
                    for column in stride(from: left, to: min(left + window, grid.columns), by: k) {
                        cells.append(
                            Cell(
                                block: block, scale: scale, rows: row..<min(row + k, grid.rows),
                                columns: column..<min(column + k, grid.columns)))
                        places.append(start + row / k * raster.columns + column / k)
                    }
                }
                start += raster.count
            }
        }
        self.cells = cells
        self.places = places
    }

    /// The maxima over each cell of x [B, H, W, C]: [B, cells, C].
    func pooled(_ x: Tensor) -> Tensor {
        let pooled = scales.map { k in
            k == 1 ? x.flattened(from: 1, to: 2) : RegionCandidates.maxima(x, k).flattened(from: 1, to: 2)
        }
        return concatenated(pooled, axis: 1).selecting(axis: 1, .indices(places))
    }

    /// x [B, H, W, C] with its edges repeated up to multiples of k.
    static func edgeReplicated(_ x: Tensor, _ k: Int) -> Tensor {
        func indices(_ n: Int) -> [Int] { (0..<(n + k - 1) / k * k).map { min($0, n - 1) } }
        let (rows, columns) = (indices(x.shape[1]), indices(x.shape[2]))
        let tall = rows.count == x.shape[1] ? x : x.selecting(axis: 1, .indices(rows))
        return columns.count == x.shape[2] ? tall : tall.selecting(axis: 2, .indices(columns))
    }

    /// The maxima over cells of k × k of x [B, H, W, C], ragged ones at the edges: [B, ⌈H / k⌉, ⌈W / k⌉, C].
    static func maxima(_ x: Tensor, _ k: Int) -> Tensor {
        edgeReplicated(x, k).permuted(to: [0, 3, 1, 2]).maxPooled(kernel: Size2D(k)).permuted(to: [0, 2, 3, 1])
    }

    /// What is known of the tokens when these cells were chosen for each sample.
    ///
    /// - Parameters:
    ///   - chosen: indices of cells.
    ///   - features: [B, longest, C].
    ///   - tokens: what the cells are of.
    func tokens(_ chosen: [[Int]], features: Tensor, of tokens: VisualTokens) -> VisualTokens {
        let length = chosen.map(\.count).max() ?? 0
        var made = withoutGradient { () -> VisualTokens in
            VisualTokens(
                features: features.detached, positions: positions(chosen).cast(to: tokens.positions.dtype),
                sizes: sizes(chosen).cast(to: tokens.sizes.dtype),
                provenance: tokens.provenance?.mixed(by: coverage(chosen, length)))
        }
        made.features = features
        made.mask = chosen.contains { $0.count != length } ? Tensor.prefixMask(chosen.map(\.count)) : nil
        return made
    }

    /// Row and column of the chosen cells' centres, [B, longest, 2], zeros behind; float64.
    func positions(_ chosen: [[Int]]) -> Tensor {
        let length = chosen.map(\.count).max() ?? 0
        let values = chosen.flatMap { list in
            list.flatMap { [cells[$0].centre.row, cells[$0].centre.column] }
                + [Double](repeating: 0, count: 2 * (length - list.count))
        }
        return Tensor(values, shape: [chosen.count, length, 2])
    }

    /// How many patches the chosen cells cover, [B, longest], zeros behind; float64.
    func sizes(_ chosen: [[Int]]) -> Tensor {
        let length = chosen.map(\.count).max() ?? 0
        let values = chosen.flatMap { list in
            list.map { Double(cells[$0].size) } + [Double](repeating: 0, count: length - list.count)
        }
        return Tensor(values, shape: [chosen.count, length])
    }

    /// A 1 for each patch whose maximum a token may be, [B, longest, H · W].
    private func coverage(_ chosen: [[Int]], _ length: Int) -> Tensor {
        var values = [Float](repeating: 0, count: chosen.count * length * grid.count)
        for (sample, list) in chosen.enumerated() {
            for (place, index) in list.enumerated() {
                let start = (sample * length + place) * grid.count
                for row in cells[index].rows {
                    for column in cells[index].columns { values[start + row * grid.columns + column] = 1 }
                }
            }
        }
        return Tensor(values, shape: [chosen.count, length, grid.count])
    }

    /// The chosen cells out of pooled [B, cells, C]: [B, longest, C], zeros behind the shorter ones.
    func taken(_ pooled: Tensor, _ chosen: [[Int]]) -> Tensor {
        let length = chosen.map(\.count).max() ?? 0
        let taken = pooled.flattened(from: 0, to: 1).selecting(axis: 0, .indices(flat(chosen, length)))
            .reshaped(to: [pooled.shape[0], length, pooled.shape[2]])
        return taken.zeroedBehind(chosen.map(\.count))
    }

    private func flat(_ chosen: [[Int]], _ length: Int) -> [Int] {
        chosen.enumerated().flatMap { sample, list in
            (list + [Int](repeating: 0, count: length - list.count)).map { sample * cells.count + $0 }
        }
    }
}

/// How the gradient of a choice reaches what chose.
public enum SelectionGate: String, Sendable, CaseIterable {
    /// Tokens keep their values; the gradient is that of a factor 1 + g − stop(g).
    case valuePreserving = "value-preserving"
    /// Tokens keep their values; the gradient is that of a factor keep · g, the relaxed number of times that one is drawn.
    case straightThrough = "straight-through"
    /// Tokens are multiplied by keep · g, in training and afterwards.
    case soft
    /// Nothing reaches it.
    case none

    /// The factor of the chosen tokens.
    ///
    /// - Parameters:
    ///   - g: the probabilities of what was chosen.
    ///   - count: of how many draws.
    func factor(_ g: Tensor, count: Int) -> Tensor? {
        let one = { Tensor.ones(g.shape, dtype: g.dtype) }
        switch self {
        case .valuePreserving: return FoveaTensor.straightThrough(one(), gradientOf: g)
        case .straightThrough: return FoveaTensor.straightThrough(one(), gradientOf: g * Double(count))
        case .soft: return g * Double(count)
        case .none: return nil
        }
    }
}
