import FoveaTensor

/// How many tokens each layer of an encoder or decoder removes, for methods that work layer by layer, such as ToMe and
/// FiCoCo.
public struct ReductionSchedule: Sendable, Equatable {
    /// How many tokens each layer removes, from the first layer on.
    public let removed: [Int]
    /// How many tokens are left in any case: of a picture that has fewer than the schedule is made for, a layer removes fewer.
    public let least: Int

    /// A number for each layer. Traps on negative ones, and where no token would be left.
    ///
    /// - Parameters:
    ///   - removed: how many tokens each layer removes.
    ///   - least: how many are left in any case.
    public init(_ removed: [Int], least: Int = 1) {
        guard removed.allSatisfy({ $0 >= 0 }), least >= 1 else {
            trap(
                "ReductionSchedule", "numbers from 0 on, and one token left at least, are needed: \(removed), \(least)")
        }
        self.removed = removed
        self.least = least
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
    ///   - count: how many of the tokens are left after the last layer, exactly; of n or fewer.
    ///   - n: how many there are at most.
    ///   - first: the first layer that removes some, counted from 0.
    ///   - layers: how many layers there are; one more than `first` at least.
    public static func reaching(_ count: Int, of n: Int, from first: Int, layers: Int) -> ReductionSchedule {
        guard (1...max(1, n)).contains(count), (0..<layers).contains(first) else {
            trap("ReductionSchedule", "\(count) of \(n) tokens cannot be reached from layer \(first) of \(layers)")
        }
        let (total, active) = (n - count, layers - first)
        return ReductionSchedule(
            (0..<layers).map { $0 < first ? 0 : total / active + ($0 - first < total % active ? 1 : 0) }, least: count)
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

    /// How many of n tokens enter each layer, when a layer removes behind its attention.
    public func entering(_ n: Int) -> [Int] {
        var left = n
        return removed.indices.map { layer in
            defer { left = self.left(of: left, inLayer: layer) }
            return left
        }
    }

    /// How many of n tokens are left in the end.
    public func remaining(of n: Int) -> Int {
        removed.indices.reduce(n) { left(of: $0, inLayer: $1) }
    }

    /// Whether a layer, counted from 0, removes some.
    func removes(inLayer layer: Int) -> Bool { removed.indices.contains(layer) && removed[layer] > 0 }

    /// How many of n tokens a layer removes.
    func removed(of n: Int, inLayer layer: Int) -> Int { n - left(of: n, inLayer: layer) }

    /// How many of n tokens a layer leaves.
    func left(of n: Int, inLayer layer: Int) -> Int {
        removes(inLayer: layer) ? max(min(n, least), n - removed[layer]) : n
    }
}
