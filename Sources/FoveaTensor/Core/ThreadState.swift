import CKernels

/// What the current thread records on, kept in C thread-local slots: reading them costs a nanosecond or two,
/// a task-local value would cost more than a small op.
package enum ThreadState {
    /// The tape that ops of this thread record on now, if any.
    @inline(__always)
    static var recordingTape: Tape? {
        get {
            guard let raw = ck_get_thread_tape() else { return nil }
            return Unmanaged<Tape>.fromOpaque(raw).takeUnretainedValue()
        }
        set { ck_set_thread_tape(newValue.map { Unmanaged.passUnretained($0).toOpaque() }) }
    }

    /// The innermost tape that this thread has open, recording or not.
    static var innermostTape: Tape? {
        get {
            guard let raw = ck_get_thread_stack() else { return nil }
            return Unmanaged<Tape>.fromOpaque(raw).takeUnretainedValue()
        }
        set { ck_set_thread_stack(newValue.map { Unmanaged.passUnretained($0).toOpaque() }) }
    }

    /// The label of the parameter that an op of this thread read last; 0 for none.
    package static var lastLabel: UInt32 {
        get { ck_get_thread_label() }
        set { ck_set_thread_label(newValue) }
    }

    /// Whether this thread only wants to know shapes; see `withoutMemory`.
    static var isPlanning: Bool {
        get { ck_get_thread_planning() != 0 }
        set { ck_set_thread_planning(newValue ? 1 : 0) }
    }
}

/// Runs `body` with tensors that have shapes and types but no memory, to learn what a module would hold before it is
/// built. Only making tensors, joining and casting them is possible inside; none of them may be read.
package func withoutMemory<Result>(_ body: () throws -> Result) rethrows -> Result {
    let outer = ThreadState.isPlanning
    ThreadState.isPlanning = true
    defer { ThreadState.isPlanning = outer }
    return try body()
}
