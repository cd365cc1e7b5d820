import CKernels

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A matrix that cannot be factorized or inverted, or whose factorization did not converge: what comes from data, and
/// therefore is thrown.
public struct LinearAlgebraError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The op that refused.
    public let op: String
    /// What is wrong, and with which matrix of the batch.
    public let problem: String

    /// "op: problem".
    public var description: String { "\(op): \(problem)" }
}

/// The seam to factorizations: batches of matrices, each handled by one single-threaded call.
enum Factorization {
    /// Multiply-adds that are worth handing to a worker.
    private static let grainWork = 1 << 16

    /// Calls `body` for each matrix of a batch; how they are shared out depends on `work` alone, the multiply-adds of
    /// one. Returns what the calls returned.
    @discardableResult
    static func forEach(_ batch: Int, work: Int, _ body: (Int) -> Int32) -> [Int32] {
        [Int32](unsafeUninitializedCapacity: batch) { results, count in
            let target = results.baseAddress
            parallelFor(batch, grain: max(1, grainWork / max(1, work))) { range in
                for index in range { (target! + index).initialize(to: body(index)) }
            }
            count = batch
        }
    }

    /// Throws for the first matrix whose call failed.
    static func check(_ results: [Int32], _ op: String, _ problem: (Int32) -> String) throws(LinearAlgebraError) {
        guard let index = results.firstIndex(where: { $0 != 0 }) else { return }
        let place = results.count == 1 ? "the matrix" : "matrix \(index) of the batch"
        throw LinearAlgebraError(op: op, problem: "\(place) \(problem(results[index]))")
    }
}

extension Tensor {
    /// The batch, the rows and the columns of matrices. Traps on anything else, naming the op.
    func matrixShape(_ op: String, square: Bool = false) -> (batch: Int, rows: Int, columns: Int) {
        requireDifferentiableType(op)
        noteLabel()
        guard rank >= 2 else { trap(op, "matrices [..., n, m] are needed", self) }
        let (rows, columns) = (shape[rank - 2], shape[rank - 1])
        guard !square || rows == columns else { trap(op, "square matrices [..., n, n] are needed", self) }
        guard rows <= Int(Int32.max), columns <= Int(Int32.max) else { trap(op, "the matrices are too large", self) }
        return (shape.dropLast(2).reduce(1, *), rows, columns)
    }

    /// The shape of the axes in front of the matrices.
    var batchShape: [Int] { Array(shape.dropLast(2)) }

    /// The transposes of the matrices. A view.
    var matrixTransposed: Tensor { transposed(-1, -2) }

    /// (A + Aᵀ) / 2, row-major.
    var symmetricPart: Tensor { ((self + matrixTransposed) * 0.5).contiguous() }

    /// Throws where an element is NaN or infinite: LAPACK's iterations may never end on those.
    func requireFinite(_ op: String) throws(LinearAlgebraError) {
        let (batch, rows, columns) = matrixShape(op)
        // x · 0 is 0 for numbers, and NaN for all else.
        let sums: [Double] = (detached * 0).reshaped(to: [batch, rows * columns]).sum(axes: [1])
            .cast(to: .float64).scalars()
        try Factorization.check(sums.map { $0 == 0 ? 0 : 1 }, op) { _ in "has NaN or infinite elements" }
    }

    /// A mask over matrices [rows, columns]: 1 where `holds`, else 0.
    static func pattern(_ rows: Int, _ columns: Int, _ dtype: DType, _ value: (Int, Int) -> Double) -> Tensor {
        var values: [Double] = []
        values.reserveCapacity(rows * columns)
        for row in 0..<rows { for column in 0..<columns { values.append(value(row, column)) } }
        return Tensor(values, shape: [rows, columns]).cast(to: dtype)
    }

    static func identity(_ n: Int, _ dtype: DType) -> Tensor { pattern(n, n, dtype) { $0 == $1 ? 1 : 0 } }

    /// The diagonals [..., n] of square matrices [..., n, n]. A view, of a constant.
    var diagonals: Tensor {
        let own = layoutStrides
        return view(
            shape: Array(shape.dropLast()), strides: Array(own.dropLast(2)) + [own[rank - 2] + own[rank - 1]],
            offset: offset)
    }

    /// T⁻¹·b, or b·T⁻¹ with `right`, for triangular T [..., n, n]; T⁻ᵀ where `transposed`. Both constants with one batch
    /// shape.
    static func triangularSolved(
        _ t: Tensor, _ b: Tensor, right: Bool = false, upper: Bool, transposed: Bool = false
    ) -> Tensor {
        let (t, y) = (t.contiguous(), b.copy())
        let (m, n) = (y.shape[y.rank - 2], y.shape[y.rank - 1])
        guard y.count > 0 else { return y }
        let order = right ? n : m
        let size = y.dtype.size
        let type = Int32(y.dtype.kernelIndex)
        _ = t.read { t in
            y.write { y in
                Factorization.forEach(b.batchShape.reduce(1, *), work: m * n * order) { index in
                    ck_triangular_solve(
                        type, right ? 1 : 0, upper ? 1 : 0, transposed ? 1 : 0, Int32(m), Int32(n),
                        t + index * order * order * size, y + index * m * n * size)
                    return 0
                }
            }
        }
        return y
    }
}

/// P·L·U of the transposes of matrices, as LAPACK keeps it.
struct LUFactors {
    /// [..., n, n].
    let factors: Tensor
    /// [..., n], LAPACK's exchanges of rows, counted from 1.
    let pivots: Tensor
    /// For each matrix 0, or where the first 0 stands on U's diagonal.
    let info: [Int32]

    init(_ a: Tensor, _ op: String) {
        let (batch, n, _) = a.matrixShape(op, square: true)
        let factors = a.detached.copy()
        let pivots = Tensor(uninitialized: Array(a.shape.dropLast()), .int32)
        let type = Int32(a.dtype.kernelIndex)
        let size = a.dtype.size
        var info = [Int32](repeating: 0, count: batch)
        if n > 0 {
            factors.write { factors in
                pivots.write { pivots in
                    info = Factorization.forEach(batch, work: n * n * n) { index in
                        ck_lu(
                            type, Int32(n), factors + index * n * n * size,
                            pivots.assumingMemoryBound(to: Int32.self) + index * n)
                    }
                }
            }
        }
        (self.factors, self.pivots, self.info) = (factors, pivots, info)
    }

    /// A⁻¹·b for b [..., n, m] of the same batch shape, or A⁻ᵀ·b.
    func solve(_ b: Tensor, transposed: Bool = false) -> Tensor {
        let (n, columns) = (b.shape[b.rank - 2], b.shape[b.rank - 1])
        guard b.count > 0 else { return b.copy() }
        let x = b.matrixTransposed.copy()
        let size = b.dtype.size
        let type = Int32(b.dtype.kernelIndex)
        _ = factors.read { factors in
            pivots.read { pivots in
                x.write { x in
                    Factorization.forEach(info.count, work: n * n * columns) { index in
                        // These are the factors of Aᵀ.
                        ck_lu_solve(
                            type, transposed ? 0 : 1, Int32(n), Int32(columns), factors + index * n * n * size,
                            pivots.assumingMemoryBound(to: Int32.self) + index * n, x + index * n * columns * size)
                    }
                }
            }
        }
        return x.matrixTransposed
    }

    /// A⁻ᵀ [..., n, n].
    var inverseTransposed: Tensor {
        let n = factors.shape.last!
        return solve(Tensor.identity(n, factors.dtype).expanded(to: factors.shape), transposed: true)
    }

    /// For each matrix −1 where an odd number of rows was exchanged, else 1: [batch].
    func exchangeSigns(_ dtype: DType) -> Tensor {
        let n = factors.shape.last!
        let exchanges: [Int32] = pivots.scalars()
        let signs = info.indices.map { index in
            (0..<n).reduce(1.0) { exchanges[index * n + $1] == Int32($1 + 1) ? $0 : -$0 }
        }
        return Tensor(signs).cast(to: dtype)
    }

    /// For each matrix the sign of its determinant (0 of a singular one) and the logarithm of its absolute value, in
    /// double.
    func determinants() -> [(sign: Double, logarithm: Double)] {
        let n = factors.shape.last!
        let diagonal: [Double] = factors.diagonals.cast(to: .float64).scalars()
        let signs: [Double] = exchangeSigns(.float64).scalars()
        return info.indices.map { index in
            var (sign, logarithm) = (signs[index], 0.0)
            for at in 0..<n {
                let pivot = diagonal[index * n + at]
                sign *= pivot.isNaN ? pivot : pivot > 0 ? 1 : pivot < 0 ? -1 : 0
                logarithm += log(pivot.magnitude)
            }
            return (sign, logarithm)
        }
    }
}
