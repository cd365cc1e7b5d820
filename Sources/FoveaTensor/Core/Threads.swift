#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What a thread runs. pthread takes a C function, which captures nothing, and an address: this one's.
private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

/// Starts a thread that runs `body`, to be joined or detached; nil where the system gives none, which Foundation's own does
/// not tell.
///
/// - Parameters:
///   - stackSize: bytes, which the system must allow; its own choice where nil.
///   - body: what it runs.
package func startThread(stackSize: Int? = nil, _ body: @escaping @Sendable () -> Void) -> pthread_t? {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    if let stackSize, pthread_attr_setstacksize(&attributes, stackSize) != 0 { return nil }
    let argument = Unmanaged.passRetained(ThreadBody(body))
    #if canImport(Darwin)
    var thread: pthread_t?
    #else
    var thread = pthread_t()
    #endif
    let failure = pthread_create(
        &thread, &attributes,
        { argument in
            let address: UnsafeMutableRawPointer? = argument
            Unmanaged<ThreadBody>.fromOpaque(address!).takeRetainedValue().run()
            return nil
        }, argument.toOpaque())
    guard failure == 0 else {
        argument.release()
        return nil
    }
    return thread
}
