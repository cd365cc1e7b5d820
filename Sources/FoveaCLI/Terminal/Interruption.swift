import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Ctrl-C and its like, as a question that the training loop asks between steps.
enum Interruption {
    private static let signalNumber = Atomic<Int32>(0)

    /// The signal that came, if one did.
    static var received: Int32? {
        let number = signalNumber.load(ordering: .relaxed)
        return number == 0 ? nil : number
    }

    /// Takes INT and TERM from now on. A second signal ends the process at once, as the first does without this.
    static func watch() {
        _ = received  // makes the counter before a handler may need it
        var signals = sigset_t()
        sigemptyset(&signals)
        for number in [SIGINT, SIGTERM] {
            sigaddset(&signals, number)
            signal(number) { number in
                if Interruption.signalNumber.exchange(number, ordering: .relaxed) != 0 {
                    signal(number, SIG_DFL)
                    raise(number)
                }
            }
        }
        // A program that starts this one from a thread of a pool hands down that thread's mask, which blocks them.
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    }
}
