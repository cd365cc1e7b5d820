import Synchronization

/// A value that one thread at a time gets, as with `Mutex`.
///
/// A lock that a thread had to wait for is taken inside the system's library, where the thread sanitizer does not look:
/// to it, what the threads do with the value would be a race. Here each hands over to the next in plain sight, at the
/// price of two moves.
package struct Lock<Value: ~Copyable>: ~Copyable, Sendable {
    private let value: Mutex<Value>
    private let isHandedOver = Atomic<Bool>(false)

    package init(_ value: consuming sending Value) { self.value = Mutex(value) }

    /// Calls `body` with the value when no other thread has it.
    package borrowing func withLock<Result, Failure: Error>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        try value.withLock { value throws(Failure) in
            _ = isHandedOver.load(ordering: .acquiring)
            defer { isHandedOver.store(true, ordering: .releasing) }
            return try body(&value)
        }
    }
}
