// MARK: attention

extension Op {
    public static let attention = Op("attention", "softmax(q·kᵀ·scale) · v, with a mask") {
        [
            OpSample("heads", [$0.uniform([2, 2, 3, 4]), $0.uniform([2, 2, 5, 4]), $0.uniform([2, 2, 5, 4])]) {
                FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2])
            },
            OpSample("mask", [$0.uniform([2, 3, 4]), $0.uniform([2, 3, 4]), $0.uniform([2, 3, 4])]) {
                let visible = Tensor([true, false, false, true, true, false, false, false, false], shape: [3, 3])
                return FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2], mask: visible, scale: 0.3)
            },
            OpSample("one width for values", [$0.uniform([2, 3]), $0.uniform([4, 3]), $0.uniform([4, 1])]) {
                FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2])
            },
        ]
    }
}

/// Scaled dot-product attention: softmax(q·kᵀ·scale)·v over the last two axes.
/// (Vaswani et al., "Attention is all you need", 2017, §3.2.1.)
///
/// - Parameters:
///   - query: [..., N, d].
///   - keys: [..., M, d].
///   - values: [..., M, e].
///   - mask: bool, broadcast to [..., N, M]; true where the query may look. A query that may look nowhere gets zeros.
///   - scale: d^(−1/2) unless given.
/// - Returns: [..., N, e].
public func attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor? = nil, scale: Double? = nil
) -> Tensor {
    guard query.rank >= 2, keys.rank == query.rank, values.rank == query.rank,
        keys.shape.last == query.shape.last, keys.shape[keys.rank - 2] == values.shape[values.rank - 2]
    else {
        trap("attention", "query [..., N, d], keys [..., M, d] and values [..., M, e] are needed", query, keys, values)
    }
    let scale = scale ?? 1 / Double(query.shape.last!).squareRoot()
    var scores = matmul(query * scale, keys.transposed(-1, -2))
    if let mask {
        guard mask.dtype == .bool, broadcastShape(mask.shape, scores.shape) == scores.shape else {
            trap("attention", "the mask must be bool and broadcast to the scores \(scores.shape)", mask)
        }
        // log 1 = 0 leaves a score as it is, log 0 = −∞ takes it out.
        scores = scores + withoutGradient { mask.cast(to: scores.dtype).log() }
    }
    return matmul(scores.softmax(axis: -1), values)
}
