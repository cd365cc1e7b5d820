import CZlib

/// Decompresses gzip (RFC 1952) piece by piece into memory of the caller, never more than asked for.
///
/// Several members one after the other count as one stream, as gzip itself has it; anything else after the end of a
/// member is an error.
final class GzipReader {
    /// Deflate's largest ratio is 1032:1; what promises more than this cannot be true.
    static let ratioLimit = 1100

    private let path: String
    /// zlib's state points back to this structure, so it must not move.
    private let stream: UnsafeMutablePointer<z_stream>
    private var input: UnsafeRawBufferPointer
    private var isBetweenMembers = false

    /// Whether these bytes begin like a gzip file.
    static func recognises(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count >= 2 && bytes[0] == 0x1F && bytes[1] == 0x8B
    }

    /// Begins to decompress `input`, which must outlive the reader.
    init(_ input: UnsafeRawBufferPointer, path: String) throws(FileError) {
        self.path = path
        self.input = input
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        // 15 is the largest window; 16 more ask for gzip, with its checksum, and nothing else.
        let code = inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard code == Z_OK else {
            throw FileError(path: path, problem: "zlib cannot start (code \(code)); there may be too little memory")
        }
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
                guard Self.recognises(input) else {
                    throw FileError(
                        path: path, problem: "\(input.count) bytes follow the end of the gzip stream; expected none")
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
                throw FileError(path: path, problem: "the gzip stream is cut short; copy the file again")
            case Z_MEM_ERROR:
                throw FileError(path: path, problem: "zlib does not get the memory to decompress it")
            default:
                let reason = stream.pointee.msg.map { String(cString: $0) } ?? "code \(code)"
                throw FileError(path: path, problem: "the gzip stream is damaged (\(reason)); copy the file again")
            }
        }
        return written
    }
}
