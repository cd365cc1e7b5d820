import FoveaNN
import FoveaTensor

/// Pictures and the texts that belong to them, for the first stage of a Q-Former's training.
public struct ImageTextBatch: Sendable {
    /// Visual tokens, [B, N, C].
    public var tokens: Tensor
    /// bool [B, N], true where there is a token; nil for everywhere.
    public var tokenMask: Tensor?
    /// The words, int64 [B, L], behind their [CLS].
    public var ids: Tensor
    /// bool [B, L], true where there is a word.
    public var textMask: Tensor
    /// int64 [B]: pairs of the same picture have the same number, and count as right answers for each other. nil where
    /// every picture is another one.
    public var imageIDs: Tensor?

    /// Pairs of pictures and texts.
    public init(tokens: Tensor, tokenMask: Tensor? = nil, ids: Tensor, textMask: Tensor, imageIDs: Tensor? = nil) {
        guard tokens.rank == 3, ids.rank == 2, ids.dtype == .int64, ids.shape[0] == tokens.shape[0], ids.shape[1] > 0,
            textMask.dtype == .bool, textMask.shape == ids.shape
        else {
            trap(
                "ImageTextBatch", "tokens [B, N, C], ids int64 [B, L] and their mask are needed", tokens, ids, textMask)
        }
        if let imageIDs, imageIDs.shape != [ids.shape[0]] {
            trap("ImageTextBatch", "one number for each picture, [B], is needed", imageIDs, tokens)
        }
        self.tokens = tokens
        self.tokenMask = tokenMask
        self.ids = ids
        self.textMask = textMask
        self.imageIDs = imageIDs
    }

    /// Which pictures are the same, bool [B, B].
    var samePicture: Tensor {
        let numbers = imageIDs ?? .arange(ids.shape[0], dtype: .int64)
        return numbers.unsqueezed(1) .== numbers.unsqueezed(0)
    }
}

/// The losses of a Q-Former's first stage, each one number. (Li et al., "BLIP-2", 2023, §3.2.)
public struct QFormerLosses: Sendable {
    /// Image-text contrast.
    public var contrast: Tensor
    /// Image-text matching.
    public var matching: Tensor
    /// Image-grounded text generation.
    public var generation: Tensor

    /// Their sum: all weigh the same.
    public var total: Tensor { contrast + matching + generation }
}

/// How similar each picture is to each text: s[i, j] = max over queries q of ⟨f[i, q], g[j]⟩, [A, B].
///
/// - Parameters:
///   - images: f, vectors of length one, [A, R, P].
///   - texts: g, vectors of length one, [B, P].
public func imageTextSimilarity(_ images: Tensor, _ texts: Tensor) -> Tensor {
    guard images.rank == 3, texts.rank == 2, images.shape[2] == texts.shape[1] else {
        trap("imageTextSimilarity", "pictures [A, R, P] and texts [B, P] are needed", images, texts)
    }
    return matmul(images, texts.transposed(0, 1)).max(axes: [1])
}

/// ½ · (cross-entropy of the rows + cross-entropy of the columns), with label smoothing: image-text contrast.
///
/// - Parameters:
///   - similarity: of picture i and text j, divided by the temperature, [B, B].
///   - samePicture: bool [B, B], true where text j belongs to picture i: right answers share the target evenly.
///   - labelSmoothing: the share of the target that is spread over all.
public func imageTextContrast(_ similarity: Tensor, samePicture: Tensor, labelSmoothing: Double = 0.1) -> Tensor {
    guard similarity.rank == 2, similarity.shape == samePicture.shape, similarity.shape[0] == similarity.shape[1] else {
        trap("imageTextContrast", "[B, B] and a mask of that shape are needed", similarity, samePicture)
    }
    let targets = withoutGradient {
        let right = samePicture.cast(to: similarity.dtype)
        return right / right.sum(axes: [1], keepingAxes: true)
    }
    // The relation is symmetric: rows and columns have the same targets.
    let rows = softCrossEntropy(similarity, targets: targets, labelSmoothing: labelSmoothing)
    let columns = softCrossEntropy(similarity.transposed(0, 1), targets: targets, labelSmoothing: labelSmoothing)
    return (rows + columns) * 0.5
}

/// For each row one column out of those that are not excluded, drawn with probability softmax(row): hard negatives.
///
/// A constant to any gradient. The draw of row b is the number at position b of the key.
///
/// - Parameters:
///   - similarity: [B, B].
///   - excluded: bool [B, B].
///   - key: of the draws.
/// - Returns: the columns, nil for rows in which all are excluded.
public func hardNegatives(_ similarity: Tensor, excluded: Tensor, key: RandomKey) -> [Int?] {
    guard similarity.rank == 2, similarity.shape == excluded.shape else {
        trap("hardNegatives", "[B, B] and a mask of that shape are needed", similarity, excluded)
    }
    let columns = similarity.shape[1]
    let weights: [Double] = withoutGradient {
        similarity.cast(to: .float64).maskedFill(excluded, -.infinity).softmax(axis: 1).scalars()
    }
    let barred: [Bool] = excluded.scalars()
    return (0..<similarity.shape[0]).map { row in
        let open = (0..<columns).filter { !barred[row * columns + $0] }
        var rest = key.uniform(at: row)
        return open.first {
            rest -= weights[row * columns + $0]
            return rest < 0
        } ?? open.last
    }
}

extension QFormerPretraining {
    /// The three losses of a batch of pairs.
    ///
    /// The negatives of the matching loss are drawn within the batch. A pair whose picture is the only one of the batch
    /// has none, and its two negative pairs do not count; LAVIS would call such a pair no match.
    ///
    /// - Parameters:
    ///   - batch: pictures and texts.
    ///   - key: of the negatives' draws; another one for each step.
    public func losses(_ batch: ImageTextBatch, key: RandomKey) -> QFormerLosses {
        let (queries, cache) = encode(batch.tokens, mask: batch.tokenMask)
        let similarity =
            imageTextSimilarity(imageFeatures(queries), textFeatures(batch.ids, mask: batch.textMask)) / temperature
        return QFormerLosses(
            contrast: imageTextContrast(similarity, samePicture: batch.samePicture),
            matching: matchingLoss(batch, similarity: similarity, key: key),
            generation: generationLoss(batch, cache: cache))
    }

    /// Cross-entropy over 3B pairs: the true ones, each text with a picture like its own, each picture with a text like
    /// its own.
    func matchingLoss(_ batch: ImageTextBatch, similarity: Tensor, key: RandomKey) -> Tensor {
        let (size, same) = (batch.ids.shape[0], batch.samePicture)
        let pictures = hardNegatives(similarity.transposed(0, 1), excluded: same, key: key.folding("pictures"))
        let texts = hardNegatives(similarity, excluded: same, key: key.folding("texts"))
        let own = Array(0..<size)
        func rows(_ choices: [Int?]...) -> Tensor {
            let rows = choices.flatMap { zip($0, own).map { Int64($0 ?? $1) } }
            return Tensor(rows, shape: [rows.count])
        }
        let (pictureRows, textRows) = (rows(own, pictures, own), rows(own, own, texts))
        let logits = matchLogits(
            batch.tokens.selecting(axis: 0, pictureRows),
            tokenMask: batch.tokenMask?.selecting(axis: 0, pictureRows),
            ids: batch.ids.selecting(axis: 0, textRows), mask: batch.textMask.selecting(axis: 0, textRows))
        let labels: [Int64] = own.map { _ in 1 } + (pictures + texts).map { $0 == nil ? -100 : 0 }
        return crossEntropy(logits, Tensor(labels, shape: [3 * size]))
    }

    /// Cross-entropy of each next word with label smoothing 0.1; the text begins with `beginning` in place of its [CLS].
    func generationLoss(_ batch: ImageTextBatch, cache: QFormerCache?) -> Tensor {
        let (size, length) = (batch.ids.shape[0], batch.ids.shape[1])
        let first = Tensor(Array(repeating: Int64(beginning), count: size), shape: [size, 1])
        let ids = batch.ids.replacing(axis: 1, 0..<1, with: first)
        var cache = cache
        let logits = wordLogits(ids, mask: batch.textMask, cache: &cache)
        let labels = ids.maskedFill(.!batch.textMask, -100)
        return crossEntropy(
            logits.sliced(axis: 1, 0..<length - 1), labels.sliced(axis: 1, 1..<length), labelSmoothing: 0.1)
    }
}
