// MARK: groupedLinear

extension Op {
    public static let groupedLinear = Op(
        "groupedLinear", "x · Wᵀ or x · W for each group of features", linearIn: [0, 1]
    ) {
        let run: @Sendable ([Tensor]) -> Tensor = { FoveaTensor.groupedLinear($0[0], weight: $0[1], groups: 2) }
        let back: @Sendable ([Tensor]) -> Tensor = {
            FoveaTensor.groupedLinear($0[0], weight: $0[1], groups: 2, transposed: true)
        }
        return [
            OpSample("rows", [$0.uniform([2, 3, 8]), $0.uniform([10, 4])], run: run),
            OpSample("transposed", [$0.uniform([2, 3, 10]), $0.uniform([10, 4])], run: back),
            OpSample(
                "views", [$0.uniform([8, 3, 2]).transposed(0, 2), $0.uniform([4, 6]).transposed(0, 1)], run: run),
            OpSample(
                "views transposed", [$0.uniform([6, 3]).transposed(0, 1), $0.uniform([4, 6]).transposed(0, 1)],
                run: back),
            OpSample("one vector", [$0.uniform([4]), $0.uniform([2, 2])], run: run),
            OpSample("no rows", [$0.uniform([0, 6]), $0.uniform([8, 3])], run: run),
        ]
    }
}

/// A linear layer for each of G groups of features: x_g · W_gᵀ, or x_g · W_g.
///
/// What a 1 × 1 convolution in groups computes, and a transposed one. Heads of attention are such groups.
///
/// - Parameters:
///   - x: [..., G·C]; [..., G·D] where transposed. Group g has the features from g·C or g·D on.
///   - weight: [G·D, C]; W_g has the rows from g·D on.
///   - groups: G.
///   - transposed: whether the features go from D to C.
/// - Returns: [..., G·D]; [..., G·C] where transposed.
///
/// Traps on other shapes and on types that differ.
public func groupedLinear(_ x: Tensor, weight: Tensor, groups: Int, transposed: Bool = false) -> Tensor {
    x.requireDifferentiableType("groupedLinear")
    guard groups > 0, weight.rank == 2, x.rank >= 1, x.dtype == weight.dtype, weight.shape[0] % groups == 0,
        x.shape[x.rank - 1] == (transposed ? weight.shape[0] : groups * weight.shape[1])
    else {
        let input = transposed ? "G·D" : "G·C"
        trap(
            "groupedLinear",
            "an input [..., \(input)] and a weight [G·D, C] of one type are needed for \(groups) groups",
            x, weight)
    }
    x.noteLabel()
    weight.noteLabel()
    return x.timesGroups(weight.detached, groups, transposed).recorded(
        .groupedLinear, x, .value { [weight = weight.detached] g in g.timesGroups(weight, groups, !transposed) },
        weight,
        .value { [x = x.detached, shape = weight.shape] g in
            let (left, right) = transposed ? (x, g) : (g, x)
            return Tensor.product(left.groupsFirst(groups).transposed(1, 2), right.groupsFirst(groups))
                .reshaped(to: shape)
        })
}

extension Tensor {
    /// [..., G·C] as [G, rows, C], a view where the rows are evenly spaced.
    fileprivate func groupsFirst(_ groups: Int) -> Tensor {
        let rows = Box(shape, withoutLast: 1, .init(self))
        guard rows.rank <= 1 else { return contiguous().groupsFirst(groups) }
        let (width, step) = (shape[rank - 1] / groups, stride(fromLast: 0))
        return view(
            shape: [groups, rows.count(), width], strides: [width * step, rows[0].steps.0, step], offset: offset)
    }

    /// This tensor's groups, each times its matrix of [G·D, C], turned unless `transposed`.
    fileprivate func timesGroups(_ weight: Tensor, _ groups: Int, _ transposed: Bool) -> Tensor {
        let (outer, inner) = (weight.shape[0] / groups, weight.shape[1])
        let (row, column) = (weight.stride(fromLast: 1), weight.stride(fromLast: 0))
        let matrices = weight.view(
            shape: [groups] + (transposed ? [outer, inner] : [inner, outer]),
            strides: [outer * row] + (transposed ? [row, column] : [column, row]), offset: weight.offset)
        let y = Tensor(uninitialized: shape.dropLast() + [groups * (transposed ? inner : outer)], dtype)
        Tensor.write(groupsFirst(groups), times: matrices, to: y.groupsFirst(groups))
        return y
    }
}
