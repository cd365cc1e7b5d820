#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// The system calls that change files. Everything that Fovea keeps goes through them, so that tests can make any one of
/// them fail (`WriteFaults`).
///
/// Each returns 0, or the system's error number. `path` is the file or folder that the change belongs to.
package enum Disk {
    /// What is changed.
    package enum Change: Sendable { case create, write, flush, rename, makeFolder }

    /// Creates a file that must not be there yet, for writing.
    static func create(_ name: String, for path: String) -> (descriptor: Int32, code: Int32) {
        #if DEBUG
        if let code = WriteFaults.next(.create, path) { return (-1, code) }
        #endif
        let descriptor = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
        return (descriptor, descriptor < 0 ? errno : 0)
    }

    /// Writes some of the bytes, at least one.
    static func write(
        _ bytes: UnsafeRawBufferPointer, to descriptor: Int32, for path: String
    ) -> (written: Int, code: Int32) {
        #if DEBUG
        // Half of the bytes arrive, as on a real disk.
        let half = { _ = systemWrite(descriptor, bytes.baseAddress, bytes.count / 2) }
        if let code = WriteFaults.next(.write, path, partly: half) { return (-1, code) }
        #endif
        let written = systemWrite(descriptor, bytes.baseAddress, bytes.count)
        return (written, written < 0 ? errno : 0)
    }

    /// Flushes a file, or a folder, to the disk.
    static func flush(_ descriptor: Int32, for path: String) -> Int32 {
        changed(.flush, path) { fsync(descriptor) }
    }

    /// Gives something another name; what has that name already is replaced.
    package static func rename(_ old: String, to new: String) -> Int32 {
        changed(.rename, new) { systemRename(old, new) }
    }

    /// Makes a folder whose parent is there.
    package static func makeFolder(_ path: String) -> Int32 {
        changed(.makeFolder, path) { mkdir(path, 0o777) }
    }

    private static func changed(_ kind: Change, _ path: String, _ change: () -> Int32) -> Int32 {
        #if DEBUG
        if let code = WriteFaults.next(kind, path) { return code }
        #endif
        return change() == 0 ? 0 : errno
    }
}

// By their modules' names: inside `Disk` the short ones are its own.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
    #if canImport(Glibc)
    Glibc.write(descriptor, bytes, count)
    #elseif canImport(Musl)
    Musl.write(descriptor, bytes, count)
    #else
    Darwin.write(descriptor, bytes, count)
    #endif
}

private func systemRename(_ old: String, _ new: String) -> Int32 {
    #if canImport(Glibc)
    Glibc.rename(old, new)
    #elseif canImport(Musl)
    Musl.rename(old, new)
    #else
    Darwin.rename(old, new)
    #endif
}
