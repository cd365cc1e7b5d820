import CKernels
import FoveaTensor
import FoveaTestSupport
import Synchronization
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Tests of what a whole process shares: the workers, the table of loops, the counters of the storage pool.
///
/// Tests run side by side in one process, those of other targets too, and what one changes of this the others would work with.
/// So each of these tests has a process of its own.
@Suite("In a process of its own")
struct ProcessTests {
    // MARK: Workers

    @Test("results and gradients have the same bits on 1, 2 and 3 workers")
    func workers() async {
        await #expect(processExitsWith: .success) {
            for op in Op.catalogue {
                let calls = try #require(ShapedCall.large[op.name], "\(op.name) has no large call")
                for call in calls {
                    for type in [DType.float64, .float32] {
                        let place = "\(op.name), “\(call.label)” on \(call.shapes), \(type)"
                        Workers.count = 1
                        let computed = try Computation(op, call, type)
                        let alone = computed()
                        for count in [2, 3] {
                            Workers.count = count
                            #expect(Workers.count == count)
                            for (position, (a, b)) in zip(alone, computed()).enumerated() {
                                expectSameBits(b, a, "\(place), \(count) workers, result \(position)")
                            }
                        }
                    }
                }
            }
        }
    }

    @Test("random numbers have the same bits on 1, 2 and 3 workers")
    func randomWorkers() async {
        await #expect(processExitsWith: .success) {
            let key = RandomKey(seed: 4)
            func drawn() -> [Tensor] {
                [.uniform([70_001], key: key), .normal([301, 401], key: key, dtype: .float64)]
            }
            Workers.count = 1
            let alone = drawn()
            for count in [2, 3] {
                Workers.count = count
                for (a, b) in zip(alone, drawn()) { expectSameBits(b, a, "\(count) workers") }
            }
        }
    }

    @Test("ops on several threads at once share the workers")
    func contention() async {
        await #expect(processExitsWith: .success) {
            Workers.count = 3
            let x = Tensor.uniform([70_001], in: -2...2, key: RandomKey(seed: 6), dtype: .float64)
            let expected = x.exp()
            await withTaskGroup(of: Tensor.self) { group in
                for _ in 0..<8 {
                    group.addTask { (0..<20).reduce(x) { last, _ in last * 0 + x.exp() } }
                }
                for await result in group { expectSameBits(result, expected) }
            }
        }
    }

    @Test("the number of workers may change while other threads run ops")
    func resizing() async {
        await #expect(processExitsWith: .success) {
            let x = Tensor.uniform([300, 700], in: -2...2, key: RandomKey(seed: 6))
            let turned = x.transposed(0, 1)
            func results() -> [[UInt8]] { [(x + x).bytes(), matmul(x, turned).bytes()] }
            let expected = results()
            let changes = Atomic<Int>(0)
            let isDone = Atomic<Bool>(false)
            let thread = startThread {
                while !isDone.load(ordering: .relaxed) {
                    Workers.count = 1 + changes.add(1, ordering: .relaxed).newValue % 4
                }
            }
            pthread_detach(try #require(thread))
            var (wrong, rounds) = (0, 0)
            while rounds < 100 || changes.load(ordering: .relaxed) < 100 {
                if results() != expected { wrong += 1 }
                rounds += 1
            }
            isDone.store(true, ordering: .relaxed)
            #expect(wrong == 0)
        }
    }

    // MARK: Caches

    @Test("what is stored past the caches has the bits of what is not")
    func pastCaches() async {
        await #expect(processExitsWith: .success) {
            for op in Op.catalogue {
                for call in ShapedCall.large[op.name] ?? [] {
                    for type in [DType.float64, .float32] {
                        Kernels.lastCache = Int.max
                        let computed = try Computation(op, call, type)
                        let expected = computed()
                        Kernels.lastCache = 0
                        for (a, b) in zip(computed(), expected) { expectSameBits(a, b) }
                    }
                }
            }
        }
    }

    // MARK: Instruction sets

    @Test("every instruction set agrees with the references", arguments: ["base", "v3", "v4", "amx"])
    func instructionSets(name: String) async {
        await #expect(processExitsWith: .success) { [name] in
            // A machine without the instructions has nothing to test; the base is everywhere.
            guard let table = ck_table_named(name) else {
                #expect(name != "base")
                return
            }
            Kernels.table = table
            #expect(instructionSet == name)
            for op in Op.catalogue {
                for check in [OpCheck.references, .tails] {
                    for finding in try check.findings(op) { Issue.record("\(op.name): \(finding)") }
                }
            }
        }
    }

    @Test("instruction sets agree with each other within some units", arguments: ["v3", "v4", "amx"])
    func instructionSetsAgree(name: String) async {
        await #expect(processExitsWith: .success) { [name] in
            let base = try #require(ck_table_named("base"))
            guard let table = ck_table_named(name) else { return }
            // In units of half the gap above 1, for numbers below 1 of 1. What only moves elements has the same bits, and
            // what is one correctly rounded operation is off by one unit at most. Elsewhere one fused rounding instead of
            // two moves a result by one unit, and a sum by one for each of its terms at worst. Products add up hundreds of
            // terms in one lane, and the gradient of a norm's weight thousands.
            func units(_ op: Op, _ position: Int) -> Double {
                guard position == 0, let rounding = Reference.table[op.name]?.float32.units else { return 32 }
                return rounding <= 1 ? rounding : 32
            }
            let longSums = [
                "matmul", "linear", "joinedLinear", "joinedAffine", "groupedLinear", "outer", "einsum", "convolution",
            ]
            for op in Op.catalogue {
                for call in ShapedCall.large[op.name] ?? [] {
                    for (type, unit) in [(DType.float64, 0x1p-53), (.float32, 0x1p-24)] {
                        Kernels.table = base
                        let computed = try Computation(op, call, type)
                        let expected = computed()
                        Kernels.table = table
                        for (position, (a, b)) in zip(expected, computed()).enumerated() {
                            let isLongSum =
                                ["layerNorm", "rmsNorm"].contains(op.name) && position == 2
                                || longSums.contains(op.name)
                            expectClose(
                                b, a, tolerance: units(op, position) * unit, floor: isLongSum ? 64 : 1,
                                "\(op.name), “\(call.label)” on \(call.shapes), \(type), result \(position)")
                        }
                    }
                }
            }
        }
    }

    // MARK: Memory

    @Test("a chain of 1,000,000 ops fits a stack of 512 KiB, forward, backward and when it is released")
    func longChain() async {
        await #expect(processExitsWith: .success) {
            let start = StoragePool.statistics.liveBuffers
            let slope = onThread(stackSize: 512 << 10) {
                gradient(
                    of: { x in
                        var y = x
                        for _ in 0..<1_000_000 { y = y + 1 }
                        return y.sum()
                    }, at: Tensor([2.0])
                ).item()
            }
            #expect(slope == 1)
            #expect(StoragePool.statistics.liveBuffers == start)
        }
    }

    @Test("a chain that never goes backward is released without recursion")
    func abandonedChain() async {
        await #expect(processExitsWith: .success) {
            let start = StoragePool.statistics.liveBuffers
            onThread(stackSize: 512 << 10) {
                // The value does not depend on the chain, whose last tensor outlives the tape.
                var last: Tensor?
                _ = gradient(
                    of: { x in
                        var y = x
                        for _ in 0..<200_000 { y = y * x }
                        last = y
                        return Tensor([1.0])
                    }, at: Tensor([1.0]))
                _ = last?.exp()
            }
            #expect(StoragePool.statistics.liveBuffers == start)
        }
    }

    @Test("no op leaves a buffer behind, and 1,000 gradients of them have no higher peak than the first round")
    func opsLeaveNothing() async {
        await #expect(processExitsWith: .success) {
            let calls = Op.catalogue.map { ($0, $0.samples()) }
            func step(_ number: Int, _ sample: Int) {
                let (op, samples) = calls[number % calls.count]
                let call = samples[sample % samples.count]
                if op.isDifferentiable { _ = pullBack(call.run, call.inputs) } else { _ = call.run(call.inputs) }
            }
            for (number, call) in calls.enumerated() {
                for (position, sample) in call.1.enumerated() {
                    // Once before: constants of a call stay.
                    step(number, position)
                    let before = StoragePool.statistics.liveBuffers
                    step(number, position)
                    let after = StoragePool.statistics.liveBuffers
                    #expect(after == before, "\(call.0.name), “\(sample.label)”")
                }
            }
            StoragePool.resetPeak()
            for number in 0..<calls.count { step(number, 0) }
            let (peak, live) = (StoragePool.statistics.peakBytes, StoragePool.statistics.liveBytes)
            StoragePool.resetPeak()
            for number in 0..<1000 { step(number, 0) }
            #expect(StoragePool.statistics.peakBytes == peak)
            #expect(StoragePool.statistics.liveBytes == live)
        }
    }

    @Test("1,000 training steps leave no buffer behind and no higher peak")
    func trainingSteps() async {
        await #expect(processExitsWith: .success) {
            let key = RandomKey(seed: 7)
            let x = Tensor.normal([8, 5], key: key.folding("x"))
            let labels = Tensor((0..<8).map { Int64($0 % 3) })
            var parameters = [
                Tensor.normal([16, 5], deviation: 0.3, key: key.folding("in")), .zeros([16]), .ones([16]), .zeros([16]),
                Tensor.normal([3, 16], deviation: 0.3, key: key.folding("out")), .zeros([3]),
            ]
            func step() -> Double {
                let (loss, gradients) = valueAndGradient(
                    of: { p in
                        let hidden = checkpointed { linear(x, weight: p[0], bias: p[1]).gelu() }
                        let normal = layerNorm(hidden, weight: p[2], bias: p[3])
                        return crossEntropy(linear(normal, weight: p[4], bias: p[5]), labels)
                    }, at: parameters)
                for (position, gradient) in gradients.enumerated() { parameters[position] += gradient * -0.1 }
                return loss.item()
            }
            let first = step()
            for _ in 0..<10 { _ = step() }
            let baseline = StoragePool.statistics
            StoragePool.resetPeak()
            for _ in 0..<10 { _ = step() }
            let peak = StoragePool.statistics.peakBytes
            StoragePool.resetPeak()
            var last = 0.0
            for _ in 0..<1000 { last = step() }
            let end = StoragePool.statistics
            #expect(end.liveBuffers == baseline.liveBuffers)
            #expect(end.liveBytes == baseline.liveBytes)
            #expect(end.cachedBytes == baseline.cachedBytes, "steps of one size ask the system for more memory")
            #expect(end.peakBytes == peak)
            #expect(last < first * 0.1, "the steps train nothing: loss \(first), then \(last)")
        }
    }

    @Test("an operand that is not traced keeps nothing alive")
    func untracedOperand() async {
        await #expect(processExitsWith: .success) {
            let x = Tensor.ones([4])
            _ = gradient(
                of: { x in
                    let before = StoragePool.statistics.liveBuffers
                    // The constant's gradient alone would need 2x, the result's nothing but the constant.
                    var product: Tensor? = (x * 2) * Tensor.ones([4])
                    let during = StoragePool.statistics.liveBuffers
                    #expect(during == before + 2, "the constant and the product stay, 2x goes")
                    product = product.map { $0.sum() }
                    return product!
                }, at: x)
        }
    }

    @Test("a checkpointed stretch keeps its result alone")
    func checkpointMemory() async {
        await #expect(processExitsWith: .success) {
            func live(_ stretch: (Tensor) -> Tensor) -> Int {
                var buffers = 0
                _ = gradient(
                    of: { x in
                        let before = StoragePool.statistics.liveBuffers
                        let y = stretch(x)
                        buffers = StoragePool.statistics.liveBuffers - before
                        return y.sum()
                    }, at: Tensor.ones([64]))
                return buffers
            }
            let chain: @Sendable (Tensor) -> Tensor = { $0.exp().tanh().exp().tanh().exp() }
            #expect(live(chain) == 5)
            #expect(live { x in checkpointed { chain(x) } } == 1)
        }
    }

    @Test("attention to 8192 tokens takes memory that grows with their number, with taps and gradients")
    func attentionMemory() async {
        await #expect(processExitsWith: .success) {
            /// Bytes at the peak beside the operands.
            func extra(_ tokens: Int) -> (forward: Int, tapped: Int, backward: Int) {
                func x(_ stream: UInt64) -> Tensor { .uniform([2, tokens, 16], key: RandomKey(seed: stream)) }
                let (q, k, v, bias) = (x(1), x(2), x(3), x(4).sliced(axis: 2, 0..<1).reshaped(to: [2, 1, tokens]))
                func peak(_ body: () -> Void) -> Int {
                    StoragePool.resetPeak()
                    let start = StoragePool.statistics.liveBytes
                    body()
                    return StoragePool.statistics.peakBytes - start
                }
                let taps: [AttentionTap] = [.columnMean(of: 0..<tokens), .rows([tokens - 1], heads: .each)]
                return (
                    peak { _ = attention(query: q, keys: k, values: v) },
                    peak { _ = attention(query: q, keys: k, values: v, taps: taps) },
                    peak {
                        _ = valueAndGradient(
                            of: { attention(query: $0[0], keys: $0[1], values: $0[2], mask: $0[3]).sum() },
                            at: [q, k, v, bias])
                    }
                )
            }
            Workers.count = 2
            let (small, large) = (extra(2048), extra(8192))
            // Four times the tokens: at most four times the memory.
            #expect(large.forward <= 4 * small.forward)
            #expect(large.tapped <= 4 * small.tapped)
            #expect(large.backward <= 4 * small.backward)
            // One head's weights in float32 are 256 MiB.
            #expect(large.forward < 4 << 20)
            #expect(large.tapped < 16 << 20)
            #expect(large.backward < 24 << 20)
        }
    }

    @Test("attention's taps have the same bits on 1, 2 and 3 workers")
    func tapWorkers() async {
        await #expect(processExitsWith: .success) {
            for heads in [1, 4, 40] {
                func x(_ stream: UInt64) -> Tensor {
                    .uniform([heads, 300, 8], in: -2...2, key: RandomKey(seed: stream))
                }
                let (q, k, v) = (x(1), x(2), x(3))
                func tapped() -> [Tensor] {
                    attention(
                        query: q, keys: k, values: v, isCausal: true,
                        taps: [.columnMean(of: 0..<300), .columnMean(of: 5..<299, heads: .each), .rows([7, 299])]
                    ).taps
                }
                Workers.count = 1
                let alone = tapped()
                for count in [2, 3] {
                    Workers.count = count
                    for (a, b) in zip(alone, tapped()) { expectSameBits(b, a, "\(heads) heads, \(count) workers") }
                }
            }
        }
    }

    @Test("the counters follow what is in use")
    func counters() async {
        await #expect(processExitsWith: .success) {
            StoragePool.trim()
            StoragePool.resetPeak()
            let start = StoragePool.statistics
            #expect(start.cachedBytes == 0)
            #expect(start.peakBytes == start.liveBytes)
            var x: Tensor? = Tensor(uninitialized: [1000], .float32)
            let held = StoragePool.statistics
            #expect(held.liveBuffers == start.liveBuffers + 1)
            let bytes = held.liveBytes - start.liveBytes
            #expect((4000...5000).contains(bytes))
            // A view is not a buffer.
            x = x!.reshaped(to: [10, 100]).transposed(0, 1)
            #expect(StoragePool.statistics == held)
            x = nil
            let freed = StoragePool.statistics
            #expect(freed.liveBuffers == start.liveBuffers)
            #expect(freed.liveBytes == start.liveBytes)
            #expect(freed.cachedBytes == bytes)
            #expect(freed.peakBytes == held.liveBytes)
            // The next one of about that size takes the waiting buffer.
            x = Tensor(uninitialized: [999], .float32)
            #expect(StoragePool.statistics.cachedBytes == 0)
            x = nil
            StoragePool.trim()
            #expect(StoragePool.statistics.cachedBytes == 0)
            StoragePool.resetPeak()
            #expect(StoragePool.statistics.peakBytes == start.liveBytes)
        }
    }
}

/// A call in one type, to be repeated: its result and, for differentiable ops, the gradients.
private struct Computation {
    private let op: Op
    private let inputs: [Tensor]
    private let run: @Sendable ([Tensor]) -> Tensor
    private let cotangent: Tensor

    init(_ op: Op, _ call: ShapedCall, _ type: DType) throws {
        let (inputs, run) = try call.inputs(of: op)
        self.op = op
        self.run = run
        self.inputs = inputs.map { $0.dtype == .float64 ? $0.cast(to: type) : $0 }
        cotangent = ripple(like: run(self.inputs))
    }

    func callAsFunction() -> [Tensor] {
        guard op.isDifferentiable else { return [run(inputs)] }
        let pulled = pullBack(run, inputs) { _ in cotangent }
        return [pulled.output] + pulled.gradients
    }
}
