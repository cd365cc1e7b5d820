import FoveaTensor

/// The order in which reducers choose: by score, highest first; of equal scores the lower index first; NaN last, as −∞.
enum Ranking {
    /// All indices in that order.
    static func order(_ scores: [Double]) -> [Int] {
        let scores = scores.map { $0.isNaN ? -Double.infinity : $0 }
        return scores.indices.sorted { scores[$0] > scores[$1] || (scores[$0] == scores[$1] && $0 < $1) }
    }

    /// The k first of the order, ascending by index.
    static func top(_ scores: [Double], _ k: Int) -> [Int] {
        guard 8 * k < scores.count else { return order(scores).prefix(k).sorted() }
        // A few of many: most scores do not come near the last of the best.
        var best: [(index: Int, score: Double)] = []
        for (index, score) in scores.enumerated() {
            let score = score.isNaN ? -Double.infinity : score
            if best.count == k {
                guard k > 0, score > best[k - 1].score else { continue }
                best.removeLast()
            }
            var place = best.count
            while place > 0, score > best[place - 1].score { place -= 1 }
            best.insert((index, score), at: place)
        }
        return best.map(\.index).sorted()
    }

    /// The first of the order. Traps on nothing.
    static func first(_ scores: some Collection<Double>) -> Int {
        guard !scores.isEmpty else { trap("Ranking", "there is nothing to choose from") }
        var (best, highest) = (0, -Double.infinity)
        for (index, score) in scores.enumerated() where score > highest { (best, highest) = (index, score) }
        return best
    }

    /// The q-quantile of at least one number, interpolated linearly between neighbours.
    static func quantile(_ numbers: some Collection<Double>, _ q: Double) -> Double {
        let sorted = numbers.sorted()
        let place = q * Double(sorted.count - 1)
        let low = Int(place.rounded(.down))
        guard low + 1 < sorted.count else { return sorted[sorted.count - 1] }
        return sorted[low] + (sorted[low + 1] - sorted[low]) * (place - Double(low))
    }
}
