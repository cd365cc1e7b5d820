import FoveaNN
import FoveaTensor

/// DivPrune: the subset whose closest pair is as far apart as can be.
///
/// (Alvar et al., "DivPrune: diversity-based visual token pruning for large multimodal models", 2025, §3;
/// `LLaVA/llava/model/llava_arch.py` of vbdi/divprune.)
///
/// With D = 1 − cos(x_i, x_j), greedily: first the token whose nearest other one is farthest, then again and again the
/// one farthest from all that are picked. Neither attention nor text plays a part. O(N² C) for the distances and O(N ·
/// keep) for the choice.
public struct DivPrune: TokenReducer {
    /// How many tokens remain.
    public let keep: Int

    public init(keep: Int) {
        guard keep >= 1 else { trap("DivPrune", "a budget from 1 on is needed, not \(keep)") }
        self.keep = keep
    }

    /// One sample's features [N, C] → the tokens that remain, ascending.
    public func kept(_ features: Tensor) -> [Int] {
        let n = features.shape[0]
        guard keep < n else { return Array(0..<n) }
        let similarity = features.pairwiseCosines(1e-6)
        return similarity.withUnsafeBufferPointer { similarity in
            // How near each token is to the nearest other one, or picked one; the largest cosine is the least distance.
            var nearest = (0..<n).map { row in
                var largest = -Double.infinity
                for column in 0..<n where column != row { largest = max(largest, similarity[row * n + column]) }
                return largest
            }
            var isPicked = [Bool](repeating: false, count: n)
            for pick in 0..<keep {
                var (best, least) = (-1, Double.infinity)
                for token in 0..<n where !isPicked[token] {
                    // NaN is nearer than all.
                    let cosine = nearest[token].isNaN ? .infinity : nearest[token]
                    if best < 0 || cosine < least { (best, least) = (token, cosine) }
                }
                isPicked[best] = true
                for token in 0..<n {
                    let cosine = similarity[best * n + token]
                    nearest[token] = pick == 0 ? cosine : max(nearest[token], cosine)
                }
            }
            return (0..<n).filter { isPicked[$0] }
        }
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        TokenReduction(keeping: kept(sample.features))
    }

    public func count(of n: Int) -> Int? { min(keep, n) }

    /// Half of the products of all tokens with all.
    public func cost(_ input: TokenShape) -> Cost { .cosines(input, keep) }
}

extension Cost {
    /// What `pairwiseCosines` takes, unless everything is kept.
    static func cosines(_ input: TokenShape, _ keep: Int) -> Cost {
        guard keep < input.count else { return Cost() }
        return stride(from: 0, to: input.count, by: Tensor.cosineBlock).reduce(Cost()) { cost, start in
            cost
                + .product(min(Tensor.cosineBlock, input.count - start), input.width, input.count - start)
        }
    }
}

extension DivPrune {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "divprune", "keeps the tokens that differ most from each other",
        forms: [
            PublishedForm(
                WeightLayout<DivPrune>("reference", []), keys: [.keep()], inputs: [.init("x", "[B, N, C]")],
                outputs: [.init("kept", "[B, K]", .indices)], sample: ["keep": 4],
                sampleInputs: { ["x": $0.uniform([2, 9, 4])] }, make: { DivPrune(keep: $0.int("keep")) },
                run: { method, inputs in
                    ["kept": .paddedIndices(try inputs.filled("x").members.map(method.kept))]
                })
        ])
}
