import FoveaNN
import FoveaTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

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
    fileprivate func meanAttention(_ logits: Tensor) -> Tensor {
        (self == .probabilities ? logits.softmax(axis: 2) : logits).mean(axes: [0])
    }

    /// The redundancy of the tokens of A [N, N]: what each receives from the others, or the mean of its own row of logits,
    /// since the rows of a softmax have one mean.
    fileprivate func received(_ attention: Tensor) -> [Double] {
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

/// FiCoCo-V: in a layer of the vision encoder, between attention and MLP.
///
///     s_i = λ v_i / ‖v‖ − (1 − λ) a_i / ‖a‖      v: what a patch receives from the others, a: from the class token
///
/// and in each window of the picture the most redundant patch is more so by the factor c, so that removals spread. With
/// `.probabilities`, as the paper says, v is the column mean of the attention after softmax; with `.logits`, as the code
/// does, the row mean of the logits before it.
public struct FiCoCoV: Module {
    /// What A is.
    public let mode: FiCoCoMode
    /// The raster that positions are cells of.
    public let grid: VisualTokens.Grid
    /// n, how many patches a layer removes.
    public let remove: Int
    /// λ.
    public let lambda: Double
    /// c.
    public let boost: Double
    /// Cells along a window's side.
    public let window: Int
    /// ε.
    public let epsilon: Double

    /// - Parameters:
    ///   - mode: what A is.
    ///   - grid: the raster that positions are cells of.
    ///   - remove: n, how many patches a layer removes.
    ///   - lambda: λ.
    ///   - boost: c.
    ///   - window: cells along a window's side.
    ///   - epsilon: ε.
    public init(
        mode: FiCoCoMode = .logits, grid: VisualTokens.Grid, remove: Int, lambda: Double = 0.35,
        boost: Double = 2,
        window: Int = 2, epsilon: Double = 0.998
    ) {
        guard window >= 1, (0...1).contains(epsilon) else {
            trap("FiCoCoV", "windows from 1 on and ε from 0 to 1 are needed, not \(window) and \(epsilon)")
        }
        self.mode = mode
        self.grid = grid
        self.remove = remove
        self.lambda = lambda
        self.boost = boost
        self.window = window
        self.epsilon = epsilon
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample.
    ///
    /// - Parameters:
    ///   - logits: of the layer's attention before softmax, the class token first, [H, 1 + N, 1 + N].
    ///   - positions: the cell of each patch.
    public func reduction(logits: Tensor, positions: [Int]) -> TokenReduction {
        let n = positions.count
        let a = mode.meanAttention(logits)
        return reduction(
            patches: a.sliced(axis: 0, 1..<1 + n).sliced(axis: 1, 1..<1 + n),
            ofClass: withoutGradient { a.detached.sliced(axis: 0, 0..<1).sliced(axis: 1, 1..<1 + n) }.doubles,
            positions: positions, remove: remove)
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - patches: A among the patches, the mean over the heads, [N, N].
    ///   - ofClass: a, what says how important each patch is: of the class token's row, or the proxy.
    ///   - positions: the cell of each patch.
    ///   - remove: n.
    func reduction(patches: Tensor, ofClass: [Double], positions: [Int], remove: Int) -> TokenReduction {
        reduction(received: mode.received(patches), ofClass: ofClass, positions: positions, remove: remove) {
            patches.block($0, $1)
        }
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - received: v.
    ///   - ofClass: a.
    ///   - positions: the cell of each patch.
    ///   - remove: n.
    ///   - correlation: A_ST for S and T.
    func reduction(
        received: [Double], ofClass: [Double], positions: [Int], remove: Int,
        correlation: (_ sources: [Int], _ targets: [Int]) -> Tensor
    ) -> TokenReduction {
        let (v, c) = (FiCoCo.normalized(received), FiCoCo.normalized(ofClass))
        let redundancy = boosted(positions.indices.map { lambda * v[$0] - (1 - lambda) * c[$0] }, positions)
        return FiCoCo.reduction(
            redundancy: redundancy, remove: remove, areLogits: mode == .logits, epsilon: epsilon,
            correlation: correlation)
    }

    /// The highest score of each window, farther from zero on the redundant side.
    private func boosted(_ scores: [Double], _ positions: [Int]) -> [Double] {
        let across = (grid.columns + window - 1) / window
        var best: [Int: Int] = [:]
        for (token, cell) in positions.enumerated() {
            let place = cell / grid.columns / window * across + cell % grid.columns / window
            if let other = best[place], scores[other] >= scores[token] { continue }
            best[place] = token
        }
        var scores = scores
        for token in best.values { scores[token] = scores[token] > 0 ? scores[token] * boost : scores[token] / boost }
        return scores
    }

    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "ficoco-v", "redundant patches go into those they are correlated with, in the encoder",
        forms: [
            PublishedForm(
                WeightLayout<FiCoCoV>("reference", []),
                keys: [
                    .fiCoCoMode(.probabilities),
                    .grid, .size("remove", "how many patches go", atLeast: 0),
                    .number("lambda", "weight of what a patch receives from the others", default: 0.35),
                    .number("c", "how much more redundant a window's most redundant patch is", default: 2),
                    .size("window", "cells along a window's side", default: 2),
                    .share("epsilon", "quantile from which tokens are correlated", default: 0.998),
                ],
                inputs: [
                    .init("x", "[B, N, D]"), .init("positions", "[B, N]", .indices),
                    .init("logits", "[B, H, 1+N, 1+N]"),
                ],
                outputs: [.init("tokens", "[B, K, D]"), .init("kept", "[B, K]", .indices)],
                sample: ["grid": [2, 4], "remove": 3, "epsilon": 0.7],
                sampleInputs: {
                    let cells = Tensor([Int64](0..<8), shape: [1, 8]).repeated(2, axis: 0)
                    return ["x": $0.uniform([2, 8, 3]), "positions": cells, "logits": $0.uniform([2, 2, 9, 9])]
                },
                make: {
                    FiCoCoV(
                        mode: $0.fiCoCoMode, grid: $0.grid, remove: $0.int("remove"),
                        lambda: $0.double("lambda"), boost: $0.double("c"), window: $0.int("window"),
                        epsilon: $0.double("epsilon"))
                },
                run: { method, inputs in
                    let x = try inputs.filled("x")
                    let reductions = try zip(inputs["logits"].members, inputs["positions"].members).map {
                        logits, positions in
                        let cells: [Int64] = positions.contiguous().scalars()
                        guard let stray = cells.first(where: { !(0..<Int64(method.grid.count)).contains($0) }) else {
                            return method.reduction(logits: logits, positions: cells.map(Int.init))
                        }
                        throw ModuleInputError(
                            "input positions has \(stray), which is no cell of a grid of \(method.grid)")
                    }
                    return ["tokens": x.reduced(by: reductions), "kept": reductions.keptIndices]
                })
        ])
}

/// FiCoCo-L: in a layer of the decoder, visual tokens alone.
///
///     B = softmax of the visual queries over the visual keys, without causal mask;  R = of the text's queries over them
///     s_i  = β mean_j B_ji − (1 − β) mean_k R_ki
///     C_ij = γ B_ij + (1 − γ) / M Σ_k R_ki R_kj
///
/// With `.logits` B and R are the scores before softmax, s_i has the mean of row i of B, and each of its terms is divided by its
/// norm, as in FiCoCo-V. Without text β and γ are 1.
public struct FiCoCoL: Module {
    /// What B and R are.
    public let mode: FiCoCoMode
    /// n, how many tokens a layer removes.
    public let remove: Int
    /// β.
    public let beta: Double
    /// γ.
    public let gamma: Double
    /// ε.
    public let epsilon: Double

    /// - Parameters:
    ///   - mode: what B and R are.
    ///   - remove: n, how many tokens a layer removes.
    ///   - beta: β.
    ///   - gamma: γ.
    ///   - epsilon: ε.
    public init(
        mode: FiCoCoMode = .logits, remove: Int, beta: Double = 0.6, gamma: Double = 0.6, epsilon: Double = 0.998
    ) {
        guard (0...1).contains(epsilon) else { trap("FiCoCoL", "ε from 0 to 1 is needed, not \(epsilon)") }
        self.mode = mode
        self.remove = remove
        self.beta = beta
        self.gamma = gamma
        self.epsilon = epsilon
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample.
    ///
    /// - Parameters:
    ///   - visual: logits of visual queries and keys, [H, N, N].
    ///   - text: logits of the text's queries and the visual keys, [H, M, N].
    public func reduction(visual: Tensor, text: Tensor) -> TokenReduction {
        reduction(b: mode.meanAttention(visual), r: mode.meanAttention(text), remove: remove)
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - b: B, the mean over the heads, [N, N].
    ///   - r: R, likewise, [M, N].
    ///   - remove: n.
    func reduction(b: Tensor, r: Tensor, remove: Int) -> TokenReduction {
        reduction(
            received: mode.received(b),
            asked: r.shape[0] > 0 ? withoutGradient { r.detached.mean(axes: [0]) }.doubles : nil, remove: remove
        ) { sources, targets in
            let own = b.block(sources, targets)
            let m = r.shape[0]
            guard m > 0 else { return own }
            let removed = r.selecting(axis: 1, .indices(sources))
            let left = r.selecting(axis: 1, .indices(targets))
            return own * gamma + matmul(removed.transposed(0, 1), left) * ((1 - gamma) / Double(m))
        }
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - received: mean_j B_ji, or mean_j B_ij of logits.
    ///   - asked: mean_k R_ki; nil without text.
    ///   - remove: n.
    ///   - correlation: C_ST for S and T.
    func reduction(
        received: [Double], asked: [Double]?, remove: Int,
        correlation: (_ sources: [Int], _ targets: [Int]) -> Tensor
    ) -> TokenReduction {
        var redundancy = received
        if var asked {
            if mode == .logits { (redundancy, asked) = (FiCoCo.normalized(redundancy), FiCoCo.normalized(asked)) }
            redundancy = redundancy.indices.map { beta * redundancy[$0] - (1 - beta) * asked[$0] }
        }
        return FiCoCo.reduction(
            redundancy: redundancy, remove: remove, areLogits: mode == .logits, epsilon: epsilon,
            correlation: correlation)
    }

    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "ficoco-l", "redundant visual tokens go into those they are correlated with, in the decoder",
        forms: [
            PublishedForm(
                WeightLayout<FiCoCoL>("reference", []),
                keys: [
                    .fiCoCoMode(.probabilities), .size("remove", "how many tokens go", atLeast: 0),
                    .number("beta", "weight of visual attention in redundancy", default: 0.6),
                    .number("gamma", "weight of visual attention in correlation", default: 0.6),
                    .share("epsilon", "quantile from which tokens are correlated", default: 0.998),
                ],
                inputs: [
                    .init("x", "[B, N, D]"), .init("visual_logits", "[B, H, N, N]"),
                    .init("text_logits", "[B, H, M, N]"),
                ],
                outputs: [.init("tokens", "[B, K, D]"), .init("kept", "[B, K]", .indices)],
                sample: ["remove": 3, "epsilon": 0.7],
                sampleInputs: {
                    [
                        "x": $0.uniform([2, 7, 3]), "visual_logits": $0.uniform([2, 2, 7, 7]),
                        "text_logits": $0.uniform([2, 2, 3, 7]),
                    ]
                },
                make: {
                    FiCoCoL(
                        mode: $0.fiCoCoMode, remove: $0.int("remove"), beta: $0.double("beta"),
                        gamma: $0.double("gamma"), epsilon: $0.double("epsilon"))
                },
                run: { method, inputs in
                    let x = try inputs.filled("x")
                    let reductions = zip(inputs["visual_logits"].members, inputs["text_logits"].members).map {
                        method.reduction(visual: $0, text: $1)
                    }
                    return ["tokens": x.reduced(by: reductions), "kept": reductions.keptIndices]
                })
        ])
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
    fileprivate func block(_ rows: [Int], _ columns: [Int]) -> Tensor {
        selecting(axis: 0, .indices(rows)).selecting(axis: 1, .indices(columns))
    }
}
