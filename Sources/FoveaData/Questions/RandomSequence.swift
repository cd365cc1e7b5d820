import FoveaTensor

/// Random numbers of one key, one after another.
struct RandomSequence {
    private let key: RandomKey
    private var drawn = 0

    init(_ key: RandomKey) { self.key = key }

    /// An integer in 0 ..< bound.
    mutating func integer(below bound: Int) -> Int {
        drawn += 1
        return key.integer(below: bound, at: drawn)
    }

    /// An integer in the range.
    mutating func integer(in range: ClosedRange<Int>) -> Int {
        range.lowerBound + integer(below: range.count)
    }

    /// Heads or tails.
    mutating func coin() -> Bool { integer(below: 2) == 1 }

    /// One of the elements.
    mutating func element<Element>(of elements: [Element]) -> Element { elements[integer(below: elements.count)] }

    /// The elements in a random order.
    mutating func shuffled<Element>(_ elements: [Element]) -> [Element] {
        var elements = elements
        for last in stride(from: elements.count - 1, to: 0, by: -1) { elements.swapAt(last, integer(below: last + 1)) }
        return elements
    }
}
