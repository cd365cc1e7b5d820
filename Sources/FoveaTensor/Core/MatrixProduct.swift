import CKernels
import Synchronization

/// The seam to matrix products: everything that multiplies matrices goes through here.
///
/// From AVX2 on the package's own kernels do it. They cut k by k alone, so that the bits of a result depend neither on
/// the number of threads nor on how rows and columns are shared among them. On the baseline BLAS does it, in tiles that
/// depend on the shape alone.
package enum MatrixProduct {
    /// A matrix in memory: element (i, j) is at `pointer`, i·row + j·column elements further.
    struct Operand {
        var pointer: UnsafeRawPointer
        var row: Int
        var column: Int
        /// Whether the elements are of bfloat16; on the right alone, with columns that have no gaps.
        var isBFloat16 = false

        var transposed: Operand { Operand(pointer: pointer, row: column, column: row) }

        /// Whether BLAS can read it: row by row without gaps, or column by column.
        func isForBLAS(_ rows: Int, _ columns: Int) -> Bool {
            (column == 1 || columns == 1) && (row >= columns || rows == 1)
                || (row == 1 || rows == 1) && (column >= rows || columns == 1)
        }
    }

    /// What a product is added to: rows that are `row` elements apart; with 0 one row for all, such as a bias.
    struct Addend {
        var pointer: UnsafeRawPointer
        var row: Int
    }

    /// Where the matrices of a product lie, in elements after those of the first of its kind.
    typealias Offsets = (a: Int, b: Int, c: Int)

    // MARK: Counting

    private static let counter = Atomic<Int>(0)

    /// The multiply-adds of all products so far.
    package static var multiplyAdds: Int { counter.load(ordering: .relaxed) }

    /// Counts what a kernel multiplies without coming through here.
    package static func count(multiplyAdds: Int) { counter.add(multiplyAdds, ordering: .relaxed) }

    // MARK: Multiplying

    /// Up to so many rows, and from so many elements of the right matrix on, packing that matrix costs more than it saves:
    /// as where a language model reads one token. The shape alone decides.
    private static func isForFewRows(_ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand) -> Bool {
        m <= 8 && n * k >= 1 << 17 && a.column == 1 && b.row == 1
    }

    /// C[m, n] = addend + A·B, with C row-major, `stride` elements from row to row.
    static func multiply(
        _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, addend: Addend? = nil,
        into c: UnsafeMutableRawPointer, stride: Int, _ dtype: DType
    ) {
        multiply(1, m, n, k, a, b, addend: addend, into: c, stride: stride, dtype) { _ in
            { (0, 0, 0) }
        }
    }

    /// Several products of one shape. `walk` makes, for the number of a product, a function that gives the offsets of
    /// that one, then of the next, and so on.
    static func multiply(
        _ products: Int, _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, addend: Addend? = nil,
        into c: UnsafeMutableRawPointer, stride: Int, _ dtype: DType, walk: (_ product: Int) -> () -> Offsets
    ) {
        guard m > 0, n > 0, products > 0 else { return }
        count(multiplyAdds: products * m * n * k)
        let (type, size) = (dtype.kernelIndex, dtype.size)
        let table = Kernels.table.pointee
        let isFewRows = products == 1 && isForFewRows(m, n, k, a, b)
        let isBLAS =
            table.prefers_blas != 0 && k > 0 && !isFewRows && !b.isBFloat16 && a.isForBLAS(m, k) && b.isForBLAS(k, n)
        let panel = type == 0 ? table.panel.0 : table.panel.1
        let grid = Grid(products, m, n, k, panel: panel, threads: isBLAS ? threadsForBLAS : Workers.count)
        var whole = ck_product(
            m: grid.largest.rows, n: grid.largest.columns, k: k, a: a.pointer, a_row: a.row, a_column: a.column,
            b: b.pointer, b_row: b.row, b_column: b.column, addend: addend?.pointer, addend_row: addend?.row ?? 0,
            c: c, c_row: stride, is_few_rows: isFewRows ? 1 : 0, is_b_bfloat16: b.isBFloat16 ? 1 : 0)
        let loop = pick(table.product, dtype)
        let bytes = isBLAS || isFewRows ? 0 : pick(table.product_workspace, dtype)(&whole)
        let product = whole
        parallelFor(products * grid.tiles, grain: grid.grain) { range in
            let workspace = bytes > 0 ? StoragePool.allocate(bytes) : nil
            defer { if let workspace { StoragePool.release(workspace, bytes) } }
            let next = walk(range.lowerBound / grid.tiles)
            var offsets = next()
            for index in range {
                let tile = index % grid.tiles
                if tile == 0, index > range.lowerBound { offsets = next() }
                let (rows, columns) = grid[tile]
                var part = product
                part.m = rows.count
                part.n = columns.count
                part.a += (offsets.a + rows.lowerBound * a.row) * size
                part.b += (offsets.b + columns.lowerBound * b.column) * (b.isBFloat16 ? 2 : size)
                part.c += (offsets.c + rows.lowerBound * stride + columns.lowerBound) * size
                if let addend {
                    part.addend += (rows.lowerBound * addend.row + columns.lowerBound) * size
                    if isBLAS { copyAddend(of: &part, size) }
                }
                if isBLAS { ck_blas_product(Int32(type), &part) } else { loop(&part, workspace) }
            }
        }
    }

    /// With BLAS bits depend on the tiles, and these therefore not on the threads: as if there were so many.
    private static let threadsForBLAS = 16

    /// BLAS adds to C alone.
    private static func copyAddend(of part: inout ck_product, _ size: Int) {
        guard part.addend != UnsafeRawPointer(part.c) else { return }
        for row in 0..<part.m {
            (part.c + row * part.c_row * size).copyMemory(
                from: part.addend + row * part.addend_row * size, byteCount: part.n * size)
        }
    }
}

/// How products of one shape are shared: each in a grid of tiles, and so many tiles to a chunk of work.
private struct Grid {
    private let m: Int
    private let n: Int
    private let panel: Int
    private var down = 1
    private var across = 1

    /// Multiply-adds that are worth waking a worker for: a few microseconds.
    private static let chunkWork = 1 << 18

    init(_ products: Int, _ m: Int, _ n: Int, _ k: Int, panel: Int, threads: Int) {
        (self.m, self.n, self.panel) = (m, n, panel)
        let work = m * n * k
        // A large product is cut finer than there are threads, since one of them may be held up.
        let wanted = work * products > Grid.chunkWork << 6 ? 2 * threads : threads
        let tiles = min(work / Grid.chunkWork, (wanted + products - 1) / products)
        grain = max(1, Grid.chunkWork / max(1, work))
        guard tiles > 1 else { return }
        let panels = (n + panel - 1) / panel
        var least = Int.max
        for down in 1...tiles {
            let across = min((tiles + down - 1) / down, panels)
            // The largest tile times their number; and each tile packs its own rows and columns, an element of which
            // costs as much as some multiply-adds.
            let columns = (panels + across - 1) / across * panel
            let cost = ((m + down - 1) / down * columns * down * across + 8 * (n * down + m * across)) * k
            if across * down >= min(tiles, panels), cost < least {
                (self.down, self.across, least) = (down, across, cost)
            }
        }
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

extension Tensor {
    /// This tensor [..., C] as one matrix of rows, copied only where its rows are not evenly spaced.
    func asRows() -> (tensor: Tensor, row: Int, column: Int) {
        guard let strides, rank > 0 else { return (self, Swift.max(1, shape.last ?? 1), 1) }
        let (_, leading) = Tensor.coalesced(Array(shape.dropLast()), [Array(strides.dropLast())])
        guard leading[0].count == 1 else { return (contiguous(), Swift.max(1, shape[rank - 1]), 1) }
        return (self, leading[0][0], strides[rank - 1])
    }

    /// y[..., m, n] = a[..., m, k] · b[..., k, n], batch axes broadcast; both of rank 2 or more.
    static func product(_ a: Tensor, _ b: Tensor) -> Tensor {
        let (m, k, n) = (a.shape[a.rank - 2], a.shape[a.rank - 1], b.shape[b.rank - 1])
        let batchA = Array(a.shape.dropLast(2))
        let batchB = Array(b.shape.dropLast(2))
        guard let batch = broadcastShape(batchA, batchB) else {
            trap("matmul", "the batch axes do not broadcast", a, b)
        }
        let y = Tensor(uninitialized: batch + [m, n], a.dtype)
        if y.count == 0 { return y }
        let right = b.layoutStrides
        if b.rank == 2 {
            // One matrix on the right: all rows of the batch in one product.
            let left = a.asRows()
            left.tensor.read { leftPointer in
                b.read { rightPointer in
                    y.write { target in
                        MatrixProduct.multiply(
                            y.count / n, n, k, .init(pointer: leftPointer, row: left.row, column: left.column),
                            .init(pointer: rightPointer, row: right[0], column: right[1]), into: target, stride: n,
                            a.dtype)
                    }
                }
            }
            return y
        }
        let left = a.layoutStrides
        let strides = [
            Array(a.expandedStrides(to: batch + [m, k]).dropLast(2)),
            Array(b.expandedStrides(to: batch + [k, n]).dropLast(2)),
        ]
        a.read { leftPointer in
            b.read { rightPointer in
                y.write { target in
                    MatrixProduct.multiply(
                        batch.reduce(1, *), m, n, k,
                        .init(pointer: leftPointer, row: left[a.rank - 2], column: left[a.rank - 1]),
                        .init(pointer: rightPointer, row: right[b.rank - 2], column: right[b.rank - 1]), into: target,
                        stride: n, a.dtype
                    ) { product in
                        var walk = BoxWalk(batch, strides, from: product)
                        var (c, isFirst) = (product * m * n, true)
                        return {
                            if !isFirst {
                                walk.advance()
                                c += m * n
                            }
                            isFirst = false
                            return (walk.offsets.0, walk.offsets.1, c)
                        }
                    }
                }
            }
        }
        return y
    }

    /// sum += aᵀ·b for a [..., m] and b [..., n] with the same rows: the gradient of a weight [m, n].
    static func addTransposedProduct(_ a: Tensor, _ b: Tensor, into adjoint: inout Adjoint, shape: [Int]) {
        let (left, right) = (a.asRows(), b.asRows())
        let (m, n) = (shape[0], shape[1])
        let rows = a.count / Swift.max(1, m)
        adjoint.withSum(shape, a.dtype) { sum, isFirst in
            left.tensor.read { leftPointer in
                right.tensor.read { rightPointer in
                    MatrixProduct.multiply(
                        m, n, rows, .init(pointer: leftPointer, row: left.column, column: left.row),
                        .init(pointer: rightPointer, row: right.row, column: right.column),
                        addend: isFirst ? nil : .init(pointer: sum, row: n), into: sum, stride: n, a.dtype)
                }
            }
        }
    }
}
