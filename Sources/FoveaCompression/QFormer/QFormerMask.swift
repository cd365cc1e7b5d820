import FoveaTensor

/// What queries and text see of each other in a Q-Former's self-attention. (Li et al., "BLIP-2", 2023, Fig. 2.)
///
///                         query → query   query → text   text → query   text → text
///     unimodal                 yes             no             no            yes
///     bidirectional            yes             yes            yes           yes
///     multimodalCausal         yes             no             yes           itself and before
public enum QFormerMask: Sendable, CaseIterable {
    /// Image-text contrast: each by itself. Two calls, one with queries and one with text, give the same.
    case unimodal
    /// Image-text matching: everything sees everything.
    case bidirectional
    /// Image-grounded text generation. Text behind the cached queries gives the same.
    case multimodalCausal

    /// The mask for Q queries and L text tokens behind them: bool, [Q+L, Q+L], or [B, 1, Q+L, Q+L] with padding.
    ///
    /// - Parameters:
    ///   - queries: Q.
    ///   - text: L.
    ///   - textMask: bool [B, L], true where there is a text token; everywhere unless given.
    public func callAsFunction(queries: Int, text: Int, textMask: Tensor? = nil) -> Tensor {
        let count = queries + text
        let cells = (0..<count * count).map { sees($0 / count, $0 % count, queries: queries) }
        let mask = Tensor(cells, shape: [count, count])
        guard let textMask else { return mask }
        guard textMask.dtype == .bool, textMask.rank == 2, textMask.shape[1] == text else {
            trap("QFormerMask", "a mask of the text, bool [B, \(text)], is needed", textMask)
        }
        let batch = textMask.shape[0]
        let seen = concatenated(
            [Tensor(Array(repeating: true, count: batch * queries), shape: [batch, queries]), textMask], axis: 1)
        return mask .& seen.unsqueezed(1).unsqueezed(1)
    }

    private func sees(_ row: Int, _ column: Int, queries: Int) -> Bool {
        let (rowIsText, columnIsText) = (row >= queries, column >= queries)
        return switch self {
        case .unimodal: rowIsText == columnIsText
        case .bidirectional: true
        case .multimodalCausal: !columnIsText || (rowIsText && column <= row)
        }
    }
}
