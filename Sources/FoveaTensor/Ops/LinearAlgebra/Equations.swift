import CKernels

// Cholesky factors, linear equations and determinants.

// MARK: cholesky

extension Op {
    public static let cholesky = Op("cholesky", "the triangular factor of positive definite matrices") {
        let run: @Sendable ([Tensor]) -> Tensor = { try! wellConditioned($0[0]).cholesky() }
        return [
            OpSample("matrix", [$0.uniform([3, 3])], run: run),
            OpSample("one", [$0.uniform([1, 1])], run: run),
            OpSample("batch", [$0.uniform([2, 2, 3, 3])], run: run),
            OpSample("view", [$0.uniform([3, 3]).transposed(0, 1)], run: run),
            OpSample("no matrices", [$0.uniform([0, 2, 2])], run: run),
            OpSample("no rows", [$0.uniform([2, 0, 0])], run: run),
        ]
    }
}

extension Tensor {
    /// The lower triangular L [..., n, n] with L·Lᵀ = A, for symmetric positive definite matrices A [..., n, n].
    ///
    /// Of a matrix that is not symmetric, the symmetric part (A + Aᵀ)/2 is meant, where PyTorch reads the lower triangle:
    /// so the gradient, which is symmetric, is that of the function of all elements.
    ///
    /// Throws where a matrix is not positive definite, or has NaN or infinite elements. Traps when the matrices are not
    /// square.
    public func cholesky() throws(LinearAlgebraError) -> Tensor {
        let (batch, n, _) = matrixShape("cholesky", square: true)
        try requireFinite("cholesky")
        let factors = detached.symmetricPart
        let type = Int32(dtype.kernelIndex)
        let size = dtype.size
        if batch > 0, n > 0 {
            let results = factors.write { a in
                Factorization.forEach(batch, work: n * n * n) { index in
                    ck_cholesky(type, Int32(n), a + index * n * n * size)
                }
            }
            try Factorization.check(results, "cholesky") {
                "is not positive definite: its leading minor of order \($0) is not above 0"
            }
        }
        let l = factors * .pattern(n, n, dtype) { $0 >= $1 ? 1 : 0 }
        // Murray, "Differentiation of the Cholesky decomposition", 2016: L⁻ᵀ·Φ(Lᵀ·gL)·L⁻¹, made symmetric, where Φ takes
        // the lower triangle and half of the diagonal.
        return l.derived(by: .cholesky, from: self) { g in
            let lower =
                Tensor.product(l.matrixTransposed, g)
                * .pattern(n, n, l.dtype) { $0 > $1 ? 1 : $0 == $1 ? 0.5 : 0 }
            let left = Tensor.triangularSolved(l, lower, upper: false, transposed: true)
            return Tensor.triangularSolved(l, left, right: true, upper: false).symmetricPart
        }
    }
}

// MARK: solve

extension Op {
    public static let solve = Op("solve", "the X of A·X = B", linearIn: [1]) {
        let run: @Sendable ([Tensor]) -> Tensor = { try! FoveaTensor.solve(wellConditioned($0[0]), $0[1]) }
        return [
            OpSample("matrices", [$0.uniform([3, 3]), $0.uniform([3, 2])], run: run),
            OpSample("vector", [$0.uniform([3, 3]), $0.uniform([3])], run: run),
            OpSample("batch", [$0.uniform([2, 3, 3]), $0.uniform([2, 3, 4])], run: run),
            OpSample("broadcast", [$0.uniform([2, 1, 2, 2]), $0.uniform([3, 2, 1])], run: run),
            OpSample("views", [$0.uniform([3, 3]).transposed(0, 1), $0.uniform([2, 3]).transposed(0, 1)], run: run),
            OpSample("no columns", [$0.uniform([3, 3]), $0.uniform([3, 0])], run: run),
            OpSample("no rows", [$0.uniform([0, 0]), $0.uniform([0, 2])], run: run),
        ]
    }
}

/// The X [..., n, m] of A·X = B, for square A [..., n, n] and B [..., n, m]; batch axes broadcast. B with one axis is one
/// vector [n], and so is X for one matrix; several vectors are columns, where PyTorch also guesses a batch of them.
///
/// NaN and infinities spread. Throws where a matrix is singular. Traps when the shapes do not fit.
public func solve(_ a: Tensor, _ b: Tensor) throws(LinearAlgebraError) -> Tensor {
    let (_, n, _) = a.matrixShape("solve", square: true)
    if b.rank == 1 { return try solve(a, b.unsqueezed(1)).squeezed(-1) }
    guard b.rank >= 2, b.shape[b.rank - 2] == n else {
        trap("solve", "A [..., n, n] and B [..., n, m] are needed", a, b)
    }
    guard a.dtype == b.dtype else { trap("solve", "the types differ; cast(to:) one of them", a, b) }
    guard let batch = broadcastShape(a.batchShape, b.batchShape) else {
        trap("solve", "the batch axes do not broadcast", a, b)
    }
    b.noteLabel()
    let lu = LUFactors(a.expanded(to: batch + [n, n]), "solve")
    try Factorization.check(lu.info, "solve") { "is singular: pivot \($0) is 0" }
    let x = lu.solve(b.detached.expanded(to: batch + b.shape.suffix(2))).contiguous()
    return x.derived(by: .solve, from: [a, b]) { g, wanted in
        let gb = lu.solve(g, transposed: true)
        return [
            wanted[0] ? -Tensor.product(gb, x.matrixTransposed).reduced(to: a.shape) : nil,
            wanted[1] ? gb.reduced(to: b.shape) : nil,
        ]
    }
}

// MARK: determinant

extension Op {
    public static let determinant = Op("determinant", "the determinant of matrices") {
        let run: @Sendable ([Tensor]) -> Tensor = { $0[0].determinant() }
        let singular = Tensor([1.0, 2, 3, 2, 4, 6, 1, 0, 1], shape: [3, 3])
        return [
            OpSample("matrix", [$0.uniform([3, 3])], run: run),
            OpSample("one", [$0.uniform([1, 1])], run: run),
            OpSample("batch", [$0.uniform([2, 2, 2, 2])], run: run),
            OpSample("view", [$0.uniform([3, 3]).transposed(0, 1)], run: run),
            OpSample("singular", [singular], run: run),
            OpSample("no matrices", [$0.uniform([0, 2, 2])], run: run),
            OpSample("no rows", [$0.uniform([2, 0, 0])], run: run),
        ]
    }
}

extension Tensor {
    /// The determinant [...] of each matrix [..., n, n]; 1 for n = 0. NaN and infinities spread. The gradient, the
    /// matrix of the cofactors, is right for singular matrices too, where PyTorch's is not. Traps when the matrices are not square.
    public func determinant() -> Tensor {
        let (batch, n, _) = matrixShape("determinant", square: true)
        let lu = LUFactors(self, "determinant")
        let values = lu.factors.diagonals.product(axes: [-1])
        let signs = lu.exchangeSigns(dtype).reshaped(to: batchShape)
        let y = values * signs
        return y.derived(by: .determinant, from: self) { g in
            guard batch > 0, n > 0 else { return .zeros(self.shape, dtype: self.dtype) }
            let isRegular = lu.info.allSatisfy { $0 == 0 }
            let cofactors = isRegular ? lu.inverseTransposed * y.unsqueezed(-1).unsqueezed(-1) : self.cofactors()
            return cofactors * g.unsqueezed(-1).unsqueezed(-1)
        }
    }

    /// The cofactors of A = U·diag(s)·Vᵀ: det U·det V · U·diag(Πⱼ≠ᵢ sⱼ)·Vᵀ. NaN where there is no such decomposition.
    private func cofactors() -> Tensor {
        guard let (u, s, vt) = try? detached.svd() else { return .full(shape, .nan, dtype: dtype) }
        let others = s.productsOfOthers([s.rank - 1], times: .ones(batchShape, dtype: dtype))
        let side = withoutGradient { u.determinant() * vt.determinant() }
        return Tensor.product(u * others.unsqueezed(-2), vt) * side.unsqueezed(-1).unsqueezed(-1)
    }
}

// MARK: logDeterminant

extension Op {
    public static let logDeterminant = Op("logDeterminant", "the sign and the logarithm of the determinant") {
        source in
        let run: @Sendable ([Tensor]) -> Tensor = {
            let (sign, logarithm) = wellConditioned($0[0]).logDeterminant()
            return sign * 3 + logarithm
        }
        return [
            OpSample("matrix", [source.uniform([3, 3])], run: run),
            OpSample("one", [source.uniform([1, 1])], run: run),
            OpSample("batch", [source.uniform([2, 2, 3, 3])], run: run),
            OpSample("view", [source.uniform([3, 3]).transposed(0, 1)], run: run),
            OpSample("negative", [source.uniform([3, 3])]) {
                let (sign, logarithm) = wellConditioned(-$0[0] - 10).logDeterminant()
                return sign * 3 + logarithm
            },
            OpSample("no matrices", [source.uniform([0, 2, 2])], run: run),
            OpSample("no rows", [source.uniform([2, 0, 0])], run: run),
        ]
    }
}

extension Tensor {
    /// The sign [...], −1, 0 or 1, and the logarithm of the absolute value [...] of the determinant of each matrix
    /// [..., n, n]; of a singular one 0 and −∞, with a gradient that is not finite; 1 and 0 for n = 0. The sign is a
    /// constant. NaN spreads. Traps when the matrices are not square.
    public func logDeterminant() -> (sign: Tensor, logarithm: Tensor) {
        let (batch, n, _) = matrixShape("logDeterminant", square: true)
        let lu = LUFactors(self, "logDeterminant")
        let found = lu.determinants()
        let sign = Tensor(found.map(\.sign), shape: batchShape).cast(to: dtype)
        let logarithm = Tensor(found.map(\.logarithm), shape: batchShape).cast(to: dtype)
        return (
            sign,
            logarithm.derived(by: .logDeterminant, from: self) { g in
                guard batch > 0, n > 0 else { return .zeros(self.shape, dtype: self.dtype) }
                return lu.inverseTransposed * g.unsqueezed(-1).unsqueezed(-1)
            }
        )
    }
}
