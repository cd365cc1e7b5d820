import FoveaNN
import FoveaTensor

// FiCoCo: filter redundant tokens, correlate them with the others, compress them into those.
// (Han et al., "Filter, correlate, compress: training-free token reduction for MLLM acceleration", 2024, version 4,
// §3 and appendix; `llava/model/multimodal_encoder/FiCoCo_V.py` and `language_model/FiCoCo_L.py` of
// kawhiiiileo/FiCoCo. docs/methods/ficoco.md lists where the two differ.)

/// What FiCoCo takes for the attention A. Scores are the default: in a layer they cost less than half of the time, since no row of
/// them needs all keys, and leave more right answers in most of our tables (docs/methods/ficoco.md).
public enum FiCoCoMode: String, Sendable, CaseIterable {
    /// Weights after softmax, as the paper says.
    case probabilities
    /// Scores before softmax and without any mask, as the published code does.
    case logits

    /// The mean over the heads, of logits [H, rows, columns].
    func meanAttention(_ logits: Tensor) -> Tensor {
        (self == .probabilities ? logits.softmax(axis: 2) : logits).mean(axes: [0])
    }

    /// The redundancy of the tokens of A [N, N]: what each receives from the others, or the mean of its own row of logits,
    /// since the rows of a softmax have one mean.
    func received(_ attention: Tensor) -> [Double] {
        withoutGradient { attention.detached.mean(axes: [self == .probabilities ? 0 : 1]) }.doubles
    }
}

/// The steps that FiCoCo-V and FiCoCo-L share once the redundancy s of each token is known.
///
///     S = the n tokens of highest s,  T = the others
///     τ_i = the ε-quantile of C_iT;   i ∈ S is correlated with j ∈ T where C_ij ≥ τ_i
///     α_ij = C_ij / Σ C_ij'  over the correlated j',   or a softmax over them where C are logits
///     x_j ← (x_j + Σ_i α_ij x_i) / (1 + Σ_i α_ij)
enum FiCoCo {
    /// One sample.
    ///
    /// - Parameters:
    ///   - redundancy: s of each token.
    ///   - remove: n, at most all but one.
    ///   - areLogits: whether weights are a softmax.
    ///   - epsilon: ε.
    ///   - correlation: C_ST, [|S|, |T|], for S and T; gradients flow through the mixture.
    static func reduction(
        redundancy: [Double], remove: Int, areLogits: Bool, epsilon: Double,
        correlation: (_ sources: [Int], _ targets: [Int]) -> Tensor
    ) -> TokenReduction {
        let n = redundancy.count
        let removed = min(max(remove, 0), n - 1)
        guard removed > 0 else { return TokenReduction(keeping: Array(0..<n)) }
        let sources = Ranking.top(redundancy, removed)
        var isSource = [Bool](repeating: false, count: n)
        for source in sources { isSource[source] = true }
        let targets = (0..<n).filter { !isSource[$0] }
        let correlation = correlation(sources, targets)
        let values = correlation.doubles
        var merges: [TokenReduction.Merge] = []
        var origins: [Int] = []  // which of the sources each merge is of
        var peaks: [Double] = []
        for (origin, source) in sources.enumerated() {
            let line = values[origin * targets.count..<(origin + 1) * targets.count]
            let threshold = Ranking.quantile(line, epsilon)
            var peak = -Double.infinity
            for (place, value) in line.enumerated() where value >= threshold || targets.count == 1 {
                merges.append(.init(source: source, place: place))
                origins.append(origin)
                peak = max(peak, value)
            }
            peaks.append(peak)
        }
        let dtype = correlation.dtype
        var weights = correlation.flattened()
            .selecting(axis: 0, .indices(zip(origins, merges).map { $0 * targets.count + $1.place }))
        if areLogits {
            // Any shift leaves a softmax as it is; the largest keeps exp in range.
            weights = (weights - Tensor(origins.map { peaks[$0] }, shape: [origins.count]).cast(to: dtype)).exp()
        } else if peaks.contains(0) {
            // Probabilities too small for the type say nothing: what is correlated then counts the same.
            weights = weights + Tensor(origins.map { peaks[$0] == 0 ? 1.0 : 0 }, shape: [origins.count]).cast(to: dtype)
        }
        let rows = Tensor.indices(origins)
        let sums = Tensor.zeros([sources.count], dtype: dtype).addingAt(axis: 0, rows, weights)
        return .means(
            kept: targets, merges: merges, weights: weights / sums.selecting(axis: 0, rows),
            own: .ones([targets.count], dtype: dtype))
    }

    /// x / ‖x‖; zeros as they are.
    static func normalized(_ x: [Double]) -> [Double] {
        let norm = x.reduce(0) { $0 + $1 * $1 }.squareRoot()
        return norm > 0 ? x.map { $0 / norm } : x
    }
}

extension ConfigurationKey {
    static func fiCoCoMode(_ standard: FiCoCoMode) -> ConfigurationKey {
        choice(
            "mode", "what attention is", of: FiCoCoMode.allCases.map(\.rawValue), default: .string(standard.rawValue))
    }
}

extension Configuration {
    var fiCoCoMode: FiCoCoMode { FiCoCoMode(rawValue: string("mode"))! }
}

extension Tensor {
    /// Some rows and columns of a matrix.
    func block(_ rows: [Int], _ columns: [Int]) -> Tensor {
        selecting(axis: 0, .indices(rows)).selecting(axis: 1, .indices(columns))
    }
}
