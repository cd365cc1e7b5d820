import FoveaCompression
import FoveaNN
import FoveaTensor

/// A text that a language model cannot take.
public struct LanguageModelError: Error, Sendable, CustomStringConvertible {
    /// What is wrong, and what was expected, in one line.
    public let description: String

    public init(_ description: String) { self.description = description }
}

extension LanguageModel.Options {
    /// What is wrong with token ids, in a few words; nil when nothing is.
    public func problem(with ids: some Sequence<Int>) -> String? {
        ids.first { !(0..<vocabulary).contains($0) }.map { "token \($0) is outside the vocabulary of \(vocabulary)" }
    }
}

extension LanguageModel {
    /// How a text goes on.
    ///
    /// - Parameters:
    ///   - prompts: token ids of each sample, of any length from 1 on.
    ///   - limit: the most tokens that are added to each.
    ///   - sampling: how they are drawn.
    ///   - stops: tokens that end a sample.
    /// - Returns: for each sample what was added, with the token that ended it, if one did.
    /// - Throws: `LanguageModelError` for ids outside the vocabulary, an empty prompt, and a text that would exceed the
    ///   context.
    public func generate(
        _ prompts: [[Int]], limit: Int, sampling: Sampling = .greedy, stops: Set<Int> = []
    ) throws(LanguageModelError) -> [[Int]] {
        var cache = KeyValueCache(for: self)
        return try generate(after: try tokens(prompts), limit: limit, sampling: sampling, stops: stops, cache: &cache)
    }

    /// How a text goes on behind tokens of any kind, pictures among them, and behind what a cache holds.
    ///
    /// The cache then holds all of the text but the last token of each sample, which nobody has read yet: the next turn
    /// begins with it.
    ///
    /// - Parameters:
    ///   - tokens: the next ones; at least one of each sample.
    ///   - limit: the most tokens that are added to each.
    ///   - sampling: how they are drawn.
    ///   - stops: tokens that end a sample.
    ///   - cache: what stands before them.
    ///   - injection: what takes part in the layers.
    ///   - reducers: what takes tokens away between them.
    /// - Returns: for each sample what was added, with the token that ended it, if one did.
    /// - Throws: `LanguageModelError` for a sample without tokens, and for a text that would exceed the context. The cache
    ///   is then as it was.
    public func generate(
        after tokens: LayerTokens, limit: Int, sampling: Sampling = .greedy, stops: Set<Int> = [],
        cache: inout KeyValueCache, injection: (any Injection)? = nil, reducers: [any LayerReducer] = []
    ) throws(LanguageModelError) -> [[Int]] {
        if let empty = tokens.counts.firstIndex(of: 0) {
            throw LanguageModelError("sample \(empty) has no token to go on from")
        }
        if let problem = cache.problem(with: tokens, adding: max(0, limit - 1), in: options) {
            throw LanguageModelError(problem)
        }
        guard limit > 0 else { return Array(repeating: [], count: tokens.batch) }
        return withoutGradient {
            var texts = [[Int]](repeating: [], count: tokens.batch)
            var isOpen = [Bool](repeating: true, count: tokens.batch)
            var read = reading(tokens, cache: &cache, injection: injection, reducers: reducers)
            for step in 0..<limit {
                let next = sampling.next(logits(read.last).squeezed(1), at: cache.seen)
                for sample in next.indices where isOpen[sample] {
                    texts[sample].append(next[sample])
                    if stops.contains(next[sample]) { isOpen[sample] = false }
                }
                guard step + 1 < limit, isOpen.contains(true) else { break }
                // What has ended goes along as padding.
                read = reading(
                    LayerTokens(
                        features: embed(Tensor(next.map(Int64.init), shape: [next.count, 1])),
                        mask: isOpen.contains(false) ? Tensor(isOpen, shape: [next.count, 1]) : nil),
                    cache: &cache, injection: injection)
            }
            return texts
        }
    }

    /// Texts of any lengths as tokens: the shorter ones padded behind.
    ///
    /// - Parameter texts: token ids of each sample.
    /// - Throws: `LanguageModelError` for ids outside the vocabulary.
    public func tokens(_ texts: [[Int]]) throws(LanguageModelError) -> LayerTokens {
        for (sample, text) in texts.enumerated() {
            if let problem = options.problem(with: text) { throw LanguageModelError("sample \(sample): \(problem)") }
        }
        let length = texts.map(\.count).max() ?? 0
        let padded = texts.flatMap { $0.map(Int64.init) + [Int64](repeating: 0, count: length - $0.count) }
        let isRagged = texts.contains { $0.count < length }
        let real = texts.flatMap { text in (0..<length).map { $0 < text.count } }
        return LayerTokens(
            features: embed(Tensor(padded, shape: [texts.count, length])),
            mask: isRagged ? Tensor(real, shape: [texts.count, length]) : nil)
    }
}

extension LayerTokens {
    /// The features of each sample's last real token, [B, 1, D]; of the first where none is real.
    public var last: Tensor {
        let places = real.map { Int64($0.lastIndex(of: true) ?? 0) }
        return features.rowsOfSamples(Tensor(places, shape: [batch, 1]))
    }
}
