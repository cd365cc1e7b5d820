// MARK: attention

extension Op {
    public static let attention = Op("attention", "softmax(q·kᵀ·scale) · v, with a mask", linearIn: [2]) { source in
        let key = RandomKey(seed: 3)
        // An added mask comes as the fourth operand.
        @Sendable func plain(_ x: [Tensor]) -> Tensor {
            FoveaTensor.attention(query: x[0], keys: x[1], values: x[2], mask: x.count > 3 ? x[3] : nil)
        }
        func draw(_ shapes: [Int]...) -> [Tensor] { shapes.map { source.uniform($0) } }
        func grouped(_ mask: [Int]...) -> [Tensor] {
            draw([2, 4, 3, 2], [2, 2, 5, 2], [2, 2, 5, 3]) + mask.map { source.uniform($0) }
        }
        return [
            OpSample("heads", draw([2, 2, 3, 4], [2, 2, 5, 4], [2, 2, 5, 4]), run: plain),
            OpSample("mask", draw([2, 3, 4], [2, 3, 4], [2, 3, 4])) {
                let visible = Tensor([true, false, false, true, true, false, false, false, false], shape: [3, 3])
                return FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2], mask: visible, scale: 0.3)
            },
            OpSample("one width for values", draw([2, 3], [4, 3], [4, 1]), run: plain),
            OpSample(
                "heads of tokens", draw([2, 3, 2, 4], [2, 5, 2, 4], [2, 5, 2, 4]).map { $0.transposed(1, 2) },
                run: plain),
            OpSample("grouped", draw([2, 4, 3, 2], [2, 2, 5, 2], [2, 2, 5, 3]), run: plain),
            OpSample("grouped and masked", draw([4, 2, 3], [2, 3, 3], [2, 3, 2])) {
                // A mask for each head.
                let visible = Tensor((0..<24).map { $0 % 5 != 0 && $0 % 7 != 3 }, shape: [4, 2, 3])
                return FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2], mask: visible)
            },
            OpSample("shared keys", draw([2, 1, 4, 3, 2], [1, 3, 2, 5, 2], [2, 1, 1, 5, 3]), run: plain),
            OpSample("shared query", draw([1, 3, 2], [2, 5, 2], [2, 5, 3]), run: plain),
            OpSample("keys are values", draw([2, 4, 3, 2], [2, 2, 5, 2])) {
                FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[1])
            },
            OpSample("causal", draw([2, 3, 4], [2, 5, 4], [2, 5, 4])) {
                FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2], isCausal: true)
            },
            OpSample("padding and causal", grouped()) {
                // Keys that no query of the sample may see.
                let visible = Tensor((0..<10).map { $0 % 4 != 1 }, shape: [2, 1, 1, 5])
                return FoveaTensor.attention(
                    query: $0[0], keys: $0[1], values: $0[2], mask: visible, isCausal: true)
            },
            OpSample("bias", draw([2, 3, 4], [2, 5, 4], [2, 5, 4], [3, 5]), run: plain),
            OpSample("bias of heads", grouped([4, 1, 5]), run: plain),
            OpSample("bias of keys", grouped([2, 1, 1, 5]), run: plain),
            OpSample("bias of rows", grouped([3, 1]), run: plain),
            OpSample("bias of samples", grouped([2, 1, 3, 5]), run: plain),
            OpSample("bias of all", grouped([]), run: plain),
            OpSample("dropout", draw([2, 3, 4], [2, 5, 4], [2, 5, 4])) {
                FoveaTensor.attention(query: $0[0], keys: $0[1], values: $0[2], dropout: (rate: 0.5, key: key))
            },
            OpSample("bias, causal and dropout", grouped([2, 4, 3, 5])) {
                FoveaTensor.attention(
                    query: $0[0], keys: $0[1], values: $0[2], mask: $0[3], isCausal: true,
                    dropout: (rate: 0.5, key: key))
            },
        ]
    }
}

/// Scaled dot-product attention: softmax(q·kᵀ·scale)·v over the last two axes.
/// (Vaswani et al., "Attention is all you need", 2017, §3.2.1; computed block by block as in Dao et al., "FlashAttention",
/// 2022.)
///
/// The N × M weights are not stored, unless they are no larger than query and output: forward and backward take O(N + M) memory
/// beside their operands. Heads that are
/// views of [B, N, H, d] are read in place, and the result then lies in memory so that merging its heads copies nothing.
///
/// Keys and values may have fewer heads than the query, each serving as many consecutive heads of the query (Ainslie et
/// al., "GQA", 2023); PyTorch's `enable_gqa`. Axes before the heads broadcast.
///
/// What a query may not see is as good as absent: NaN or infinity in such a key or value does not reach the query's row,
/// where PyTorch makes the row NaN. NaN in what a row does see makes that row NaN, and with it the gradients of all keys
/// and values of its head.
///
/// - Parameters:
///   - query: [..., H, N, d].
///   - keys: [..., G, M, d], where G divides H; without the axis of heads [M, d].
///   - values: [..., G, M, e].
///   - mask: broadcast to [..., H, N, M]. bool: true where the query may look. Of the query's type: added to the scores,
///     with a gradient; −∞ hides. A query that may look nowhere gets zeros.
///   - isCausal: whether query n may look at keys 0 ... n alone; the first query at the first key, as in PyTorch, however
///     many keys there are. Together with a mask both must allow it, where PyTorch refuses.
///   - scale: d^(−1/2) unless given.
///   - dropout: the rate and the key with which weights are dropped and the others scaled up, as `droppingOut` does with
///     [..., H, N, M].
/// - Returns: [..., H, N, e].
public func attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor? = nil, isCausal: Bool = false, scale: Double? = nil,
    dropout: (rate: Double, key: RandomKey)? = nil
) -> Tensor {
    attention(
        query: query, keys: keys, values: values, mask: mask, isCausal: isCausal, scale: scale, dropout: dropout,
        taps: []
    ).output
}

/// `attention` that also hands out what a token reducer needs to know of its weights.
///
/// Taps take O(N + M) memory for each head and little time: sums over rows are taken on the way, single rows are computed
/// again. They see the weights before dropout, do not change the output by a bit, and carry no gradient: what they select
/// is a constant of the model.
///
/// - Parameters:
///   - query: [..., H, N, d].
///   - keys: [..., G, M, d].
///   - values: [..., G, M, e].
///   - mask: bool or of the query's type, broadcast to [..., H, N, M].
///   - isCausal: whether query n may look at keys 0 ... n alone.
///   - scale: d^(−1/2) unless given.
///   - dropout: the rate and the key.
///   - taps: what to hand out.
/// - Returns: the output [..., H, N, e], and a tensor for each tap; `AttentionTap` says of what shape.
public func attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor? = nil, isCausal: Bool = false, scale: Double? = nil,
    dropout: (rate: Double, key: RandomKey)? = nil, taps: [AttentionTap]
) -> (output: Tensor, taps: [Tensor]) {
    let (query, keys, values) = attentionOperands(query, keys, values)
    let scores = query.shape.dropLast() + [keys.shape[keys.rank - 2]]
    if let mask {
        guard mask.dtype == .bool || mask.dtype == query.dtype,
            broadcastShape(mask.shape, Array(scores)) == Array(scores)
        else {
            trap(
                "attention", "the mask must be bool or \(query.dtype) and broadcast to the scores \(scores)",
                mask)
        }
    }
    if let rate = dropout?.rate, !(0..<1).contains(rate) {
        trap("attention", "the rate of dropout must be in 0 ..< 1, not \(rate)", query)
    }
    let call = AttentionCall(
        query: query, keys: keys, values: values, mask: mask, isCausal: isCausal,
        scale: scale ?? 1 / Double(query.shape.last!).squareRoot(), dropout: dropout,
        hasGradient: [query, keys, values].contains { Tape.recording($0) != nil })
    let tapped = AttentionTap.run(taps, call, query)
    let added = mask.flatMap { $0.dtype == .bool ? nil : $0 }
    // Keys and values may be one tensor; it then gets one gradient, made as one.
    let isOne = keys.trace.index >= 0 && keys.trace == values.trace
    let output = call.output.derived(by: .attention, from: [query, keys, values] + (added.map { [$0] } ?? [])) {
        g, wanted in
        var gradients: [Tensor?] = [nil, nil, nil]
        if wanted[0] || wanted[1] || wanted[2] {
            let (dq, dk, dv) = call.gradients(g, areKeysValues: isOne)
            gradients = [dq, dk, dv]
        }
        if let added { gradients.append(wanted[3] ? call.maskGradient(g, of: added.shape) : nil) }
        return gradients
    }
    return (output, tapped)
}

/// The operands with equal leading axes, and heads of the keys that divide those of the query; repeated where they
/// broadcast.
private func attentionOperands(_ query: Tensor, _ keys: Tensor, _ values: Tensor) -> (Tensor, Tensor, Tensor) {
    let all = [query, keys, values]
    for operand in all {
        operand.requireDifferentiableType("attention")
        operand.noteLabel()
    }
    let rank = query.rank
    guard rank >= 2, keys.rank == rank, values.rank == rank, keys.shape[rank - 1] == query.shape[rank - 1],
        keys.shape[rank - 2] == values.shape[rank - 2], all.allSatisfy({ $0.dtype == query.dtype })
    else {
        trap(
            "attention", "query [..., N, d], keys [..., M, d] and values [..., M, e] of one type are needed", all)
    }
    guard rank > 2 else { return (query, keys, values) }
    func heads(_ x: Tensor) -> [Int] { [x.shape[rank - 3]] }
    guard let groups = broadcastShape(heads(keys), heads(values)),
        groups[0] == 0 ? heads(query)[0] <= 1 : heads(query)[0] % groups[0] == 0 || heads(query)[0] == 1
    else {
        trap("attention", "the heads of the keys must divide those of the query", all)
    }
    func leading(_ x: Tensor) -> [Int] { Array(x.shape.dropLast(3)) }
    guard let outer = broadcastShape(leading(keys), leading(values)),
        let batch = broadcastShape(leading(query), outer)
    else {
        trap("attention", "the axes before the heads do not broadcast", all)
    }
    func repeated(_ x: Tensor, _ heads: [Int]) -> Tensor { x.expanded(to: batch + heads + x.shape.suffix(2)) }
    return (
        repeated(query, heads(query)[0] == 1 ? groups : heads(query)), repeated(keys, groups), repeated(values, groups)
    )
}
