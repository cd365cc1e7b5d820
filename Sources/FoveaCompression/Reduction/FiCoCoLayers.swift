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
        let keys = withoutGradient { attention.keys.detached.mean(axes: [1]) }.members
        let logits = method.mode == .logits ? attention.meanLogits : []
        let positions = tokens.positions.doubles
        let real = tokens.real
        return tokens.reduced(
            pictures: tokens.visualByPicture.enumerated().map { sample, pictures in
                let isVisual = Set(pictures.flatMap(\.places))
                let front = (0..<tokens.count).filter { real[sample][$0] && !isVisual.contains($0) }
                return pictures.map { picture in
                    let own = Tensor.indices(picture.places)
                    let cells = picture.places.map { Int(positions[sample * tokens.count + $0]) - front.count }
                    let remove = schedule.removed(of: picture.places.count, inLayer: layer)
                    func ofClass(_ row: (Int) -> Tensor) -> [Double] {
                        (front.first.map(row) ?? ImportanceSource.proxy(keys[sample].selecting(axis: 0, own))).doubles
                    }
                    guard method.mode == .logits else {
                        let columns = attention.taps[0][sample].detached.selecting(axis: 1, own)
                        return method.reduction(
                            patches: columns.selecting(axis: 0, own),
                            ofClass: ofClass { columns.sliced(axis: 0, $0..<$0 + 1) }, positions: cells, remove: remove)
                    }
                    let patches = logits[sample].taking(rows: picture.places, columns: picture.places)
                    return method.reduction(
                        received: patches.rowMeans,
                        ofClass: ofClass { logits[sample].taking(rows: [$0], columns: picture.places).scores },
                        positions: cells, remove: remove
                    ) { patches.taking(rows: $0, columns: $1).scores }
                }
            })
    }

    public func count(of n: Int, inLayer layer: Int) -> Int? { schedule.left(of: n, inLayer: layer) }

    /// The products of all queries with all keys once more, or of logits those that are asked for; and the mixtures.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        let n = shape.visual
        let removed = schedule.removed(of: n, inLayer: layer)
        guard removed > 0 else { return Cost() }
        let scores: Cost =
            switch method.mode {
            case .probabilities: .product(shape.count, shape.queryWidth, shape.count)
            case .logits:
                .product(n, shape.keyWidth, 1) + .product(removed, shape.keyWidth, n - removed)
                    + .product(shape.count > n ? 1 : 0, shape.keyWidth, n)
            }
        return scores + FiCoCo.mixtures(of: removed, visual: n, epsilon: method.epsilon, shape)
    }
}

/// FiCoCo-L in a decoder.
///
/// What attention computed is causal and over all tokens; B and R are neither. They are computed again from its queries
/// and keys: all of B, or with `.logits` the rows of the removed tokens alone, since the mean of a row of products is the product
/// with the mean key.
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
        let question = tokens.question
        let reduction =
            method.mode == .probabilities
            ? byProbabilities(attention, question, inLayer: layer) : byLogits(attention, question, inLayer: layer)
        return tokens.reduced(
            pictures: tokens.visualByPicture.enumerated().map { sample, pictures in
                pictures.map { reduction(sample, $0.places) }
            })
    }

    private func byProbabilities(
        _ attention: LayerAttention, _ question: [[Int]], inLayer layer: Int
    ) -> (_ sample: Int, _ places: [Int]) -> TokenReduction {
        let (queries, keys) = (attention.neededQueries.members, attention.keys.detached.members)
        return { sample, places in
            let shown = keys[sample].taking(axis: 1, places)
            let asking = queries[sample].taking(axis: 1, places)
            let words = queries[sample].taking(axis: 1, question[sample])
            return method.reduction(
                b: meanAttention(of: asking, to: shown), r: meanAttention(of: words, to: shown),
                remove: schedule.removed(of: places.count, inLayer: layer))
        }
    }

    private func byLogits(
        _ attention: LayerAttention, _ question: [[Int]], inLayer layer: Int
    ) -> (_ sample: Int, _ places: [Int]) -> TokenReduction {
        let logits = attention.meanLogits
        return { sample, places in
            let visual = logits[sample].taking(rows: places, columns: places)
            let words = logits[sample].taking(rows: question[sample], columns: places)
            return method.reduction(
                received: visual.rowMeans, asked: question[sample].isEmpty ? nil : words.columnMeans,
                remove: schedule.removed(of: places.count, inLayer: layer)
            ) { correlation(visual, words, $0, $1) }
        }
    }

    /// C_ST of logits, where `words` are the question's of the same keys:
    ///
    ///     γ q_i · k_j + (1 − γ) / M Σ_m (q_m · k_i) (q_m · k_j)  =  (γ q_i + (1 − γ) / M Σ_m (q_m · k_i) q_m) · k_j
    ///
    /// so that the question's scores are needed for the removed tokens alone.
    private func correlation(
        _ visual: MeanLogits, _ words: MeanLogits, _ sources: [Int], _ targets: [Int]
    ) -> Tensor {
        var rows = visual
        rows.queries = visual.queries.taking(axis: 0, sources)
        let m = words.queries.shape[0]
        if m > 0 {
            let removed = words.taking(columns: sources).scores
            rows.queries =
                rows.queries * method.gamma
                + matmul(removed.transposed(0, 1), words.queries) * ((1 - method.gamma) / Double(m))
        }
        // All keys are read where they lie; a few of the scores are then left out.
        return rows.scores.taking(axis: 1, targets)
    }

    public func count(of n: Int, inLayer layer: Int) -> Int? { schedule.left(of: n, inLayer: layer) }

    /// The products of the keys of the picture with its queries and with those of the question, and Σ R R; or of logits what
    /// `correlation` and two means take; and the mixtures.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        let n = shape.visual
        let removed = schedule.removed(of: n, inLayer: layer)
        guard removed > 0 else { return Cost() }
        let scores: Cost =
            switch method.mode {
            case .probabilities:
                .product(n + shape.question, shape.queryWidth, n) + .product(removed, shape.question, n - removed)
            case .logits:
                .product(removed + (shape.question > 0 ? 2 : 1), shape.keyWidth, n)
                    + .product(2 * removed, shape.question, shape.keyWidth)
            }
        return scores + FiCoCo.mixtures(of: removed, visual: n, epsilon: method.epsilon, shape)
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

extension LayerAttention {
    fileprivate var neededQueries: Tensor {
        guard let queries else { trap("LayerAttention", "the queries of the layer are needed", keys) }
        return queries.detached
    }

    /// Of each sample the scores of all tokens before softmax, the mean over the heads.
    fileprivate var meanLogits: [MeanLogits] {
        let (queries, keys) = (neededQueries, keys.detached)
        let (heads, groups) = (queries.shape[1], keys.shape[1])
        let scale = 1 / (Double(heads) * Double(queries.shape[3]).squareRoot())
        return zip(queries.members, keys.members).map { queries, keys in
            // Products with the same keys add up to that of the heads' sum, and those of all groups to that of their
            // features side by side.
            let shared =
                heads == groups
                ? queries
                : queries.reshaped(to: [groups, heads / groups] + queries.shape.dropFirst()).sum(axes: [1])
            return MeanLogits(
                queries: shared.transposed(0, 1).flattened(from: 1), keys: keys.transposed(0, 1).flattened(from: 1),
                scale: scale)
        }
    }
}

/// Scores before softmax, the mean over the heads: products of rows, of which only those are computed that are asked for.
private struct MeanLogits {
    /// [R, W].
    var queries: Tensor
    /// [C, W].
    var keys: Tensor
    let scale: Double

    /// Some rows and columns; all where none are named.
    func taking(rows: [Int]? = nil, columns: [Int]? = nil) -> MeanLogits {
        MeanLogits(
            queries: rows.map { queries.taking(axis: 0, $0) } ?? queries,
            keys: columns.map { keys.taking(axis: 0, $0) } ?? keys, scale: scale)
    }

    /// [R, C].
    var scores: Tensor { matmul(queries, keys.transposed(0, 1)) * scale }

    /// The mean over the columns of each row, which is the row's product with the mean key.
    var rowMeans: [Double] { (matmul(mean(keys), queries.transposed(0, 1)) * scale).doubles }

    /// The mean over the rows of each column, likewise.
    var columnMeans: [Double] { (matmul(mean(queries), keys.transposed(0, 1)) * scale).doubles }

    private func mean(_ rows: Tensor) -> Tensor { rows.mean(axes: [0], keepingAxes: true) }
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
