#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Where `writeAtomically(to:_:)` takes a file's bytes: buffered, and every write checked.
public struct FileSink: ~Copyable {
    private let path: String
    /// −1 once closed.
    private var descriptor: Int32
    private let buffer: UnsafeMutableRawBufferPointer
    private var buffered = 0

    /// How many bytes have been written so far.
    public private(set) var byteCount = 0

    /// Takes over the descriptor and closes it; `path` is what errors name.
    init(path: String, descriptor: Int32) {
        self.path = path
        self.descriptor = descriptor
        buffer = .allocate(byteCount: 1 << 16, alignment: 16)
    }

    deinit {
        buffer.deallocate()
        if descriptor >= 0 { _ = systemClose(descriptor) }
    }

    /// Appends bytes.
    ///
    /// - Throws: `FileError` when the system takes no more, for example because the disk is full.
    public mutating func write(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        byteCount += bytes.count
        if bytes.count > buffer.count - buffered { try flush() }
        if bytes.count >= buffer.count {
            try writeAll(bytes)
        } else {
            UnsafeMutableRawBufferPointer(rebasing: buffer[buffered...]).copyMemory(from: bytes)
            buffered += bytes.count
        }
    }

    /// Appends a text in UTF-8.
    ///
    /// - Throws: as `write(_:)` of bytes.
    public mutating func write(_ text: String) throws(FileError) {
        try write(Array(text.utf8))
    }

    /// Appends bytes.
    ///
    /// - Throws: as `write(_:)` of a buffer.
    public mutating func write(_ bytes: [UInt8]) throws(FileError) {
        // Array's own accessor loses the error's type.
        let outcome = bytes.withUnsafeBytes { bytes in
            Result { () throws(FileError) in try write(bytes) }
        }
        try outcome.get()
    }

    /// Writes what is buffered, flushes the file to the disk and closes it.
    mutating func finish() throws(FileError) {
        try flush()
        while case let code = Disk.flush(descriptor, for: path), code != 0 {
            guard code == EINTR else { throw .system(path, "cannot be flushed to the disk", code: code) }
        }
        try close()
    }

    /// Writes what is buffered and closes the file; what reaches the disk, and when, is left to the system.
    mutating func close() throws(FileError) {
        try flush()
        // Some network file systems report a full disk only here.
        let closed = systemClose(descriptor)
        let code = errno
        descriptor = -1
        guard closed == 0 || code == EINTR else { throw .system(path, "cannot be closed", code: code) }
    }

    private mutating func flush() throws(FileError) {
        let waiting = buffered
        buffered = 0
        try writeAll(UnsafeRawBufferPointer(rebasing: buffer[..<waiting]))
    }

    private func writeAll(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let chunk = UnsafeRawBufferPointer(rebasing: rest)
            let (written, code) = Disk.write(chunk, to: descriptor, for: path)
            if written > 0 {
                rest = rest.dropFirst(written)
            } else if written == 0 || code != EINTR {
                throw .system(path, "cannot be written", code: written == 0 ? ENOSPC : code)
            }
        }
    }
}

// Inside `FileSink` the short name is its own.
private func systemClose(_ descriptor: Int32) -> Int32 {
    #if canImport(Glibc)
    Glibc.close(descriptor)
    #elseif canImport(Musl)
    Musl.close(descriptor)
    #else
    Darwin.close(descriptor)
    #endif
}
