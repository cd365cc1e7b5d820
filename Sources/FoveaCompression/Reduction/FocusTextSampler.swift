import FoveaNN
import FoveaTensor

/// FocusLLaVA's text-guided sampler: inside the decoder, the visual tokens that the question attends to.
///
/// (After Zhu et al., "FocusLLaVA: a coarse-to-fine approach for efficient and effective visual token compression",
/// 2024. There is no published code; what the paper leaves open is chosen here.)
///
///     I_j = mean over heads and the question's tokens t of A[t, j];    kept = the `keep` largest
///
/// The selection carries no gradient; the kept tokens do. In training a share drawn anew for each step takes the place
/// of the fixed number, so that one model serves several budgets.
public struct FocusTextSampler: Module, AttentionCut {
    /// How many visual tokens remain.
    public let keep: Int
    /// In a decoder, the first layer that sees fewer.
    public let layer: Int
    /// The shares that training draws from, evenly; nil to train with `keep`.
    public let trainingShares: ClosedRange<Double>?
    private var stream = RandomStream()

    /// - Parameters:
    ///   - keep: how many visual tokens remain.
    ///   - layer: in a decoder, the first layer that sees fewer, from 1 on.
    ///   - trainingShares: the shares that training draws from; nil to train with `keep`.
    public init(keep: Int, layer: Int = 1, trainingShares: ClosedRange<Double>? = nil) {
        guard keep >= 1, layer >= 1 else {
            trap("FocusTextSampler", "a budget and a layer from 1 on are needed, not \(keep) and \(layer)")
        }
        self.keep = keep
        self.layer = layer
        self.trainingShares = trainingShares
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) { visitor.randomStream("share", &stream) }

    /// How many of n tokens remain in this call.
    public func count(ofTokens n: Int) -> Int {
        guard let trainingShares, let key = stream.key else { return min(keep, n) }
        let share =
            trainingShares.lowerBound + key.uniform(at: 0) * (trainingShares.upperBound - trainingShares.lowerBound)
        return min(max(Int((share * Double(n)).rounded(.up)), 1), n)
    }

    /// One sample → the tokens that remain, ascending. Without text all remain.
    ///
    /// - Parameters:
    ///   - attention: of the text's queries to the visual tokens, [H, M, N].
    ///   - text: which of the M queries ask.
    public func kept(attention: Tensor, text: [Int]) -> [Int] {
        let n = attention.shape[2]
        guard !text.isEmpty else { return Array(0..<n) }
        let scores = withoutGradient {
            attention.detached.selecting(axis: 1, .indices(text)).mean(axes: [0, 1])
        }.doubles
        return kept(scores: scores)
    }

    /// The tokens of the largest scores, ascending; a score for each visual token.
    package func kept(scores: [Double]) -> [Int] { Ranking.top(scores, count(ofTokens: scores.count)) }

    // The seat in a decoder.

    public func rows(of tokens: LayerTokens) -> [[Int]] { tokens.question }

    public func count(of n: Int) -> Int? { count(ofTokens: n) }

    public func reduction(_ x: Tensor, attention: Tensor, isMarked: [Bool]) -> TokenReduction {
        TokenReduction(keeping: kept(attention: attention, text: Array(0..<attention.shape[1])))
    }

    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "focus-text-sampler", "keeps the visual tokens that the question attends to",
        forms: [
            PublishedForm(
                WeightLayout<FocusTextSampler>("reference", []), keys: [.keep()],
                inputs: [
                    .init("x", "[B, N, C]"), .init("attention", "[B, H, M, N]"), .init("text_mask", "[B, M]", .mask),
                ],
                outputs: [.init("kept", "[B, K]", .indices), .init("tokens", "[B, K, C]")], sample: ["keep": 3],
                sampleInputs: {
                    [
                        "x": $0.uniform([2, 7, 3]), "attention": $0.uniform([2, 2, 4, 7], 0...0.3),
                        "text_mask": Tensor([true, false, true, true, false, true, false, true], shape: [2, 4]),
                    ]
                },
                make: { FocusTextSampler(keep: $0.int("keep")) },
                run: { method, inputs in
                    let reductions = zip(inputs["attention"].members, inputs["text_mask"].memberFlags).map {
                        attention, flags in
                        TokenReduction(
                            keeping: method.kept(attention: attention, text: flags.indices.filter { flags[$0] }))
                    }
                    return ["kept": reductions.keptIndices, "tokens": inputs["x"].reduced(by: reductions)]
                })
        ])
}
