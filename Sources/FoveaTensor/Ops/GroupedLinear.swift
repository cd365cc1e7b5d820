// MARK: groupedLinear

extension Op {
    public static let groupedLinear = Op("groupedLinear", "x[g] · W[g]ᵀ for each group of features", linearIn: [0, 1]) {
        let run: @Sendable ([Tensor]) -> Tensor = { FoveaTensor.groupedLinear($0[0], weight: $0[1]) }
        return [
            OpSample("groups of tokens", [$0.uniform([2, 3, 2, 4]), $0.uniform([2, 5, 4])], run: run),
            OpSample("groups first", [$0.uniform([2, 2, 3, 4]).transposed(1, 2), $0.uniform([2, 5, 4])], run: run),
            OpSample(
                "transposed weight", [$0.uniform([3, 2, 4]), $0.uniform([2, 4, 3]).transposed(1, 2)], run: run),
            OpSample("one row", [$0.uniform([3, 2]), $0.uniform([3, 1, 2])], run: run),
            OpSample("no rows", [$0.uniform([0, 2, 3]), $0.uniform([2, 4, 3])], run: run),
        ]
    }
}

/// y_g = x_g · W_gᵀ for each of G groups: x [..., G, C] and weight [G, D, C] → [..., G, D]. A linear layer whose weight is
/// zero outside G blocks on the diagonal; heads of attention are such groups.
///
/// Views are read in place where their rows are evenly spaced; the gradient of a transposed weight comes in its layout.
///
/// Traps on other shapes and on types that differ.
public func groupedLinear(_ x: Tensor, weight: Tensor) -> Tensor {
    x.requireDifferentiableType("groupedLinear")
    guard weight.rank == 3, x.rank >= 2, x.dtype == weight.dtype, x.shape[x.rank - 2] == weight.shape[0],
        x.shape[x.rank - 1] == weight.shape[2]
    else {
        trap("groupedLinear", "an input [..., G, C] and a weight [G, D, C] of one type are needed", x, weight)
    }
    x.noteLabel()
    weight.noteLabel()
    return x.timesGroups(weight.detached.transposed(1, 2)).recorded(
        .groupedLinear, x, .value { [weight = weight.detached] g in g.timesGroups(weight) }, weight,
        .value { [x = x.detached, isTransposed = weight.stride(fromLast: 0) != 1] g in
            let (left, right) = (isTransposed ? x : g, isTransposed ? g : x)
            let dw = Tensor.product(left.groupsFirst().transposed(1, 2), right.groupsFirst())
            return isTransposed ? dw.transposed(1, 2) : dw
        })
}

extension Tensor {
    /// [..., G, C] as [G, rows, C], a view where the rows are evenly spaced.
    fileprivate func groupsFirst() -> Tensor {
        let rows = Box(shape, withoutLast: 2, .init(self))
        guard rows.rank <= 1 else { return contiguous().groupsFirst() }
        return view(
            shape: [shape[rank - 2], rows.count(), shape[rank - 1]],
            strides: [stride(fromLast: 1), rows[0].steps.0, stride(fromLast: 0)], offset: offset)
    }

    /// This tensor's groups [..., G, C], each times its matrix of [G, C, D] → [..., G, D].
    fileprivate func timesGroups(_ matrices: Tensor) -> Tensor {
        let y = Tensor(uninitialized: shape.dropLast() + [matrices.shape[2]], dtype)
        Tensor.write(groupsFirst(), times: matrices, to: y.groupsFirst())
        return y
    }
}
