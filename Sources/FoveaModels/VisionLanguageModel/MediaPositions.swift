import FoveaCompression
import FoveaNN
import FoveaTensor

/// What tells visual tokens apart once they have left the compressor: which of its picture's tokens each is, and which of
/// its sample's pictures it is of. Both are learned and added.
public struct MediaPositions: Module {
    /// Of the tokens of a picture, [M, D].
    public var positions: Tensor
    /// Of the pictures of a sample, [P, D]; nil where there is one.
    public var mediaEmbeddings: Tensor?

    /// - Parameters:
    ///   - tokens: M.
    ///   - pictures: P.
    ///   - width: D.
    ///   - key: of the normal numbers that they start with.
    public init(tokens: Int, pictures: Int, width: Int, key: RandomKey) {
        positions = .normal([tokens, width], deviation: 0.1, key: key.folding("prefixPositions"))
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
        guard tokens.count == positions.shape[0] || tokens.provenance?.weights.shape[2] == positions.shape[0] else {
            return "\(tokens.count) tokens have no positions of the \(positions.shape[0]) that there are"
        }
        return nil
    }

    /// The tokens of pictures [N, M, D] with their positions. Tokens that were merged on the way stand in the mean of the
    /// places that they are of.
    ///
    /// - Parameters:
    ///   - tokens: of pictures.
    ///   - numbers: which of its sample's pictures each is.
    func callAsFunction(_ tokens: VisualTokens, numbers: [Int]) -> VisualTokens {
        var features =
            tokens.count == positions.shape[0]
            ? tokens.features + positions
            : tokens.features + matmul(tokens.provenance!.weights.cast(to: positions.dtype), positions)
        if let mediaEmbeddings {
            features =
                features + mediaEmbeddings.selecting(axis: 0, Tensor(numbers.map(Int64.init))).unsqueezed(1)
        }
        return tokens.with(features: features)
    }
}
