import FoveaTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How the next token is drawn from logits.
///
/// With temperature 0 it is the likeliest one, the first of several. Otherwise logits are divided by the temperature; then
/// the likeliest `topK` remain, and of these the fewest that together have the probability `topP`.
/// (Holtzman et al., "The curious case of neural text degeneration", 2020, §3, for `topP`.)
public struct Sampling: Sendable, Equatable {
    public var temperature: Double
    /// How many tokens are drawn from; nil for all.
    public var topK: Int?
    /// The share of the probability that is drawn from, in 0 ..< 1; nil for all.
    public var topP: Double?
    /// Of the random numbers: the same seed gives the same text.
    public var seed: UInt64

    /// Traps for a negative temperature, no tokens, and a share of nothing.
    public init(temperature: Double = 0, topK: Int? = nil, topP: Double? = nil, seed: UInt64 = 0) {
        guard temperature >= 0, topK.map({ $0 >= 1 }) ?? true, topP.map({ $0 > 0 }) ?? true else {
            trap("Sampling", "a temperature from 0 on, topK from 1 on and topP above 0 are needed")
        }
        self.temperature = temperature
        self.topK = topK
        self.topP = topP
        self.seed = seed
    }

    /// The likeliest token, always.
    public static let greedy = Sampling()

    /// The next token of each sample.
    ///
    /// - Parameters:
    ///   - logits: [B, V].
    ///   - positions: how many tokens stand before it in each sample's text. The random number of a token depends on the
    ///     seed, the sample's place in the batch and this alone, however the text is cut into turns.
    public func next(_ logits: Tensor, at positions: [Int]) -> [Int] {
        guard logits.rank == 2, logits.shape[1] > 0, positions.count == logits.shape[0] else {
            trap("Sampling", "logits [B, V] and a position for each sample are needed", logits)
        }
        guard temperature > 0 else { return logits.argmax(axis: 1).scalars(as: Int64.self).map(Int.init) }
        return (0..<logits.shape[0]).map { sample in
            let key = RandomKey(seed: seed).folding("sampling").folding(UInt64(sample))
                .folding(UInt64(positions[sample]))
            let draw: [Double] = Tensor.uniform([1], in: 0...1, key: key, dtype: .float64).scalars()
            return token(of: logits[sample].cast(to: .float64).scalars(), at: draw[0])
        }
    }

    /// The token at a place in 0 ... 1 of the probabilities, from the likeliest on.
    private func token(of logits: [Double], at place: Double) -> Int {
        let order = logits.indices.sorted { (-logits[$0], $0) < (-logits[$1], $1) }.prefix(topK ?? logits.count)
        let weights = order.map { exp((logits[$0] - logits[order[order.startIndex]]) / temperature) }
        var kept = weights.count
        if let topP {
            var missing = topP * weights.reduce(0, +)
            let end = weights.firstIndex { weight in
                missing -= weight
                return missing <= 0
            }
            kept = (end ?? kept - 1) + 1
        }
        var rest = place * weights.prefix(kept).reduce(0, +)
        for index in 0..<kept {
            rest -= weights[index]
            if rest < 0 { return order[index] }
        }
        return order[kept - 1]
    }
}
