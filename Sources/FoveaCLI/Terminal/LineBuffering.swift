// To Swift, the C library's stdout is a variable that anyone might set. A file of its own, since an import of
// Foundation brings that view back.
#if canImport(Glibc)
@preconcurrency import Glibc
#elseif canImport(Darwin)
@preconcurrency import Darwin
#endif

extension Terminal {
    /// Hands over every line as soon as it is printed, into pipes and files too: progress is seen there while it
    /// happens, and a kill loses no line.
    static func writeLinesAtOnce() { setvbuf(stdout, nil, Int32(_IOLBF), 0) }

    /// Hands over what has been printed.
    static func flush() { fflush(stdout) }

    /// Whether anything that was printed could not be written.
    static var hasLostOutput: Bool { fflush(stdout) != 0 || ferror(stdout) != 0 }
}
