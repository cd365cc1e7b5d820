import FoveaTensor
import FoveaTestSupport
import Testing

private let inf = Double.infinity
private let nan = Double.nan

private func zeros(_ shape: Int...) -> Tensor { .zeros(shape) }

/// Calls that are a programmer's mistake.
let linearAlgebraMistakes: [TrapCase] = [
    TrapCase("QR of a vector", saying: "qr: matrices [..., n, m] are needed", "float32 [3]") { _ = zeros(3).qr() },
    TrapCase("Cholesky", saying: "cholesky: square matrices [..., n, n] are needed", "[2, 3]") {
        _ = try? zeros(2, 3).cholesky()
    },
    TrapCase("eigenvalues", saying: "symmetricEigen: square matrices") { _ = try? zeros(2, 3).symmetricEigen() },
    TrapCase("determinant", saying: "determinant: square matrices") { _ = zeros(2, 3).determinant() },
    TrapCase("determinant of integers", saying: "determinant: float32 or float64 is needed") {
        _ = Tensor([Int64(1)], shape: [1, 1]).determinant()
    },
    TrapCase("solve's rows", saying: "solve: A [..., n, n] and B [..., n, m]", "[2, 2]", "[3, 1]") {
        _ = try? solve(zeros(2, 2), zeros(3, 1))
    },
    TrapCase("solve's batches", saying: "solve: the batch axes do not broadcast", "[2, 2, 2]", "[3, 2, 1]") {
        _ = try? solve(zeros(2, 2, 2), zeros(3, 2, 1))
    },
    TrapCase("solve's types", saying: "solve: the types differ") {
        _ = try? solve(zeros(2, 2), .zeros([2, 1], dtype: .float64))
    },
    TrapCase("outer", saying: "outer: two vectors are needed", "[2, 2]", "[3]") { _ = outer(zeros(2, 2), zeros(3)) },
    // einsum
    TrapCase("operands", saying: "einsum: there are 2 operands, not 1, in “ij,jk->ik”") {
        _ = einsum("ij,jk->ik", zeros(2, 3))
    },
    TrapCase("axes", saying: "einsum: “ij” does not name the 3 axes of its operand in “ij->i”", "[2, 3, 4]") {
        _ = einsum("ij->i", zeros(2, 3, 4))
    },
    TrapCase("lengths", saying: "einsum: “j” of “ij,jk->ik” has the lengths 3 and 4", "[2, 3]", "[4, 5]") {
        _ = einsum("ij,jk->ik", zeros(2, 3), zeros(4, 5))
    },
    TrapCase("diagonal", saying: "einsum: “i” stands for two lengths of one operand", "[2, 3]") {
        _ = einsum("ii->i", zeros(2, 3))
    },
    TrapCase("unknown letter", saying: "einsum: “k” of the result is in no operand in “ij->k”") {
        _ = einsum("ij->k", zeros(2, 3))
    },
    TrapCase("letter twice", saying: "einsum: a letter stands twice in the result in “ij->ii”") {
        _ = einsum("ij->ii", zeros(2, 3))
    },
    TrapCase("no letter", saying: "einsum: “1” is neither a letter nor “...” in “i1->i”") {
        _ = einsum("i1->i", zeros(2, 3))
    },
    TrapCase("two arrows", saying: "einsum: there is more than one arrow in “i->j->k”") {
        _ = einsum("i->j->k", zeros(2))
    },
    TrapCase("ellipsis twice", saying: "einsum: “...” stands twice in one place") {
        _ = einsum("...i...->i", zeros(2))
    },
]

@Suite("Linear algebra")
struct LinearAlgebraTests {
    @Test("traps on mistakes", arguments: zip(linearAlgebraMistakes.indices, linearAlgebraMistakes.map(\.label)))
    func trap(index: Int, label: String) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            linearAlgebraMistakes[index].call()
        }
        linearAlgebraMistakes[index].expectMessage(in: result)
    }

    private func random(_ shape: Int..., dtype: DType) -> Tensor {
        .normal(shape, key: RandomKey(seed: 4), dtype: dtype)
    }

    @Test("factors multiply to the matrix, and bases are orthonormal", arguments: [DType.float64, .float32])
    func factors(type: DType) throws {
        let tolerance = type == .float64 ? 1e-12 : 1e-4
        func expectOrthonormal(_ q: Tensor, _ place: String) {
            let product = matmul(q.transposed(-1, -2), q)
            let n = q.shape.last!
            let one = Tensor((0..<n * n).map { $0 % (n + 1) == 0 ? 1.0 : 0 }, shape: [n, n]).expanded(to: product.shape)
            expectClose(product, one, tolerance: tolerance, place)
        }
        for a in [random(2, 40, 23, dtype: type), random(2, 23, 40, dtype: type), random(30, 30, dtype: type)] {
            let (q, r) = a.qr()
            expectClose(matmul(q, r), a, tolerance: tolerance, "QR of \(a.shape)")
            expectOrthonormal(q, "Q of \(a.shape)")
            let (u, s, vt) = try a.svd()
            expectClose(matmul(u * s.unsqueezed(-2), vt), a, tolerance: tolerance, "SVD of \(a.shape)")
            expectOrthonormal(u, "U of \(a.shape)")
            expectOrthonormal(vt.transposed(-1, -2), "V of \(a.shape)")
            let square = matmul(a, a.transposed(-1, -2))
            let (values, vectors) = try square.symmetricEigen()
            expectClose(
                matmul(vectors * values.unsqueezed(-2), vectors.transposed(-1, -2)), square, tolerance: tolerance,
                floor: 64, "eigenvectors of \(square.shape)")
            expectOrthonormal(vectors, "eigenvectors of \(square.shape)")
            let positive = square + Tensor.arange(square.shape.last!, dtype: type).diagonalMatrix(plus: 1)
            let l = try positive.cholesky()
            expectClose(matmul(l, l.transposed(-1, -2)), positive, tolerance: tolerance, floor: 64, "L of \(a.shape)")
            let x = try solve(positive, a)
            expectClose(matmul(positive, x), a, tolerance: tolerance, floor: 64, "solution for \(a.shape)")
        }
    }

    @Test("throws what the data do not allow, naming the matrix")
    func refusals() {
        func expect(_ message: String, _ body: () throws -> Void) {
            #expect { try body() } throws: { "\($0)" == message }
        }
        let indefinite = Tensor([1.0, 0, 0, 1, 1, 2, 2, 1], shape: [2, 2, 2])
        expect("cholesky: matrix 1 of the batch is not positive definite: its leading minor of order 2 is not above 0")
        {
            _ = try indefinite.cholesky()
        }
        expect("solve: the matrix is singular: pivot 2 is 0") {
            _ = try solve(Tensor([1.0, 2, 2, 4], shape: [2, 2]), Tensor([1.0, 1]))
        }
        for bad in [nan, inf, -inf] {
            let a = Tensor([1.0, bad, bad, 1], shape: [2, 2])
            expect("svd: the matrix has NaN or infinite elements") { _ = try a.svd() }
            expect("symmetricEigen: the matrix has NaN or infinite elements") { _ = try a.symmetricEigen() }
            expect("cholesky: the matrix has NaN or infinite elements") { _ = try a.cholesky() }
        }
    }

    @Test("has a stated result for singular, empty and NaN matrices")
    func policies() throws {
        for type in [DType.float64, .float32] {
            let singular = Tensor([1.0, 2, 2, 4], shape: [2, 2]).cast(to: type)
            let (sign, logarithm) = singular.logDeterminant()
            #expect(sign.item() == 0)
            #expect(logarithm.item() == -inf)
            let slope = gradient(of: { $0.determinant() }, at: singular)
            expectClose(slope, Tensor([4.0, -2, -2, 1], shape: [2, 2]), tolerance: 1e-6)
            let none = Tensor.zeros([0, 0], dtype: type)
            #expect(none.determinant().item() == 1)
            #expect(none.logDeterminant().logarithm.item() == 0)
            #expect(try none.svd().s.shape == [0])
            #expect(none.qr().q.shape == [0, 0])
            #expect(try none.symmetricEigen().values.shape == [0])
            let holed = Tensor([nan, 1, 1, 2], shape: [2, 2]).cast(to: type)
            #expect(holed.determinant().item().isNaN)
            #expect(holed.logDeterminant().logarithm.item().isNaN)
            #expect(holed.qr().q[0].sum().item().isNaN)
            #expect(try solve(holed, Tensor([1.0, 1]).cast(to: type)).sum().item().isNaN)
            expectClose(
                einsum("i,i", Tensor([0.0, 1]).cast(to: type), Tensor([inf, 1]).cast(to: type)),
                Tensor([nan], shape: []), tolerance: 0)
        }
    }

    @Test("passes gradients through each output alone, the last ones too, and through none")
    func outputs() throws {
        let a = Tensor([2.0, 1, 0.5, 3], shape: [2, 2])
        // S alone, the second of three outputs: the gradient of Σs is U·Vᵀ.
        let (u, _, vt) = try a.svd()
        let ofValues = try gradient(of: { try $0.svd().s.sum() }, at: a)
        expectClose(ofValues, matmul(u, vt), tolerance: 1e-14)
        // Both outputs together add up.
        let first = gradient(of: { $0.qr().q.square()[0].sum() + 0 * $0.sum() }, at: a)
        let second = gradient(of: { $0.qr().r.square().sum() }, at: a)
        let both = gradient(
            of: { x in
                let (q, r) = x.qr()
                return q.square()[0].sum() + r.square().sum()
            }, at: a)
        expectClose(both, first + second, tolerance: 1e-13)
        // ‖R‖ = ‖A‖.
        expectClose(second, a * 2, tolerance: 1e-13)
        let unused = gradient(
            of: { x in
                _ = x.qr()
                return x.sum()
            }, at: a)
        expectClose(unused, .ones([2, 2]), tolerance: 0)
    }

    @Test("passes gradients through an op with several outputs inside a checkpoint")
    func checkpoints() {
        let a = Tensor([2.0, 1, 0.5, 3], shape: [2, 2])
        let plain = gradient(of: { $0.qr().r.square().sum() }, at: a)
        let again = gradient(of: { x in checkpointed { x.qr().r.square().sum() } }, at: a)
        expectSameBits(again, plain)
    }
}

extension Tensor {
    /// A diagonal matrix of these numbers and `offset`.
    fileprivate func diagonalMatrix(plus offset: Double) -> Tensor {
        let values = doubles(of: self)
        let n = values.count
        return Tensor((0..<n * n).map { $0 % (n + 1) == 0 ? values[$0 / n] + offset : 0 }, shape: [n, n])
            .cast(to: dtype)
    }
}
