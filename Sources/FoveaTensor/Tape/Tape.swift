import CKernels
import Synchronization

/// Where a tensor was computed: the tape and the record on it. Tape 0 is none.
///
/// Two numbers instead of a reference: a tensor that outlives its tape is an ordinary constant, keeps nothing alive,
/// and can be sent to another thread.
struct Trace: Sendable, Equatable {
    var tape: UInt32 = 0
    var index: Int32 = -1
}

/// What one operand's gradient is, given the gradient of the output.
package enum Pullback {
    case value((Tensor) -> Tensor)
    case into((Tensor, inout Adjoint) -> Void)
}

/// The ops that were applied to traced tensors, in the order of the calls.
///
/// A tape belongs to the thread that opened it. Records name their operands by index, so that neither going backward
/// nor releasing a tape recurses, however long the chain.
package final class Tape {
    enum Record {
        /// A tensor that the gradient is asked for.
        case leaf
        case one(Op, Int32, Pullback)
        case two(Op, Int32, Pullback, Int32, Pullback)
        case many(Op, [(operand: Int32, pullback: Pullback)])
        /// Operands whose gradients share their work; the flags say which are wanted.
        case joint(Op, [Int32], (Tensor, [Bool]) -> [Tensor?])
        /// An op with several outputs: this record stands for the first, `.further` ones behind it for the others.
        case several(Op, [Int32], outputs: Int, ([Tensor?], [Bool]) -> [Tensor?])
        /// One more output of the record before; its adjoint waits for that one.
        case further(Op)
        /// A stretch that is computed again when its gradient is needed.
        case recomputed(() -> Tensor)
        /// Gone backward already.
        case spent
    }

    let id: UInt32
    private let outer: Tape?
    private let outerRecording: Tape?
    private var records: [Record] = []
    private var adjoints: [Adjoint] = []
    /// What values that are not finite are reported to; nil where nobody looks for them.
    private let anomalies = AnomalyLog.current
    /// The parameter that each record belongs to; empty where nobody looks for anomalies.
    private var labels: [RecordLabel] = []

    // MARK: Opening and closing

    private static let lastID = Atomic<UInt32>(0)
    private static let liveIDs = Lock<Set<UInt32>>([])

    /// Runs `body` with a new tape that this thread records on.
    package static func record<Result>(_ body: (Tape) throws -> Result) rethrows -> Result {
        let tape = Tape()
        defer { tape.close() }
        return try body(tape)
    }

    private init() {
        id = Tape.lastID.add(1, ordering: .relaxed).newValue
        outer = ThreadState.innermostTape
        outerRecording = ThreadState.recordingTape
        _ = Tape.liveIDs.withLock { [id] in $0.insert(id) }
        ThreadState.innermostTape = self
        ThreadState.recordingTape = self
    }

    private func close() {
        ThreadState.innermostTape = outer
        ThreadState.recordingTape = outerRecording
        _ = Tape.liveIDs.withLock { $0.remove(id) }
    }

    /// Runs `body` with nothing recorded on this thread.
    static func paused<Result>(_ body: () throws -> Result) rethrows -> Result {
        let recording = ThreadState.recordingTape
        ThreadState.recordingTape = nil
        defer { ThreadState.recordingTape = recording }
        return try body()
    }

    // MARK: Recording

    /// The value as a leaf of this tape: the gradient with respect to it can be asked for.
    package func leaf(_ tensor: Tensor) -> Tensor {
        let leaf = tensor.traced(append(.leaf, label: tensor.label), label: tensor.label)
        if let anomalies { anomalies.inspect(leaf, .parameter, nil, label: leaf.label) }
        return leaf
    }

    private func append(_ record: Record, label: UInt32 = 0) -> Trace {
        records.append(record)
        if anomalies != nil { labels.append(RecordLabel(of: record, label, labels)) }
        return Trace(tape: id, index: Int32(records.count - 1))
    }

    /// The output of an op, recorded.
    func recorded(_ output: Tensor, _ record: Record) -> Tensor {
        let traced = output.traced(append(record))
        if let anomalies {
            anomalies.inspect(traced, .output, record.source?.op, label: labels[Int(traced.trace.index)].label)
        }
        return traced
    }

    /// The tape that an op on these operands is recorded on: nil when none of them is traced by it.
    @inline(__always)
    static func recording(_ x: Tensor) -> Tape? {
        guard x.trace.tape != 0 else { return nil }
        return wanted(x)
    }

    private static func wanted(_ x: Tensor) -> Tape? {
        if let tape = ThreadState.recordingTape {
            if tape.id == x.trace.tape { return tape }
            var outer = tape.outer
            while let open = outer {
                if open.id == x.trace.tape {
                    trap(
                        "gradient",
                        "a gradient cannot be differentiated again (second order is out of scope): a "
                            + "tensor traced by an outer gradient is used inside an inner one", x)
                }
                outer = open.outer
            }
        } else if ThreadState.innermostTape != nil {
            return nil
        }
        // None of this thread's: a tape of another one, or one that is closed.
        if liveIDs.withLock({ $0.contains(x.trace.tape) }) {
            trap("gradient", "a tensor that another thread is tracing was used on this one", x)
        }
        return nil
    }

    /// Traps when a tensor that this tape is to trace is traced by one around it.
    package func refuseTracedOutside(_ tensor: Tensor, _ caller: String) {
        if outer != nil { Tape.refuseTraced([tensor], caller) }
    }

    /// Traps when one of the values is traced by a tape that is still open on this thread.
    package static func refuseTraced(_ tensors: [Tensor], _ caller: String) {
        var open = ThreadState.innermostTape
        while let tape = open {
            for tensor in tensors where tensor.trace.tape == tape.id {
                trap(
                    caller,
                    "a gradient cannot be differentiated again (second order is out of scope): the argument "
                        + "is traced by an outer gradient", tensor)
            }
            open = tape.outer
        }
    }

    // MARK: Going backward

    /// The gradients of ⟨`output`, `cotangent`⟩ with respect to leaves; nil where it does not depend on one.
    package func gradients(
        of output: consuming Tensor, along cotangent: Tensor, for leaves: [Tensor]
    ) -> [Tensor?] {
        let trace = output.trace
        _ = consume output
        guard trace.tape == id else { return leaves.map { _ in nil } }
        adjoints = Array(repeating: Adjoint(), count: records.count)
        adjoints[Int(trace.index)].value = cotangent
        Tape.paused { goBackward(from: Int(trace.index), to: 0) }
        let found = leaves.map { adjoints[Int($0.trace.index)].take() }
        adjoints = []
        records = []
        return found
    }

    private func goBackward(from last: Int, to first: Int) {
        var index = last
        while index >= first {
            defer { index -= 1 }
            switch records[index] {
            case .leaf, .further: continue
            case .several(_, let operands, let outputs, let pullback):
                let record = records[index]
                records[index] = .spent
                goBackward(operands, index..<index + outputs, pullback)
                if anomalies != nil { inspectGradients(of: record, at: index) }
                continue
            default: break
            }
            // Taken out, so that what it saved is freed as soon as it has run.
            var record = Record.spent
            swap(&record, &records[index])
            guard let cotangent = adjoints[index].take() else { continue }
            switch record {
            case .leaf, .further, .several, .spent:
                break
            case .one(_, let operand, let pullback):
                accumulate(pullback, cotangent, operand)
            case .two(_, let a, let pullbackA, let b, let pullbackB):
                accumulate(pullbackA, cotangent, a)
                accumulate(pullbackB, cotangent, b)
            case .many(_, let branches):
                for branch in branches { accumulate(branch.pullback, cotangent, branch.operand) }
            case .joint(_, let operands, let pullback):
                add(pullback(cotangent, operands.map { $0 >= 0 }), to: operands)
            case .recomputed(let body):
                goBackward(through: body, cotangent)
            }
            if anomalies != nil { inspectGradients(of: record, at: index) }
        }
    }

    /// Looks at what an op has just handed to its operands.
    private func inspectGradients(of record: Record, at index: Int) {
        guard let anomalies, let source = record.source else { return }
        for operand in source.operands {
            guard let gradient = adjoints[Int(operand)].value else { continue }
            anomalies.inspect(gradient, .gradient, source.op, label: labels[index].label)
        }
    }

    /// Goes back through an op with several outputs; those that nothing depends on have no cotangent.
    private func goBackward(
        _ operands: [Int32], _ outputs: Range<Int>, _ pullback: ([Tensor?], [Bool]) -> [Tensor?]
    ) {
        let cotangents = outputs.map { adjoints[$0].take() }
        guard cotangents.contains(where: { $0 != nil }) else { return }
        add(pullback(cotangents, operands.map { $0 >= 0 }), to: operands)
    }

    private func add(_ gradients: [Tensor?], to operands: [Int32]) {
        for (operand, gradient) in zip(operands, gradients) where operand >= 0 {
            if let gradient { adjoints[Int(operand)].add(gradient) }
        }
    }

    private func accumulate(_ pullback: Pullback, _ cotangent: Tensor, _ operand: Int32) {
        switch pullback {
        case .value(let gradient): adjoints[Int(operand)].add(gradient(cotangent))
        case .into(let accumulate): accumulate(cotangent, &adjoints[Int(operand)])
        }
    }

    /// Records the stretch again at the end of the tape, goes back through it and cuts it off. What the stretch
    /// captured stands earlier on the tape and gets its gradient as if the stretch had been recorded at once.
    private func goBackward(through body: () -> Tensor, _ cotangent: Tensor) {
        let start = records.count
        ThreadState.recordingTape = self
        let output = body()
        ThreadState.recordingTape = nil
        if output.trace.tape == id {
            adjoints.append(contentsOf: repeatElement(Adjoint(), count: records.count - start))
            adjoints[Int(output.trace.index)].add(cotangent)
            goBackward(from: records.count - 1, to: start)
        }
        records.removeSubrange(start...)
        labels.removeSubrange(min(start, labels.count)...)
        adjoints.removeSubrange(min(start, adjoints.count)...)
    }
}

/// The gradient of one tensor while it is being added up.
public struct Adjoint {
    var value: Tensor?

    init() {}

    mutating func take() -> Tensor? {
        defer { value = nil }
        return value
    }

    /// Adds a contribution, in place where the sum so far is not shared.
    public mutating func add(_ gradient: Tensor) {
        guard var sum = value else {
            value = gradient
            return
        }
        value = nil
        Adjoint.require(sum, gradient.shape, gradient.dtype)
        sum.accumulate(gradient)
        value = sum
    }

    /// Whether anything was added yet.
    var isEmpty: Bool { value == nil }

    /// Traps unless a sum is of the shape and type of what is to be added.
    private static func require(_ sum: Tensor, _ shape: [Int], _ dtype: DType) {
        guard sum.shape == shape, sum.dtype == dtype else {
            trap("gradient", "contributions to one gradient differ in shape or type: \(dtype) \(shape) to", sum)
        }
    }

    /// Calls `body` with memory to add to (`isFirst` false) or to fill (`isFirst` true).
    package mutating func withSum(
        _ shape: [Int], _ dtype: DType, _ body: (_ sum: UnsafeMutableRawPointer, _ isFirst: Bool) -> Void
    ) {
        var sum = value
        value = nil
        let isFirst = sum == nil
        if let sum { Adjoint.require(sum, shape, dtype) }
        var target = sum ?? Tensor(uninitialized: shape, dtype)
        sum = nil
        if !target.isReusable() { target = target.copy() }
        target.write { body($0, isFirst) }
        value = target
    }
}

extension Tensor {
    /// A copy of its own memory, row-major.
    package func copy() -> Tensor {
        guard isContiguous else { return contiguous().detached }
        let copy = Tensor(uninitialized: shape, dtype)
        read { source in copy.write { $0.copyMemory(from: source, byteCount: count * dtype.size) } }
        return copy
    }

    /// self += other, in place where the memory is not shared.
    mutating func accumulate(_ other: Tensor) {
        guard isReusable() else {
            self = Tensor.combined(self, other, CK_ADD, "add")
            return
        }
        let other = other.contiguous()
        let loop: @convention(c) (UnsafeRawPointer?, UnsafeMutableRawPointer?, Int) -> Void =
            pick(Kernels.table.pointee.accumulate, dtype)
        let size = dtype.size
        let count = count
        other.read { source in
            write { target in
                parallelFor(count, grain: Kernels.grain) { range in
                    loop(source + range.lowerBound * size, target + range.lowerBound * size, range.count)
                }
            }
        }
    }
}
