/// The bytes of a file, or of one of its parts, in order, decompressed where need be.
struct ByteSource {
    /// What the bytes are packed in.
    enum Packing {
        case plain, gzip, deflate
    }

    /// How many bytes there are before decompression.
    let packedByteCount: Int
    let isCompressed: Bool
    /// The checksum (CRC-32) of what has been read so far; kept only for a part that comes with one.
    private(set) var checksum: UInt32 = 0
    private let expectedChecksum: UInt32?
    private var rest: UnsafeRawBufferPointer
    private let inflater: Inflater?
    /// Keeps the bytes alive.
    private let file: MappedFile
    /// The part that errors name; nil for the file itself.
    private let part: String?

    /// A whole file; one that begins like gzip is decompressed.
    init(_ file: MappedFile) throws(FileError) {
        let packing: Packing = Inflater.recognisesGzip(file.bytes) ? .gzip : .plain
        try self.init(file, 0..<file.count, packing, part: nil, checksum: nil)
    }

    /// The bytes at `range`, which `part` names and which have this checksum after decompression.
    init(
        _ file: MappedFile, _ range: Range<Int>, _ packing: Packing, part: String?, checksum: UInt32?
    ) throws(FileError) {
        self.file = file
        self.part = part
        expectedChecksum = checksum
        packedByteCount = range.count
        isCompressed = packing != .plain
        rest = UnsafeRawBufferPointer(rebasing: file.bytes[range])
        let path = file.path
        switch packing {
        case .plain: inflater = nil
        case .gzip: inflater = try Inflater(rest, .gzip) { Self.error(path, part, $0) }
        case .deflate: inflater = try Inflater(rest, .none) { Self.error(path, part, $0) }
        }
    }

    /// Fills `output` as far as there are bytes, and returns how many there were.
    mutating func read(into output: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
        let count: Int
        if let inflater {
            count = try inflater.read(into: output)
        } else {
            count = min(output.count, rest.count)
            output.copyMemory(from: UnsafeRawBufferPointer(rebasing: rest[..<count]))
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
        if expectedChecksum != nil {
            checksum = FoveaIO.checksum(UnsafeRawBufferPointer(rebasing: output[..<count]), after: checksum)
        }
        return count
    }

    /// The next bytes of a header of this format.
    mutating func header(_ count: Int, of format: String) throws(FileError) -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
        defer { buffer.deallocate() }
        guard try read(into: buffer) == count else {
            throw error("ends inside the header of \(format); it is truncated or not \(format) at all")
        }
        return Array(buffer)
    }

    /// Decodes so many elements of a file into `target`, through a buffer: the file's may be of another width or byte
    /// order than the tensor's. `what` describes them in an error.
    mutating func decode(
        _ element: FileElement, isBigEndian: Bool, count: Int, into target: UnsafeMutableRawBufferPointer,
        _ what: String
    ) throws(FileError) {
        let perChunk = (1 << 16) / element.size
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: perChunk * element.size, alignment: 16)
        defer { buffer.deallocate() }
        var done = 0
        while done < count {
            let part = min(perChunk, count - done)
            let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(part * element.size)])
            guard try read(into: chunk) == chunk.count else {
                throw error("ends before the last element of \(what); it is truncated")
            }
            let wrong = element.decode(
                UnsafeRawBufferPointer(chunk), isBigEndian: isBigEndian,
                into: UnsafeMutableRawBufferPointer(rebasing: target[(done * element.dtype.size)...]))
            if let wrong { throw error("element \(done + wrong) of \(what) is \(element.outside)") }
            done += part
        }
        // Asking for one byte more also has zlib verify its checksum.
        guard try read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<1])) == 0 else {
            throw error("goes on after the last element of \(what); extra bytes follow")
        }
        guard expectedChecksum == nil || checksum == expectedChecksum else { throw checksumError }
    }

    /// Checks bytes that are used where they stand against the checksum that the file gives for them.
    func verifyInPlace() throws(FileError) {
        guard let expectedChecksum, FoveaIO.checksum(rest, after: checksum) != expectedChecksum else { return }
        throw checksumError
    }

    private var checksumError: FileError { error("has another checksum than the file says; copy the file again") }

    /// An error of this file and part.
    func error(_ problem: String) -> FileError { Self.error(file.path, part, problem) }

    private static func error(_ path: String, _ part: String?, _ problem: String) -> FileError {
        FileError(path: path, problem: part.map { "\($0): \(problem)" } ?? problem)
    }
}
