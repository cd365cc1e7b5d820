import FoveaTensor

/// What the vision encoder's attention says of its patches, for reducers that select by it.
///
/// All of it is optional: an encoder without a class token has no `classAttention`, and whoever does not select needs
/// none. It goes with the tokens through every reduction. Constants: no gradient flows through it.
public struct EncoderSignals: Sendable {
    /// How the class token attends to the patches, [B, H, N].
    public var classAttention: Tensor?
    /// The patches' keys in that layer, mean over the heads, [B, N, d].
    public var keys: Tensor?
    /// How relevant each patch is to what is asked, larger for more, [B, N].
    public var relevance: Tensor?

    /// - Parameters:
    ///   - classAttention: [B, H, N].
    ///   - keys: [B, N, d].
    ///   - relevance: [B, N].
    public init(classAttention: Tensor? = nil, keys: Tensor? = nil, relevance: Tensor? = nil) {
        self.classAttention = classAttention
        self.keys = keys
        self.relevance = relevance
    }

    /// What is said of the tokens after a reduction: a merged token has the sum of the attention of its parts, and the mixture of
    /// their keys and of their relevance.
    func reduced(by reductions: [TokenReduction]) -> EncoderSignals {
        withoutGradient {
            EncoderSignals(
                classAttention: classAttention.map { attention in
                    let n = attention.shape[2]
                    return attention.transposed(1, 2).reduced(by: reductions.map { $0.sharingOut(n) }).transposed(1, 2)
                },
                keys: keys.map { $0.reduced(by: reductions) },
                relevance: relevance.map { $0.unsqueezed(-1).reduced(by: reductions).squeezed(-1) })
        }
    }
}

/// Where a reducer's importance of patches comes from.
public enum ImportanceSource: String, Sendable, CaseIterable {
    /// The class token's attention, and where there is none the proxy.
    case available
    /// The class token's attention; tokens without it are refused.
    case classToken = "class-token"
    /// −cos(μ, k_i) with μ the mean of the keys k: what differs from the rest of the picture matters. (Han et al.,
    /// "Filter, correlate, compress", 2024, appendix, eq. 9–13.) Features stand in where there are no keys.
    case proxy

    /// The proxy for keys [N, d]: [N], shifted from −1 … 1 to 0 … 1 so that it can weigh tokens.
    static func proxy(_ keys: Tensor) -> Tensor {
        withoutGradient {
            let keys = keys.detached
            let unit = keys.unitRows()
            let mean = keys.mean(axes: [0], keepingAxes: true).unitRows()
            // Rounding may take a cosine beyond 1.
            return ((1 - matmul(unit, mean.transposed(0, 1)).squeezed(1)) * 0.5).clamped(min: 0, max: 1)
        }
    }
}
