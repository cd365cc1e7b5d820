import FoveaIO
import FoveaTensor
import Testing

@Suite struct IDXTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    /// A file of this type and shape, with these bytes as its elements.
    static func idx(_ type: UInt8, _ shape: [UInt32], _ elements: [UInt8]) -> [UInt8] {
        [0, 0, type, UInt8(shape.count)] + shape.flatMap { withUnsafeBytes(of: $0.bigEndian) { Array($0) } } + elements
    }

    static let digits = idx(8, [2, 2, 3], Array(1...12))

    @Test(arguments: [false, true])
    func bytesAreRead(compressed: Bool) throws {
        let path = try scratch.place(compressed ? gzipped(Self.digits) : Self.digits, as: "digits")
        let tensor = try readIDX(path)
        #expect(tensor.shape == [2, 2, 3])
        #expect(tensor.scalars(as: UInt8.self) == Array(1...12))
        let header = try idxHeader(path)
        #expect(header.dtypeName == "uint8")
        #expect(header.dtype == .uint8)
        #expect(header.shape == [2, 2, 3])
        #expect(header.count == 12)
        #expect(header.isCompressed == compressed)
    }

    @Test func everyTypeIsRead() throws {
        func read(_ type: UInt8, _ elements: [UInt8], _ count: UInt32) throws -> (IDXHeader, Tensor) {
            let path = try scratch.place(Self.idx(type, [count], elements), as: "f")
            return (try idxHeader(path), try readIDX(path))
        }
        let (int8, bytes) = try read(0x09, [1, 0xFF, 0x80], 3)
        #expect(int8.dtypeName == "int8")
        #expect(int8.dtype == .int32)
        #expect(bytes.scalars(as: Int32.self) == [1, -1, -128])
        let (int16, shorts) = try read(0x0B, [1, 2, 0xFF, 0xFE], 2)
        #expect(int16.dtypeName == "int16")
        #expect(shorts.scalars(as: Int32.self) == [258, -2])
        #expect(
            try read(0x0C, [1, 2, 3, 4, 0xFF, 0xFF, 0xFF, 0xFE], 2).1.scalars(as: Int32.self) == [0x0102_0304, -2])
        #expect(try read(0x0D, [0x3F, 0x80, 0, 0, 0xC0, 0, 0, 0], 2).1.scalars(as: Float.self) == [1, -2])
        #expect(try read(0x0E, [0x3F, 0xF0, 0, 0, 0, 0, 0, 0], 1).1.scalars(as: Double.self) == [1])
    }

    @Test(arguments: [DType.uint8, .int32, .float32, .float64], [[3], [2, 0, 4], [40, 50, 60]])
    func whatIsWrittenIsRead(dtype: DType, shape: [Int]) throws {
        // 120,000 elements pass through several buffers.
        let count = shape.reduce(1, *)
        let tensor = Tensor((0..<count).map { Double($0 % 251) }, shape: shape).cast(to: dtype)
        try writeIDX(tensor, to: scratch.file("f"))
        let back = try readIDX(scratch.file("f"))
        #expect(back.dtype == dtype)
        #expect(back.shape == shape)
        #expect(back.bytes() == tensor.bytes())
        let packed = try scratch.place(gzipped(scratch.bytes(of: "f")), as: "f.gz")
        #expect(try readIDX(packed).bytes() == tensor.bytes())
    }

    @Test func stridedViewsAreWrittenInTheirOwnOrder() throws {
        try writeIDX(Tensor([1, 2, 3, 4] as [Int32], shape: [2, 2]).transposed(0, 1), to: scratch.file("f"))
        #expect(try readIDX(scratch.file("f")).scalars(as: Int32.self) == [1, 3, 2, 4])
    }

    @Test(arguments: [DType.int64, .float16, .bfloat16, .bool])
    func typesThatTheFormatLacksAreRefused(dtype: DType) {
        let path = scratch.file("f")
        expectFileError(path, "IDX does not hold \(dtype)", "cast to") {
            try writeIDX(.zeros([1], dtype: dtype), to: path)
        }
        #expect(scratch.names.isEmpty)
    }

    @Test func ranksThatTheFormatLacksAreRefused() {
        let path = scratch.file("f")
        expectFileError(path, "0 axes") { try writeIDX(.zeros([]), to: path) }
        expectFileError(path, "9 axes") { try writeIDX(.zeros([1, 1, 1, 1, 1, 1, 1, 1, 1]), to: path) }
    }

    @Test func membersOfOneGzipFileFollowEachOther() throws {
        let parts = [Self.digits[..<3], Self.digits[3..<20], [], Self.digits[20...]].flatMap { gzipped(Array($0)) }
        #expect(try readIDX(scratch.place(parts, as: "f.gz")).scalars(as: UInt8.self) == Array(1...12))
    }

    static let malformed: [MalformedCase] = [
        .init("no bytes", bytes: [], "ends inside the header"),
        .init("three bytes", bytes: [0, 0, 8], "ends inside the header"),
        .init("no shape", bytes: [0, 0, 8, 2, 0, 0, 0, 1], "ends inside the header"),
        .init("wrong magic", bytes: [1, 0, 8, 1, 0, 0, 0, 0], "begins with the bytes 01 00 08 01; expected the magic"),
        .init("unknown type", bytes: idx(0x0A, [1], [0]), "one of 08 09 0b 0c 0d 0e"),
        .init("no axes", bytes: [0, 0, 8, 0, 7], "announces 0 axes; expected 1 to 8"),
        .init("nine axes", bytes: idx(8, [1, 1, 1, 1, 1, 1, 1, 1, 1], [0]), "announces 9 axes"),
        .init(
            "truncated", bytes: idx(8, [3], [1, 2]), "uint8 [3] takes 11 bytes with its header, but the file has 10"),
        .init("extra bytes", bytes: idx(8, [3], [1, 2, 3, 4, 5]), "2 extra bytes follow"),
        .init("overflow", bytes: idx(8, [.max, .max, .max], []), "more elements than can be counted"),
        .init("overflow of bytes", bytes: idx(0x0E, [.max, 1 << 31], []), "more elements than can be counted"),
        .init(
            "overflow without the zero", bytes: idx(8, [0, .max, .max, .max], []), "more elements than can be counted"),
        .init("empty gzip", bytes: gzipped([]), "ends inside the header"),
        .init("gzip magic alone", bytes: [0x1F, 0x8B], "cut short"),
        .init("gzip of something else", bytes: gzipped(Array("hello".utf8)), "expected the magic number"),
        .init("gzip cut short", bytes: gzipped(digits).dropLast(9), "cut short"),
        .init("gzip without its checksum", bytes: gzipped(digits).dropLast(8), "cut short"),
        .init("gzip with a wrong checksum", bytes: gzipped(digits).dropLast(8) + [0, 0, 0, 0, 28, 0, 0, 0], "damaged"),
        .init("bytes after gzip", bytes: gzipped(digits) + [0, 0], "2 bytes follow the end of the gzip stream"),
        .init("truncated in gzip", bytes: gzipped(Array(digits.dropLast())), "ends before the last element"),
        .init("extra byte in gzip", bytes: gzipped(digits + [0]), "goes on after the last element"),
        .init("extra member", bytes: gzipped(digits) + gzipped([0]), "goes on after the last element"),
        .init("promise beyond deflate", bytes: gzipped(idx(8, [1 << 31], [])), "gzipped bytes cannot hold"),
    ]

    @Test(arguments: malformed)
    func isAnErrorThatSaysWhat(_ malformed: MalformedCase) throws {
        let path = try scratch.place(malformed.bytes, as: "f")
        expectFileError(path, malformed.fragment) { _ = try readIDX(path) }
    }

    @Test func aHighlyCompressibleFileIsNotRefused() throws {
        let zeros = Self.idx(8, [4_000_000], [UInt8](repeating: 0, count: 4_000_000))
        let path = try scratch.place(gzipped(zeros), as: "zeros.gz")
        #expect(try readIDX(path).count == 4_000_000)
    }
}
