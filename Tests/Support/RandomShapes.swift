import FoveaTensor

/// Draws shapes from a seed, so that a failure can be repeated.
public struct RandomShapes {
    private let key: RandomKey
    private var drawn = 0

    public init(seed: UInt64) { key = RandomKey(seed: seed).folding("shapes") }

    /// A number in a range.
    public mutating func number(in range: ClosedRange<Int>) -> Int {
        drawn += 1
        return range.lowerBound + key.integer(below: range.count, at: drawn)
    }

    /// A shape of rank 0 to `maxRank`. Lengths 0 and 1 come up as often as any other: they are where shapes go wrong.
    public mutating func shape(maxRank: Int = 4, maxLength: Int = 5) -> [Int] {
        (0..<number(in: 0...maxRank)).map { _ in number(in: 0...maxLength) }
    }

    /// Two shapes that broadcast, and what they broadcast to.
    public mutating func broadcastable(
        maxRank: Int = 4, maxLength: Int = 5
    ) -> (a: [Int], b: [Int], result: [Int]) {
        let result = shape(maxRank: maxRank, maxLength: maxLength)
        var (a, b) = (result, result)
        for axis in result.indices {
            // One operand at most repeats an axis, or the result would be shorter.
            switch number(in: 0...3) {
            case 0: a[axis] = 1
            case 1: b[axis] = 1
            default: break
            }
        }
        // Leading axes of length 1 may be left out of one operand.
        while a.first == 1, number(in: 0...1) == 0 { a.removeFirst() }
        if a.count == result.count {
            while b.first == 1, number(in: 0...1) == 0 { b.removeFirst() }
        }
        return (a, b, result)
    }
}
