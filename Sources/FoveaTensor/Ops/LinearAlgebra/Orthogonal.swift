import CKernels

// QR, singular values and eigenvalues. Gradients: Walter and Lehmann, "On higher-order derivatives of the QR
// decomposition", 2010; Townsend, "Differentiating the singular value decomposition", 2016; Giles, "Collected matrix
// derivative results", 2008.

extension Op {
    /// Factorizations, equations, determinants and general products.
    static let linearAlgebra: [Op] = [
        .qr, .svd, .symmetricEigen, .cholesky, .solve, .determinant, .logDeterminant, .einsum, .outer,
    ]

    /// Numbers in −1 … 1 next to a diagonal of 4, 7, 10, …: far from singular, values far from each other.
    static func wellConditioned(_ x: Tensor) -> Tensor {
        x * 0.5
            + Tensor.pattern(x.shape[x.rank - 2], x.shape[x.rank - 1], x.dtype) { $0 == $1 ? 4 + 3 * Double($0) : 0 }
    }
}

// MARK: qr

extension Op {
    public static let qr = Op("qr", "an orthonormal basis times a triangle") { source in
        // The signs of Q's columns are free: squares have none.
        let both: @Sendable ([Tensor]) -> Tensor = {
            let (q, r) = wellConditioned($0[0]).qr()
            return concatenated([q.square().flattened(from: -2), r.square().flattened(from: -2) * 0.1], axis: -1)
        }
        return [
            OpSample("tall", [source.uniform([4, 3])], run: both),
            OpSample("square", [source.uniform([3, 3])], run: both),
            OpSample("wide", [source.uniform([3, 5])], run: both),
            OpSample("batch", [source.uniform([2, 2, 4, 2])], run: both),
            OpSample("view", [source.uniform([3, 4]).transposed(0, 1)], run: both),
            OpSample("Q alone", [source.uniform([4, 3])]) { wellConditioned($0[0]).qr().q.square() },
            OpSample("R alone", [source.uniform([3, 4])]) { wellConditioned($0[0]).qr().r.square() * 0.1 },
            OpSample("no matrices", [source.uniform([0, 3, 2])], run: both),
        ]
    }
}

extension Tensor {
    /// The reduced QR factorization of each matrix: A [..., n, m] = Q [..., n, k] · R [..., k, m], k = min(n, m), with
    /// QᵀQ = 1 and R zero below its diagonal. The signs of R's diagonal are LAPACK's, as in PyTorch.
    ///
    /// NaN and infinities spread. The gradient needs the first k columns to be independent, and is not finite otherwise.
    /// Traps on less than two axes.
    public func qr() -> (q: Tensor, r: Tensor) {
        let (batch, rows, columns) = matrixShape("qr")
        let k = Swift.min(rows, columns)
        let lead = batchShape
        let factors = detached.matrixTransposed.copy()
        let tau = Tensor(uninitialized: lead + [k], dtype)
        let type = Int32(dtype.kernelIndex)
        let size = dtype.size
        let isEmpty = batch == 0 || k == 0
        if !isEmpty {
            factors.write { a in
                _ = tau.write { tau in
                    Factorization.forEach(batch, work: rows * columns * k) { index in
                        ck_qr(
                            type, Int32(rows), Int32(columns), a + index * rows * columns * size,
                            tau + index * k * size)
                    }
                }
            }
        }
        let basis = factors.sliced(axis: -2, 0..<k).copy()
        if !isEmpty {
            basis.write { a in
                _ = tau.read { tau in
                    Factorization.forEach(batch, work: rows * k * k) { index in
                        ck_qr_basis(type, Int32(rows), Int32(k), a + index * rows * k * size, tau + index * k * size)
                    }
                }
            }
        }
        let q = basis.matrixTransposed.contiguous()
        let r = factors.matrixTransposed.sliced(axis: -2, 0..<k) * .pattern(k, columns, dtype) { $0 <= $1 ? 1 : 0 }
        let outputs = Tensor.derived([q, r], by: .qr, from: [self]) { g, _ in
            let (gq, gr) = (g[0] ?? .zeros(q.shape, dtype: q.dtype), g[1] ?? .zeros(r.shape, dtype: r.dtype))
            guard columns > k else { return [Tensor.qrGradient(q, r, gq, gr)] }
            // A = [X, Y], R = [U, V]: Q and U come from X alone, and V = QᵀY.
            let (u, v) = (r.sliced(axis: -1, 0..<k), r.sliced(axis: -1, k..<columns))
            let (gu, gv) = (gr.sliced(axis: -1, 0..<k), gr.sliced(axis: -1, k..<columns))
            let gx = Tensor.qrGradient(q, u, gq + Tensor.product(Tensor.product(q, v), gv.matrixTransposed), gu)
            return [concatenated([gx, Tensor.product(q, gv)], axis: -1)]
        }
        return (outputs[0], outputs[1])
    }

    /// The gradient of A = Q·R for square R: (gQ + Q·sym(triu(gR·Rᵀ − Qᵀ·gQ)))·R⁻ᵀ, sym mirroring the upper triangle.
    private static func qrGradient(_ q: Tensor, _ r: Tensor, _ gq: Tensor, _ gr: Tensor) -> Tensor {
        let k = r.shape.last!
        let inner = product(gr, r.matrixTransposed) - product(q.matrixTransposed, gq)
        let upper = inner * pattern(k, k, q.dtype) { $0 < $1 ? 1 : $0 == $1 ? 0.5 : 0 }
        return triangularSolved(
            r, gq + product(q, upper + upper.matrixTransposed), right: true, upper: true, transposed: true)
    }
}

// MARK: svd

extension Op {
    public static let svd = Op("svd", "the thin singular value decomposition") { source in
        let all: @Sendable ([Tensor]) -> Tensor = {
            let (u, s, vt) = try! wellConditioned($0[0]).svd()
            let parts = [u.square(), vt.square()].map { $0.flattened(from: -2) } + [s * 0.5]
            return concatenated(parts, axis: -1)
        }
        return [
            OpSample("tall", [source.uniform([4, 3])], run: all),
            OpSample("square", [source.uniform([3, 3])], run: all),
            OpSample("wide", [source.uniform([3, 5])], run: all),
            OpSample("batch", [source.uniform([2, 2, 4, 2])], run: all),
            OpSample("view", [source.uniform([3, 4]).transposed(0, 1)], run: all),
            OpSample("values alone", [source.uniform([4, 3])]) { try! wellConditioned($0[0]).svd().s },
            OpSample("left alone", [source.uniform([4, 3])]) {
                try! wellConditioned($0[0]).svd().u.square()
            },
            OpSample("right alone", [source.uniform([3, 4])]) {
                try! wellConditioned($0[0]).svd().vt.square()
            },
            OpSample("no matrices", [source.uniform([0, 3, 2])], run: all),
        ]
    }
}

extension Tensor {
    /// The thin singular value decomposition of each matrix: A [..., n, m] = U [..., n, k] · diag(S [..., k]) ·
    /// Vᵀ [..., k, m], k = min(n, m), with orthonormal columns of U and V and S descending. The signs of the columns are
    /// LAPACK's, as in PyTorch.
    ///
    /// The gradient through U or V is finite only where the singular values differ from each other, and for n ≠ m from 0;
    /// a function of them has a gradient only if it does not depend on the signs. Through S alone there is no such limit.
    ///
    /// Throws where an element is NaN or infinite, or the iteration does not converge. Traps on less than two axes.
    public func svd() throws(LinearAlgebraError) -> (u: Tensor, s: Tensor, vt: Tensor) {
        let (batch, rows, columns) = matrixShape("svd")
        try requireFinite("svd")
        let k = Swift.min(rows, columns)
        let lead = batchShape
        let a = detached.copy()
        let u = Tensor(uninitialized: lead + [rows, k], dtype)
        let s = Tensor(uninitialized: lead + [k], dtype)
        let vt = Tensor(uninitialized: lead + [k, columns], dtype)
        let type = Int32(dtype.kernelIndex)
        let size = dtype.size
        if batch > 0, k > 0 {
            let results = a.write { a in
                u.write { u in
                    s.write { s in
                        vt.write { vt in
                            Factorization.forEach(batch, work: 8 * rows * columns * k) { index in
                                ck_svd(
                                    type, Int32(rows), Int32(columns), a + index * rows * columns * size,
                                    u + index * rows * k * size, s + index * k * size, vt + index * k * columns * size)
                            }
                        }
                    }
                }
            }
            try Factorization.check(results, "svd") { _ in "has singular values that did not converge" }
        }
        let outputs = Tensor.derived([u, s, vt], by: .svd, from: [self]) { g, _ in
            [Tensor.svdGradient(u, s, vt, g[0], g[1], g[2])]
        }
        return (outputs[0], outputs[1], outputs[2])
    }

    private static func svdGradient(
        _ u: Tensor, _ s: Tensor, _ vt: Tensor, _ gu: Tensor?, _ gs: Tensor?, _ gvt: Tensor?
    ) -> Tensor {
        let k = s.shape.last!
        let (rows, columns) = (u.shape[u.rank - 2], vt.shape[vt.rank - 1])
        let (across, down) = (s.unsqueezed(-2), s.unsqueezed(-1))
        let one = identity(k, s.dtype)
        // gaps[i, j] = sⱼ² − sᵢ², as a product that does not cancel, and 1 on the diagonal.
        let gaps = (across - down) * (across + down) + one
        var inner = Tensor.zeros(gaps.shape, dtype: s.dtype)
        if let gs { inner = inner + one * gs.unsqueezed(-2) }
        if let gu {
            let turn = product(u.matrixTransposed, gu)
            inner = inner + (turn - turn.matrixTransposed) / gaps * across
        }
        if let gvt {
            let turn = product(vt, gvt.matrixTransposed)
            inner = inner + down * ((turn - turn.matrixTransposed) / gaps)
        }
        var gradient = product(product(u, inner), vt)
        if let gu, rows > k {
            let outside = gu - product(u, product(u.matrixTransposed, gu))
            gradient = gradient + product(outside / across, vt)
        }
        if let gvt, columns > k {
            let outside = gvt - product(product(gvt, vt.matrixTransposed), vt)
            gradient = gradient + product(u, outside / down)
        }
        return gradient
    }
}

// MARK: symmetricEigen

extension Op {
    public static let symmetricEigen = Op("symmetricEigen", "eigenvalues and eigenvectors of symmetric matrices") {
        source in
        let both: @Sendable ([Tensor]) -> Tensor = {
            let (values, vectors) = try! wellConditioned($0[0]).symmetricEigen()
            return concatenated([values * 0.5, vectors.square().flattened(from: -2)], axis: -1)
        }
        return [
            OpSample("matrix", [source.uniform([3, 3])], run: both),
            OpSample("one", [source.uniform([1, 1])], run: both),
            OpSample("batch", [source.uniform([2, 2, 3, 3])], run: both),
            OpSample("view", [source.uniform([3, 3]).transposed(0, 1)], run: both),
            OpSample("values alone", [source.uniform([4, 4])]) { try! wellConditioned($0[0]).symmetricEigen().values },
            OpSample("vectors alone", [source.uniform([3, 3])]) {
                try! wellConditioned($0[0]).symmetricEigen().vectors.square()
            },
            OpSample("no matrices", [source.uniform([0, 3, 3])], run: both),
        ]
    }
}

extension Tensor {
    /// The eigenvalues [..., n], ascending, and the eigenvectors [..., n, n], one a column and orthonormal, of symmetric
    /// matrices [..., n, n]. The signs of the eigenvectors are LAPACK's, as in PyTorch.
    ///
    /// Of a matrix that is not symmetric, the symmetric part (A + Aᵀ)/2 is meant, where PyTorch reads the lower triangle:
    /// so the gradient, which is symmetric, is that of the function of all elements.
    ///
    /// The gradient through the eigenvectors is finite only where the eigenvalues differ from each other; a function of
    /// them has one only if it does not depend on the signs. Throws where an element is NaN or infinite, or the iteration
    /// does not converge. Traps when the matrices are not square.
    public func symmetricEigen() throws(LinearAlgebraError) -> (values: Tensor, vectors: Tensor) {
        let (batch, n, _) = matrixShape("symmetricEigen", square: true)
        try requireFinite("symmetricEigen")
        let rows = detached.symmetricPart
        let values = Tensor(uninitialized: Array(shape.dropLast()), dtype)
        let type = Int32(dtype.kernelIndex)
        let size = dtype.size
        if batch > 0, n > 0 {
            let results = rows.write { a in
                values.write { values in
                    Factorization.forEach(batch, work: 8 * n * n * n) { index in
                        ck_eigen(type, Int32(n), a + index * n * n * size, values + index * n * size)
                    }
                }
            }
            try Factorization.check(results, "symmetricEigen") { _ in "has eigenvalues that did not converge" }
        }
        let vectors = rows.matrixTransposed.contiguous()
        let outputs = Tensor.derived([values, vectors], by: .symmetricEigen, from: [self]) { g, _ in
            var inner = Tensor.zeros(vectors.shape, dtype: vectors.dtype)
            let one = Tensor.identity(n, vectors.dtype)
            if let g = g[0] { inner = inner + one * g.unsqueezed(-2) }
            if let g = g[1] {
                let gaps = values.unsqueezed(-2) - values.unsqueezed(-1) + one
                // A unit vector moves at right angles to itself: nothing on the diagonal.
                inner = inner + Tensor.product(vectors.matrixTransposed, g) * (1 - one) / gaps
            }
            return [Tensor.product(Tensor.product(vectors, inner), vectors.matrixTransposed).symmetricPart]
        }
        return (outputs[0], outputs[1])
    }
}
