import CZlib

/// Decompresses deflate (RFC 1951) piece by piece into memory of the caller, never more than asked for: bare, as zip
/// files hold it, or as gzip (RFC 1952).
///
/// Several members of gzip one after the other count as one stream, as gzip itself has it; anything else after the end
/// of the stream is an error.
final class Inflater {
    /// What stands around the compressed bytes.
    enum Wrapping: String {
        case gzip
        case none = "deflate"
    }

    /// Deflate's largest ratio is 1032:1; what promises more than this cannot be true.
    static let ratioLimit = 1100

    private let wrapping: Wrapping
    private let error: (String) -> FileError
    /// zlib's state points back to this structure, so it must not move.
    private let stream: UnsafeMutablePointer<z_stream>
    private var input: UnsafeRawBufferPointer
    private var isBetweenMembers = false

    /// Whether these bytes begin like a gzip file.
    static func recognisesGzip(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count >= 2 && bytes[0] == 0x1F && bytes[1] == 0x8B
    }

    /// Begins to decompress `input`, which must outlive the reader; `error` says of which file a problem is.
    init(
        _ input: UnsafeRawBufferPointer, _ wrapping: Wrapping, error: @escaping (String) -> FileError
    ) throws(FileError) {
        self.wrapping = wrapping
        self.error = error
        self.input = input
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        // 15 is the largest window; 16 more ask for gzip, with its checksum, and nothing else; the sign for nothing
        // around the stream.
        let window: Int32 = wrapping == .gzip ? 15 + 16 : -15
        let code = inflateInit2_(stream, window, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard code == Z_OK else { throw error("zlib cannot start (code \(code)); there may be too little memory") }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
    }

    /// Decompresses into `output` until it is full or the stream ends, and returns how many bytes were written.
    func read(into output: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
        var written = 0
        while written < output.count {
            if isBetweenMembers {
                guard !input.isEmpty else { break }
                guard wrapping == .gzip, Self.recognisesGzip(input) else {
                    throw error("\(input.count) bytes follow the end of the \(wrapping.rawValue) stream; expected none")
                }
                inflateReset(stream)
                isBetweenMembers = false
            }
            // zlib counts in 32 bits.
            let offered = min(input.count, 1 << 30)
            let room = min(output.count - written, 1 << 30)
            stream.pointee.next_in = UnsafeMutablePointer(
                mutating: input.baseAddress?.assumingMemoryBound(to: UInt8.self))
            stream.pointee.avail_in = UInt32(offered)
            stream.pointee.next_out = output.baseAddress?.advanced(by: written).assumingMemoryBound(to: UInt8.self)
            stream.pointee.avail_out = UInt32(room)

            let code = inflate(stream, Z_NO_FLUSH)
            let consumed = offered - Int(stream.pointee.avail_in)
            let produced = room - Int(stream.pointee.avail_out)
            input = UnsafeRawBufferPointer(rebasing: input[consumed...])
            written += produced
            switch code {
            case Z_STREAM_END: isBetweenMembers = true
            case Z_OK where consumed > 0 || produced > 0: break
            case Z_OK, Z_BUF_ERROR:
                throw error("the \(wrapping.rawValue) stream is cut short; copy the file again")
            case Z_MEM_ERROR: throw error("zlib does not get the memory to decompress it")
            default:
                let reason = stream.pointee.msg.map { String(cString: $0) } ?? "code \(code)"
                throw error("the \(wrapping.rawValue) stream is damaged (\(reason)); copy the file again")
            }
        }
        return written
    }
}

/// The checksum of zip, gzip and PNG (CRC-32) of what `previous` is the checksum of, and these bytes after it.
package func checksum(_ bytes: UnsafeRawBufferPointer, after previous: UInt32 = 0) -> UInt32 {
    var sum = UInt(previous)
    var rest = bytes
    while !rest.isEmpty {
        // zlib counts in 32 bits.
        let count = min(rest.count, 1 << 30)
        sum = UInt(crc32(uLong(sum), rest.baseAddress?.assumingMemoryBound(to: UInt8.self), UInt32(count)))
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
    return UInt32(truncatingIfNeeded: sum)
}
