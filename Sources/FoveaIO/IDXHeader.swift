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

    let type: IDXType
    /// Bytes before the first element.
    var headerByteCount: Int { 4 + 4 * shape.count }
    /// Bytes of header and elements together.
    var byteCount: Int { headerByteCount + count * type.size }
}

/// An element type of the format: the third byte of the file.
enum IDXType: UInt8, CaseIterable {
    case uint8 = 0x08
    case int8 = 0x09
    case int16 = 0x0B
    case int32 = 0x0C
    case float32 = 0x0D
    case float64 = 0x0E

    /// Bytes of one element in the file.
    var size: Int {
        switch self {
        case .uint8, .int8: 1
        case .int16: 2
        case .int32, .float32: 4
        case .float64: 8
        }
    }

    /// The tensor's type.
    var dtype: DType {
        switch self {
        case .uint8: .uint8
        case .int8, .int16, .int32: .int32
        case .float32: .float32
        case .float64: .float64
        }
    }

    /// The type that holds a tensor's elements in a file, where there is one.
    init?(_ dtype: DType) {
        switch dtype {
        case .uint8: self = .uint8
        case .int32: self = .int32
        case .float32: self = .float32
        case .float64: self = .float64
        case .int64, .float16, .bfloat16, .bool: return nil
        }
    }
}

/// The format's limit on axes is 255; no data set comes near this one.
let idxRankLimit = 8

extension IDXHeader {
    /// Reads the header from the front of `source` and checks it against the file's size.
    init(_ source: inout IDXSource, path: String) throws(FileError) {
        let magic = try source.header(4, path)
        guard magic[0] == 0, magic[1] == 0, let type = IDXType(rawValue: magic[2]) else {
            let found = magic.map { $0 < 16 ? "0\(String($0, radix: 16))" : String($0, radix: 16) }
            throw FileError(
                path: path,
                problem:
                    "begins with the bytes \(found.joined(separator: " ")); expected the magic number of IDX: "
                    + "00 00, one of 08 09 0b 0c 0d 0e, and the number of axes"
            )
        }
        let rank = Int(magic[3])
        guard (1...idxRankLimit).contains(rank) else {
            throw FileError(path: path, problem: "announces \(rank) axes; expected 1 to \(idxRankLimit)")
        }
        let lengths = try source.header(4 * rank, path)
        let shape = (0..<rank).map { axis in lengths[(4 * axis)..<(4 * axis + 4)].reduce(0) { $0 << 8 | Int($1) } }
        // The header's few bytes are counted in, so that nothing overflows later.
        guard let byteCount = checkedCount(shape + [type.size]), byteCount <= Int.max - 64 else {
            throw FileError(path: path, problem: "announces the shape \(shape), more elements than can be counted")
        }
        self.init(
            dtypeName: "\(type)", dtype: type.dtype, shape: shape, isCompressed: source.isCompressed, type: type)
        try checkSize(against: source, path)
    }

    /// Refuses what the file's size contradicts, before any memory is taken for it.
    private func checkSize(against source: IDXSource, _ path: String) throws(FileError) {
        guard isCompressed else {
            guard source.fileByteCount == byteCount else {
                let difference =
                    source.fileByteCount < byteCount
                    ? "it is truncated" : "\(source.fileByteCount - byteCount) extra bytes follow"
                throw FileError(
                    path: path,
                    problem:
                        "\(dtypeName) \(shape) takes \(byteCount) bytes with its header, but the file has "
                        + "\(source.fileByteCount): \(difference)"
                )
            }
            return
        }
        guard byteCount / GzipReader.ratioLimit <= source.fileByteCount else {
            throw FileError(
                path: path,
                problem:
                    "announces \(dtypeName) \(shape), \(byteCount) bytes, which \(source.fileByteCount) "
                    + "gzipped bytes cannot hold"
            )
        }
    }
}
