import FoveaTensor
import FoveaTestSupport

/// A random composition of ops: leaves with random numbers, and ops on earlier values, some of them used twice.
///
/// What an op does besides its operands (axes, lengths, indices) is drawn from its own seed and the operands' shapes,
/// each time that the program runs. So a program stays one when a shape is made smaller or an op is taken out.
struct FuzzProgram: Sendable {
    enum Node: Sendable {
        case leaf(shape: [Int], seed: UInt64)
        case call(FuzzOp, operands: [Int], seed: UInt64)
    }

    var nodes: [Node] = []

    /// The results that no other op uses, flattened into one output: every op matters.
    private var sinks: [Int] {
        var used = Set<Int>()
        for case .call(_, let operands, _) in nodes { used.formUnion(operands) }
        return nodes.indices.filter { !used.contains($0) }
    }

    var leaves: [Tensor] {
        nodes.compactMap { node in
            guard case .leaf(let shape, let seed) = node else { return nil }
            return .uniform(shape, in: -2...2, key: RandomKey(seed: seed), dtype: .float64)
        }
    }

    var calls: Int { nodes.count(where: { if case .call = $0 { true } else { false } }) }

    /// The output for these leaves. Nil where an op does not take its operands, or, when `isCareful`, where a value is
    /// within reach of a kink or too large for finite differences.
    func run(_ leaves: [Tensor], isCareful: Bool = false) -> Tensor? {
        guard let values = values(leaves, isCareful: isCareful) else { return nil }
        return concatenated(sinks.map { values[$0].flattened() }, axis: 0)
    }

    private func values(_ leaves: [Tensor], isCareful: Bool) -> [Tensor]? {
        var values: [Tensor] = []
        var nextLeaf = 0
        for node in nodes {
            switch node {
            case .leaf:
                values.append(leaves[nextLeaf])
                nextLeaf += 1
            case .call:
                guard let value = FuzzProgram.value(of: node, values, isCareful: isCareful) else { return nil }
                values.append(value)
            }
        }
        return values
    }

    private static func value(of node: Node, _ values: [Tensor], isCareful: Bool) -> Tensor? {
        guard case .call(let op, let operands, let seed) = node else { return nil }
        var draws = FuzzDraws(seed: seed, isCareful: isCareful)
        guard let value = op.apply(operands.map { values[$0] }, &draws) else { return nil }
        guard isCareful else { return value }
        let isTame = value.count <= 2000 && value.rank <= 6 && doubles(of: value).allSatisfy { $0.magnitude <= 50 }
        return isTame ? value : nil
    }

    // MARK: Drawing

    /// A program of 5 to 12 ops that depends on the seed alone.
    ///
    /// - Parameters:
    ///   - seed: of the program.
    ///   - length: a length of the first axis of every leaf that has one, in place of the drawn one.
    init(seed: UInt64, firstLength length: Int? = nil) {
        var draws = FuzzDraws(seed: seed, isCareful: false)
        let common = (0..<draws.number(in: 0...4)).map { _ in draws.number(in: 0...5) }
        func leaf(_ draws: inout FuzzDraws) -> Node {
            // Shapes that broadcast to a common one, so that ops of two operands find some.
            var shape = common.map { draws.number(in: 0...3) == 0 ? 1 : $0 }
            if draws.number(in: 0...2) == 0 {
                shape = (0..<draws.number(in: 0...4)).map { _ in draws.number(in: 0...5) }
            }
            if let length, !shape.isEmpty { shape[0] = length }
            return .leaf(shape: shape, seed: draws.seed())
        }
        for _ in 0..<draws.number(in: 1...3) { nodes.append(leaf(&draws)) }
        var values = leaves
        let wanted = nodes.count + draws.number(in: 5...12)
        var attempts = 0
        while nodes.count < wanted, attempts < 200 {
            attempts += 1
            let op = FuzzOp.all[draws.number(in: 0...FuzzOp.all.count - 1)]
            // Recent values are likelier: chains get deep, and any value may be used again.
            let operands = (0..<op.arity).map { _ in
                nodes.count - 1 - draws.number(in: 0...draws.number(in: 0...nodes.count - 1))
            }
            let call = Node.call(op, operands: operands, seed: draws.seed())
            guard let value = FuzzProgram.value(of: call, values, isCareful: length == nil), value.count <= 1_000_000,
                value.rank <= 6
            else { continue }
            nodes.append(call)
            values.append(value)
        }
    }

    // MARK: Shrinking

    /// The smallest program found that still fails: ops are replaced by leaves, and lengths reduced, as long as `fails`.
    func shrunk(while fails: (FuzzProgram) -> Bool) -> FuzzProgram {
        var best = self
        var isSmaller = true
        while isSmaller {
            isSmaller = false
            for candidate in best.smaller() where fails(candidate) {
                best = candidate
                isSmaller = true
                break
            }
        }
        return best
    }

    private func smaller() -> [FuzzProgram] {
        var candidates: [FuzzProgram] = []
        guard let values = values(leaves, isCareful: true) else { return [] }
        for (position, node) in nodes.enumerated() {
            switch node {
            case .call(_, let operands, let seed):
                // The op's value as a leaf, or its operand in its place; what nobody needs any more goes.
                var replaced = self
                replaced.nodes[position] = .leaf(shape: values[position].shape, seed: seed)
                candidates.append(replaced.pruned())
                if let first = operands.first { candidates.append(substituting(position, by: first)) }
                // Nothing after it.
                if position < nodes.count - 1 {
                    var cut = self
                    cut.nodes.removeSubrange((position + 1)...)
                    candidates.append(cut.pruned())
                }
            case .leaf(let shape, let seed):
                for axis in shape.indices where shape[axis] > 1 {
                    var smaller = self
                    var shape = shape
                    shape[axis] = shape[axis] > 2 ? shape[axis] - 1 : 1
                    smaller.nodes[position] = .leaf(shape: shape, seed: seed)
                    candidates.append(smaller)
                }
            }
        }
        return candidates.filter { $0.size < size && $0.calls > 0 }
    }

    /// Ops count most, then leaves' elements.
    private var size: Int {
        nodes.reduce(0) { total, node in
            switch node {
            case .call: total + 10_000
            case .leaf(let shape, _): total + 100 + shape.reduce(1, *)
            }
        }
    }

    private func substituting(_ position: Int, by other: Int) -> FuzzProgram {
        var result = self
        for (index, node) in nodes.enumerated() {
            guard case .call(let op, let operands, let seed) = node else { continue }
            result.nodes[index] = .call(op, operands: operands.map { $0 == position ? other : $0 }, seed: seed)
        }
        result.nodes.remove(at: position)
        return result.renumbered { $0 > position ? $0 - 1 : $0 }.pruned()
    }

    private func renumbered(_ map: (Int) -> Int) -> FuzzProgram {
        var result = self
        for (index, node) in nodes.enumerated() {
            guard case .call(let op, let operands, let seed) = node else { continue }
            result.nodes[index] = .call(op, operands: operands.map(map), seed: seed)
        }
        return result
    }

    /// Without leaves that nothing uses.
    private func pruned() -> FuzzProgram {
        var result = self
        while let idle = result.sinks.first(where: { if case .leaf = result.nodes[$0] { true } else { false } }),
            result.nodes.count > 1
        {
            result.nodes.remove(at: idle)
            result = result.renumbered { $0 > idle ? $0 - 1 : $0 }
        }
        return result
    }
}

extension FuzzProgram: CustomStringConvertible {
    /// A line for each value.
    var description: String {
        nodes.enumerated().map { index, node in
            switch node {
            case .leaf(let shape, let seed): "  v\(index) = leaf \(shape), seed \(seed)"
            case .call(let op, let operands, let seed):
                "  v\(index) = \(op.name)(\(operands.map { "v\($0)" }.joined(separator: ", "))), seed \(seed)"
            }
        }.joined(separator: "\n")
    }
}

/// Random numbers in the order that they are asked for, and the distance that finite differences need.
struct FuzzDraws {
    private let key: RandomKey
    private var drawn = 0
    /// Whether values must be out of reach of kinks.
    let isCareful: Bool

    init(seed: UInt64, isCareful: Bool) {
        key = RandomKey(seed: seed).folding("fuzz")
        self.isCareful = isCareful
    }

    mutating func number(in range: ClosedRange<Int>) -> Int {
        drawn += 1
        return range.lowerBound + key.integer(below: range.count, at: drawn)
    }

    mutating func seed() -> UInt64 {
        drawn += 1
        return key.bits(at: drawn) >> 16
    }

    mutating func coin() -> Bool { number(in: 0...1) == 1 }

    mutating func axis(of x: Tensor) -> Int? { x.rank == 0 ? nil : number(in: 0...x.rank - 1) }

    /// Some axes of a tensor; nil for all, as the reductions take them.
    mutating func axes(of x: Tensor) -> [Int]? {
        guard x.rank > 0, coin() else { return nil }
        return (0..<x.rank).filter { _ in coin() }
    }

    mutating func indices(_ count: Int, below bound: Int) -> [Int64] {
        (0..<count).map { _ in Int64(number(in: 0...bound - 1)) }
    }

    mutating func mask(_ shape: [Int]) -> Tensor {
        Tensor((0..<shape.reduce(1, *)).map { _ in coin() }, shape: shape)
    }

    /// Whether no element is near one of these numbers.
    func isAway(_ x: Tensor, from kinks: Double...) -> Bool {
        !isCareful || doubles(of: x.detachedValue).allSatisfy { value in kinks.allSatisfy { abs(value - $0) > 0.02 } }
    }

    /// Whether no two elements along an axis are near each other.
    func areApart(_ x: Tensor, along axis: Int) -> Bool {
        guard isCareful, x.shape[axis] > 1, x.count > 0 else { return true }
        let sorted = withoutGradient { x.detachedValue.sorted(axis: axis).values }
        let n = x.shape[axis]
        let gaps = withoutGradient { sorted.sliced(axis: axis, 1..<n) - sorted.sliced(axis: axis, 0..<n - 1) }
        return doubles(of: gaps).allSatisfy { $0 > 0.02 }
    }

    /// Whether lines along axes are not nearly constant, where norms have a pole.
    func areSpread(_ x: Tensor, along axes: [Int]) -> Bool {
        guard isCareful, x.count > 0, axes.reduce(1, { $0 * x.shape[$1] }) > 1 else { return true }
        let variance = withoutGradient { x.detachedValue.variance(axes: axes, correction: 0) }
        return doubles(of: variance).allSatisfy { $0 > 0.05 }
    }
}

extension Tensor {
    /// The same numbers without a trace.
    fileprivate var detachedValue: Tensor { withoutGradient { self + 0 } }
}
