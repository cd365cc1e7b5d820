import FoveaNN
import FoveaTensor

/// PyramidDrop: at some layers of the decoder, a share of the first number of visual tokens remains.
///
/// (Xing et al., "PyramidDrop: accelerating your large vision-language models via pyramid visual redundancy reduction",
/// 2024, §3; `llava/model/modeling_llama_pdrop.py` of Cooperx521/PyramidDrop.)
///
/// The last query of the text ranks them by the next layer's queries and keys, a softmax over the visual keys, mean over
/// the heads; the largest ⌊ratio · N⌋ remain, N the number before the first cut. Published are ratios of 0.5, 0.25 and
/// 0.125 in front of layers 8, 16 and 24.
public struct PyramidDrop: Module {
    /// The share that remains.
    public let ratio: Double
    /// In a decoder, the first layer that sees fewer; its own queries and keys rank them.
    public let layer: Int
    /// In a decoder, how many visual tokens a picture had before the first cut; nil for as many as there are.
    public let original: Int?
    /// Instead of the share, how many tokens remain.
    public let keep: Int?

    /// - Parameters:
    ///   - ratio: the share that remains.
    ///   - layer: in a decoder, the first layer that sees fewer; published are 8, 16 and 24.
    ///   - original: in a decoder, how many visual tokens a picture had before the first cut.
    public init(ratio: Double, layer: Int = 8, original: Int? = nil) {
        guard (0...1).contains(ratio), layer >= 0 else {
            trap("PyramidDrop", "a share from 0 to 1 and a layer are needed, not \(ratio) and \(layer)")
        }
        self.ratio = ratio
        self.layer = layer
        self.original = original
        keep = nil
    }

    /// An exact budget instead of a share.
    ///
    /// - Parameters:
    ///   - keep: how many tokens of a picture remain.
    ///   - layer: in a decoder, the first layer that sees fewer.
    public init(keep: Int, layer: Int) {
        guard keep >= 1, layer >= 0 else {
            trap("PyramidDrop", "a budget from 1 on and a layer are needed, not \(keep) and \(layer)")
        }
        self.keep = keep
        self.layer = layer
        ratio = 1
        original = nil
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample → the tokens that remain, ascending.
    ///
    /// - Parameters:
    ///   - logits: of the query to the visual keys before softmax, [H, N].
    ///   - original: how many visual tokens there were before the first cut; as many as now unless given.
    public func kept(logits: Tensor, original: Int? = nil) -> [Int] {
        let attention = withoutGradient { logits.detached.softmax(axis: 1).mean(axes: [0]) }
        return Ranking.top(attention.doubles, count(of: logits.shape[1], original: original))
    }

    private func count(of n: Int, original: Int?) -> Int {
        min(max(keep ?? Int((ratio * Double(original ?? n)).rounded(.down)), 1), n)
    }
}

extension PyramidDrop: AttentionCut {
    public func seat(inLayer layer: Int) -> LayerSeat? { layer == self.layer ? .beforeAttention : nil }

    public func rows(of tokens: LayerTokens) -> [[Int]] {
        tokens.real.map { real in real.lastIndex(of: true).map { [$0] } ?? [] }
    }

    /// By the attention among the visual tokens alone, head by head, as published.
    public func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] {
        tokens.tap(rows(of: tokens), heads: .each)
    }

    public func count(of n: Int) -> Int? { count(of: n, original: original) }

    public func rows(of m: Int) -> Int { 1 }

    /// The keys of all tokens, for once more than the layer itself, and one row's query and its attention.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        guard seat(inLayer: layer) != nil else { return Cost() }
        return .product(shape.count, shape.width, shape.keyWidth) + .product(1, shape.width, shape.queryWidth)
            + 3 * .product(1, shape.queryWidth, shape.count)
    }

    public func reduction(_ x: Tensor, attention: Tensor, isMarked: [Bool]) -> TokenReduction {
        // What is left of a softmax over all tokens is one over these, once it adds up to 1 again.
        let own = withoutGradient { () -> Tensor in
            let own = attention.squeezed(1)
            return (own / maximum(own.sum(axes: [1], keepingAxes: true), .full([1], 1e-30, dtype: own.dtype)))
                .mean(axes: [0])
        }
        return TokenReduction(keeping: Ranking.top(own.doubles, count(of: x.shape[0], original: original)))
    }
}

extension PyramidDrop {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "pyramiddrop", "keeps a share of the visual tokens at a layer of the decoder",
        forms: [
            PublishedForm(
                WeightLayout<PyramidDrop>("reference", []), keys: [.share("ratio", "the share that remains")],
                inputs: [.init("x", "[B, N, C]"), .init("query_row_logits", "[B, H, N]")],
                outputs: [.init("kept", "[B, K]", .indices)], sample: ["ratio": 0.5],
                sampleInputs: { ["x": $0.uniform([2, 7, 3]), "query_row_logits": $0.uniform([2, 2, 7])] },
                make: { PyramidDrop(ratio: $0.double("ratio")) },
                run: { method, inputs in
                    ["kept": .paddedIndices(inputs["query_row_logits"].members.map { method.kept(logits: $0) })]
                })
        ])
}
