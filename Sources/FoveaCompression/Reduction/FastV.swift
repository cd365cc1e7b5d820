import FoveaNN
import FoveaTensor

/// FastV: between two layers of the decoder, the visual tokens that the last query attends to.
///
/// (Chen et al., "An image is worth 1/2 tokens after layer 2", 2024, §4; pkunlp-icler/FastV. The paper averages the
/// attention of all queries; its code, and this, takes the last one's.)
///
///     φ_j = mean over heads of A[last, j];     kept = the `keep` largest, in their order
public struct FastV: Module {
    /// How many visual tokens remain.
    public let keep: Int
    /// In a decoder, the first layer that sees fewer.
    public let layer: Int

    /// - Parameters:
    ///   - keep: how many visual tokens remain.
    ///   - layer: in a decoder, the first layer that sees fewer, from 1 on.
    public init(keep: Int, layer: Int = 2) {
        guard keep >= 1, layer >= 1 else {
            trap("FastV", "a budget and a layer from 1 on are needed, not \(keep) and \(layer)")
        }
        self.keep = keep
        self.layer = layer
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample's attention of the last query to the visual tokens, [H, N] → those that remain, ascending.
    public func kept(attention: Tensor) -> [Int] {
        Ranking.top(withoutGradient { attention.mean(axes: [0]) }.doubles, keep)
    }
}

extension FastV: AttentionCut {
    public func rows(of tokens: LayerTokens) -> [[Int]] {
        tokens.real.map { real in real.lastIndex(of: true).map { [$0] } ?? [] }
    }

    public func reduction(_ x: Tensor, attention: Tensor, isMarked: [Bool]) -> TokenReduction {
        TokenReduction(keeping: kept(attention: attention.squeezed(1)))
    }

    public func count(of n: Int) -> Int? { min(keep, n) }

    public func rows(of m: Int) -> Int { 1 }
}

extension FastV {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "fastv", "keeps the visual tokens that the last query attends to",
        forms: [
            PublishedForm(
                WeightLayout<FastV>("reference", []), keys: [.keep()],
                inputs: [.init("x", "[B, N, C]"), .init("last_row_attention", "[B, H, N]")],
                outputs: [.init("kept", "[B, K]", .indices), .init("tokens", "[B, K, C]")], sample: ["keep": 3],
                sampleInputs: { ["x": $0.uniform([2, 7, 3]), "last_row_attention": $0.uniform([2, 2, 7], 0...0.3)] },
                make: { FastV(keep: $0.int("keep")) },
                run: { method, inputs in
                    let reductions = inputs["last_row_attention"].members.map {
                        TokenReduction(keeping: method.kept(attention: $0))
                    }
                    return ["kept": reductions.keptIndices, "tokens": inputs["x"].reduced(by: reductions)]
                })
        ])
}
