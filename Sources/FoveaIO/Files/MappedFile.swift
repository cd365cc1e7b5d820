#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// A file's bytes, mapped into memory and read as they are touched.
///
/// The size is that of the moment of opening. A file that is *replaced* while it is mapped, as `writeAtomically`
/// does, stays readable in its old state; one that another program *shortens in place* cannot be, and the system ends
/// the process when the missing part is touched. Write files that others may have open under a new name and rename.
public final class MappedFile: @unchecked Sendable {
    // Read-only memory that never changes place: that makes the class sendable.

    /// The path as given.
    public let path: String
    private let mapping: UnsafeRawBufferPointer

    /// Maps a file for reading.
    ///
    /// - Throws: `FileError` when the file is missing, may not be read, or is a folder, a pipe or a device.
    public init(_ path: String) throws(FileError) {
        guard !path.utf8.contains(0) else {
            throw FileError(path: path, problem: "a path cannot contain a zero byte")
        }
        // Without O_NONBLOCK a pipe that nobody writes to would stop the program here for good.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw .system(path, "cannot be opened", code: errno) }
        defer { close(descriptor) }

        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw .system(path, "cannot be examined", code: errno) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw FileError(path: path, problem: "is \(kind(ofMode: status.st_mode)); expected a regular file")
        }
        guard let size = Int(exactly: status.st_size), size >= 0 else {
            throw FileError(path: path, problem: "reports a size of \(status.st_size) bytes, which cannot be mapped")
        }
        self.path = path
        // A mapping of no bytes is refused by the system.
        guard size > 0 else {
            mapping = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0)
        guard let address, address != MAP_FAILED else { throw .system(path, "cannot be mapped", code: errno) }
        mapping = UnsafeRawBufferPointer(start: address, count: size)
    }

    /// The size in bytes.
    public var count: Int { mapping.count }

    /// Calls `body` with all bytes. They may not be kept beyond the call.
    public func withBytes<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer { withExtendedLifetime(self) {} }
        return try body(mapping)
    }

    /// All bytes, for as long as the file itself is kept.
    package var bytes: UnsafeRawBufferPointer { mapping }

    deinit {
        if let address = mapping.baseAddress { munmap(UnsafeMutableRawPointer(mutating: address), mapping.count) }
    }
}

/// What a mode of `stat` says that something is, with its article.
func kind(ofMode mode: mode_t) -> String {
    switch mode & S_IFMT {
    case S_IFREG: "a regular file"
    case S_IFDIR: "a folder"
    case S_IFIFO: "a pipe"
    case S_IFSOCK: "a socket"
    case S_IFCHR, S_IFBLK: "a device"
    default: "not a file"
    }
}
