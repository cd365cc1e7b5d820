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
        let count = numbers.count
        let place = q * Double(count - 1)
        let low = Int(place.rounded(.down))
        // From the lower neighbour up; near the end those are few, and nothing else needs to be in order.
        let needed = count - low
        let upper = needed <= 8 ? largest(numbers, needed) : Array(numbers.sorted()[low...])
        guard upper.count > 1 else { return upper[0] }
        return upper[0] + (upper[1] - upper[0]) * (place - Double(low))
    }

    /// The k largest of at least k numbers, ascending.
    private static func largest(_ numbers: some Collection<Double>, _ k: Int) -> [Double] {
        var largest = numbers.prefix(k).sorted()
        for number in numbers.dropFirst(k) where number > largest[0] {
            var place = 0
            while place + 1 < k, number > largest[place + 1] {
                largest[place] = largest[place + 1]
                place += 1
            }
            largest[place] = number
        }
        return largest
    }
}
