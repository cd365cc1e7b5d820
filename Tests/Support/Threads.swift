import FoveaTensor
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Runs `body` on a new thread with a stack of `stackSize` bytes and waits for its result.
///
/// Recursion that a large main stack would hide overflows here.
public func onThread<Result: Sendable>(stackSize: Int, _ body: @escaping @Sendable () -> Result) -> Result {
    let result = Box<Result>()
    guard let thread = startThread(stackSize: stackSize, { result.value.withLock { $0 = body() } }) else {
        fatalError("no thread with a stack of \(stackSize) bytes could be started")
    }
    pthread_join(thread, nil)
    return result.value.withLock { $0! }
}

private final class Box<Value: Sendable>: Sendable {
    let value = Mutex<Value?>(nil)
}
