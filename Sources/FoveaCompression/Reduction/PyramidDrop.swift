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

    public init(ratio: Double) {
        guard (0...1).contains(ratio) else { trap("PyramidDrop", "a share from 0 to 1 is needed, not \(ratio)") }
        self.ratio = ratio
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample → the tokens that remain, ascending.
    ///
    /// - Parameters:
    ///   - logits: of the query to the visual keys before softmax, [H, N].
    ///   - original: how many visual tokens there were before the first cut; as many as now unless given.
    public func kept(logits: Tensor, original: Int? = nil) -> [Int] {
        let n = logits.shape[1]
        let k = min(max(Int((ratio * Double(original ?? n)).rounded(.down)), 1), n)
        return Ranking.top(withoutGradient { logits.softmax(axis: 1).mean(axes: [0]) }.doubles, k)
    }
}

extension PyramidDrop {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "pyramiddrop", "keeps a share of the visual tokens at a layer of the decoder",
        forms: [
            PublishedForm(
                WeightLayout<PyramidDrop>("reference", []), keys: [.number("ratio", "the share that remains")],
                inputs: [.init("x", "[B, N, C]"), .init("query_row_logits", "[B, H, N]")],
                outputs: [.init("kept", "[B, K]", .indices)], sample: ["ratio": 0.5],
                sampleInputs: { ["x": $0.uniform([2, 7, 3]), "query_row_logits": $0.uniform([2, 2, 7])] },
                make: { PyramidDrop(ratio: try $0.share("ratio")) },
                run: { method, inputs in
                    ["kept": .paddedIndices(inputs["query_row_logits"].members.map { method.kept(logits: $0) })]
                })
        ])
}
