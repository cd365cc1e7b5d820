import FoveaIO
import FoveaTensor
import Testing

@Suite struct NPYTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test(arguments: Fixtures.types, ["little", "big"])
    func everyTypeOfNumPyIsRead(type: (name: String, dtype: DType), order: String) throws {
        let path = Fixtures.path("\(type.name).\(order).npy")
        let header = try npyHeader(path)
        #expect(header.dtype == type.dtype)
        #expect(header.dtypeName.hasSuffix(type.name))
        #expect(header.shape == [2, 3])
        #expect(!header.isColumnMajor)
        let tensor = try readNPY(path)
        #expect(tensor.dtype == type.dtype)
        #expect(tensor.shape == [2, 3])
        #expect(tensor.bytes() == Fixtures.counting([2, 3], type.dtype).bytes())
    }

    @Test func theSignIsKeptWhereATypeIsWidened() throws {
        func read(_ descr: String, _ elements: [UInt8]) throws -> [Int64] {
            let path = try scratch.place(npy(descr, "(2,)", elements), as: "f.npy")
            return try readNPY(path).cast(to: .int64).scalars(as: Int64.self)
        }
        #expect(try read("|i1", [0xFF, 0x80]) == [-1, -128])
        #expect(try read("|u1", [0xFF, 0x80]) == [255, 128])
        #expect(try read("<i2", [0xFE, 0xFF, 0, 0x80]) == [-2, -32_768])
        #expect(try read(">u2", [0xFF, 0xFE, 0x80, 0]) == [65_534, 32_768])
        #expect(try read("<u4", [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x80]) == [4_294_967_295, 2_147_483_648])
        #expect(try read(">i4", [0xFF, 0xFF, 0xFF, 0xFF, 0x80, 0, 0, 0]) == [-1, -2_147_483_648])
    }

    @Test(arguments: [("fortran.npy", DType.float32, true), ("fortran.big.npy", .int32, false)])
    func columnsBecomeRows(name: String, dtype: DType, isMapped: Bool) throws {
        #expect(try npyHeader(Fixtures.path(name)).isColumnMajor)
        let tensor = try readNPY(Fixtures.path(name))
        #expect(tensor.shape == [2, 3, 4])
        #expect(tensor.bytes() == Fixtures.counting([2, 3, 4], dtype).bytes())
        #expect(tensor.storage.isForeign == isMapped)
    }

    @Test(arguments: [("scalar.npy", []), ("empty.npy", [3, 0, 2]), ("vector.npy", [5])])
    func everyRankIsRead(name: String, shape: [Int]) throws {
        let tensor = try readNPY(Fixtures.path(name))
        #expect(tensor.shape == shape)
        #expect(tensor.bytes() == Fixtures.counting(shape, .float32).bytes())
    }

    @Test(arguments: 1...3)
    func everyVersionIsRead(version: Int) throws {
        #expect(
            try readNPY(Fixtures.path("version\(version).npy")).bytes() == Fixtures.counting([4], .float32).bytes())
    }

    @Test(arguments: [
        ("object.npy", "|O", "can run code and are never read"), ("complex.npy", "<c8", "does not hold"),
        ("text.npy", "<U2", "does not hold"),
        ("fields.npy", "[('größe', '<f4'), ('b', '<i2', (2,))]", "does not hold"),
    ])
    func typesThatFoveaDoesNotHoldAreListed(name: String, dtypeName: String, fragment: String) throws {
        let path = Fixtures.path(name)
        let header = try npyHeader(path)
        #expect(header.dtypeName == dtypeName)
        #expect(header.dtype == nil)
        expectFileError(path, fragment, "bool, integers, f2, f4 and f8") { _ = try readNPY(path) }
    }

    @Test(arguments: [
        ("b1", DType.bool), ("u1", .uint8), ("i4", .int32), ("i8", .int64), ("f2", .float16), ("f4", .float32),
        ("f8", .float64),
    ])
    func theBytesAreThoseOfNumPy(name: String, dtype: DType) throws {
        try writeNPY(Fixtures.counting([2, 3], dtype), to: scratch.file("f.npy"))
        #expect(try scratch.bytes(of: "f.npy") == fileBytes(Fixtures.path("\(name).little.npy")))
    }

    @Test(arguments: [("scalar.npy", []), ("empty.npy", [3, 0, 2]), ("vector.npy", [5])])
    func theBytesAreThoseOfNumPyForEveryRank(name: String, shape: [Int]) throws {
        try writeNPY(Fixtures.counting(shape, .float32), to: scratch.file("f.npy"))
        #expect(try scratch.bytes(of: "f.npy") == fileBytes(Fixtures.path(name)))
    }

    @Test func stridedViewsAreWrittenInTheirOwnOrder() throws {
        try writeNPY(Fixtures.counting([2, 3], .float32).transposed(0, 1), to: scratch.file("f.npy"))
        #expect(try readNPY(scratch.file("f.npy")).scalars(as: Float.self) == [0, 3, 1, 4, 2, 5])
    }

    @Test func bfloat16IsRefused() {
        let path = scratch.file("f.npy")
        expectFileError(path, "does not have bfloat16", "cast") {
            try writeNPY(Tensor([1 as Float]).cast(to: .bfloat16), to: path)
        }
        #expect(scratch.names.isEmpty)
    }

    @Test func elementsAreMappedAndOutliveTheFile() throws {
        let path = scratch.file("f.npy")
        try writeNPY(Fixtures.counting([100], .float64), to: path)
        let tensor = try readNPY(path)
        #expect(tensor.storage.isForeign)
        try writeNPY(Fixtures.counting([1], .uint8), to: path)
        #expect(tensor.bytes() == Fixtures.counting([100], .float64).bytes())
    }

    @Test func misalignedElementsAreCopied() throws {
        for padding in 0..<8 {
            let bytes = npy(
                "<f4", "(2,)", [0, 0, 128, 63, 0, 0, 0, 64], padding: String(repeating: " ", count: padding))
            let tensor = try readNPY(scratch.place(bytes, as: "f.npy"))
            #expect(tensor.scalars(as: Float.self) == [1, 2])
            #expect(tensor.storage.isForeign == ((bytes.count - 8) % 4 == 0))
        }
    }

    @Test func moreElementsThanOneBufferAreDecoded() throws {
        let elements = (0..<100_000).flatMap { [UInt8(truncatingIfNeeded: $0 >> 8), UInt8(truncatingIfNeeded: $0)] }
        let tensor = try readNPY(scratch.place(npy(">u2", "(100000,)", elements), as: "f.npy"))
        #expect(tensor.scalars(as: Int32.self) == (0..<100_000).map { Int32($0 % 65_536) })
    }
}

func fileBytes(_ path: String) throws -> [UInt8] { try MappedFile(path).withBytes { Array($0) } }

/// A file of version 1.0 with this type, this shape as it stands, and these bytes as its elements.
func npy(_ descr: String, _ shape: String, _ elements: [UInt8] = [], padding: String = "\n") -> [UInt8] {
    npy("{'descr': '\(descr)', 'fortran_order': False, 'shape': \(shape)}\(padding)", elements)
}

/// A file of version 1.0 with this header as it stands.
func npy(_ header: String, _ elements: [UInt8]) -> [UInt8] {
    let length = header.utf8.count
    return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8)] + Array(header.utf8)
        + elements
}
