import CKernels

/// One call of attention, brought to the form that the loops take: operands [B, H, N, d] whose leading axes are one, read
/// where they are.
struct AttentionCall {
    let query: Tensor
    let keys: Tensor
    let values: Tensor
    let mask: Tensor?
    /// [..., H, N, e], laid out in memory as the query is.
    let output: Tensor
    /// [B, H, N]: each row's greatest score, and 1 / Σ exp(score − greatest): what is kept of long rows for the way back.
    private let top: Tensor
    private let inverse: Tensor
    /// The weights themselves, where they are kept.
    private let kept: Tensor?
    private var arguments: ck_attention
    /// B, H, G, N, M.
    let batch: Int
    let heads: Int
    let groups: Int
    let rows: Int
    let columns: Int

    /// - Parameters:
    ///   - query: [..., H, N, d] or [N, d].
    ///   - keys: [..., G, M, d], the leading axes those of the query, G a divisor of H.
    ///   - values: [..., G, M, e].
    ///   - mask: bool or of the query's type, broadcast to [..., H, N, M].
    ///   - hasGradient: whether there will be a way back. The weights are then kept where a row of them is no longer than one of the
    ///     query and one of the output together; else they are computed again.
    init(
        query: Tensor, keys: Tensor, values: Tensor, mask: Tensor?, isCausal: Bool, scale: Double,
        dropout: (rate: Double, key: RandomKey)?, hasGradient: Bool
    ) {
        let rank = query.rank
        let dtype = query.dtype
        self.query = query.withFeaturesTogether()
        self.keys = keys.withFeaturesTogether()
        self.values = values.withFeaturesTogether()
        batch = query.shape.dropLast(3).reduce(1, *)
        heads = rank > 2 ? query.shape[rank - 3] : 1
        groups = rank > 2 ? keys.shape[rank - 3] : 1
        rows = query.shape[rank - 2]
        columns = keys.shape[rank - 2]
        let scores = Array(query.shape.dropLast()) + [columns]
        self.mask = mask.map { $0.detached.mergeable(over: scores) }
        output = Tensor.laidOut(Array(query.shape.dropLast()) + [values.shape[rank - 1]], like: self.query)
        top = Tensor(uninitialized: [batch, heads, rows], dtype)
        inverse = Tensor(uninitialized: [batch, heads, rows], dtype)

        // Rows in whole vectors, of 16 numbers at most.
        let held = (heads * rows / Swift.max(1, groups) + 15) / 16 * 16
        kept =
            hasGradient && columns <= query.shape[rank - 1] + values.shape[rank - 1]
            ? Tensor(uninitialized: [batch, groups, held, columns], dtype) : nil

        arguments = ck_attention()
        arguments.heads = heads
        arguments.share = Swift.max(1, heads / Swift.max(1, groups))
        arguments.queries = rows
        arguments.keys = columns
        arguments.width = query.shape[rank - 1]
        arguments.value_width = values.shape[rank - 1]
        arguments.scale = scale
        arguments.is_causal = isCausal ? 1 : 0
        arguments.q = UnsafeRawPointer(self.query.start)
        arguments.q_strides = self.query.headStrides
        arguments.k = UnsafeRawPointer(self.keys.start)
        arguments.k_strides = self.keys.headStrides
        arguments.v = UnsafeRawPointer(self.values.start)
        arguments.v_strides = self.values.headStrides
        if let mask = self.mask {
            arguments.mask_kind = mask.dtype == .bool ? CK_MASK_VISIBLE : CK_MASK_ADDED
            arguments.mask = UnsafeRawPointer(mask.start)
            arguments.mask_strides = mask.scoreStrides(scores)!
        }
        if let dropout {
            arguments.dropout_key = dropout.key.bits
            arguments.dropout_below = Tensor.dropoutThreshold(dropout.rate)
            arguments.dropout_kept = 1 / (1 - dropout.rate)
        }
        arguments.y = output.start
        arguments.y_strides = output.headStrides
        arguments.top = top.start
        arguments.inverse = inverse.start
        arguments.kept = kept?.start
    }

    /// Pairs of a query and a key, over all samples and heads.
    private var pairs: Int { batch * heads * rows * columns }

    // MARK: Forward

    /// Work is handed out in about this many pieces; what a piece costs to hand out, in multiply-adds.
    private static let pieces = 32
    private static let leastWork = 1 << 17

    /// Fills the output.
    ///
    /// - Parameter weights: for each tap a weight for each query row, [B, N] or [N], of the query's type.
    /// - Returns: for each tap [B, H, M], the sum of the rows' attention with these weights.
    func run(tapping weights: [Tensor]) -> [Tensor] {
        let dtype = query.dtype
        // As if every query saw every key: published figures count a causal mask so, too.
        MatrixProduct.count(multiplyAdds: pairs * (query.shape.last! + values.shape.last!))
        let forward = pick(Kernels.table.pointee.attention, dtype)
        let workspace = pick(Kernels.table.pointee.attention_workspace, dtype)
        let share = arguments.share
        // The rows of a group are cut by their number alone, in whole blocks.
        let block = 256 / dtype.size
        let blocks = (share * rows + block - 1) / block
        let cuts = Swift.max(1, Swift.min(blocks, AttentionCall.pieces / Swift.max(1, batch * groups)))
        let rowsOfCut = (blocks + cuts - 1) / Swift.max(1, cuts) * block
        let units = batch * groups * cuts
        let sums = weights.map { _ in Tensor.zeros([batch, groups, cuts, share, columns], dtype: dtype) }
        let taps = weights.map {
            ck_attention_tap(
                weights: UnsafeRawPointer($0.start), strides: ($0.rank == 1 ? 0 : rows, 1))
        }
        withExtendedLifetime((self, weights, sums)) {
            taps.withUnsafeBufferPointer { taps in
                var call = arguments
                call.taps = taps.baseAddress
                call.tap_count = taps.count
                withUnsafePointer(to: call) { call in
                    distribute(units, workspace: workspace(call) * dtype.size) { unit, memory in
                        let (group, cut) = (unit / cuts, unit % cuts)
                        let first = Swift.min(share * rows, cut * rowsOfCut)
                        let targets: [UnsafeMutableRawPointer?] = sums.map {
                            $0.start + unit * share * columns * dtype.size
                        }
                        forward(
                            call, group / groups, group % groups, first, Swift.min(share * rows, first + rowsOfCut),
                            targets, memory)
                    }
                }
            }
        }
        return sums.map { $0.sum(axes: [2]).reshaped(to: [batch, heads, columns]) }
    }

    /// The attention of single rows, after `run`: [B, H, R, M], or [B, R, M] for the mean over the heads.
    ///
    /// - Parameters:
    ///   - indices: int64 [R], or [B, R], in 0 ..< N.
    ///   - keepsHeads: whether the heads stay apart.
    func attention(ofRows indices: Tensor, keepsHeads: Bool) -> Tensor {
        let count = indices.shape.last!
        MatrixProduct.count(multiplyAdds: batch * heads * count * columns * query.shape.last!)
        let y = Tensor(
            uninitialized: keepsHeads ? [batch, heads, count, columns] : [batch, count, columns], query.dtype)
        let size = query.dtype.size
        let kernel = pick(Kernels.table.pointee.attention_of_rows, query.dtype)
        let workspace = pick(Kernels.table.pointee.attention_workspace, query.dtype)
        // An even number of cuts of the same size, by the number of keys alone; each reads all queries.
        let blocks = (columns + 63) / 64
        let cuts = Swift.max(1, Swift.min(blocks, 2 * ((columns + 1023) / 1024)))
        let keysOfUnit = (blocks + cuts - 1) / cuts * 64
        withExtendedLifetime((self, indices)) {
            withUnsafePointer(to: arguments) { call in
                distribute(batch * cuts, workspace: workspace(call) * size) { unit, memory in
                    let (sample, first) = (unit / cuts, unit % cuts * keysOfUnit)
                    let rows = indices.start + (indices.rank == 1 ? 0 : sample * count * MemoryLayout<Int64>.size)
                    kernel(
                        call, sample, rows.assumingMemoryBound(to: Int64.self), count, first,
                        Swift.min(columns, first + keysOfUnit), y.start + sample * y.count / batch * size,
                        keepsHeads ? count * columns : 0, columns, memory)
                }
            }
        }
        return y
    }

    // MARK: Backward

    /// The gradients of query, keys and values for the output's cotangent, laid out in memory as these are.
    ///
    /// - Parameter areKeysValues: whether keys and values are one tensor: the keys' gradient is then that of both.
    func gradients(_ cotangent: Tensor, areKeysValues: Bool) -> (query: Tensor, keys: Tensor, values: Tensor?) {
        let dtype = query.dtype
        // The scores once more, unless the weights were kept, and a product for each of the other four matrices.
        MatrixProduct.count(
            multiplyAdds: pairs * ((kept == nil ? 3 : 2) * query.shape.last! + 2 * values.shape.last!))
        let kernel = pick(Kernels.table.pointee.attention_gradient, dtype)
        let workspace = pick(Kernels.table.pointee.attention_gradient_workspace, dtype)
        let cotangent = cotangent.withFeaturesTogether()
        let dk = Tensor.laidOut(keys.shape, like: keys)
        let dv = areKeysValues ? dk : Tensor.laidOut(values.shape, like: values)
        // The keys of a group are cut by their number alone; each cut has its own part of the query's gradient.
        let sets = batch * groups
        let cuts = Swift.max(1, Swift.min((columns + 255) / 256, AttentionCall.pieces / 2 / Swift.max(1, sets)))
        let keysOfCut = (columns + cuts - 1) / cuts
        let parts = (0..<cuts).map { _ in Tensor.laidOut(query.shape, like: query) }
        var call = arguments
        call.dy = UnsafeRawPointer(cotangent.start)
        call.dy_strides = cotangent.headStrides
        call.dq_strides = parts[0].headStrides
        call.dk = dk.start
        call.dk_strides = dk.headStrides
        call.dv = dv.start
        call.dv_strides = dv.headStrides
        withExtendedLifetime((self, cotangent, parts, dk, dv)) {
            distribute(sets * cuts, workspace: workspace(&call, keysOfCut) * dtype.size) { unit, memory in
                let (pair, cut) = (unit / cuts, unit % cuts)
                var own = call
                own.dq = parts[cut].start
                kernel(
                    &own, pair / groups, pair % groups, cut * keysOfCut,
                    Swift.min(columns, (cut + 1) * keysOfCut), memory)
            }
        }
        var dq = Adjoint()
        for part in parts { dq.add(part) }
        return (dq.take()!, dk, areKeysValues ? nil : dv)
    }

    /// The gradient of the added mask, of the shape of `mask`, without the matrix of weights.
    func maskGradient(_ cotangent: Tensor, of shape: [Int]) -> Tensor {
        let dtype = query.dtype
        let kernel = pick(Kernels.table.pointee.attention_mask_gradient, dtype)
        let workspace = pick(Kernels.table.pointee.attention_gradient_workspace, dtype)
        let cotangent = cotangent.withFeaturesTogether()
        let scores = Array(query.shape.dropLast()) + [columns]
        let dmask = Tensor.zeros(mask!.shape, dtype: dtype)
        let strides = dmask.scoreStrides(scores)!
        var call = arguments
        call.dy = UnsafeRawPointer(cotangent.start)
        call.dy_strides = cotangent.headStrides
        call.dmask = dmask.start
        call.dmask_strides = strides
        // Kept in blocks of the forward pass, which these rows are not.
        call.kept = nil
        // Units own different parts of the mask; what a part is repeated over, its unit adds up in order.
        func ranges(_ count: Int, _ stride: Int, _ grain: Int) -> [Range<Int>] {
            guard stride != 0, count > 0 else { return [0..<count] }
            return Swift.stride(from: 0, to: count, by: grain).map { $0..<Swift.min(count, $0 + grain) }
        }
        let share = arguments.share
        let ofBatch = ranges(batch, strides.0, 1)
        let ofGroups = ranges(groups, strides.1, 1)
        let ofRows = ranges(rows, strides.2, 256)
        let ofKeys = ranges(columns, strides.3, 512)
        withExtendedLifetime((self, cotangent, dmask)) {
            let units = ofBatch.count * ofGroups.count * ofRows.count * ofKeys.count
            withUnsafePointer(to: call) { call in
                distribute(units, workspace: workspace(call, 0) * dtype.size) { unit, memory in
                    var rest = unit
                    func next(_ parts: [Range<Int>]) -> Range<Int> {
                        defer { rest /= parts.count }
                        return parts[rest % parts.count]
                    }
                    let (samples, groups, rows, keys) = (next(ofBatch), next(ofGroups), next(ofRows), next(ofKeys))
                    for sample in samples {
                        for group in groups {
                            for head in 0..<share {
                                kernel(
                                    call, sample, group, head * self.rows + rows.lowerBound,
                                    head * self.rows + rows.upperBound, keys.lowerBound, keys.upperBound, memory)
                            }
                        }
                    }
                }
            }
        }
        return dmask.reduced(to: shape)
    }

    /// Hands units of work out in pieces that are worth it, each piece with its own working memory.
    private func distribute(_ units: Int, workspace: Int, _ body: (Int, UnsafeMutableRawPointer) -> Void) {
        let work = batch * heads * rows * columns * (arguments.width + arguments.value_width)
        let worthwhile = Swift.max(1, Swift.min(AttentionCall.pieces, work / AttentionCall.leastWork))
        parallelFor(units, grain: Swift.max(1, (units + worthwhile - 1) / worthwhile)) { range in
            withScratch(workspace) { memory in
                for unit in range { body(unit, memory) }
            }
        }
    }
}

// MARK: Layouts

extension Tensor {
    /// The address of the first element; the tensor must be kept alive.
    fileprivate var start: UnsafeMutableRawPointer { storage.pointer + offset * dtype.size }

    /// This tensor [..., H, N, C] as the loops read it: features side by side, leading axes evenly spaced.
    fileprivate func withFeaturesTogether() -> Tensor {
        guard stride(fromLast: 0) == 1 || shape[rank - 1] == 1, Box(shape, withoutLast: 3, .init(self)).rank <= 1
        else { return detached.contiguous() }
        return detached
    }

    /// The strides of [B, H, N].
    fileprivate var headStrides: (Int, Int, Int) {
        (
            Box(shape, withoutLast: 3, .init(self))[0].steps.0, rank > 2 ? stride(fromLast: 2) : 0,
            stride(fromLast: 1)
        )
    }

    /// The strides of [B, H, N, M] of this tensor repeated to `scores`; nil where no single stride leads through its
    /// leading axes.
    fileprivate func scoreStrides(_ scores: [Int]) -> (Int, Int, Int, Int)? {
        let strides = expandedStrides(to: scores)
        let batch = Box(scores, withoutLast: 3, .init(self))
        guard batch.rank <= 1 else { return nil }
        return (
            batch[0].steps.0, scores.count > 2 ? strides[scores.count - 3] : 0, strides[scores.count - 2],
            strides[scores.count - 1]
        )
    }

    /// A mask that broadcasts to `scores`, its leading axes repeated in memory where no single stride leads through them.
    fileprivate func mergeable(over scores: [Int]) -> Tensor {
        guard scoreStrides(scores) == nil else { return self }
        return expanded(to: scores.dropLast(3) + shape.suffix(3)).contiguous()
    }

    /// Uninitialised memory for [..., H, N, C]: token by token where the other tensor lies so, else head by head. Heads
    /// that were split off the features of each token then merge again without a copy.
    fileprivate static func laidOut(_ shape: [Int], like other: Tensor) -> Tensor {
        let rank = shape.count
        guard rank > 2, shape[rank - 3] > 1, shape[rank - 2] > 1 else {
            return Tensor(uninitialized: shape, other.dtype)
        }
        let strides = other.layoutStrides
        guard strides[rank - 3] < strides[rank - 2] else { return Tensor(uninitialized: shape, other.dtype) }
        let tokens = shape.dropLast(3) + [shape[rank - 2], shape[rank - 3], shape[rank - 1]]
        return Tensor(uninitialized: Array(tokens), other.dtype).transposed(-3, -2)
    }
}
