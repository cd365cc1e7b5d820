import FoveaTensor

// FiCoCo between attention and MLP of some layers, of an encoder and of a decoder. -VL is the two together.

/// FiCoCo-V in an encoder.
///
/// Where there is no class token the proxy of the keys stands in for its attention (appendix, eq. 9–13).
public struct FiCoCoVLayers: LayerReducer {
    /// How many patches each layer removes.
    public let schedule: ReductionSchedule
    /// How they are chosen; its own `remove` plays no part.
    public let method: FiCoCoV

    public init(_ schedule: ReductionSchedule, _ method: FiCoCoV) {
        self.schedule = schedule
        self.method = method
    }

    public func seat(inLayer layer: Int) -> LayerSeat? { schedule.removes(inLayer: layer) ? .afterAttention : nil }

    public func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] {
        method.mode == .probabilities ? [.rows(Array(0..<tokens.count))] : []
    }

    public func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let weights = withoutGradient { attention.taps.first?.members ?? attention.meanLogits }
        let keys = withoutGradient { attention.keys.detached.mean(axes: [1]) }.members
        let positions = tokens.positions.doubles
        let real = tokens.real
        return tokens.reduced(
            pictures: tokens.visualByPicture.enumerated().map { sample, pictures in
                let isVisual = Set(pictures.flatMap(\.places))
                let front = (0..<tokens.count).filter { real[sample][$0] && !isVisual.contains($0) }
                return pictures.map { picture in
                    let own = Tensor.indices(picture.places)
                    let columns = weights[sample].selecting(axis: 1, own)
                    return method.reduction(
                        patches: columns.selecting(axis: 0, own),
                        ofClass: front.first.map { columns.sliced(axis: 0, $0..<$0 + 1).doubles }
                            ?? ImportanceSource.proxy(keys[sample].selecting(axis: 0, own)).doubles,
                        positions: picture.places.map { Int(positions[sample * tokens.count + $0]) - front.count },
                        remove: schedule.removed[layer])
                }
            })
    }

    public func count(of n: Int, inLayer layer: Int) -> Int? { schedule.left(of: n, inLayer: layer) }

    /// The products of all queries with all keys once more, and the mixtures.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        let removed = shape.visual - schedule.left(of: shape.visual, inLayer: layer)
        guard removed > 0 else { return Cost() }
        return .product(shape.count, shape.queryWidth, shape.count)
            + .product(shape.count - removed, removed, shape.width)
    }
}

/// FiCoCo-L in a decoder.
///
/// What attention computed is causal and over all tokens; B and R are neither. They are computed again from its queries
/// and keys: of B the column means, as a tap of attention that mixes nothing, and then the rows of what is removed.
public struct FiCoCoLLayers: LayerReducer {
    /// How many visual tokens of a picture each layer removes.
    public let schedule: ReductionSchedule
    /// How they are chosen; its own `remove` plays no part.
    public let method: FiCoCoL

    public init(_ schedule: ReductionSchedule, _ method: FiCoCoL = FiCoCoL(remove: 0)) {
        self.schedule = schedule
        self.method = method
    }

    public func seat(inLayer layer: Int) -> LayerSeat? { schedule.removes(inLayer: layer) ? .afterAttention : nil }

    public func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        guard let queries = attention.queries?.detached.members else {
            trap("FiCoCoLLayers", "the queries of the layer are needed", attention.keys)
        }
        let keys = attention.keys.detached.members
        let question = tokens.question
        return tokens.reduced(
            pictures: tokens.visualByPicture.enumerated().map { sample, pictures in
                pictures.map { picture in
                    let shown = keys[sample].taking(axis: 1, picture.places)
                    let asking = queries[sample].taking(axis: 1, picture.places)
                    let words = queries[sample].taking(axis: 1, question[sample])
                    return method.reduction(
                        received: meanReceived(from: asking, by: shown).doubles, r: meanAttention(of: words, to: shown),
                        remove: schedule.removed[layer]
                    ) { meanAttention(of: asking.selecting(axis: 1, .indices($0)), to: shown) }
                }
            })
    }

    public func count(of n: Int, inLayer layer: Int) -> Int? { schedule.left(of: n, inLayer: layer) }

    /// The products of the keys of the picture with its queries, those of what is removed once more, and those of the
    /// question; Σ R R; and the mixtures.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        let n = shape.visual
        let removed = n - schedule.left(of: n, inLayer: layer)
        guard removed > 0 else { return Cost() }
        return .product(n + removed + shape.question, shape.queryWidth, n)
            + .product(removed, shape.question, n - removed)
            + .product(shape.count - removed, removed, shape.width)
    }
}

extension ReductionSchedule {
    func removes(inLayer layer: Int) -> Bool { removed.indices.contains(layer) && removed[layer] > 0 }

    /// How many of n tokens a layer leaves.
    func left(of n: Int, inLayer layer: Int) -> Int {
        removes(inLayer: layer) ? max(min(n, 1), n - removed[layer]) : n
    }
}

extension LayerAttention {
    /// Of each sample the scores of all tokens before softmax, the mean over the heads: [T, T].
    fileprivate var meanLogits: [Tensor] {
        guard let queries else { trap("LayerAttention", "the queries of the layer are needed", keys) }
        let scale = 1 / (Double(queries.shape[1]) * Double(queries.shape[3]).squareRoot())
        // The heads' products add up to those of all features together.
        let shared = keys.detached.repeatedKeyHeads(queries.shape[1])
        return zip(queries.detached.members, shared.members).map { queries, keys in
            let rows = { (x: Tensor) in x.transposed(0, 1).flattened(from: 1) }
            return matmul(rows(queries), rows(keys).transposed(0, 1)) * scale
        }
    }
}

extension Tensor {
    /// Keys [B, G, T, d] for each of H heads, [B, H, T, d].
    fileprivate func repeatedKeyHeads(_ heads: Int) -> Tensor {
        let share = heads / shape[1]
        guard share > 1 else { return self }
        return selecting(axis: 1, .indices((0..<heads).map { $0 / share }))
    }
}

/// What keys [G, N, d] receive of queries [H, R, d], the mean over queries and heads of a softmax over the keys: [N].
private func meanReceived(from queries: Tensor, by keys: Tensor) -> Tensor {
    // The weights alone are wanted.
    let values = Tensor.zeros([keys.shape[0], keys.shape[1], 0], dtype: keys.dtype)
    return attention(query: queries, keys: keys, values: values, taps: [.columnMean(of: 0..<queries.shape[1])]).taps[0]
}

/// What queries [H, R, d] pay to keys [G, N, d], the mean over the heads of a softmax over the keys: [R, N].
private func meanAttention(of queries: Tensor, to keys: Tensor) -> Tensor {
    let (heads, rows, groups) = (queries.shape[0], queries.shape[1], keys.shape[0])
    guard rows > 0 else { return .zeros([0, keys.shape[1]], dtype: queries.dtype) }
    // R · d numbers are scaled instead of R · N.
    let scaled = queries * (1 / Double(queries.shape[2]).squareRoot())
    // So many rows at a time as leave the weights of all heads small.
    let parts = stride(from: 0, to: rows, by: 128).map { start in
        let own = scaled.sliced(axis: 1, start..<min(start + 128, rows))
        let count = own.shape[1]
        // Heads that share keys follow each other.
        let scores = matmul(own.reshaped(to: [groups, heads / groups * count, -1]), keys.transposed(1, 2))
        return scores.softmax(axis: 2).reshaped(to: [heads, count, -1]).mean(axes: [0])
    }
    return parts.count == 1 ? parts[0] : concatenated(parts, axis: 0)
}
