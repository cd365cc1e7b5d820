import CKernels

/// The seam to matrix products: everything that multiplies matrices goes through here.
///
/// A product is cut in tiles by its shape alone, each computed by one single-threaded call: the same bits on any number
/// of threads.
enum MatrixProduct {
    /// A matrix in memory: row-major with `stride` elements from row to row, or the transpose of one.
    struct Operand {
        var pointer: UnsafeRawPointer
        var isTransposed: Bool
        var stride: Int
    }

    /// Multiply-adds in a tile: some tens of microseconds, enough to pay for handing it to a worker.
    private static let tileWork = 1 << 20
    private static let maxTiles = 32

    /// C[m, n] = A·B + beta·C, with C row-major, `c.stride` elements from row to row.
    static func multiply(
        _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, beta: Double,
        into c: UnsafeMutableRawPointer, stride: Int, _ dtype: DType
    ) {
        guard m > 0, n > 0 else { return }
        let tiles = min(maxTiles, max(1, m * n * k / tileWork))
        let size = dtype.size
        if tiles == 1 {
            single(m, n, k, a, b, beta, c, stride, dtype)
        } else if m >= n {
            let rows = roundedUp((m + tiles - 1) / tiles, to: 16)
            parallelFor(m, grain: rows) { range in
                var part = a
                part.pointer += range.lowerBound * (a.isTransposed ? 1 : a.stride) * size
                single(range.count, n, k, part, b, beta, c + range.lowerBound * stride * size, stride, dtype)
            }
        } else {
            let columns = roundedUp((n + tiles - 1) / tiles, to: 16)
            parallelFor(n, grain: columns) { range in
                var part = b
                part.pointer += range.lowerBound * (b.isTransposed ? b.stride : 1) * size
                single(m, range.count, k, a, part, beta, c + range.lowerBound * size, stride, dtype)
            }
        }
    }

    /// The same on the calling thread alone.
    static func single(
        _ m: Int, _ n: Int, _ k: Int, _ a: Operand, _ b: Operand, _ beta: Double, _ c: UnsafeMutableRawPointer,
        _ stride: Int, _ dtype: DType
    ) {
        let (ta, tb): (Int32, Int32) = (a.isTransposed ? 1 : 0, b.isTransposed ? 1 : 0)
        if dtype == .float32 {
            ck_gemm_f32(
                ta, tb, m, n, k, 1, a.pointer.assumingMemoryBound(to: Float.self), a.stride,
                b.pointer.assumingMemoryBound(to: Float.self), b.stride, Float(beta),
                c.assumingMemoryBound(to: Float.self), stride)
        } else {
            ck_gemm_f64(
                ta, tb, m, n, k, 1, a.pointer.assumingMemoryBound(to: Double.self), a.stride,
                b.pointer.assumingMemoryBound(to: Double.self), b.stride, beta,
                c.assumingMemoryBound(to: Double.self), stride)
        }
    }

    private static func roundedUp(_ n: Int, to step: Int) -> Int { (n + step - 1) / step * step }
}

extension Tensor {
    /// This tensor with its last two axes laid out so that BLAS can read them in place, copied only where needed.
    func asMatrices() -> (tensor: Tensor, isTransposed: Bool, stride: Int) {
        let (rows, columns) = (shape[rank - 2], shape[rank - 1])
        let strides = layoutStrides
        let (down, across) = (strides[rank - 2], strides[rank - 1])
        if (across == 1 || columns == 1) && (down >= columns || rows == 1) && down >= 1 {
            return (self, false, Swift.max(down, columns, 1))
        }
        if (down == 1 || rows == 1) && (across >= rows || columns == 1) && across >= 1 {
            return (self, true, Swift.max(across, rows, 1))
        }
        return (contiguous(), false, Swift.max(columns, 1))
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
        if k == 0 { return .zeros(y.shape, dtype: a.dtype) }
        let size = a.dtype.size
        if b.rank == 2, a.isContiguous {
            // One matrix on the right: all rows of the batch in one product.
            let right = b.asMatrices()
            a.read { left in
                right.tensor.read { rightPointer in
                    y.write { target in
                        MatrixProduct.multiply(
                            a.count / k, n, k, .init(pointer: left, isTransposed: false, stride: k),
                            .init(pointer: rightPointer, isTransposed: right.isTransposed, stride: right.stride),
                            beta: 0, into: target, stride: n, a.dtype)
                    }
                }
            }
            return y
        }
        let (left, right) = (a.asMatrices(), b.asMatrices())
        let strides = [
            Array(left.tensor.expandedStrides(to: batch + [m, k]).dropLast(2)),
            Array(right.tensor.expandedStrides(to: batch + [k, n]).dropLast(2)),
        ]
        let products = batch.reduce(1, *)
        let work = m * n * k
        left.tensor.read { leftPointer in
            right.tensor.read { rightPointer in
                y.write { target in
                    func operands(_ walk: BoxWalk) -> (MatrixProduct.Operand, MatrixProduct.Operand) {
                        (
                            .init(
                                pointer: leftPointer + walk.offsets.0 * size, isTransposed: left.isTransposed,
                                stride: left.stride),
                            .init(
                                pointer: rightPointer + walk.offsets.1 * size, isTransposed: right.isTransposed,
                                stride: right.stride)
                        )
                    }
                    if products >= 8 || work < 1 << 18 {
                        // Many small ones: whole products are handed out.
                        parallelFor(products, grain: Swift.max(1, (1 << 18) / work)) { range in
                            var walk = BoxWalk(batch, strides, from: range.lowerBound)
                            for index in range {
                                let (a, b) = operands(walk)
                                MatrixProduct.single(m, n, k, a, b, 0, target + index * m * n * size, n, y.dtype)
                                walk.advance()
                            }
                        }
                    } else {
                        var walk = BoxWalk(batch, strides, from: 0)
                        for index in 0..<products {
                            let (a, b) = operands(walk)
                            MatrixProduct.multiply(
                                m, n, k, a, b, beta: 0, into: target + index * m * n * size, stride: n, y.dtype)
                            walk.advance()
                        }
                    }
                }
            }
        }
        return y
    }

    /// sum += aᵀ·b for a [rows, m] and b [rows, n], both row-major: the gradient of a weight.
    static func addTransposedProduct(_ a: Tensor, _ b: Tensor, _ rows: Int, into adjoint: inout Adjoint, shape: [Int]) {
        let (a, b) = (a.contiguous(), b.contiguous())
        let (m, n) = (shape[0], shape[1])
        adjoint.withSum(shape, a.dtype) { sum, isFirst in
            a.read { left in
                b.read { right in
                    if rows == 0 {
                        if isFirst { pick(Kernels.table.pointee.fill, a.dtype)(sum, m * n, 0) }
                        return
                    }
                    MatrixProduct.multiply(
                        m, n, rows, .init(pointer: left, isTransposed: true, stride: m),
                        .init(pointer: right, isTransposed: false, stride: n), beta: isFirst ? 0 : 1, into: sum,
                        stride: n, a.dtype)
                }
            }
        }
    }
}
