import Foundation
import FoveaTensor
import FoveaTestSupport
import Testing

/// How many programs, and from which seed: `FOVEA_FUZZ_PROGRAMS` and `FOVEA_FUZZ_SEED`.
private enum FuzzSettings {
    static func number(_ name: String, _ standard: UInt64) -> UInt64 {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) } ?? standard
    }
    static var seed: UInt64 { number("FOVEA_FUZZ_SEED", 20) }
    static var programs: UInt64 { number("FOVEA_FUZZ_PROGRAMS", 400) }
    /// The seed of one program.
    static func seed(of program: UInt64) -> UInt64 { RandomKey(seed: seed).bits(at: Int(program)) >> 16 }
}

@Suite("Random programs")
struct FuzzTests {
    private static let shards: UInt64 = 4

    @Test("have the gradients of finite differences, for views and in checkpoints too", arguments: 0..<shards)
    func gradients(shard: UInt64) {
        let (seed, programs) = (FuzzSettings.seed, FuzzSettings.programs)
        print("fuzz: FOVEA_FUZZ_SEED=\(seed) FOVEA_FUZZ_PROGRAMS=\(programs), every 4th from \(shard)")
        var calls = 0
        for number in stride(from: shard, to: programs, by: UInt64.Stride(Self.shards)) {
            let program = FuzzProgram(seed: FuzzSettings.seed(of: number))
            calls += program.calls
            guard let failure = FuzzTests.failure(of: program) else { continue }
            let smallest = program.shrunk { FuzzTests.failure(of: $0) != nil }
            Issue.record(
                """
                program \(number) of FOVEA_FUZZ_SEED=\(seed): \(failure)
                \(program)
                smallest that fails: \(FuzzTests.failure(of: smallest) ?? "none")
                \(smallest)
                """)
        }
        #expect(calls > Int(programs) / 4 * 4, "hardly any ops were applied")
    }

    /// What is wrong with the gradients of a program; nil when nothing is, or when it cannot be checked.
    static func failure(of program: FuzzProgram) -> String? {
        let leaves = program.leaves
        guard let output = program.run(leaves, isCareful: true), output.count > 0 else { return nil }
        let run: ([Tensor]) -> Tensor = { program.run($0) ?? Tensor([Double.nan]) }
        let names = leaves.indices.map { "leaf \($0)" }
        let check = checkGradients(of: run, at: leaves, named: names, name: "gradients", fullLimit: 64)
        if !check.passed { return check.message }

        let plain = pullBack(run, leaves)
        let checkpoint = pullBack({ inputs in checkpointed { run(inputs) } }, leaves)
        for (a, b) in zip([checkpoint.output] + checkpoint.gradients, [plain.output] + plain.gradients) {
            if let problem = bitDifference(a, b) { return "in a checkpoint: \(problem)" }
        }
        for layout in [ViewLayout.transposed, .stepped] {
            let views = leaves.map { layout.pair($0)?.view ?? $0 }
            let viewed = pullBack(run, views)
            for (a, b) in zip([viewed.output] + viewed.gradients, [plain.output] + plain.gradients) {
                // Sums may run in another order along another layout; values reach 50, gradients more.
                if let problem = difference(a, b, tolerance: 1e-10, floor: 64) { return "\(layout) leaves: \(problem)" }
            }
        }
        return nil
    }

    @Test("have the same bits on 1 and 2 workers")
    func workers() async {
        await #expect(processExitsWith: .success) {
            for number in 0..<24 as Range<UInt64> {
                let program = FuzzProgram(seed: FuzzSettings.seed(of: number), firstLength: 33_000)
                let leaves = program.leaves
                let results = try [1, 2].map { count in
                    Workers.count = count
                    let output = try #require(program.run(leaves))
                    let cotangent = ripple(like: output)
                    let pulled = pullBack({ program.run($0)! }, leaves, cotangent: { _ in cotangent })
                    return [pulled.output] + pulled.gradients
                }
                for (position, (a, b)) in zip(results[0], results[1]).enumerated() {
                    expectSameBits(
                        b, a,
                        "program \(number) of FOVEA_FUZZ_SEED=\(FuzzSettings.seed), result \(position)\n\(program)")
                }
            }
        }
    }

    @Test("draw on the whole catalogue")
    func vocabulary() {
        let names = Set(FuzzOp.all.map(\.name))
        #expect(names.count == FuzzOp.all.count)
        let differentiable = Set(Op.catalogue.filter(\.isDifferentiable).map(\.name))
        #expect(names.subtracting(differentiable).isEmpty)
        // float64 goes through, and batchNorm has the arithmetic.
        #expect(differentiable.subtracting(names) == ["cast", "batchNormInference"])
        // Over some programs each of them is applied.
        var applied = Set<String>()
        for number in 0..<1500 as Range<UInt64> {
            for case .call(let op, _, _) in FuzzProgram(seed: RandomKey(seed: 1).bits(at: Int(number)) >> 16).nodes {
                applied.insert(op.name)
            }
        }
        #expect(names.subtracting(applied).isEmpty)
    }

    @Test("shrink to the op that is broken")
    func shrinking() throws {
        // A tanh without its slope somewhere inside.
        let broken = FuzzOp("tanh") { x, _ in
            withoutGradient { x[0].tanh() }.derived(by: .tanh, from: x[0]) { g in g }
        }
        var found = 0
        for seed in 0..<40 as Range<UInt64> {
            var program = FuzzProgram(seed: seed)
            guard
                let position = program.nodes.indices.last(where: {
                    if case .call = program.nodes[$0] { true } else { false }
                }),
                case .call(_, let operands, let seed) = program.nodes[position]
            else { continue }
            program.nodes[position] = .call(broken, operands: [operands[0]], seed: seed)
            guard FuzzTests.failure(of: program) != nil else { continue }
            found += 1
            let smallest = program.shrunk { FuzzTests.failure(of: $0) != nil }
            #expect(smallest.calls == 1, "\(smallest)")
            #expect(smallest.description.contains("tanh"))
        }
        #expect(found > 10)
    }
}
