import FoveaTensor

/// How many tokens each layer of an encoder or decoder removes, for methods that work layer by layer, such as ToMe and
/// FiCoCo.
public struct ReductionSchedule: Sendable, Equatable {
    /// How many tokens each layer removes, from the first layer on.
    public let removed: [Int]

    /// A number for each layer. Traps on negative ones.
    public init(_ removed: [Int]) {
        guard removed.allSatisfy({ $0 >= 0 }) else { trap("ReductionSchedule", "\(removed) has negative numbers") }
        self.removed = removed
    }

    /// The same number in each layer from one on.
    ///
    /// - Parameters:
    ///   - number: how many a layer removes.
    ///   - first: the first layer that does, counted from 0.
    ///   - layers: how many layers there are.
    public static func constant(_ number: Int, from first: Int, layers: Int) -> ReductionSchedule {
        ReductionSchedule((0..<layers).map { $0 >= first ? number : 0 })
    }

    /// A total spread over the layers from one on as evenly as goes, the larger numbers first.
    ///
    /// - Parameters:
    ///   - count: how many of the tokens are left after the last layer, exactly.
    ///   - n: how many there are.
    ///   - first: the first layer that removes some, counted from 0.
    ///   - layers: how many layers there are; one more than `first` at least.
    public static func reaching(_ count: Int, of n: Int, from first: Int, layers: Int) -> ReductionSchedule {
        guard (1...max(1, n)).contains(count), (0..<layers).contains(first) else {
            trap("ReductionSchedule", "\(count) of \(n) tokens cannot be reached from layer \(first) of \(layers)")
        }
        let (total, active) = (n - count, layers - first)
        return ReductionSchedule(
            (0..<layers).map { $0 < first ? 0 : total / active + ($0 - first < total % active ? 1 : 0) })
    }

    /// The smallest constant number whose mean count over all layers is at most a wanted one; the last layers may find
    /// nothing left to remove but one token.
    ///
    /// - Parameters:
    ///   - count: the mean of the tokens that the layers see.
    ///   - n: how many tokens there are.
    ///   - first: the first layer that removes some, counted from 0.
    ///   - layers: how many layers there are.
    /// - Returns: nil where even one token left behind the first layer is too many on average.
    public static func averaging(_ count: Double, of n: Int, from first: Int, layers: Int) -> ReductionSchedule? {
        for number in 0...max(0, n - 1) {
            let schedule = constant(number, from: first, layers: layers)
            let seen = schedule.entering(n)
            if Double(seen.reduce(0, +)) <= count * Double(layers) { return schedule }
        }
        return nil
    }

    /// How many of n tokens enter each layer, when a layer removes behind its attention and leaves one token at least.
    public func entering(_ n: Int) -> [Int] {
        var left = n
        return removed.map { number in
            defer { left = max(min(left, 1), left - number) }
            return left
        }
    }

    /// How many of n tokens are left in the end.
    public func remaining(of n: Int) -> Int {
        removed.reduce(n) { left, number in max(min(left, 1), left - number) }
    }
}
