import CKernels
import FoveaTestSupport
import Testing

@testable import FoveaTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Matrix products, kernel by kernel, against a naive product in double and against BLAS.
@Suite("Matrix products")
struct MatrixProductTests {
    /// The tables that this machine can run; the base is everywhere.
    static var tables: [UnsafePointer<ck_table>] {
        ["base", "v3", "v4", "amx"].compactMap { (name: String) in ck_table_named(name) }
    }

    /// Unit roundoffs for each of the terms that a product adds up, which are below 1.
    static let units = 16.0

    // MARK: Sizes and layouts

    @Test("every size around the tiles and blocks gives the naive product", arguments: [DType.float32, .float64])
    func sizes(type: DType) throws {
        // All heights, widths and depths of tiles, sparsely crossed; then more than one block, strip and group of rows.
        var sizes: [(Int, Int, Int)] = []
        for i in 0...40 {
            sizes += [(i, 7 * i % 41, 16 * i % 41), (11 * i % 41, i, 5 * i % 41), (3 * i % 41, 29 * i % 41, i)]
        }
        sizes += [
            (1, 33, 0), (0, 3, 4), (3, 0, 4), (14, 64, 3), (15, 65, 385), (113, 70, 769), (5, 545, 40), (115, 513, 2),
        ]
        for (index, (m, n, k)) in sizes.enumerated() {
            let layouts = Layout.all
            try expectProduct(m, n, k, layouts[index % layouts.count], layouts[index / 2 % layouts.count], type, index)
        }
        // Rows a page apart, which are packed too; several groups of them, blocks and strips.
        try expectProduct(33, 100, 1_024, .rows, .rows, type, 1)
        try expectProduct(113, 258, 1_024, .rows, .columns, type, 2)
        try expectProduct(115, 290, 400, .columns, .columns, type, 3)
        // Of B too; and more than one strip of its columns.
        try expectProduct(15, 1_030, 19, .rows, .rows, type, 3)
    }

    @Test("every layout of both matrices gives the naive product", arguments: [DType.float32, .float64])
    func layouts(type: DType) throws {
        for left in Layout.all {
            for right in Layout.all {
                for (index, size) in [(9, 37, 21), (61, 150, 33)].enumerated() {
                    try expectProduct(size.0, size.1, size.2, left, right, type, index)
                }
            }
        }
    }

    /// How a matrix lies in memory.
    enum Layout: CaseIterable {
        case rows, columns, spacedRows, spacedColumns, spread, sameRow, sameColumn
        static let all = Array(allCases)

        /// The strides of a matrix, and how many elements it reaches over.
        func strides(_ rows: Int, _ columns: Int) -> (row: Int, column: Int, reach: Int) {
            let (row, column) =
                switch self {
                case .rows: (columns, 1)
                case .columns: (1, rows)
                case .spacedRows: (columns + 3, 1)
                case .spacedColumns: (1, rows + 5)
                case .spread: (2 * columns + 1, 2)
                case .sameRow: (0, 1)
                case .sameColumn: (1, 0)
                }
            return (row, column, rows * columns == 0 ? 0 : (rows - 1) * row + (columns - 1) * column + 1)
        }
    }

    /// Compares `product`, without an addend, onto C itself, and onto a row, for all tables. Operands end at pages that
    /// must not be touched.
    private func expectProduct(
        _ m: Int, _ n: Int, _ k: Int, _ left: Layout, _ right: Layout, _ type: DType, _ seed: Int
    ) throws {
        let (a, b) = (left.strides(m, k), right.strides(k, n))
        let matrixA = Guarded(Self.numbers(a.reach, 2 * seed), type)
        let matrixB = Guarded(Self.numbers(b.reach, 2 * seed + 1), type)
        let row = Self.numbers(n, seed + 7)
        let bias = Guarded(row, type)
        let gap = seed % 3
        let reach = m * n == 0 ? 0 : (m - 1) * (n + gap) + n
        let before = Self.numbers(reach, seed + 5)
        var sum = [Double](repeating: 0, count: m * n)
        for i in 0..<m {
            for j in 0..<n {
                for p in 0..<k {
                    sum[i * n + j] += matrixA[i * a.row + p * a.column] * matrixB[p * b.row + j * b.column]
                }
            }
        }
        let roundoff = type == .float32 ? 0x1p-24 : 0x1p-53
        let allowed = Self.units * roundoff * Double(max(k, 1))
        for table in Self.tables {
            for addend in ["nothing", "C", "a row"] {
                let c = Guarded(before, type)
                let place =
                    "\(String(cString: table.pointee.name)): \(m) × \(n) × \(k), \(left) by \(right), onto \(addend)"
                var product = ck_product(
                    m: m, n: n, k: k, a: matrixA.pointer, a_row: a.row, a_column: a.column, a_run: 0, a_run_step: 0,
                    b: matrixB.pointer,
                    b_row: b.row, b_column: b.column,
                    addend: addend == "C"
                        ? UnsafeRawPointer(c.pointer) : addend == "nothing" ? nil : .init(bias.pointer),
                    addend_row: addend == "C" ? n + gap : 0, c: c.pointer, c_row: n + gap, groups: 1, a_group: 0,
                    c_group: 0, is_few_rows: 0, is_b_bfloat16: 0, in_pieces: 1)
                let workspace = Guarded(bytes: pick(table.pointee.product_workspace, type)(&product))
                pick(table.pointee.product, type)(&product, workspace.pointer)
                for at in 0..<reach {
                    let (i, j) = (at / (n + gap), at % (n + gap))
                    guard j < n else {
                        #expect(c[at] == before[at], "\(place): wrote between the rows, at \(at)")
                        continue
                    }
                    let expected = sum[i * n + j] + (addend == "C" ? before[at] : addend == "nothing" ? 0 : row[j])
                    guard (c[at] - expected).magnitude <= allowed else {
                        Issue.record("\(place): \(c[at]) instead of \(expected) at \((i, j))")
                        return
                    }
                }
            }
        }
    }

    /// Numbers in −1 ..< 1 that float32 holds exactly, without a pattern.
    static func numbers(_ count: Int, _ seed: Int) -> [Double] {
        (0..<count).map { index in
            var bits = UInt64(index + 1_000_003 * seed) &* 0x9E37_79B9_7F4A_7C15
            bits = (bits ^ bits >> 29) &* 0xBF58_476D_1CE4_E5B9
            return Double(Int(bits >> 40) - (1 << 23)) / Double(1 << 23)
        }
    }

    @Test("several A with one B, and columns that come in runs", arguments: [DType.float32, .float64])
    func groupsAndRuns(type: DType) {
        let (groups, m, n, gap) = (5, 9, 37, 3)
        // Groups of A below and above what is packed at once, and blocks of k that end within a run.
        for (run, runs) in [(4, 3), (64, 7), (1, 900)] {
            let k = run * runs
            let (a, b) = (Self.numbers(groups * m * k, 5), Self.numbers(k * n, 6))
            let (left, right) = (Guarded(a, type), Guarded(b, type))
            let allowed = Self.units * (type == .float32 ? 0x1p-24 : 0x1p-53) * Double(k)
            for table in Self.tables {
                // Groups; runs of columns whose elements lie side by side; runs of elements of a row.
                for kind in 0..<3 {
                    let isRuns = kind > 0
                    let step = kind == 1 ? 2 * run * m : 2 * run
                    let c = Guarded([Double](repeating: 7, count: groups * (m * n + gap)), type)
                    var product = ck_product(
                        m: m, n: n, k: k, a: left.pointer, a_row: [k, 1, 2 * k][kind], a_column: kind == 1 ? m : 1,
                        a_run: isRuns ? run : 0, a_run_step: isRuns ? step : 0, b: right.pointer, b_row: n,
                        b_column: 1, addend: nil, addend_row: 0, c: c.pointer, c_row: n,
                        groups: isRuns ? 1 : groups, a_group: m * k, c_group: m * n + gap, is_few_rows: 0,
                        is_b_bfloat16: 0, in_pieces: 1)
                    let workspace = Guarded(bytes: pick(table.pointee.product_workspace, type)(&product))
                    pick(table.pointee.product, type)(&product, workspace.pointer)
                    let place = "\(String(cString: table.pointee.name)), \(type), runs of \(run), kind \(kind)"
                    for group in 0..<(isRuns ? 1 : groups) {
                        for i in 0..<m {
                            for j in 0..<n {
                                let expected = (0..<k).reduce(0.0) { sum, p in
                                    let inRuns = p / run * step + p % run * (kind == 1 ? m : 1)
                                    let at = [(group * m + i) * k + p, inRuns + i, inRuns + 2 * k * i][kind]
                                    return sum + a[at] * b[p * n + j]
                                }
                                guard (c[group * (m * n + gap) + i * n + j] - expected).magnitude <= allowed else {
                                    Issue.record("\(place): wrong at \((group, i, j))")
                                    return
                                }
                            }
                        }
                        #expect(c[group * (m * n + gap) + m * n] == 7, "\(place): wrote between the groups")
                    }
                }
            }
        }
    }

    // MARK: Bits

    @Test("AVX2 and AVX-512 give the same bits, and each its own in whichever rows and columns a product is cut")
    func bits() {
        let tables = Self.tables.filter { $0.pointee.prefers_blas == 0 }
        let (m, n, k) = (67, 131, 800)
        let (a, b) = (Guarded(Self.numbers(m * k, 1), .float32), Guarded(Self.numbers(k * n, 2), .float32))
        func bytes(_ table: UnsafePointer<ck_table>, cut: Int) -> [UInt8] {
            let c = Guarded([Double](repeating: 0, count: m * n), .float32)
            for rows in stride(from: 0, to: m, by: cut) {
                for columns in stride(from: 0, to: n, by: cut) {
                    var part = ck_product(
                        m: min(cut, m - rows), n: min(cut, n - columns), k: k, a: a.pointer + 4 * rows * k, a_row: k,
                        a_column: 1, a_run: 0, a_run_step: 0, b: b.pointer + 4 * columns, b_row: n, b_column: 1,
                        addend: nil, addend_row: 0,
                        c: c.pointer + 4 * (rows * n + columns), c_row: n, groups: 1, a_group: 0, c_group: 0,
                        is_few_rows: 0, is_b_bfloat16: 0, in_pieces: 1)
                    let workspace = Guarded(bytes: table.pointee.product_workspace.0!(&part))
                    table.pointee.product.0!(&part, workspace.pointer)
                }
            }
            return Array(UnsafeRawBufferPointer(start: c.pointer, count: 4 * m * n))
        }
        guard let first = tables.first else { return }
        for table in tables {
            // Pieces are rounded otherwise.
            let expected = bytes(table.pointee.has_pieces != 0 ? table : first, cut: 200)
            for cut in [200, 33, 17, 5] {
                #expect(
                    bytes(table, cut: cut) == expected, "\(String(cString: table.pointee.name)) in pieces of \(cut)")
            }
        }
    }

    // MARK: Few rows, and weights of 16 bits

    @Test("weights of bfloat16 are what they are cast to, for any number of rows", arguments: [1, 3, 8, 9, 40])
    func bfloat16(rows: Int) {
        // From so many elements on, few rows are summed one by one.
        for (outputs, inputs) in [(301, 903), (5, 7)] {
            let x = Tensor.uniform([rows, inputs], in: -1...1, key: RandomKey(seed: 1))
            let exact = Tensor.uniform([outputs, inputs], in: -1...1, key: RandomKey(seed: 2))
            let stored = exact.cast(to: .bfloat16)
            let bias = Tensor.uniform([outputs], in: -1...1, key: RandomKey(seed: 3))
            let wide = { (x: Tensor) in x.cast(to: .float64) }
            for weight in [stored, exact] {
                let want = linear(wide(x), weight: wide(weight), bias: wide(bias))
                let got = linear(x, weight: weight, bias: bias)
                let worst = (wide(got) - want).abs().max().scalars(as: Double.self)[0]
                #expect(worst <= Self.units * 0x1p-24 * Double(inputs), "\(outputs) × \(inputs)")
                #expect(
                    (wide(linear(x, weight: weight)) + wide(bias) - want).abs().max().scalars(as: Double.self)[0] < 1e-4
                )
            }
            // Of another type than float32 they are cast, and they get no gradient.
            #expect(linear(wide(x), weight: stored).dtype == .float64)
            let (_, gradients) = valueAndGradient(
                of: { linear($0[0], weight: $0[1]).sum() }, at: [x, stored.cast(to: .float32)])
            let (_, own) = valueAndGradient(of: { linear($0[0], weight: stored).sum() }, at: [x])
            #expect(gradients[0].bytes() == own[0].bytes())
        }
    }

    @Test(
        "weights of bfloat16 give the bits of the same numbers in float32, NaN and infinities too",
        arguments: [1, 9, 40, 200])
    func bitsOfBFloat16(rows: Int) {
        // BLAS takes no bfloat16.
        guard Kernels.table.pointee.prefers_blas == 0 else { return }
        for (outputs, inputs) in [(301, 903), (131, 257), (5, 7)] {
            for (strange, place) in [(Float(0.5), 3), (.nan, 4 * inputs + 6), (-.infinity, 2 * inputs)] {
                let x = Tensor.uniform([rows, inputs], in: -1...1, key: RandomKey(seed: 1))
                var numbers: [Float] = Tensor.uniform([outputs * inputs], in: -1...1, key: RandomKey(seed: 2)).scalars()
                numbers[place] = strange
                let stored = Tensor(numbers, shape: [outputs, inputs]).cast(to: .bfloat16)
                // Compared first: to show how they differ would take minutes.
                let isSame =
                    linear(x, weight: stored).bytes() == linear(x, weight: stored.cast(to: .float32)).bytes()
                #expect(isSame, "\(outputs) × \(inputs) with \(strange)")
            }
        }
    }

    @Test("few rows have the same bits on any number of threads")
    func threadsOfFewRows() async {
        await #expect(processExitsWith: .success) {
            let x = Tensor.uniform([3, 900], in: -1...1, key: RandomKey(seed: 1))
            let weight = Tensor.uniform([1201, 900], in: -1...1, key: RandomKey(seed: 2)).cast(to: .bfloat16)
            let results = [1, 2, 5].map { threads in
                Workers.count = threads
                return linear(x, weight: weight).bytes()
            }
            #expect(results.allSatisfy { $0 == results[0] })
        }
    }

    // MARK: Long sums

    // A sum of at least 1,024 terms is cut in stretches where the result is small beside its operands.
    @Test(
        "products small beside what they are made of, in all layouts, onto a sum, and from columns in runs",
        arguments: [(64, 64, 2304), (5, 7, 1025), (100, 90, 1500), (1, 3, 5000), (33, 70, 1023), (9, 1024, 1025)])
    func longSums(m: Int, n: Int, k: Int) {
        let (a, b) = (Self.numbers(m * k, 1), Self.numbers(k * n, 2))
        var want = [Double](repeating: 0, count: m * n)
        for p in 0..<k {
            for i in 0..<m { for j in 0..<n { want[i * n + j] += a[i * k + p] * b[p * n + j] } }
        }
        let (left, right) = (Tensor(a, shape: [m, k]), Tensor(b, shape: [k, n]))
        let turned = { (x: Tensor) in x.transposed(0, 1).contiguous().transposed(0, 1) }
        for type in [DType.float32, .float64] {
            let allowed = Self.units * (type == .float32 ? 0x1p-24 : 0x1p-53) * Double(k)
            func check(_ got: Tensor, _ times: Double, _ what: String) {
                let worst = zip(got.cast(to: .float64).scalars(as: Double.self), want)
                    .map { ($0 - times * $1).magnitude }.max()!
                #expect(worst <= times * allowed, "\(type), \(what)")
            }
            let (x, y) = (left.cast(to: type), right.cast(to: type))
            for (own, name) in [(x, "rows"), (turned(x), "columns")] {
                check(matmul(own, y), 1, "\(name) by rows")
                check(matmul(own, turned(y)), 1, "\(name) by columns")
            }
            // The gradient of a weight that is used twice: the second product is added to the first.
            let weight = Tensor.zeros([m, n], dtype: type)
            let rows = turned(x).transposed(0, 1)
            check(
                gradient(
                    of: { (linear(y, weight: $0) * rows).sum() + (linear(y, weight: $0) * rows).sum() }, at: weight), 2,
                "twice")
            // Rows of a part of a joined result lie in groups.
            let groups = k % 25 == 0 ? 25 : k % 3 == 0 ? 3 : 1
            let other = Tensor.zeros([1, 2, n], dtype: type)
            let cotangent = concatenated(
                [rows.reshaped(to: [groups, k / groups, m]), .zeros([groups, 2, m], dtype: type)], axis: 1)
            let joined = gradient(
                of: { weight in
                    (joinedLinear([
                        (y.reshaped(to: [groups, k / groups, n]), weight, nil),
                        (other, Tensor.zeros([m, n], dtype: type), nil),
                    ]) * cotangent).sum()
                }, at: weight)
            check(joined, 1, "joined")
        }
    }

    @Test("long sums have the same bits on any number of threads")
    func threadsOfLongSums() async {
        await #expect(processExitsWith: .success) {
            for (m, n, k) in [(60, 50, 3000), (9, 1024, 1100)] {
                let x = Tensor.uniform([k, m], in: -1...1, key: RandomKey(seed: 1))
                let y = Tensor.uniform([k, n], in: -1...1, key: RandomKey(seed: 2))
                let results = [1, 2, 5].map { threads in
                    Workers.count = threads
                    return matmul(x.transposed(0, 1), y).bytes()
                }
                #expect(results.allSatisfy { $0 == results[0] }, "\(m) × \(n) × \(k)")
            }
        }
    }

    @Test("an input of several maps has the sum of their gradients, and what it shares stays as it was")
    func sumsOfInputs() {
        let x = Tensor.uniform([6, 5], key: RandomKey(seed: 1))
        let weights = (0..<3).map { Tensor.uniform([4, 5], key: RandomKey(seed: UInt64($0) + 2)) }
        let g = Tensor.uniform([6, 4], key: RandomKey(seed: 9))
        let maps = weights.map { weight in { (x: Tensor) in (linear(x, weight: weight) * g).sum() } }
        let parts = maps.map { gradient(of: $0, at: x) }
        let sum = gradient(of: { maps[0]($0) + maps[1]($0) + maps[2]($0) }, at: x)
        expectClose(sum, parts[0] + parts[1] + parts[2], tolerance: 1e-6)
        // The cotangent goes on to x as it is, and is also what the map's gradient is made of.
        let square = Tensor.uniform([5, 5], key: RandomKey(seed: 7))
        let residual = gradient(of: { ($0 + linear($0, weight: square)).sum() }, at: x)
        expectClose(residual, 1 + matmul(Tensor.ones([6, 5]), square), tolerance: 1e-6)
    }

    // MARK: Special numbers

    @Test("0 · ∞ is NaN, and NaN and infinities reach their own row or column alone")
    func specialNumbers() {
        let (m, n, k) = (31, 45, 29)
        for table in Self.tables {
            for special in [Double.nan, .infinity, -.infinity] {
                var (left, right) = ([Double](repeating: 0, count: m * k), [Double](repeating: 0, count: k * n))
                left[17 * k + 5] = special
                right[28 * n + 44] = special
                let (a, b) = (Guarded(left, .float32), Guarded(right, .float32))
                let c = Guarded([Double](repeating: 1, count: m * n), .float32)
                var product = ck_product(
                    m: m, n: n, k: k, a: a.pointer, a_row: k, a_column: 1, a_run: 0, a_run_step: 0, b: b.pointer,
                    b_row: n, b_column: 1,
                    addend: nil, addend_row: 0, c: c.pointer, c_row: n, groups: 1, a_group: 0, c_group: 0,
                    is_few_rows: 0, is_b_bfloat16: 0, in_pieces: 1)
                let workspace = Guarded(bytes: table.pointee.product_workspace.0!(&product))
                table.pointee.product.0!(&product, workspace.pointer)
                for i in 0..<m {
                    for j in 0..<n {
                        #expect(c[i * n + j].isNaN == (i == 17 || j == 44) && (c[i * n + j].isNaN || c[i * n + j] == 0))
                    }
                }
            }
        }
    }

    /// C = A·B of one table, all rows and columns side by side; a product large enough for pieces.
    private func product(
        _ table: UnsafePointer<ck_table>, _ m: Int, _ n: Int, _ k: Int, _ left: [Double], _ right: [Double]
    ) -> [Double] {
        let (a, b) = (Guarded(left, .float32), Guarded(right, .float32))
        let c = Guarded([Double](repeating: 0, count: m * n), .float32)
        var product = ck_product(
            m: m, n: n, k: k, a: a.pointer, a_row: k, a_column: 1, a_run: 0, a_run_step: 0, b: b.pointer, b_row: n,
            b_column: 1, addend: nil, addend_row: 0, c: c.pointer, c_row: n, groups: 1, a_group: 0, c_group: 0,
            is_few_rows: 0, is_b_bfloat16: 0, in_pieces: 1)
        let workspace = Guarded(bytes: table.pointee.product_workspace.0!(&product))
        table.pointee.product.0!(&product, workspace.pointer)
        return (0..<m * n).map { c[$0] }
    }

    @Test("infinities have their signs, and the largest numbers are no infinities")
    func extremes() {
        let (m, n, k) = (35, 37, 70)
        let largest = Double(Float.greatestFiniteMagnitude)
        var (left, right) = (Self.numbers(m * k, 8), Self.numbers(k * n, 9))
        left[3 * k + 40] = .infinity
        left[20 * k + 69] = -.infinity
        left[33 * k] = largest
        right[66 * n + 36] = .infinity
        right[7 * n + 2] = -largest
        for table in Self.tables {
            let c = product(table, m, n, k, left, right)
            for i in 0..<m {
                for j in 0..<n {
                    let expected = (0..<k).reduce(0.0) { $0 + left[i * k + $1] * right[$1 * n + j] }
                    let place = "\(String(cString: table.pointee.name)) at \((i, j)): \(c[i * n + j]), not \(expected)"
                    guard expected.isFinite else {
                        #expect(c[i * n + j] == expected || c[i * n + j].isNaN && expected.isNaN, "\(place)")
                        continue
                    }
                    let size = (0..<k).reduce(0.0) { $0 + (left[i * k + $1] * right[$1 * n + j]).magnitude }
                    #expect((c[i * n + j] - expected).magnitude <= Self.units * 0x1p-24 * size, "\(place)")
                }
            }
        }
    }

    @Test("products of pieces are at least as exact as those of float32")
    func exactness() throws {
        let (m, n, k) = (70, 90, 700)
        func numbers(_ count: Int, _ seed: Int) -> [Double] {
            // Of all sizes, and of one sign in the second half of the rows, where errors do not cancel.
            Self.numbers(count, seed).enumerated().map { index, x in
                let scaled = Double(Float(x * exp2(Double(index % 17 - 8))))
                return index < count / 2 ? scaled : scaled.magnitude
            }
        }
        let (left, right) = (numbers(m * k, 10), numbers(k * n, 11))
        func error(_ name: String) -> Double? {
            guard let table = ck_table_named(name) else { return nil }
            let c = product(table, m, n, k, left, right)
            var squares = 0.0
            for i in 0..<m {
                for j in 0..<n {
                    var (sum, size) = (0.0, 0.0)
                    for p in 0..<k {
                        let term = left[i * k + p] * right[p * n + j]
                        sum += term
                        size += term.magnitude
                    }
                    let off = (c[i * n + j] - sum) / size
                    squares += off * off
                }
            }
            return (squares / Double(m * n)).squareRoot()
        }
        guard let pieces = error("amx") else { return }
        let whole = try #require(error("v4"))
        #expect(pieces <= whole, "\(pieces / 0x1p-24) and \(whole / 0x1p-24) units")
    }

    @Test("of the smallest numbers less than 2^−126 is lost")
    func smallest() {
        let (m, n, k) = (33, 34, 64)
        let left = Self.numbers(m * k, 12).enumerated().map { Double(Float($1 * exp2(-90 - Double($0 % 50)))) }
        let right = Self.numbers(k * n, 13)
        for table in Self.tables where table.pointee.prefers_blas == 0 {
            let c = product(table, m, n, k, left, right)
            for i in 0..<m {
                for j in 0..<n {
                    var (sum, size, lost) = (0.0, 0.0, 0.0)
                    for p in 0..<k {
                        sum += left[i * k + p] * right[p * n + j]
                        size += (left[i * k + p] * right[p * n + j]).magnitude
                        lost += 0x1p-126 * right[p * n + j].magnitude
                    }
                    #expect(
                        (c[i * n + j] - sum).magnitude <= Self.units * 0x1p-24 * size + lost,
                        "\(String(cString: table.pointee.name)) at \((i, j))")
                }
            }
        }
    }

    // MARK: BLAS

    @Test("BLAS gives the same product", arguments: [DType.float32, .float64])
    func blas(type: DType) {
        let (m, n, k) = (190, 270, 500)
        let (a, b) = (Guarded(Self.numbers(m * k, 3), type), Guarded(Self.numbers(k * n, 4), type))
        let roundoff = type == .float32 ? 0x1p-24 : 0x1p-53
        for (left, right) in [(Layout.rows, Layout.rows), (.rows, .columns), (.columns, .rows), (.columns, .columns)] {
            let (sa, sb) = (left.strides(m, k), right.strides(k, n))
            let expected = Guarded([Double](repeating: 0, count: m * n), type)
            var product = ck_product(
                m: m, n: n, k: k, a: a.pointer, a_row: sa.row, a_column: sa.column, a_run: 0, a_run_step: 0,
                b: b.pointer, b_row: sb.row,
                b_column: sb.column, addend: nil, addend_row: 0, c: expected.pointer, c_row: n, groups: 1, a_group: 0,
                c_group: 0, is_few_rows: 0,
                is_b_bfloat16: 0, in_pieces: 1)
            ck_blas_product(Int32(type.kernelIndex), &product)
            for table in Self.tables {
                let c = Guarded([Double](repeating: 0, count: m * n), type)
                product.c = c.pointer
                let workspace = Guarded(bytes: pick(table.pointee.product_workspace, type)(&product))
                pick(table.pointee.product, type)(&product, workspace.pointer)
                let worst = (0..<m * n).map { (c[$0] - expected[$0]).magnitude }.max()!
                #expect(worst <= Self.units * roundoff * Double(k), "\(left) by \(right)")
            }
        }
    }

    // MARK: The seam

    @Test(
        "rows have the same bits alone and among others",
        arguments: [(128, 256), (300, 64), (64, 600), (40, 50), (1100, 2100)])
    func rowsAlone(k: Int, n: Int) {
        let x = Tensor.normal([70, k], key: RandomKey(seed: 1))
        let weight = Tensor.normal([n, k], key: RandomKey(seed: 2))
        guard Kernels.table.pointee.prefers_blas == 0 else { return }
        let all = linear(x, weight: weight)
        // Few rows of a large matrix have a way of their own.
        for rows in [0..<1, 3..<20, 40..<70] where rows.count > 8 || n * k < 1 << 17 {
            expectSameBits(
                linear(x.sliced(axis: 0, rows), weight: weight), all.sliced(axis: 0, rows).contiguous(), "rows \(rows)")
        }
    }

    @Test("multiply-adds are counted")
    func counts() async {
        await #expect(processExitsWith: .success) {
            let before = MatrixProduct.multiplyAdds
            _ = matmul(.ones([2, 3, 4, 5]), .ones([3, 5, 6]))
            #expect(MatrixProduct.multiplyAdds - before == 2 * 3 * 4 * 5 * 6)
            _ = linear(.ones([2, 7, 5]), weight: .ones([3, 5]), bias: .ones([3]))
            #expect(MatrixProduct.multiplyAdds - before == 2 * 3 * 4 * 5 * 6 + 14 * 5 * 3)
        }
    }
}

/// Memory that ends where a page begins that must not be touched.
private final class Guarded {
    let pointer: UnsafeMutableRawPointer
    private let start: UnsafeMutableRawPointer
    private let mapped: Int
    private let type: DType

    init(bytes: Int, _ type: DType = .uint8) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let pages = (bytes + page - 1) / page
        mapped = (pages + 1) * page
        start = mmap(nil, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        mprotect(start + pages * page, page, PROT_NONE)
        pointer = start + pages * page - bytes
        self.type = type
    }

    convenience init(_ values: [Double], _ type: DType) {
        self.init(bytes: values.count * type.size, type)
        for (index, value) in values.enumerated() {
            if type == .float32 {
                pointer.storeBytes(of: Float(value), toByteOffset: 4 * index, as: Float.self)
            } else {
                pointer.storeBytes(of: value, toByteOffset: 8 * index, as: Double.self)
            }
        }
    }

    subscript(index: Int) -> Double {
        type == .float32
            ? Double(pointer.load(fromByteOffset: 4 * index, as: Float.self))
            : pointer.load(fromByteOffset: 8 * index, as: Double.self)
    }

    deinit { munmap(start, mapped) }
}
