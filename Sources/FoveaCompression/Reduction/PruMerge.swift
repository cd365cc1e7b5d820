import FoveaNN
import FoveaTensor

/// LLaVA-PruMerge and PruMerge+: what the class token attends to remains, and takes in its nearest neighbours.
///
/// (Shang et al., "LLaVA-PruMerge: adaptive token reduction for efficient large multimodal models", 2024, §3;
/// `llava/model/multimodal_encoder/clip_encoder.py` of 42Shawn/LLaVA-PruMerge.)
///
/// With a the class token's attention and k the keys:
///
///     kept = the outliers of a, a_j > Q₃ + 1.5 (Q₃ − Q₁)      or a given number of the largest
///     PruMerge+: and every s-th token, s = ⌊⌊N / #kept⌋ / 3⌋
///     y_i = x_i + Σ a_j x_j      over the `neighbours` tokens j of highest cos(k_i, k_j), kept ones among them
///     and one more token, Σ a_j x_j over what was dropped
public struct PruMerge: TokenReducer {
    /// How many neighbours a kept token takes in.
    public let neighbours: Int
    /// Whether an even sample of tokens is kept as well.
    public let isPlus: Bool
    /// How many tokens of the highest attention are kept; nil for the outliers.
    public let keep: Int?
    /// How many tokens come out in all, whatever `keep` and `isPlus` make; nil to leave it to them.
    public let budget: Int?
    public let importance: ImportanceSource?

    /// - Parameters:
    ///   - neighbours: how many neighbours a kept token takes in.
    ///   - isPlus: whether an even sample of tokens is kept as well.
    ///   - keep: how many tokens of the highest attention are kept; nil for the outliers.
    ///   - budget: how many tokens come out in all; nil to leave it to `keep` and `isPlus`.
    ///   - importance: where a compressor's attention comes from.
    public init(
        neighbours: Int = 32, isPlus: Bool = false, keep: Int? = nil, budget: Int? = nil,
        importance: ImportanceSource = .available
    ) {
        guard neighbours >= 0, keep ?? 1 >= 1, budget ?? 1 >= 1 else {
            trap("PruMerge", "\(neighbours) neighbours and budgets from 1 on are needed")
        }
        self.neighbours = neighbours
        self.isPlus = isPlus
        self.keep = keep
        self.budget = budget
        self.importance = importance
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - keys: [N, d].
    ///   - attention: a, [N]; gradients flow through the mixture.
    public func reduction(keys: Tensor, attention: Tensor) -> TokenReduction {
        let n = keys.shape[0]
        let kept = chosen(attention.doubles)
        guard kept.count < n else { return TokenReduction(keeping: Array(0..<n)) }
        let near = min(neighbours, n - 1)
        let similarity = cosines(keys.selecting(axis: 0, .indices(kept)), keys)
        var merges: [TokenReduction.Merge] = []
        for (place, token) in kept.enumerated() {
            // All but itself.
            var line = Array(similarity[place * n..<(place + 1) * n])
            line.remove(at: token)
            let others = Ranking.top(line, near).map { $0 < token ? $0 : $0 + 1 }
            merges += others.map { .init(source: $0, place: place) }
        }
        // A budget of one leaves no room for the rest.
        let appendsRest = budget.map { $0 > kept.count } ?? true
        if appendsRest {
            let isKept = Set(kept)
            merges += (0..<n).filter { !isKept.contains($0) }.map { .init(source: $0, place: kept.count) }
        }
        return TokenReduction(
            kept: kept + (appendsRest ? [nil] : []), merges: merges,
            weights: attention.selecting(axis: 0, .indices(merges.map(\.source))))
    }

    /// The kept tokens, ascending.
    private func chosen(_ scores: [Double]) -> [Int] {
        let n = scores.count
        guard let budget else { return chosen(scores, largest: keep ?? outliers(scores)) }
        guard budget < n else { return Array(0..<n) }
        // One place is the rest's. PruMerge+ fills up with what stands next in the ranking.
        let places = max(1, budget - 1)
        guard isPlus else { return Ranking.top(scores, places) }
        let order = Ranking.order(scores)
        for largest in (1...places).reversed() {
            let kept = chosen(scores, largest: largest)
            guard kept.count <= places else { continue }
            let isKept = Set(kept)
            return (kept + order.filter { !isKept.contains($0) }.prefix(places - kept.count)).sorted()
        }
        return Ranking.top(scores, places)
    }

    private func chosen(_ scores: [Double], largest: Int) -> [Int] {
        let n = scores.count
        let k = min(max(largest, 1), n)
        let kept = Ranking.top(scores, k)
        guard isPlus, k < n else { return kept }
        // The published count ends one before the last token.
        return Set(kept).union(stride(from: 0, to: n - 1, by: max(1, n / k / 3))).sorted()
    }

    private func outliers(_ scores: [Double]) -> Int {
        let numbers = scores.map { $0.isNaN ? -Double.infinity : $0 }
        let (low, high) = (Ranking.quantile(numbers, 0.25), Ranking.quantile(numbers, 0.75))
        return numbers.count { $0 > high + 1.5 * (high - low) }
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        let attention = sample.importance(importance!).mean(axes: [0])
        // Where nothing stands out, as in a picture of one colour, each token counts the same: their sums would be zeros, or noise.
        let isFlat = attention.doubles.allSatisfy { $0 <= 1e-6 }
        let n = sample.count
        return reduction(
            keys: sample.keys,
            attention: isFlat ? .full([n], 1 / Double(n), dtype: attention.dtype) : attention)
    }

    public func count(of n: Int) -> Int? {
        if let budget { return min(budget, n) }
        guard let keep, !isPlus else { return nil }
        return keep < n ? keep + 1 : n
    }

    /// At most: the proxy of importance, the products of the kept keys with all keys, and a mixture of all tokens; where the
    /// picture decides how many are kept, as if all but one were.
    public func cost(_ input: TokenShape) -> Cost {
        guard budget ?? keep.map({ isPlus ? 1 : $0 }) ?? 1 < input.count else { return Cost() }
        let count = count(of: input.count) ?? input.count
        return .product(input.count, input.width, 1) + 2 * .product(count, input.width, input.count)
    }
}

extension PruMerge {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "prumerge", "keeps what the class token attends to, merged with its neighbours",
        forms: [
            PublishedForm(
                WeightLayout<PruMerge>("reference", []),
                keys: [
                    .size("neighbours", "how many neighbours a kept token takes in", default: 32, atLeast: 0),
                    .flag("plus", "whether an even sample of tokens is kept as well", default: false),
                    .size(
                        "keep", "how many tokens are kept besides the one of the rest, or null for the outliers",
                        default: .null),
                    .size("budget", "how many tokens come out in all, or null as the other keys say", default: .null),
                    .importance,
                ],
                inputs: [.init("x", "[B, N, C]"), .init("keys", "[B, N, d]"), .init("cls_attention", "[B, N]")],
                outputs: [.init("tokens", "[B, L, C]"), .init("mask", "[B, L]", .mask)],
                sample: ["neighbours": 2, "keep": 3],
                sampleInputs: {
                    // Keys on a half circle, no two pairs of them equally far apart: a small step changes no neighbour.
                    let angles = Tensor((0..<14).map { 0.08 * Double($0 % 7 * ($0 % 7)) }, shape: [2, 7, 1])
                    return [
                        "x": $0.uniform([2, 7, 3]),
                        "keys": concatenated([angles.cos(), angles.sin()], axis: 2),
                        "cls_attention": $0.uniform([2, 7], 0...0.3),
                    ]
                },
                make: {
                    PruMerge(
                        neighbours: $0.int("neighbours"), isPlus: $0.bool("plus"), keep: $0.optionalInt("keep"),
                        budget: $0.optionalInt("budget"), importance: $0.importance)
                },
                run: { method, inputs in
                    let x = try inputs.filled("x")
                    let reductions = zip(inputs["keys"].members, inputs["cls_attention"].members).map {
                        method.reduction(keys: $0, attention: $1)
                    }
                    return ["tokens": x.reduced(by: reductions), "mask": reductions.mask]
                })
        ])
}
