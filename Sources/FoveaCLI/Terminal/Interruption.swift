import Fovea
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Ctrl-C and its like, a closed terminal and a closed pipe, as a question that the training loop asks between steps.
enum Interruption {
    private static let signalNumber = Atomic<Int32>(0)

    /// The signal that came, if one did.
    static var received: Int32? {
        let number = signalNumber.load(ordering: .relaxed)
        return number == 0 ? nil : number
    }

    /// Takes INT, TERM, HUP and PIPE from now on. A second INT or TERM ends the process at once, as the first does
    /// without this; a terminal that is gone, and a reader that is gone, may tell so any number of times.
    static func watch() {
        _ = received  // makes the counter before a handler may need it
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                if Interruption.signalNumber.exchange(number, ordering: .relaxed) != 0 {
                    signal(number, SIG_DFL)
                    raise(number)
                }
            }
        }
        for number in [SIGHUP, SIGPIPE] {
            let before = signal(number) { number in
                _ = Interruption.signalNumber.compareExchange(
                    expected: 0, desired: number, ordering: .relaxed)
            }
            // Under nohup a closed terminal is nothing to stop for.
            if unsafeBitCast(before, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) { signal(number, SIG_IGN) }
        }
        unblock([SIGINT, SIGTERM, SIGHUP, SIGPIPE])
    }

    /// Lets the process end by SIGPIPE, as usual, when nobody reads its output any more, whatever the program that
    /// started it does with that signal itself.
    static func endOnClosedOutput() {
        signal(SIGPIPE, SIG_DFL)
        unblock([SIGPIPE])
    }

    /// Says in one line why the process ends when a file that it has mapped becomes shorter: what is missing cannot be read,
    /// and the system knows no other way to tell than a signal.
    static func endOnShortenedFile() {
        signal(SIGBUS) { _ in
            let line: StaticString =
                "fovea: error: a file that was being read has been made shorter by another program; begin again with the whole file\n"
            _ = write(STDERR_FILENO, line.utf8Start, line.utf8CodeUnitCount)
            _exit(1)
        }
        unblock([SIGBUS])
    }

    /// Says in one line why the process ends where the system gives it no memory.
    static func endWithoutMemory() {
        StoragePool.whenMemoryEnds { problem in
            Terminal.writeError("fovea: error: \(problem); a smaller batch, smaller sizes or fewer threads need less")
            _exit(1)
        }
    }

    /// A program that starts this one from a thread of a pool hands down that thread's mask, which blocks signals.
    private static func unblock(_ numbers: [Int32]) {
        var signals = sigset_t()
        sigemptyset(&signals)
        for number in numbers { sigaddset(&signals, number) }
        pthread_sigmask(SIG_UNBLOCK, &signals, nil)
    }
}
