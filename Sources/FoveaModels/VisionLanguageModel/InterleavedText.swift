import FoveaCompression
import FoveaTensor

/// A batch of texts with pictures in them.
public struct InterleavedText: Sendable {
    /// Token ids of each sample, of any lengths, with one placeholder where each picture stands.
    public var ids: [[Int]]
    /// The id that stands for a picture: any that means nothing else. Where an injector leaves it in the text, one of the
    /// decoder's.
    public var placeholder: Int
    /// The pictures of the batch, sample by sample in the order of their placeholders: [N, channels, height, width].
    public var pictures: Tensor
    /// For each token what it should be predicted as, as published code has it: its own id where it is part of an answer,
    /// `InterleavedText.ignored` elsewhere. nil without answers.
    public var labels: [[Int]]?

    /// The label of a token that is not to be predicted.
    public static let ignored = -100

    /// - Parameters:
    ///   - ids: of each sample.
    ///   - placeholder: the id that stands for a picture.
    ///   - pictures: [N, channels, height, width].
    ///   - labels: of each token; nil without answers.
    public init(ids: [[Int]], placeholder: Int, pictures: Tensor, labels: [[Int]]? = nil) {
        self.ids = ids
        self.placeholder = placeholder
        self.pictures = pictures
        self.labels = labels
    }

    /// Where the pictures stand.
    var places: PicturePlaces { PicturePlaces(ids.map { text in text.indices.filter { text[$0] == placeholder } }) }

    /// What does not fit, in a few words; nil when all does.
    ///
    /// - Parameter vocabulary: how many tokens there are.
    func problem(vocabulary: Int) -> String? {
        for (sample, text) in ids.enumerated() {
            guard !text.isEmpty else { return "sample \(sample) has no tokens" }
            if let stray = text.first(where: { $0 != placeholder && !(0..<vocabulary).contains($0) }) {
                return "sample \(sample): token \(stray) is outside the vocabulary of \(vocabulary)"
            }
        }
        let counts = places.starts.map(\.count)
        let count = pictures.rank > 0 ? pictures.shape[0] : 0
        guard counts.reduce(0, +) == count else {
            return
                "the texts have \(counts.reduce(0, +)) placeholders (\(counts) by sample), and there are \(count) pictures"
        }
        guard let labels else { return nil }
        guard labels.map(\.count) == ids.map(\.count) else {
            return "a label for each token is needed: \(labels.map(\.count)) labels for \(ids.map(\.count)) tokens"
        }
        for (sample, own) in labels.enumerated() {
            if let stray = own.first(where: { $0 != InterleavedText.ignored && !(0..<vocabulary).contains($0) }) {
                return "sample \(sample): label \(stray) is outside the vocabulary of \(vocabulary)"
            }
        }
        return nil
    }
}
