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
    let errand = Errand { result.value.withLock { $0 = body() } }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    guard pthread_attr_setstacksize(&attributes, stackSize) == 0 else {
        fatalError("a stack of \(stackSize) bytes is refused")
    }
    // The thread gets an address: what pthread runs is a C function and captures nothing.
    let argument = Unmanaged.passUnretained(errand).toOpaque()
    #if canImport(Darwin)
    var thread: pthread_t?
    #else
    var thread = pthread_t()
    #endif
    let failure = pthread_create(
        &thread, &attributes,
        { argument in
            let address: UnsafeMutableRawPointer? = argument
            Unmanaged<Errand>.fromOpaque(address!).takeUnretainedValue().run()
            return nil
        }, argument)
    guard failure == 0 else { fatalError("no thread could be started") }
    #if canImport(Darwin)
    pthread_join(thread!, nil)
    #else
    pthread_join(thread, nil)
    #endif
    return withExtendedLifetime(errand) { result.value.withLock { $0! } }
}

private final class Errand: Sendable {
    let run: @Sendable () -> Void
    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

private final class Box<Value: Sendable>: Sendable {
    let value = Mutex<Value?>(nil)
}
