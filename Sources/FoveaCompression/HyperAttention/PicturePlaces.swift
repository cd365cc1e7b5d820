import FoveaTensor

/// Where the pictures of a batch of texts stand: for each sample the positions of its placeholders, in their order.
///
/// Pictures come packed, all of the batch one after the other; each sample takes the next ones.
public struct PicturePlaces: Sendable, Equatable {
    /// For each sample the positions of its placeholders.
    public let starts: [[Int]]

    /// - Parameter starts: for each sample the positions of its placeholders, ascending from 0 on.
    public init(_ starts: [[Int]]) { self.starts = starts }

    /// The places that a table int64 [B, P] names, with −1 where a sample has fewer pictures; nil where it holds anything
    /// but ascending positions with −1 behind them.
    public init?(table: Tensor) {
        guard table.dtype == .int64, table.rank == 2 else { return nil }
        let numbers: [Int64] = table.scalars()
        let width = table.shape[1]
        var starts: [[Int]] = []
        for sample in 0..<table.shape[0] {
            let row = numbers[sample * width..<(sample + 1) * width].map(Int.init)
            let own = Array(row.prefix { $0 >= 0 })
            guard row.dropFirst(own.count).allSatisfy({ $0 == -1 }), zip(own, own.dropFirst()).allSatisfy(<) else {
                return nil
            }
            starts.append(own)
        }
        self.starts = starts
    }

    /// B.
    public var batch: Int { starts.count }
    /// How many pictures there are in all.
    public var count: Int { starts.reduce(0) { $0 + $1.count } }
    /// P, the most pictures of a sample.
    public var most: Int { starts.map(\.count).max() ?? 0 }

    /// Why these places and so many packed pictures do not belong together, in a few words; nil when they do.
    ///
    /// - Parameters:
    ///   - pictures: how many pictures there are.
    ///   - batch: how many texts.
    ///   - length: how many tokens each has.
    public func problem(pictures: Int, batch: Int, length: Int) -> String? {
        guard self.batch == batch else { return "there are places for \(self.batch) texts, and \(batch) texts" }
        guard count == pictures else {
            return "the texts have \(count) placeholders, and there are \(pictures) pictures"
        }
        for (sample, own) in starts.enumerated() {
            if let stray = own.first(where: { !(0..<length).contains($0) }) {
                return "sample \(sample) has a placeholder at \(stray), and \(length) tokens"
            }
        }
        return nil
    }

    /// Packed pictures [N, ...] → [B·P, ...], P for each sample; where it has fewer, any picture stands.
    func spread(_ packed: Tensor) -> Tensor {
        guard count != batch * most else { return packed }
        var indices: [Int64] = []
        var next: Int64 = 0
        for own in starts {
            indices += (0..<Int64(most)).map { $0 < own.count ? next + $0 : 0 }
            next += Int64(own.count)
        }
        return packed.selecting(axis: 0, Tensor(indices))
    }

    /// The position of each picture's placeholder, float64 [B, P].
    ///
    /// - Parameter absent: what stands where a sample has fewer pictures.
    func table(absent: Double) -> Tensor {
        let rows = starts.map { $0.map(Double.init) + Array(repeating: absent, count: most - $0.count) }
        return Tensor(rows.flatMap { $0 }, shape: [batch, most])
    }
}
