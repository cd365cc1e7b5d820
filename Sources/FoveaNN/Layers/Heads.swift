import FoveaTensor

extension Tensor {
    /// [B, N, H·d] → [B, H, N, d]: heads are consecutive stretches of the features.
    package func splitIntoHeads(_ heads: Int) -> Tensor {
        reshaped(to: [shape[0], shape[1], heads, shape[2] / heads]).transposed(1, 2)
    }

    /// [B, H, N, d] → [B, N, H·d].
    package func joiningHeads() -> Tensor { transposed(1, 2).flattened(from: 2, to: 3) }
}
