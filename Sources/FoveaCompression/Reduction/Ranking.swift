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
    static func quantile(_ numbers: [Double], _ q: Double) -> Double {
        let place = q * Double(numbers.count - 1)
        let low = Int(place.rounded(.down))
        let upper = ascending(numbers, from: low)
        guard upper.count > 1 else { return upper[0] }
        return upper[0] + (upper[1] - upper[0]) * (place - Double(low))
    }

    /// What the numbers in ascending order are from a place on.
    private static func ascending(_ numbers: [Double], from place: Int) -> [Double] {
        let count = numbers.count - place
        guard 8 * count < numbers.count else { return Array(numbers.sorted()[place...]) }
        // A few of many: most numbers do not come near the least of the greatest.
        var greatest = numbers[..<count].sorted()
        for number in numbers[count...] where number > greatest[0] {
            var slot = 0
            while slot + 1 < count, greatest[slot + 1] < number {
                greatest[slot] = greatest[slot + 1]
                slot += 1
            }
            greatest[slot] = number
        }
        return greatest
    }
}
