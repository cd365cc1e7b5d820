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
            OpSample("grouped", [$0.uniform([2, 4, 3, 2]), $0.uniform([2, 2, 5, 2]), $0.uniform([2, 2, 5, 3])]) {
                FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2])
            },
            OpSample("grouped and masked", [$0.uniform([4, 2, 3]), $0.uniform([2, 3, 3]), $0.uniform([2, 3, 2])]) {
                // A mask for each head.
                let visible = Tensor((0..<24).map { $0 % 5 != 0 && $0 % 7 != 3 }, shape: [4, 2, 3])
                return FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2], mask: visible)
            },
            OpSample("causal", [$0.uniform([2, 3, 4]), $0.uniform([2, 5, 4]), $0.uniform([2, 5, 4])]) {
                FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2], isCausal: true)
            },
            OpSample(
                "bias", [$0.uniform([2, 3, 4]), $0.uniform([2, 5, 4]), $0.uniform([2, 5, 4]), $0.uniform([3, 5])]
            ) { FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2], mask: $0[3]) },
            OpSample("dropout", [$0.uniform([2, 3, 4]), $0.uniform([2, 5, 4]), $0.uniform([2, 5, 4])]) {
                FoveaTensor.attention(
                    query: $0[0], keys: $0[1], values: $0[2], dropout: (rate: 0.5, key: RandomKey(seed: 3)))
            },
        ]
    }
}

/// Scaled dot-product attention: softmax(q·kᵀ·scale)·v over the last two axes.
/// (Vaswani et al., "Attention is all you need", 2017, §3.2.1.)
///
/// Keys and values may have fewer heads than the query, each serving as many consecutive heads of the query (Ainslie et
/// al., "GQA", 2023); PyTorch's `enable_gqa`. A NaN in a query or a key makes the rows that see it NaN, and also those
/// from which a mask hides it, as in PyTorch.
///
/// - Parameters:
///   - query: [..., H, N, d].
///   - keys: [..., G, M, d], where G divides H; without the axis of heads [M, d].
///   - values: [..., G, M, e].
///   - mask: broadcast to [..., H, N, M]. bool: true where the query may look. Of the query's type: added to the scores,
///     with a gradient. A query that may look nowhere gets zeros, where PyTorch gives NaN.
///   - isCausal: whether query n may look at keys 0 ... n alone; the first query at the first key, as in PyTorch, however
///     many keys there are. Together with a mask both must allow it, where PyTorch refuses.
///   - scale: d^(−1/2) unless given.
///   - dropout: the rate and the key with which weights are dropped and the others scaled up; see `droppingOut`.
/// - Returns: [..., H, N, e].
public func attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor? = nil, isCausal: Bool = false, scale: Double? = nil,
    dropout: (rate: Double, key: RandomKey)? = nil
) -> Tensor {
    guard query.rank >= 2, keys.rank == query.rank, values.rank == query.rank,
        keys.shape.last == query.shape.last, keys.shape[keys.rank - 2] == values.shape[values.rank - 2]
    else {
        trap("attention", "query [..., N, d], keys [..., M, d] and values [..., M, e] are needed", query, keys, values)
    }
    let share = headsPerKey(query, keys, values)
    let scale = scale ?? 1 / Double(query.shape.last!).squareRoot()
    /// [..., H, N, C] ⇄ [..., G, H/G · N, C]: the heads that share keys are more rows of one product.
    func grouped(_ x: Tensor) -> Tensor {
        let (heads, rows) = (x.shape[x.rank - 3], x.shape[x.rank - 2])
        return x.reshaped(to: x.shape.dropLast(3) + [heads / share, rows * share, x.shape.last!])
    }
    func apart(_ x: Tensor) -> Tensor {
        let (heads, rows) = (x.shape[x.rank - 3], x.shape[x.rank - 2])
        return x.reshaped(to: x.shape.dropLast(3) + [heads * share, rows / share, x.shape.last!])
    }
    let scaled = query * scale
    var scores = matmul(share > 1 ? grouped(scaled) : scaled, keys.transposed(-1, -2))
    if share > 1 { scores = apart(scores) }
    if let mask {
        guard mask.dtype == .bool || mask.dtype == scores.dtype,
            broadcastShape(mask.shape, scores.shape) == scores.shape
        else {
            trap(
                "attention", "the mask must be bool or \(scores.dtype) and broadcast to the scores \(scores.shape)",
                mask)
        }
        // log 1 = 0 leaves a score as it is, log 0 = −∞ takes it out.
        scores = scores + (mask.dtype == .bool ? withoutGradient { mask.cast(to: scores.dtype).log() } : mask)
    }
    if isCausal {
        let (rows, columns) = (scores.shape[scores.rank - 2], scores.shape[scores.rank - 1])
        let hidden = (0..<rows).flatMap { row in (0..<columns).map { $0 <= row ? 0 : -Double.infinity } }
        scores = scores + Tensor(hidden, shape: [rows, columns]).cast(to: scores.dtype)
    }
    var weights = scores.softmax(axis: -1)
    if let dropout { weights = weights.droppingOut(dropout.rate, key: dropout.key) }
    return share > 1 ? apart(matmul(grouped(weights), values)) : matmul(weights, values)
}

/// How many heads of the query share one of the keys: 1 where their numbers are equal or broadcast.
private func headsPerKey(_ query: Tensor, _ keys: Tensor, _ values: Tensor) -> Int {
    guard query.rank >= 3 else { return 1 }
    let (heads, groups) = (query.shape[query.rank - 3], keys.shape[keys.rank - 3])
    guard heads != groups, heads > 1, groups > 0, values.shape[values.rank - 3] == groups else { return 1 }
    guard heads % groups == 0 else {
        trap("attention", "the heads of the keys must divide those of the query", query, keys, values)
    }
    return heads / groups
}
