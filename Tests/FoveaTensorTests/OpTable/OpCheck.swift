import FoveaTensor
import Testing

/// A check that an op must pass, from its catalogue entry and its naive reference.
///
/// It returns what it finds wrong instead of failing a test: the ops that are broken on purpose go through the very
/// same checks, and there a finding is what is asked for.
struct OpCheck: Sendable {
    let name: String
    /// Whether it is about gradients, so that ops without one have nothing to show.
    let needsGradient: Bool
    /// The ops that it is about; all unless given.
    private let ops: Set<String>?
    private let find: @Sendable (Op) throws -> [String]

    init(
        _ name: String, needsGradient: Bool = true, of ops: Set<String>? = nil,
        _ find: @escaping @Sendable (Op) throws -> [String]
    ) {
        (self.name, self.needsGradient, self.ops, self.find) = (name, needsGradient, ops, find)
    }

    /// Whether the op has to pass it.
    func applies(to op: Op) -> Bool { (op.isDifferentiable || !needsGradient) && ops?.contains(op.name) ?? true }

    /// What is wrong with the op, a line each.
    func findings(_ op: Op) throws -> [String] { try find(op) }

    /// The table, cheapest first: each check once for every op.
    static let all: [OpCheck] = [
        references, constants, shapesAndTypes, jacobians, adjoints, singles, cotangents, singleInputs, ties, reuse,
        paths,
        repetition, views, tails, tailGradients, chunks,
    ]

    /// One op and one check that applies to it, as the argument of a test.
    struct Case: Sendable, CustomTestStringConvertible {
        let op: Op
        let check: OpCheck
        var testDescription: String { "\(op.name): \(check.name)" }
    }

    static func cases(_ ops: [Op]) -> [Case] {
        ops.flatMap { op in
            all.filter { $0.applies(to: op) }.map { Case(op: op, check: $0) }
        }
    }
}

/// The findings of several comparisons, each with the place that it was made at.
struct Findings {
    private(set) var list: [String] = []

    mutating func add(_ problem: String?, _ place: String) {
        if let problem { list.append("\(place): \(problem)") }
    }

    mutating func require(_ isTrue: Bool, _ problem: @autoclosure () -> String) {
        if !isTrue { list.append(problem()) }
    }
}
