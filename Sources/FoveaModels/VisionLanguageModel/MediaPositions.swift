import FoveaCompression
import FoveaNN
import FoveaTensor

/// What tells visual tokens apart once they have left the compressor: where each comes from, and which of its sample's
/// pictures it is of. Both are learned and added.
///
///     x_n ← x_n + Σ_p w_np E_p / Σ_p w_np        w: how much of the patch at place p is in token n
///
/// A token chosen anew in each picture so takes its place along wherever it stands in the list, and one that was pooled or
/// merged stands in the mean of its places: the mean over a cell is another than any of its patches. Latents of a resampler
/// are of no place; E then has a row for each of them.
public struct MediaPositions: Module {
    /// E, of the places of a picture or of the latents, [P, D].
    public var positions: Tensor
    /// Of the pictures of a sample, [pictures, D]; nil where there is one.
    public var mediaEmbeddings: Tensor?
    /// Whether positions are those of places; of the tokens of a picture in their order where not.
    public let areOfPlaces: Bool

    /// - Parameters:
    ///   - places: P, the patches of a picture; nil where tokens are of no place.
    ///   - tokens: how many of a picture there are.
    ///   - pictures: the most of a sample.
    ///   - width: D.
    ///   - key: of the normal numbers that they start with.
    public init(places: Int?, tokens: Int, pictures: Int, width: Int, key: RandomKey) {
        areOfPlaces = places != nil
        positions = .normal([places ?? tokens, width], deviation: 0.1, key: key.folding("prefixPositions"))
        if pictures > 1 {
            mediaEmbeddings = .normal([pictures, width], deviation: 0.5, key: key.folding("pictureEmbeddings"))
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("positions", &positions)
        visitor.parameter("mediaEmbeddings", &mediaEmbeddings)
    }

    /// Why these tokens cannot be told apart, in a few words; nil when they can.
    ///
    /// - Parameters:
    ///   - tokens: of pictures.
    ///   - numbers: which of its sample's pictures each is.
    func problem(with tokens: VisualTokens, numbers: [Int]) -> String? {
        if let most = numbers.max(), let mediaEmbeddings, most >= mediaEmbeddings.shape[0] {
            return "\(most + 1) pictures are more than the \(mediaEmbeddings.shape[0]) that the model was made for"
        }
        let count = (areOfPlaces ? tokens.provenance?.weights.shape[2] : nil) ?? tokens.count
        guard count == positions.shape[0] else {
            let counted = areOfPlaces ? "places" : "tokens"
            return "\(count) \(counted) have no positions of the \(positions.shape[0]) that there are"
        }
        return nil
    }

    /// The tokens of pictures [N, M, D] with their positions. Where places count and what tokens are made of was not
    /// followed, they are the raster itself.
    ///
    /// - Parameters:
    ///   - tokens: of pictures.
    ///   - numbers: which of its sample's pictures each is.
    func callAsFunction(_ tokens: VisualTokens, numbers: [Int]) -> VisualTokens {
        var own = positions
        if areOfPlaces, let weights = tokens.provenance?.weights {
            let shares = withoutGradient {
                weights / maximum(weights.sum(axes: [2], keepingAxes: true), .full([1], 1e-12, dtype: weights.dtype))
            }
            own = matmul(shares.cast(to: positions.dtype), positions)
        }
        var features = tokens.features + own
        if let mediaEmbeddings {
            features =
                features + mediaEmbeddings.selecting(axis: 0, Tensor(numbers.map(Int64.init))).unsqueezed(1)
        }
        return tokens.with(features: features)
    }
}
