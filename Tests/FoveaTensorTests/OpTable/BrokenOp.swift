import FoveaTensor
import Testing

/// An op that is broken on purpose, and the same op unbroken: proof that the checks bite.
///
/// Both take the samples and the name of an op of the catalogue, so that its reference and its calls apply, and differ
/// in the one place that the name tells.
struct BrokenOp: Sendable, CustomTestStringConvertible {
    /// What is broken.
    let name: String
    private let base: Op
    private let labels: Set<String>?
    private let body: @Sendable (_ isBroken: Bool, _ inputs: [Tensor]) -> Tensor

    var testDescription: String { "\(base.name): \(name)" }

    /// - Parameters:
    ///   - name: what is broken.
    ///   - base: the op of the catalogue that it should be.
    ///   - labels: the samples that go through `body`; the others go to the library. All unless given.
    ///   - body: computes the op, broken or not.
    init(
        _ name: String, _ base: Op, samples labels: Set<String>? = nil,
        _ body: @escaping @Sendable (_ isBroken: Bool, _ inputs: [Tensor]) -> Tensor
    ) {
        (self.name, self.base, self.labels, self.body) = (name, base, labels, body)
    }

    /// An op of one operand whose gradient is broken; `y` is its value.
    static func slope(
        _ name: String, _ base: Op, samples labels: Set<String>? = nil,
        _ value: @escaping @Sendable (_ x: Tensor) -> Tensor,
        sound: @escaping @Sendable (_ g: Tensor, _ x: Tensor, _ y: Tensor) -> Tensor,
        broken: @escaping @Sendable (_ g: Tensor, _ x: Tensor, _ y: Tensor) -> Tensor
    ) -> BrokenOp {
        BrokenOp(name, base, samples: labels) { isBroken, inputs in
            let x = inputs[0]
            let y = withoutGradient { value(x) }
            return y.derived(by: base, from: x) { g in isBroken ? broken(g, x, y) : sound(g, x, y) }
        }
    }

    /// The op, broken or as it should be.
    func op(isBroken: Bool) -> Op {
        Op(base.name, base.summary, linearIn: base.linearOperands, exception: base.exception) { [self] _ in
            base.samples().map { sample in
                guard labels?.contains(sample.label) ?? true else { return sample }
                return OpSample(sample.label, sample.inputs, step: sample.step) { body(isBroken, $0) }
            }
        }
    }

    /// The first check of a list that finds something, and what; nil when all pass.
    func firstFinding(isBroken: Bool, of checks: [OpCheck] = OpCheck.all) throws -> (check: OpCheck, finding: String)? {
        let op = op(isBroken: isBroken)
        for check in checks where check.applies(to: op) {
            if let finding = try check.findings(op).first { return (check, finding) }
        }
        return nil
    }
}

@Suite("Ops that are broken on purpose")
struct BrokenOpTests {
    static let all = BrokenOp.gradients + BrokenOp.values

    @Test("are caught, and their unbroken twins are not", arguments: all)
    func caught(_ broken: BrokenOp) throws {
        let (check, _) = try #require(
            try broken.firstFinding(isBroken: true), "\(broken.testDescription) was not caught")
        print("caught  \(broken.testDescription)  ← \(check.name)")
        // The twin passes whatever is cheap, and the check that caught the broken one in any case.
        let others = OpCheck.all.filter { ![OpCheck.tails, .tailGradients, .chunks].map(\.name).contains($0.name) }
        let sound = try broken.firstFinding(isBroken: false, of: others + [check])
        #expect(
            sound == nil, "\(broken.testDescription), unbroken: \(sound?.check.name ?? ""): \(sound?.finding ?? "")")
    }

    @Test("are at least 25 of different kinds")
    func count() {
        #expect(Set(Self.all.map(\.testDescription)).count == Self.all.count)
        #expect(BrokenOp.gradients.count + BrokenOp.values.count >= 25)
    }
}
