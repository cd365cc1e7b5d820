// Matrix products.

// MARK: matmul

extension Op {
    public static let matmul = Op("matmul", "the product of matrices, batched and broadcast", linearIn: [0, 1]) {
        let run: @Sendable ([Tensor]) -> Tensor = { FoveaTensor.matmul($0[0], $0[1]) }
        return [
            OpSample("matrices", [$0.uniform([3, 4]), $0.uniform([4, 5])], run: run),
            OpSample("transposed left", [$0.uniform([4, 3]).transposed(0, 1), $0.uniform([4, 5])], run: run),
            OpSample("transposed right", [$0.uniform([3, 4]), $0.uniform([5, 4]).transposed(0, 1)], run: run),
            OpSample("batch", [$0.uniform([2, 3, 4]), $0.uniform([2, 4, 2])], run: run),
            OpSample("batch and matrix", [$0.uniform([2, 3, 4]), $0.uniform([4, 2])], run: run),
            OpSample("broadcast batch", [$0.uniform([2, 1, 3, 2]), $0.uniform([3, 2, 2])], run: run),
            OpSample("heads", [$0.uniform([2, 3, 2, 4]).transposed(1, 2), $0.uniform([2, 2, 4, 3])], run: run),
            OpSample("steps", [$0.uniform([3, 8]).sliced(axis: 1, 0..<8, step: 2), $0.uniform([4, 2])], run: run),
            OpSample("vectors", [$0.uniform([4]), $0.uniform([4])], run: run),
            OpSample("vector and matrix", [$0.uniform([4]), $0.uniform([4, 3])], run: run),
            OpSample("matrix and vector", [$0.uniform([2, 3, 4]), $0.uniform([4])], run: run),
            OpSample("no rows", [$0.uniform([0, 4]), $0.uniform([4, 3])], run: run),
            OpSample("no inner", [$0.uniform([2, 0]), $0.uniform([0, 3])], run: run),
        ]
    }
}

/// a [..., n, k] · b [..., k, m] → [..., n, m]; batch axes broadcast. A vector on the left counts as a row, one on
/// the right as a column, and its axis is dropped from the result. Transposed views are read in place.
public func matmul(_ a: Tensor, _ b: Tensor) -> Tensor {
    guard a.rank > 0, b.rank > 0 else { trap("matmul", "a scalar cannot be multiplied as a matrix", a, b) }
    if a.rank == 1 { return matmul(a.unsqueezed(0), b).squeezed(b.rank == 1 ? 0 : -2) }
    if b.rank == 1 { return matmul(a, b.unsqueezed(1)).squeezed(-1) }
    guard a.dtype == b.dtype else { trap("matmul", "the types differ; cast(to:) one of them", a, b) }
    a.requireDifferentiableType("matmul")
    guard a.shape[a.rank - 1] == b.shape[b.rank - 2] else {
        trap("matmul", "the left's last axis must be as long as the right's last but one", a, b)
    }
    a.noteLabel()
    b.noteLabel()
    return Tensor.product(a, b).recorded(
        .matmul, a,
        .value { [shape = a.shape] g in Tensor.product(g, b.detached.transposed(-1, -2)).reduced(to: shape) }, b,
        .into { [shape = b.shape] g, sum in
            if shape.count == 2 {
                // One matrix for the whole batch: its gradient is one product over all rows.
                Tensor.addTransposedProduct(a, g, into: &sum, shape: shape)
            } else {
                sum.add(Tensor.product(a.detached.transposed(-1, -2), g).reduced(to: shape))
            }
        })
}

// MARK: linear

extension Op {
    public static let linear = Op("linear", "x · Wᵀ + b", linearIn: [0, 1, 2]) {
        [
            OpSample("rows", [$0.uniform([3, 4]), $0.uniform([5, 4]), $0.uniform([5])]) {
                FoveaTensor.linear($0[0], weight: $0[1], bias: $0[2])
            },
            OpSample("batch without bias", [$0.uniform([2, 3, 4]), $0.uniform([2, 4])]) {
                FoveaTensor.linear($0[0], weight: $0[1])
            },
            OpSample("one vector", [$0.uniform([4]), $0.uniform([2, 4]), $0.uniform([2])]) {
                FoveaTensor.linear($0[0], weight: $0[1], bias: $0[2])
            },
            OpSample("view", [$0.uniform([2, 4, 3]).transposed(1, 2), $0.uniform([2, 4])]) {
                FoveaTensor.linear($0[0], weight: $0[1])
            },
            OpSample("no rows", [$0.uniform([0, 4]), $0.uniform([2, 4]), $0.uniform([2])]) {
                FoveaTensor.linear($0[0], weight: $0[1], bias: $0[2])
            },
        ]
    }
}

/// x [..., C] · weightᵀ + bias → [..., D].
///
/// - Parameters:
///   - x: [..., C].
///   - weight: [D, C], a row for each output, as PyTorch stores it. It may be of a storage type, and is then a constant
///     that is widened on the way: weights of bfloat16 are read where they lie.
///   - bias: [D], or nil.
public func linear(_ x: Tensor, weight: Tensor, bias: Tensor? = nil) -> Tensor {
    let map = LinearMap("linear", x, weight, bias)
    let y = Tensor(uninitialized: Array(x.shape.dropLast()) + [map.outputs], x.dtype)
    map.write(to: y)
    return y.recorded(.linear, map.branches())
}
