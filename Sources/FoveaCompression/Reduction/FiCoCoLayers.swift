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
            + FiCoCo.mixtures(of: removed, visual: shape.visual, epsilon: method.epsilon, shape)
    }
}

/// FiCoCo-L in a decoder.
///
/// What attention computed is causal and over all tokens; B and R are neither. They are computed again from its queries
/// and keys.
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
                        b: meanAttention(of: asking, to: shown), r: meanAttention(of: words, to: shown),
                        remove: schedule.removed[layer])
                }
            })
    }

    public func count(of n: Int, inLayer layer: Int) -> Int? { schedule.left(of: n, inLayer: layer) }

    /// The products of the keys of the picture with its queries and with those of the question; Σ R R; and the mixtures.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        let n = shape.visual
        let removed = n - schedule.left(of: n, inLayer: layer)
        guard removed > 0 else { return Cost() }
        return .product(n + shape.question, shape.queryWidth, n)
            + .product(removed, shape.question, n - removed)
            + FiCoCo.mixtures(of: removed, visual: n, epsilon: method.epsilon, shape)
    }
}

extension FiCoCo {
    /// What goes into what remains. As many are correlated with a token as lie above a quantile of those that are left: one or
    /// two with the ε that is published.
    fileprivate static func mixtures(of removed: Int, visual: Int, epsilon: Double, _ shape: LayerShape) -> Cost {
        let left = visual - removed
        let correlated = left - Int((epsilon * Double(left - 1)).rounded(.up))
        return TokenReduction.cost(
            merges: removed * correlated, of: removed, into: shape.count - removed, width: shape.width)
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

/// What queries [H, R, d] pay to keys [G, N, d], the mean over the heads of a softmax over the keys: [R, N].
private func meanAttention(of queries: Tensor, to keys: Tensor) -> Tensor {
    let (heads, rows) = (queries.shape[0], queries.shape[1])
    let share = heads / keys.shape[0]
    guard rows > 0 else { return .zeros([0, keys.shape[1]], dtype: queries.dtype) }
    let scale = 1 / Double(queries.shape[2]).squareRoot()
    let (asking, shown) = (queries.members, keys.members.map { $0.transposed(0, 1) })
    // Each thread has rows of its own, few enough that the weights of a head stay in its cache.
    let count = min(rows, 2 * ((rows + 255) / 256))
    var parts = [Tensor?](repeating: nil, count: count)
    parts.withUnsafeMutableBufferPointer { parts in
        let places = parts.baseAddress!
        parallelFor(count) { part in
            let own = rows * part / count..<rows * (part + 1) / count
            var sum: Tensor?
            for head in 0..<heads {
                // R · d numbers are scaled instead of R · N.
                let scaled = asking[head].sliced(axis: 0, own) * scale
                let weights = matmul(scaled, shown[head / share]).softmax(axis: 1)
                sum = sum.map { $0 + weights } ?? weights
            }
            places[part] = sum! * (1 / Double(heads))
        }
    }
    return concatenated(parts.map { $0! }, axis: 0)
}
