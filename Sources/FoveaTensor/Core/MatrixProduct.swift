import CKernels
import Synchronization

/// The seam to matrix products: everything that multiplies matrices goes through here.
///
/// From AVX2 on the package's own kernels do it. They cut k by the shape alone, and by k alone where A lies row by row, so that the
/// bits of a result depend neither on the number of threads nor on how rows and columns are shared among them. On the baseline
/// BLAS does it, in tiles that depend on the shape alone.
package enum MatrixProduct {
    /// A matrix in memory: element (i, j) is at `pointer`, i·row + j·column elements further.
    struct Operand {
        var pointer: UnsafeRawPointer
        var row: Int
        var column: Int
        /// Where the columns are not evenly spaced: they come in runs of so many, whose beginnings are `runStep` elements apart.
        /// On the left alone; 0 where they are.
        var run = 0
        var runStep = 0
        /// Whether the elements are of bfloat16; on the right alone, with columns that have no gaps.
        var isBFloat16 = false

        /// Whether BLAS can read it: row by row without gaps, or column by column.
        func isForBLAS(_ rows: Int, _ columns: Int) -> Bool {
            guard run == 0 else { return false }
            return (column == 1 || columns == 1) && (row >= columns || rows == 1)
                || (row == 1 || rows == 1) && (column >= rows || columns == 1)
        }
    }

    /// What a product is added to: rows that are `row` elements apart; with 0 one row for all, such as a bias.
    struct Addend {
        var pointer: UnsafeRawPointer
        var row: Int
    }

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

    /// Whether a product of float32 is for tiles of bfloat16 pieces, where the processor has them: with few columns cutting the
    /// numbers in pieces costs what the tiles save. Not a question of the rows, unless there are very few: those of a batch have the
    /// bits of its members.
    private static func isForPieces(_ n: Int, _ k: Int) -> Bool { n >= 128 && k >= 64 && n * k >= 1 << 15 }

    /// C[m, n] = addend + A·B, with C row-major, `stride` elements from row to row; for a batch of them, all with one addend.
    ///
    /// - Parameter batch: the products, with the elements from one A, B and C to the next.
    static func multiply(
        _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, batch: Box = Box(), addend: Addend? = nil,
        into c: UnsafeMutableRawPointer, stride: Int, _ dtype: DType
    ) {
        let products = batch.count()
        guard m > 0, n > 0, products > 0 else { return }
        count(multiplyAdds: products * m * n * k)
        let (type, size) = (dtype.kernelIndex, dtype.size)
        let table = Kernels.table.pointee
        let isFewRows = products == 1 && a.run == 0 && isForFewRows(m, n, k, a, b)
        let isBLAS =
            table.prefers_blas != 0 && k > 0 && !isFewRows && !b.isBFloat16 && a.isForBLAS(m, k) && b.isForBLAS(k, n)
        let cuts = products == 1 && !isFewRows && !isBLAS ? stretches(m, n, k, a) : 1
        if cuts > 1 {
            multiply(m, n, k, a, b, inStretches: cuts, addend: addend, into: c, stride: stride, dtype)
            return
        }
        let threads = isBLAS ? threadsForBLAS : Workers.count
        // Whether all have one B, and even steps between their A and their C.
        let sharesB = batch.rank <= 1 && batch[0].steps.1 == 0
        let inPieces = type == 0 && !isFewRows && isForPieces(n, k)
        let grid = ProductGrid(products, m, n, k, dtype, threads: threads, sharesB: sharesB, inPieces: inPieces)
        var whole = Self.product(
            grid.largest.rows, grid.largest.columns, k, a, b, addend: addend, into: c, stride: stride)
        whole.a_group = batch[0].steps.0
        whole.c_group = batch[0].steps.2
        whole.is_few_rows = isFewRows ? 1 : 0
        whole.in_pieces = inPieces ? 1 : 0
        let loop = pick(table.product, dtype)
        // Whole products with one B are one call: it is packed once.
        let isTogether = sharesB && grid.tiles == 1 && !isBLAS && !isFewRows
        if isTogether { whole.groups = min(products, grid.grain) }
        let bytes = isBLAS || isFewRows ? 0 : pick(table.product_workspace, dtype)(&whole)
        let product = whole
        func run(_ range: Range<Int>, _ workspace: UnsafeMutableRawPointer?) {
            if isTogether {
                var part = product
                part.groups = range.count
                part.a += range.lowerBound * part.a_group * size
                part.c += range.lowerBound * part.c_group * size
                loop(&part, workspace)
                return
            }
            var walk = batch.walk(from: 0, startingAt: range.lowerBound / grid.tiles)
            for index in range {
                let tile = index % grid.tiles
                if tile == 0, index > range.lowerBound { walk.advance() }
                let offsets = walk.offsets
                let (rows, columns) = grid[tile]
                var part = product
                part.m = rows.count
                part.n = columns.count
                part.a += (offsets.0 + rows.lowerBound * a.row) * size
                part.b += (offsets.1 + columns.lowerBound * b.column) * (b.isBFloat16 ? 2 : size)
                part.c += (offsets.2 + rows.lowerBound * stride + columns.lowerBound) * size
                if let addend {
                    part.addend += (rows.lowerBound * addend.row + columns.lowerBound) * size
                    if isBLAS { copyAddend(of: &part, size) }
                }
                if isBLAS { ck_blas_product(Int32(type), &part) } else { loop(&part, workspace) }
            }
        }
        parallelFor(products * grid.tiles, grain: grid.grain) { range in
            if bytes > 0 { withScratch(bytes) { run(range, $0) } } else { run(range, nil) }
        }
    }

    /// One product as the loops take it.
    private static func product(
        _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, addend: Addend?, into c: UnsafeMutableRawPointer,
        stride: Int
    ) -> ck_product {
        var product = ck_product()
        (product.m, product.n, product.k) = (m, n, k)
        (product.a, product.a_row, product.a_column) = (a.pointer, a.row, a.column)
        (product.a_run, product.a_run_step) = (a.run, a.runStep)
        (product.b, product.b_row, product.b_column) = (b.pointer, b.row, b.column)
        product.is_b_bfloat16 = b.isBFloat16 ? 1 : 0
        (product.addend, product.addend_row) = (addend?.pointer, addend?.row ?? 0)
        (product.c, product.c_row) = (c, stride)
        product.groups = 1
        return product
    }

    /// In how many stretches of k a product is made that is small beside what it is made of, such as the gradient of a weight.
    /// Each thread then reads, and packs, rows of its own, those that it has mostly made itself, instead of all rows for some of
    /// the columns. The shape alone decides, and the sum of the stretches is taken in order.
    ///
    /// Not where A lies row by row: its rows may be those of a batch, whose members shall have the same bits alone.
    private static func stretches(_ m: Int, _ n: Int, _ k: Int, _ a: Operand) -> Int {
        guard k >= 1024, m * n <= 128 * k, a.column != 1 else { return 1 }
        let most = min(8, k / 512, max(2, (1 << 18) / (m * n)))
        // A power of two, so that as many threads have the same to do.
        return 1 << (Int.bitWidth - 1 - most.leadingZeroBitCount)
    }

    private static func multiply(
        _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, inStretches cuts: Int, addend: Addend?,
        into c: UnsafeMutableRawPointer, stride: Int, _ dtype: DType
    ) {
        let (table, size) = (Kernels.table.pointee, dtype.size)
        let loop = pick(table.product, dtype)
        // Runs of A's columns stay whole.
        let run = max(1, a.run)
        func stretch(_ cut: Int) -> Range<Int> { k / run * cut / cuts * run..<k / run * (cut + 1) / cuts * run }
        let longest = (0..<cuts).map { stretch($0).count }.max()!
        let inPieces = dtype.kernelIndex == 0 && isForPieces(n, k)
        let grid = ProductGrid(
            cuts, m, n, longest, dtype, threads: Workers.count, sharesB: false, inPieces: inPieces)
        var whole = Self.product(
            grid.largest.rows, grid.largest.columns, longest, a, b, addend: nil, into: c, stride: stride)
        whole.in_pieces = inPieces ? 1 : 0
        let bytes = pick(table.product_workspace, dtype)(&whole)
        let product = whole
        // The first stretch goes where the result is wanted.
        let further = Tensor(uninitialized: [cuts - 1, m, n], dtype)
        further.write { further in
            parallelFor(cuts * grid.tiles) { chunk in
                let cut = chunk / grid.tiles
                let stretch = stretch(cut)
                let (rows, columns) = grid[chunk % grid.tiles]
                var part = product
                (part.m, part.n, part.k) = (rows.count, columns.count, stretch.count)
                part.a +=
                    (stretch.lowerBound / run * (a.run == 0 ? a.column : a.runStep) + rows.lowerBound * a.row) * size
                part.b +=
                    (stretch.lowerBound * b.row + columns.lowerBound * b.column) * (b.isBFloat16 ? 2 : size)
                if cut == 0 {
                    part.c += (rows.lowerBound * stride + columns.lowerBound) * size
                    if let addend {
                        part.addend = addend.pointer + (rows.lowerBound * addend.row + columns.lowerBound) * size
                        part.addend_row = addend.row
                    }
                } else {
                    part.c = further + (((cut - 1) * m + rows.lowerBound) * n + columns.lowerBound) * size
                    part.c_row = n
                }
                withScratch(bytes) { loop(&part, $0) }
            }
            let add: @convention(c) (UnsafeRawPointer?, UnsafeMutableRawPointer?, Int) -> Void =
                pick(table.accumulate, dtype)
            parallelFor(m, grain: max(1, Kernels.grain / n)) { rows in
                for cut in 0..<cuts - 1 {
                    for row in rows { add(further + (cut * m + row) * n * size, c + row * stride * size, n) }
                }
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

extension MatrixProduct.Operand {
    /// The last two axes of a tensor.
    init(pointer: UnsafeRawPointer, _ tensor: borrowing Tensor) {
        self.init(pointer: pointer, row: tensor.stride(fromLast: 1), column: tensor.stride(fromLast: 0))
    }
}

extension Tensor {
    /// This tensor [..., C] as one matrix of rows, copied only where its rows are not evenly spaced.
    func asRows() -> (tensor: Tensor, row: Int, column: Int) {
        guard let strides, rank > 0 else { return (self, Swift.max(1, shape.last ?? 1), 1) }
        let leading = Box(shape, withoutLast: 1, .init(self))
        guard leading.rank <= 1 else { return (contiguous(), Swift.max(1, shape[rank - 1]), 1) }
        return (self, leading[0].steps.0, strides[rank - 1])
    }

    /// y[..., m, n] = a[..., m, k] · b[..., k, n], batch axes broadcast; both of rank 2 or more.
    static func product(_ a: Tensor, _ b: Tensor) -> Tensor {
        let (m, n) = (a.shape[a.rank - 2], b.shape[b.rank - 1])
        let batchA = Array(a.shape.dropLast(2))
        let batchB = Array(b.shape.dropLast(2))
        guard let batch = broadcastShape(batchA, batchB) else {
            trap("matmul", "the batch axes do not broadcast", a, b)
        }
        let y = Tensor(uninitialized: batch + [m, n], a.dtype)
        if y.count == 0 { return y }
        if b.rank == 2 {
            // One matrix on the right for all rows of the batch.
            b.read { y.overwrite(withRowsOf: a, times: .init(pointer: $0, b)) }
            return y
        }
        write(a, times: b, to: y)
        return y
    }

    /// Writes a[..., m, k] · b[..., k, n] to y[..., m, n], whose columns have no gaps; batch axes of a and b broadcast to those of y.
    static func write(_ a: Tensor, times b: Tensor, to y: Tensor) {
        guard y.count > 0 else { return }
        let (m, k, n) = (a.shape[a.rank - 2], a.shape[a.rank - 1], b.shape[b.rank - 1])
        let lying = Box(y.shape, withoutLast: 2, .init(a), .init(b), .init(y))
        a.read { leftPointer in
            b.read { rightPointer in
                y.write { target in
                    MatrixProduct.multiply(
                        m, n, k, .init(pointer: leftPointer, a), .init(pointer: rightPointer, b), batch: lying,
                        into: target, stride: m == 1 ? n : y.stride(fromLast: 1), a.dtype)
                }
            }
        }
    }

    /// Writes addend + x·B to this tensor [..., n], whose columns have no gaps, for x [..., k]. Rows that are evenly spaced in
    /// both make one product, rows in even groups several; what is neither is copied.
    func overwrite(
        withRowsOf x: Tensor, times b: MatrixProduct.Operand, addend: MatrixProduct.Addend? = nil
    ) {
        guard count > 0 else { return }
        let box = Box(x.shape, withoutLast: 1, .init(x), .none, .init(self))
        if box.rank > 2, !x.isContiguous { return overwrite(withRowsOf: x.contiguous(), times: b, addend: addend) }
        let (n, k, rows) = (shape[rank - 1], x.shape[x.rank - 1], box[0])
        x.read { left in
            write { target in
                MatrixProduct.multiply(
                    rows.length, n, k, .init(pointer: left, row: rows.steps.0, column: x.stride(fromLast: 0)), b,
                    batch: box.withoutInnermost, addend: addend, into: target, stride: Swift.max(n, rows.steps.2), dtype
                )
            }
        }
    }

    /// sum += a·B for a [..., k] and B [k, n], to a sum of `shape` [..., n]; in one pass where there is a sum. Who else holds it plays
    /// no part: the product is added up in another order than to nothing.
    static func addProduct(_ a: Tensor, _ b: Tensor, into adjoint: inout Adjoint, shape: [Int]) {
        let rows = Box(a.shape, withoutLast: 1, .init(a))
        guard !adjoint.isEmpty, rows.rank <= 1 else {
            adjoint.add(product(a, b).reshaped(to: shape))
            return
        }
        let (k, n) = (b.shape[0], b.shape[1])
        let left = a.asRows()
        adjoint.withSum(shape, a.dtype) { sum, _ in
            left.tensor.read { a in
                b.read { bPointer in
                    MatrixProduct.multiply(
                        rows.count(), n, k, .init(pointer: a, row: left.row, column: left.column),
                        .init(pointer: bPointer, b),
                        addend: .init(pointer: sum, row: n), into: sum, stride: n, left.tensor.dtype)
                }
            }
        }
    }

    /// sum += aᵀ·b for a [..., m] and b [..., n] with the same rows: the gradient of a weight [m, n]. Rows of a may lie in even
    /// groups.
    static func addTransposedProduct(_ a: Tensor, _ b: Tensor, into adjoint: inout Adjoint, shape: [Int]) {
        let (m, n) = (shape[0], shape[1])
        let rows = a.count / Swift.max(1, m)
        let box = Box(a.shape, withoutLast: 1, .init(a))
        let isInPlace = box.rank <= 2
        let left = isInPlace ? a : a.contiguous()
        let row = isInPlace ? box[0].steps.0 : m
        let (run, runStep) = box.rank == 2 ? (box[0].length, box[1].steps.0) : (0, 0)
        let right = b.asRows()
        adjoint.withSum(shape, a.dtype) { sum, isFirst in
            left.read { leftPointer in
                right.tensor.read { rightPointer in
                    MatrixProduct.multiply(
                        m, n, rows,
                        .init(
                            pointer: leftPointer, row: left.stride(fromLast: 0), column: row, run: run, runStep: runStep
                        ), .init(pointer: rightPointer, row: right.row, column: right.column),
                        addend: isFirst ? nil : .init(pointer: sum, row: n), into: sum, stride: n, a.dtype)
                }
            }
        }
    }
}
