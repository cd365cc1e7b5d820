import FoveaTensor

/// What an IDX file says that it holds.
public struct IDXHeader: Sendable, Equatable {
    /// The element type in the file: `uint8`, `int8`, `int16`, `int32`, `float32` or `float64`.
    public let dtypeName: String
    /// The element type of the tensor that `readIDX(_:)` makes of it: `int32` for `int8` and `int16`.
    public let dtype: DType
    /// The length of each axis; 1 to 8 of them.
    public let shape: [Int]
    /// Whether the file is gzipped.
    public let isCompressed: Bool

    /// How many elements there are.
    public var count: Int { shape.reduce(1, *) }

    let element: FileElement
    /// Bytes before the first element.
    var headerByteCount: Int { 4 + 4 * shape.count }
    /// Bytes of header and elements together.
    var byteCount: Int { headerByteCount + count * element.size }
}

/// The element types of the format, by the third byte of the file.
let idxElements: KeyValuePairs<UInt8, FileElement> = [
    0x08: .uint8, 0x09: .int8, 0x0B: .int16, 0x0C: .int32, 0x0D: .float32, 0x0E: .float64,
]

/// The format's limit on axes is 255; no data set comes near this one.
let idxRankLimit = 8

extension IDXHeader {
    /// Reads the header from the front of `source` and checks it against the file's size.
    init(_ source: inout ByteSource) throws(FileError) {
        let magic = try source.header(4, of: "IDX")
        guard magic[0] == 0, magic[1] == 0, let element = idxElements.first(where: { $0.key == magic[2] })?.value else {
            let found = magic.map { $0 < 16 ? "0\(String($0, radix: 16))" : String($0, radix: 16) }
            throw source.error(
                "begins with the bytes \(found.joined(separator: " ")); expected the magic number of IDX: "
                    + "00 00, one of 08 09 0b 0c 0d 0e, and the number of axes"
            )
        }
        let rank = Int(magic[3])
        guard (1...idxRankLimit).contains(rank) else {
            throw source.error(
                "announces \(rank) axes; expected 1 to \(idxRankLimit)")
        }
        let lengths = try source.header(4 * rank, of: "IDX")
        let shape = (0..<rank).map { axis in lengths[(4 * axis)..<(4 * axis + 4)].reduce(0) { $0 << 8 | Int($1) } }
        // The header's few bytes are counted in, so that nothing overflows later.
        guard let byteCount = checkedCount(shape + [element.size]), byteCount <= Int.max - 64 else {
            throw source.error(
                "announces the shape \(shape), more elements than can be counted")
        }
        self.init(
            dtypeName: element.rawValue, dtype: element.dtype, shape: shape, isCompressed: source.isCompressed,
            element: element)
        try checkSize(against: source)
    }

    /// Refuses what the file's size contradicts, before any memory is taken for it.
    private func checkSize(against source: ByteSource) throws(FileError) {
        guard isCompressed else {
            guard source.packedByteCount == byteCount else {
                let difference =
                    source.packedByteCount < byteCount
                    ? "it is truncated" : "\(source.packedByteCount - byteCount) extra bytes follow"
                throw source.error(
                    "\(dtypeName) \(shape) takes \(byteCount) bytes with its header, but the file has "
                        + "\(source.packedByteCount): \(difference)"
                )
            }
            return
        }
        guard byteCount / Inflater.ratioLimit <= source.packedByteCount else {
            throw source.error(
                "announces \(dtypeName) \(shape), \(byteCount) bytes, which \(source.packedByteCount) "
                    + "gzipped bytes cannot hold"
            )
        }
    }
}
