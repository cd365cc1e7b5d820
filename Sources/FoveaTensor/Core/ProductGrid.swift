import CKernels

/// How products of one shape are shared: each in a grid of tiles, and so many tiles to a chunk of work.
struct ProductGrid {
    private let m: Int
    private let n: Int
    private let panel: Int
    private var down = 1
    private var across = 1

    /// Multiply-adds that are worth waking a worker for: a few microseconds.
    private static let chunkWork = 1 << 18

    /// - Parameters:
    ///   - products: how many.
    ///   - sharesB: whether all have one B.
    ///   - inPieces: whether they are for tiles of bfloat16 pieces, where the processor has them.
    init(
        _ products: Int, _ m: Int, _ n: Int, _ k: Int, _ dtype: DType, threads: Int, sharesB: Bool, inPieces: Bool
    ) {
        let table = Kernels.table.pointee
        let panel = dtype.kernelIndex == 0 ? table.panel.0 : table.panel.1
        (self.m, self.n, self.panel) = (m, n, panel)
        // The multiply-adds that take as long as packing one element.
        let packing = inPieces && table.has_pieces != 0 ? 64 : 8
        let work = m * n * k
        // A large product is cut finer than there are threads, since one of them may be held up.
        let wanted = work * products > Self.chunkWork << 6 ? 2 * threads : threads
        let tiles = min(work / Self.chunkWork, (wanted + products - 1) / products)
        let together = sharesB && tiles <= 1 ? (products + wanted - 1) / wanted : 1
        grain = max(together, Self.chunkWork / max(1, work))
        guard tiles > 1 else { return }
        let panels = (n + panel - 1) / panel
        func best(_ tiles: Int) -> (down: Int, across: Int, cost: Int) {
            var best = (down: 1, across: 1, cost: Int.max)
            for down in 1...tiles {
                let across = min((tiles + down - 1) / down, panels)
                guard across * down >= min(tiles, panels) else { continue }
                // The largest tile times their number; and each tile packs its own columns, and its rows for each strip of them.
                let columns = (panels + across - 1) / across * panel
                let strips = across * ((columns + table.strip - 1) / table.strip)
                let cost = ((m + down - 1) / down * columns * down * across + packing * (n * down + m * strips)) * k
                if cost < best.cost { best = (down, across, cost) }
            }
            return best
        }
        var chosen = best(tiles)
        // Finer yet where that costs next to nothing: a core may also be slower than another, by a factor of two where a stranger
        // uses the other half of it.
        if products == 1, work > Self.chunkWork << 10 {
            let finer = best(2 * tiles)
            if finer.cost <= chosen.cost + chosen.cost / 32 { chosen = finer }
        }
        (down, across) = (chosen.down, chosen.across)
    }

    let grain: Int

    var tiles: Int { down * across }

    /// The rows and columns of a tile.
    subscript(tile: Int) -> (Range<Int>, Range<Int>) {
        let (row, column) = (tile / across, tile % across)
        let panels = (n + panel - 1) / panel
        return (
            m * row / down..<m * (row + 1) / down,
            panels * column / across * panel..<min(n, panels * (column + 1) / across * panel)
        )
    }

    var largest: (rows: Int, columns: Int) {
        let panels = (n + panel - 1) / panel
        return ((m + down - 1) / down, min(n, (panels + across - 1) / across * panel))
    }
}
