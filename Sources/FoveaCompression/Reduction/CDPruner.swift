import FoveaNN
import FoveaTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// CDPruner: a subset that is diverse and relevant, as the most probable one of a determinantal point process.
///
/// (Zhang et al., "Beyond attention or similarity: maximizing conditional diversity for token pruning in MLLMs", 2025,
/// §3; `llava/model/llava_arch.py` of Theia-4869/CDPruner. The greedy search is that of Chen et al., "Fast greedy MAP
/// inference for determinantal point process", 2018.)
///
///     K_ij = r_i cos(x_i, x_j) r_j          r: relevance, (r − min + 10⁻⁶) / (max − min) of the sample
///
/// and then, keep times, the token whose joining makes log det K of the chosen ones largest. The published code scales
/// over the whole batch; here each sample is scaled by itself.
public struct CDPruner: TokenReducer {
    /// How many tokens remain.
    public let keep: Int
    /// How much relevance counts against diversity, below 1; nil for r as it is.
    public let theta: Double?

    public init(keep: Int, theta: Double? = nil) {
        guard keep >= 1, theta ?? 0 < 1 else { trap("CDPruner", "a budget from 1 on, and θ below 1, are needed") }
        self.keep = keep
        self.theta = theta
    }

    /// One sample → the tokens that remain, ascending.
    ///
    /// - Parameters:
    ///   - features: [N, C].
    ///   - relevance: [N], larger for more; nil where all are alike.
    public func kept(_ features: Tensor, relevance: Tensor?) -> [Int] {
        let n = features.shape[0]
        guard keep < n else { return Array(0..<n) }
        let r = scaled(relevance?.doubles ?? [Double](repeating: 1, count: n))
        var similarity = features.pairwiseCosines(1e-6)
        // Where all are as relevant the first token is picked first, and not the one that rounding favours.
        for token in 0..<n where abs(similarity[token * n + token] - 1) < 1e-4 { similarity[token * n + token] = 1 }
        var gains = (0..<n).map { r[$0] * similarity[$0 * n + $0] * r[$0] }
        var isPicked = [Bool](repeating: false, count: n)
        // A row for each picked token: what it takes from the gains of the others.
        var rows = [Double](repeating: 0, count: keep * n)
        var line = [Double](repeating: 0, count: n)
        MatrixProduct.count(multiplyAdds: search(of: n))
        for pick in 0..<keep {
            var best = -1
            var highest = -Double.infinity
            for token in 0..<n where !isPicked[token] {
                let gain = gains[token].isNaN ? -Double.infinity : gains[token]
                if best < 0 || gain > highest { (best, highest) = (token, gain) }
            }
            isPicked[best] = true
            rows.withUnsafeMutableBufferPointer { rows in
                line.withUnsafeMutableBufferPointer { line in
                    for token in 0..<n { line[token] = r[best] * similarity[best * n + token] * r[token] }
                    for earlier in 0..<pick {
                        let row = rows.baseAddress! + earlier * n
                        let share = row[best]
                        for token in 0..<n { line[token] -= share * row[token] }
                    }
                    let scale = 1 / max(highest, 1e-12).squareRoot()
                    let row = rows.baseAddress! + pick * n
                    for token in 0..<n { row[token] = line[token] * scale }
                    for token in 0..<n { gains[token] -= row[token] * row[token] }
                }
            }
        }
        return (0..<n).filter { isPicked[$0] }
    }

    private func scaled(_ relevance: [Double]) -> [Double] {
        let (low, high) = (relevance.min() ?? 0, relevance.max() ?? 0)
        let r = relevance.map { high > low ? ($0 - low + 1e-6) / (high - low) : 1 }
        return theta.map { theta in r.map { exp(theta / (2 * (1 - theta)) * $0) } } ?? r
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        TokenReduction(keeping: kept(sample.features, relevance: sample.relevance))
    }

    public func count(of n: Int) -> Int? { min(keep, n) }

    /// Half of the products of all tokens with all, and the search.
    public func cost(_ input: TokenShape) -> Cost {
        guard keep < input.count else { return Cost() }
        return .cosines(input, keep) + Cost(multiplyAdds: search(of: input.count))
    }

    /// The multiply-adds by which each token that is picked of n is taken out of all that come later.
    private func search(of n: Int) -> Int { keep * (keep - 1) / 2 * n }
}

extension CDPruner {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "cdpruner", "keeps tokens that are relevant and differ from each other",
        forms: [
            PublishedForm(
                WeightLayout<CDPruner>("reference", []),
                keys: [.keep(), .number("theta", "weight of relevance, below 1, or null", default: .null)],
                inputs: [.init("x", "[B, N, C]"), .init("relevance", "[B, N]")],
                outputs: [.init("kept", "[B, K]", .indices)], sample: ["keep": 4],
                sampleInputs: { ["x": $0.uniform([2, 9, 4]), "relevance": $0.uniform([2, 9])] },
                make: {
                    let theta = $0.optionalDouble("theta")
                    guard theta ?? 0 < 1 else { throw $0.error("\"theta\" must be below 1") }
                    return CDPruner(keep: $0.int("keep"), theta: theta)
                },
                run: { method, inputs in
                    let x = try inputs.filled("x")
                    return [
                        "kept": .paddedIndices(
                            zip(x.members, inputs["relevance"].members).map { method.kept($0, relevance: $1) })
                    ]
                })
        ])
}
