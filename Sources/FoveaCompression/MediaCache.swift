import FoveaNN
import FoveaTensor

/// What a block of gated cross-attention keeps while text is decoded token by token: keys and values of the media, made
/// once, and how many media the text has come to.
///
/// A value: a copy is a fork of the text, as beams need it.
public struct MediaCache: Sendable {
    /// Keys and values, [B, H, N·R, d].
    public let context: MultiHeadAttention.Context
    /// N.
    public let media: Int
    /// R.
    public let tokensPerMedium: Int
    /// How many placeholders each sample's text has had so far.
    public private(set) var seen: [Int]

    /// The cache of a text that has not begun.
    ///
    /// - Parameters:
    ///   - media: [B, N, R, C].
    ///   - block: whose keys and values they become.
    public init(of media: Tensor, for block: GatedCrossAttention) {
        let width = block.attention.key.weight.shape[1]
        guard media.rank == 4, media.shape[3] == width else {
            trap("GatedCrossAttention", "media [B, N, R, \(width)] are needed", media)
        }
        context = block.attention.projected(media.flattened(from: 1, to: 2))
        self.media = media.shape[1]
        tokensPerMedium = media.shape[2]
        seen = Array(repeating: 0, count: media.shape[0])
    }

    /// The medium that each token of the context belongs to, counted from 1, [N·R].
    var mediumOfToken: Tensor {
        Tensor((0..<media * tokensPerMedium).map { Double(1 + $0 / tokensPerMedium) }, shape: [media * tokensPerMedium])
    }

    /// How many media the text has come to at each of its next tokens x [B, T, D], itself counted: [B, T, 1].
    mutating func advance(_ x: Tensor, _ locations: Tensor?) -> Tensor {
        guard x.rank == 3, x.shape[0] == seen.count else {
            trap("GatedCrossAttention", "text [B, T, D] for \(seen.count) samples is needed", x, context.keys)
        }
        let (batch, length) = (x.shape[0], x.shape[1])
        if let locations, locations.dtype != .bool || locations.shape != [batch, length] {
            trap("GatedCrossAttention", "bool locations [B, T] are needed", locations, x)
        }
        if let locations, let problem = problem(with: locations) { trap("GatedCrossAttention", problem, locations) }
        let marks = locations?.scalars(as: Bool.self) ?? Array(repeating: false, count: batch * length)
        var times = [Double](repeating: 0, count: batch * length)
        for sample in 0..<batch {
            for place in sample * length..<(sample + 1) * length {
                if marks[place] { seen[sample] += 1 }
                times[place] = Double(seen[sample])
            }
        }
        return Tensor(times, shape: [batch, length, 1])
    }

    /// Which sample's next placeholders, bool [B, T], are more than its media; nil when none are.
    func problem(with locations: Tensor) -> String? {
        let length = locations.shape[1]
        let marks: [Bool] = locations.scalars()
        for (sample, before) in seen.enumerated() {
            let count = before + marks[sample * length..<(sample + 1) * length].count { $0 }
            if count > media { return "sample \(sample) has \(count) placeholders and \(media) media" }
        }
        return nil
    }
}
