/// What attention hands out of its weights, beside its output: the scores that token reducers select by.
///
/// With A [..., H, N, M] the weights after softmax and before dropout:
///
/// - the class token's row (VisionZip, PruMerge, MustDrop), or the last query's (FastV): `rows([0])`, `rows([N - 1])`;
/// - the mean over the text's rows (SparseVLM, FocusLLaVA): `columnMean(of: text)`, or `columns(weightedBy:)` where each
///   sample has its own;
/// - the mean over all rows (FiCoCo): `columnMean(of: 0..<N)`;
/// - sums and maxima over the text's rows of the mean over the heads (MustDrop): `rows(text)`.
public struct AttentionTap: Sendable {
    /// What becomes of the axis of heads.
    public enum Heads: Sendable {
        /// It stays.
        case each
        /// The plain mean over it.
        case mean
    }

    private enum Kind {
        case rows(Tensor)
        case columns(Tensor)
        case columnMean(Range<Int>)
    }

    private let kind: Kind
    /// What becomes of the axis of heads.
    package let heads: Heads

    /// The query rows that it takes one by one, int64 [B, R]; nil where it sums over rows.
    ///
    /// - Parameter batch: B.
    package func singleRows(batch: Int) -> Tensor? {
        guard case .rows(let indices) = kind else { return nil }
        return indices.expanded(to: [batch, indices.shape[indices.rank - 1]]).contiguous()
    }

    /// The weights of single query rows: [..., R, M], with `.each` [..., H, R, M]. Computed again after the forward pass,
    /// for R rows out of N that share of its time.
    ///
    /// - Parameters:
    ///   - indices: int64, [R], or [..., R] where each sample has its own; each in 0 ..< N.
    ///   - heads: what becomes of the axis of heads.
    public static func rows(_ indices: Tensor, heads: Heads = .mean) -> AttentionTap {
        AttentionTap(kind: .rows(indices), heads: heads)
    }

    /// The weights of the same query rows in every sample: [..., R, M], with `.each` [..., H, R, M].
    ///
    /// - Parameters:
    ///   - indices: each in 0 ..< N.
    ///   - heads: what becomes of the axis of heads.
    public static func rows(_ indices: [Int], heads: Heads = .mean) -> AttentionTap {
        rows(Tensor(indices.map(Int64.init), shape: [indices.count]), heads: heads)
    }

    /// Σ_n weights[..., n] · A[..., n, :]: [..., M], with `.each` [..., H, M].
    ///
    /// - Parameters:
    ///   - weights: [N], or [..., N] where each sample has its own; of the query's type or bool, which counts as 1 and 0.
    ///   - heads: what becomes of the axis of heads.
    public static func columns(weightedBy weights: Tensor, heads: Heads = .mean) -> AttentionTap {
        AttentionTap(kind: .columns(weights), heads: heads)
    }

    /// The mean of A over some query rows: [..., M], with `.each` [..., H, M].
    ///
    /// - Parameters:
    ///   - rows: not empty, within 0 ..< N.
    ///   - heads: what becomes of the axis of heads.
    public static func columnMean(of rows: Range<Int>, heads: Heads = .mean) -> AttentionTap {
        AttentionTap(kind: .columnMean(rows), heads: heads)
    }

    // MARK: Taking them

    /// Runs the forward pass of `call` and takes the taps.
    ///
    /// - Parameters:
    ///   - taps: what to take.
    ///   - call: the call.
    ///   - query: [..., H, N, d], which says what the leading axes are.
    /// - Returns: a tensor for each tap.
    static func run(_ taps: [AttentionTap], _ call: AttentionCall, _ query: Tensor) -> [Tensor] {
        withoutGradient {
            let leading = Array(query.shape.dropLast(3))
            let apart = query.rank > 2 ? [call.heads] : []
            let weights = taps.map { $0.rowWeights(call, leading, query) }
            var sums = call.run(tapping: weights.compactMap { $0 })[...]
            return zip(taps, weights).map { tap, weights in
                guard case .rows(let indices) = tap.kind else {
                    let sum = sums.removeFirst()
                    return tap.heads == .each
                        ? sum.reshaped(to: leading + apart + [call.columns])
                        : sum.mean(axes: [1]).reshaped(to: leading + [call.columns])
                }
                let rows = tap.checked(indices, call, leading, query)
                let y = call.attention(ofRows: rows, keepsHeads: tap.heads == .each)
                return y.reshaped(
                    to: leading + (tap.heads == .each ? apart : []) + [rows.shape[rows.rank - 1], call.columns])
            }
        }
    }

    /// The weight of each query row, [N] or [B, N]; nil where the tap takes single rows.
    private func rowWeights(_ call: AttentionCall, _ leading: [Int], _ query: Tensor) -> Tensor? {
        switch kind {
        case .rows: return nil
        case .columnMean(let rows):
            guard !rows.isEmpty, rows.lowerBound >= 0, rows.upperBound <= call.rows else {
                trap("attention", "a tap's rows \(rows) must be some of the \(call.rows) query rows", query)
            }
            let weights = (0..<call.rows).map { rows.contains($0) ? 1 / Double(rows.count) : 0 }
            return Tensor(weights, shape: [call.rows]).cast(to: query.dtype)
        case .columns(let weights):
            guard weights.dtype == query.dtype || weights.dtype == .bool,
                weights.shape == [call.rows] || weights.shape == leading + [call.rows]
            else {
                trap(
                    "attention", "a tap's weights must be [N] or [..., N], bool or of the query's type", weights, query)
            }
            return perSample(weights.cast(to: query.dtype), call)
        }
    }

    private func checked(_ indices: Tensor, _ call: AttentionCall, _ leading: [Int], _ query: Tensor) -> Tensor {
        guard indices.dtype == .int64, indices.rank == 1 || Array(indices.shape.dropLast()) == leading else {
            trap("attention", "a tap's rows must be int64 [R] or [..., R]", indices, query)
        }
        let rows: [Int64] = indices.scalars()
        if let stray = rows.first(where: { !(0..<Int64(call.rows)).contains($0) }) {
            trap("attention", "a tap's row \(stray) is outside the \(call.rows) query rows", indices, query)
        }
        return perSample(indices, call)
    }

    /// [C] as it is, [..., C] as [B, C].
    private func perSample(_ x: Tensor, _ call: AttentionCall) -> Tensor {
        x.rank == 1 ? x.contiguous() : x.contiguous().reshaped(to: [call.batch, x.shape[x.rank - 1]])
    }
}
