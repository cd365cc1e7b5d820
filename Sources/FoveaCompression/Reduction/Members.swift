import FoveaTensor

// Batches of lists of different lengths, and similarities.

extension Tensor {
    /// The elements as doubles, in row-major order.
    var doubles: [Double] { detached.cast(to: .float64).scalars() }

    /// The members of a batch, each without the axis in front. Their gradients come together in one record.
    var members: [Tensor] {
        guard shape[0] > 0 else { return [] }
        return split(axis: 0, into: [Int](repeating: 1, count: shape[0])).map { $0.squeezed(0) }
    }

    /// Indices as an int64 vector.
    static func indices(_ indices: [Int]) -> Tensor { Tensor(indices.map(Int64.init), shape: [indices.count]) }

    /// Some slices of an axis; those that follow each other there are not copied.
    func taking(axis: Int, _ places: [Int]) -> Tensor {
        guard let first = places.first, places.indices.allSatisfy({ places[$0] == first + $0 }) else {
            return selecting(axis: axis, .indices(places))
        }
        return sliced(axis: axis, first..<first + places.count)
    }

    /// Lists of indices side by side, [B, longest], with −1 behind the shorter ones.
    static func paddedIndices(_ lists: [[Int]]) -> Tensor {
        let length = lists.map(\.count).max() ?? 0
        let values = lists.flatMap { list in
            list.map(Int64.init) + [Int64](repeating: -1, count: length - list.count)
        }
        return Tensor(values, shape: [lists.count, length])
    }

    /// [B, longest], bool: as many are true as each count says.
    static func prefixMask(_ counts: [Int]) -> Tensor {
        let length = counts.max() ?? 0
        return Tensor(counts.flatMap { count in (0..<length).map { $0 < count } }, shape: [counts.count, length])
    }

    /// Tokens [B, longest, C] with zeros where a sample has fewer.
    func zeroedBehind(_ counts: [Int]) -> Tensor {
        guard counts.contains(where: { $0 != shape[1] }) else { return self }
        return maskedFill((Tensor.prefixMask(counts).cast(to: .uint8) .== 0).unsqueezed(-1), 0)
    }

    /// Rows [..., C] of length 1: x / max(‖x‖, ε).
    func unitRows(_ epsilon: Double = 1e-12) -> Tensor {
        let norms = square().sum(axes: [rank - 1], keepingAxes: true).sqrt()
        return self / maximum(norms, .full([1], epsilon, dtype: dtype))
    }

    /// Rows whose products with those behind them are computed together.
    static let cosineBlock = 96

    /// The cosines of all pairs of rows of x [N, C]: [N · N], symmetric to the bit. A little more than half of the products
    /// suffice: the rest is mirrored.
    func pairwiseCosines(_ epsilon: Double) -> [Double] {
        let n = shape[0]
        let unit = withoutGradient { detached.unitRows(epsilon) }
        var cosines = [Double](repeating: 0, count: n * n)
        for start in stride(from: 0, to: n, by: Tensor.cosineBlock) {
            let end = Swift.min(start + Tensor.cosineBlock, n)
            let part = withoutGradient {
                matmul(unit.sliced(axis: 0, start..<end), unit.sliced(axis: 0, start..<n).transposed(0, 1))
            }.doubles
            let width = n - start
            part.withUnsafeBufferPointer { part in
                cosines.withUnsafeMutableBufferPointer { cosines in
                    for row in 0..<end - start {
                        for column in row..<width {
                            let value = part[row * width + column]
                            cosines[(start + row) * n + start + column] = value
                            cosines[(start + column) * n + start + row] = value
                        }
                    }
                }
            }
        }
        return cosines
    }
}

/// The cosines of the rows of a [N, C] with those of b [M, C]: N · M numbers in row-major order.
func cosines(_ a: Tensor, _ b: Tensor, epsilon: Double = 1e-12) -> [Double] {
    withoutGradient { matmul(a.detached.unitRows(epsilon), b.detached.unitRows(epsilon).transposed(0, 1)) }.doubles
}
