import FoveaIO
import FoveaTensor
import OrderedCollections
import Testing

@Suite struct NPZTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test(arguments: ["stored.npz", "deflated.npz"])
    func everyArrayOfNumPyIsRead(name: String) throws {
        let file = try NPZFile(reading: Fixtures.path(name))
        let tensors = try file.tensors()
        for (name, dtype) in Fixtures.types {
            #expect(tensors[name]?.dtype == dtype)
            #expect(tensors[name]?.bytes() == Fixtures.counting([2, 3], dtype).bytes())
        }
        #expect(file.entries["a/b"]?.shape == [7])
        #expect(tensors["a/b"]?.bytes() == Fixtures.counting([7], .float32).bytes())
        #expect(tensors["größe"]?.shape == [])
        #expect(tensors["none"]?.shape == [0, 2])
        if let zeros = tensors["zeros"] { #expect(zeros.scalars(as: Double.self).allSatisfy { $0 == 0 }) }
    }

    @Test func noArraysAtAllIsAFileToo() throws {
        #expect(try NPZFile(reading: Fixtures.path("nothing.npz")).entries.isEmpty)
        try writeNPZ([:], to: scratch.file("f.npz"))
        #expect(try scratch.bytes(of: "f.npz") == fileBytes(Fixtures.path("nothing.npz")))
    }

    @Test func whatIsWrittenIsRead() throws {
        var tensors: OrderedDictionary<String, Tensor> = [:]
        for dtype in DType.allCases where dtype != .bfloat16 {
            tensors["\(dtype)"] = Fixtures.counting([2, 3], dtype)
        }
        tensors["view"] = Fixtures.counting([2, 3], .float32).transposed(0, 1)
        tensors["scalar/größe"] = Fixtures.counting([], .float32)
        tensors["none"] = Tensor.zeros([0, 3])
        try writeNPZ(tensors, to: scratch.file("f.npz"))
        let back = try NPZFile(reading: scratch.file("f.npz")).tensors()
        #expect(back.keys == tensors.keys)
        for (name, tensor) in tensors {
            #expect(back[name]?.dtype == tensor.dtype)
            #expect(back[name]?.shape == tensor.shape)
            #expect(back[name]?.bytes() == tensor.bytes())
        }
    }

    @Test func bfloat16IsRefusedByName() {
        let path = scratch.file("f.npz")
        expectFileError(path, #"tensor "x""#, "does not have bfloat16") {
            try writeNPZ(["x": Tensor([1 as Float]).cast(to: .bfloat16)], to: path)
        }
        #expect(scratch.names.isEmpty)
    }

    @Test func arraysOutliveTheFile() throws {
        try writeNPZ(["x": Fixtures.counting([1_000], .float32)], to: scratch.file("f.npz"))
        let tensor = try NPZFile(reading: scratch.file("f.npz")).tensor("x")
        try writeNPZ([:], to: scratch.file("f.npz"))
        #expect(tensor.bytes() == Fixtures.counting([1_000], .float32).bytes())
    }

    @Test func aMissingArrayIsAnErrorThatListsWhatIsThere() throws {
        let file = try NPZFile(reading: Fixtures.path("nothing.npz"))
        expectFileError(file.path, #"holds no array "x"; it holds none"#) { _ = try file.tensor("x") }
    }

    @Test func sizesBehindTheContentAreAllowed() throws {
        var member = ZipBuilder.Member("x.npy", npy("<f4", "(1,)", [0, 0, 128, 63]))
        member.isDeflated = true
        member.flags = 1 << 3
        member.ownChecksum = 0
        member.ownSize = 0
        member.after = Array("PK\u{7}\u{8}".utf8) + [UInt8](repeating: 0, count: 12)
        let path = try scratch.place(ZipBuilder(member).bytes, as: "f.npz")
        #expect(try NPZFile(reading: path).tensor("x").item() == 1)
    }

    @Test func aCommentAtTheEndIsAllowed() throws {
        var zip = ZipBuilder(one)
        zip.comment = Array("made by PK\u{5}\u{6}, twice PK\u{5}\u{6}".utf8)
        #expect(try NPZFile(reading: scratch.place(zip.bytes, as: "f.npz")).tensor("x").item() == 1)
    }

    /// The elements are not looked at until they are asked for.
    @Test(arguments: [false, true])
    func aWrongChecksumIsAnErrorWhenRead(isDeflated: Bool) throws {
        var member = one
        member.isDeflated = isDeflated
        member.checksum = 1
        let path = try scratch.place(ZipBuilder(member).bytes, as: "f.npz")
        let file = try NPZFile(reading: path)
        #expect(file.entries["x"]?.shape == [1])
        expectFileError(path, #"member "x.npy": has another checksum"#) { _ = try file.tensor("x") }
    }

    @Test func damagedElementsAreNoticed() throws {
        for name in ["stored.npz", "deflated.npz"] {
            var bytes = try fileBytes(Fixtures.path(name))
            // Far behind the header of the first member, and before the next.
            bytes[name == "stored.npz" ? 0x2D + 128 + 3 : 90] ^= 1
            let path = try scratch.place(bytes, as: name)
            #expect(throws: FileError.self) { _ = try NPZFile(reading: path).tensors() }
        }
    }

    @Test(arguments: attacks)
    func isAnErrorThatSaysWhat(_ malformed: MalformedCase) throws {
        let path = try scratch.place(malformed.bytes, as: "f.npz")
        expectFileError(path, malformed.fragment) { _ = try NPZFile(reading: path).tensors() }
    }
}

/// An array of the number one, under the name x.
private let one = ZipBuilder.Member("x.npy", npy("<f4", "(1,)", [0, 0, 128, 63]))

/// A file with one member that is changed like this.
private func member(
    _ name: String, _ fragment: String, _ change: (inout ZipBuilder.Member) -> Void
) -> MalformedCase {
    var changed = one
    change(&changed)
    return MalformedCase(name, bytes: ZipBuilder(changed).bytes, fragment)
}

/// A file that is changed like this.
private func file(_ name: String, _ fragment: String, _ change: (inout ZipBuilder) -> Void) -> MalformedCase {
    var zip = ZipBuilder(one)
    change(&zip)
    return MalformedCase(name, bytes: zip.bytes, fragment)
}

/// Two end records in 64 bits and 32, of which the wide one has these fields.
private func wide(
    _ name: String, count: UInt64 = 1, size: UInt64 = 51, offset: UInt64? = nil, locator: UInt64? = nil,
    _ fragment: String
) -> MalformedCase {
    var zip = ZipBuilder(one)
    (zip.count, zip.directorySize, zip.directoryOffset) = (.max, .max, .max)
    let start = UInt64(ZipBuilder(one).bytes.count - 22)
    zip.afterDirectory =
        little(0x0606_4B50 as UInt32) + little(44 as UInt64) + [45, 0, 45, 0] + [UInt8](repeating: 0, count: 8)
        + little(count) + little(count) + little(size) + little(offset ?? start - 51)
    zip.afterDirectory +=
        little(0x0706_4B50 as UInt32) + little(0 as UInt32) + little(locator ?? start) + little(1 as UInt32)
    return MalformedCase(name, bytes: zip.bytes, fragment)
}

private let attacks: [MalformedCase] = [
    .init("no bytes", bytes: [], "does not begin like a zip file"),
    .init("an npy file", bytes: one.content, "does not begin like a zip file"),
    .init("begin alone", bytes: Array("PK\u{3}\u{4}".utf8), "no directory of a zip file at its end"),
    .init("cut short", bytes: ZipBuilder(one).bytes.dropLast(), "no directory of a zip file at its end"),
    .init("bytes after it", bytes: ZipBuilder(one).bytes + [0], "no directory of a zip file at its end"),
    file("bytes before it", "does not begin like a zip file") { $0.before = [0] },
    file("bytes of another zip before it", "the directory does not end where") {
        $0.before = Array("PK\u{3}\u{4}".utf8)
        $0.directoryOffset = UInt32(30 + 5 + one.content.count)
    },
    file("comment beyond the file", "no directory of a zip file at its end") { $0.commentCount = 1 },
    file("two disks", "one of several disks") { $0.disk = 1 },
    file("a member too many", "announces 2 members") { $0.count = 2 },
    file("65,535 members", "announces 65535 members") { $0.count = .max },
    file("a member too few", "the directory goes on after its 0 members") { $0.count = 0 },
    file("directory elsewhere", "the directory does not end where") { $0.directoryOffset = 3 },
    file("directory beyond the file", "the directory does not end where") { $0.directoryOffset = .max },
    file("directory larger than the file", "the directory does not end where") { $0.directorySize = .max },
    file("bytes after the directory", "the directory does not end where") { $0.afterDirectory = [0] },
    file("the same name twice", "holds two members \"x.npy\"") { $0.members.append(one) },
    file("members in the same place", "overlaps with the one before") {
        var second = one
        second.name = Array("y.npy".utf8)
        second.ownName = second.name
        $0.members.append(second)
        $0.members[1].offset = 0
        $0.members[1].ownName = one.name
        $0.members[1].name = one.name
    },
    member("no npy", "member \"x.txt\" is no npy file") { $0.name = Array("x.txt".utf8) },
    member("of PyTorch", "a PyTorch file") { $0.name = Array("archive/data.pkl".utf8) },
    member("a folder", "member \"x/\" is no npy file") { $0.name = Array("x/".utf8) },
    member("name that is not ASCII", "neither ASCII nor marked") { $0.name = [0xE9] + Array(".npy".utf8) },
    member("name that is not UTF-8", "neither ASCII nor marked") {
        $0.name = [0xE9] + Array(".npy".utf8)
        $0.flags = 1 << 11
    },
    member("encrypted", "is encrypted") { $0.flags = 1 },
    member("patched", "features of zip that NumPy does not") { $0.flags = 1 << 5 },
    member("method 12", "is compressed by method 12; expected 0 (stored) or 8 (deflate)") { $0.method = 12 },
    member("another name in front", "disagrees with the directory") { $0.ownName = Array("y.npy".utf8) },
    member("a longer name in front", "disagrees with the directory") { $0.ownName = Array("xx.npy".utf8) },
    member("another checksum in front", "disagrees with the directory") { $0.ownChecksum = 1 },
    member("another size in front", "disagrees with the directory") { $0.ownSize = 1 },
    member("offset into nothing", "there is no member at byte 1") { $0.offset = 1 },
    member("offset beyond the file", "there is no member at byte") { $0.offset = 4_000_000_000 },
    member("wide offset without its field", "there is no member at byte 4294967295") { $0.offset = .max },
    member("wide offset that is cut short", "sizes are missing") {
        $0.offset = .max
        $0.extra = little(1 as UInt16) + little(4 as UInt16) + [0, 0, 0, 0]
    },
    member("wide offset beyond Int", "beyond every file") {
        $0.offset = .max
        $0.extra = little(1 as UInt16) + little(8 as UInt16) + little(UInt64.max)
    },
    member("wide offset near Int", "there is no member at byte") {
        $0.offset = .max
        $0.extra = little(1 as UInt16) + little(8 as UInt16) + little(UInt64(Int.max))
    },
    member("extra field cut short", "extra field is cut short") { $0.extra = [1, 0, 9] },
    member("extra field beyond its end", "extra field is cut short") { $0.extra = [1, 0, 9, 0] },
    member("two fields of sizes", "two extra fields") { $0.extra = [1, 0, 0, 0, 1, 0, 0, 0] },
    member("larger than its bytes", "cannot hold") {
        $0.size = 1_000_000
        $0.isDeflated = true
    },
    member("stored, and larger than its bytes", "cannot hold") { $0.size = 1_000_000 },
    member("bytes beyond the directory", "reach beyond the file's directory") {
        $0.packedSize = 1_000_000
        $0.size = 1_000_000
    },
    member("no deflate", "the deflate stream is damaged") {
        $0.method = 8
        $0.size = 100
        $0.content = [0xFF, 0xFF, 0xFF] + [UInt8](repeating: 0, count: 100)
        $0.packedSize = 103
    },
    member("content is no npy", "expected the magic number of npy") { $0.content = Array("PK\u{3}\u{4}1234".utf8) },
    member("content is empty", "ends inside the header of npy") { $0.content = [] },
    member("array larger than the member", "it is truncated") { $0.content.removeLast() },
    member("array smaller than the member", "1 extra bytes follow") { $0.content.append(0) },
    member("deflated content goes on", "goes on after the last element") {
        $0.isDeflated = true
        $0.content.append(0)
        $0.size = UInt32($0.content.count - 1)
    },
    member("deflated content ends early", "it is truncated") {
        $0.isDeflated = true
        $0.content.removeLast()
        $0.size = UInt32($0.content.count + 1)
    },
    wide("wide count", count: 1 << 40, "announces 1099511627776 members"),
    wide("wide count beyond Int", count: .max, "the directory does not end where"),
    wide("wide size", size: .max, "the directory does not end where"),
    wide("wide offset", offset: .max, "the directory does not end where"),
    wide("locator beyond Int", locator: .max, "leads nowhere"),
    wide("locator to nothing", locator: 0, "leads nowhere"),
]
