import FoveaIO
import FoveaTensor
import OrderedCollections
import Testing

@Suite struct SafetensorsTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test(arguments: DType.allCases, [[], [5], [2, 3], [0], [3, 0, 2], [1, 2, 1, 3, 1]])
    func everyTypeAndShapeComesBack(dtype: DType, shape: [Int]) throws {
        let count = shape.reduce(1, *)
        let tensor = Tensor((0..<count).map { Double($0 % 2) }, shape: shape).cast(to: dtype)
        let path = scratch.file("one.safetensors")
        try writeSafetensors(["x": tensor], to: path)
        let file = try SafetensorsFile(reading: path)
        let entry = try #require(file.entries["x"])
        #expect(entry.dtype == dtype)
        #expect(entry.shape == shape)
        #expect(entry.count == count)
        #expect(entry.byteCount == count * dtype.size)
        let back = try file.tensor("x")
        #expect(back.dtype == dtype)
        #expect(back.shape == shape)
        #expect(back.bytes() == tensor.bytes())
        #expect(back.storage.isForeign == (count > 0))
    }

    @Test func theBytesAreThoseOfTheFormat() throws {
        // Written by the format's own library, version 0.8.
        let header =
            #"{"__metadata__":{"format":"pt"},"l":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"#
            + #""a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"b":{"dtype":"F32","shape":[],"#
            + #""data_offsets":[16,20]},"m":{"dtype":"BOOL","shape":[2],"data_offsets":[20,22]}}"#
        let padded = header + String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
        let expected: [UInt8] =
            [UInt8(padded.utf8.count & 0xFF), UInt8(padded.utf8.count >> 8), 0, 0, 0, 0, 0, 0] + Array(padded.utf8)
            + [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64, 0, 0, 64, 64, 1, 0]
        let tensors: OrderedDictionary<String, Tensor> = [
            "m": Tensor([true, false]), "b": Tensor([3 as Float], shape: []), "a": Tensor([1, 2] as [Float]),
            "l": Tensor([7] as [Int64]),
        ]
        try writeSafetensors(tensors, metadata: ["format": "pt"], to: scratch.file("f"))
        #expect(try scratch.bytes(of: "f") == expected)
    }

    @Test func tensorsAreListedInTheOrderOfTheirData() throws {
        let tensors: OrderedDictionary<String, Tensor> = [
            "u": Tensor([1, 2, 3] as [UInt8]), "b": Tensor([1] as [Float]), "d": Tensor([1] as [Double]),
            "a": Tensor([2] as [Float]),
        ]
        try writeSafetensors(tensors, to: scratch.file("f"))
        let file = try SafetensorsFile(reading: scratch.file("f"))
        #expect(Array(file.entries.keys) == ["d", "a", "b", "u"])
        #expect(Array(try file.tensors().keys) == ["d", "a", "b", "u"])
        for entry in file.entries.values { #expect(entry.byteRange.lowerBound % (entry.dtype?.size ?? 1) == 0) }
        #expect(try file.tensor("u").scalars(as: UInt8.self) == [1, 2, 3])
    }

    @Test func metadataAndStrangeNamesComeBack() throws {
        let names = [
            "", " ", "a\"b", "a\\b", "line\nbreak", "tab\t\u{0}\u{1F}\u{7F}", "größe", "眼", "👁️‍🗨️", "/",
            String(repeating: "long", count: 1_000),
        ]
        var tensors: OrderedDictionary<String, Tensor> = [:]
        for (index, name) in names.enumerated() { tensors[name] = Tensor([Float(index)]) }
        let metadata = Dictionary(uniqueKeysWithValues: names.map { ($0, "value of \($0)") })
        try writeSafetensors(tensors, metadata: metadata, to: scratch.file("f"))
        let file = try SafetensorsFile(reading: scratch.file("f"))
        #expect(Dictionary(uniqueKeysWithValues: file.metadata.map { ($0, $1) }) == metadata)
        for (index, name) in names.enumerated() {
            #expect(try file.tensor(name).scalars(as: Float.self) == [Float(index)])
        }
    }

    @Test func theSameContentGivesTheSameBytes() throws {
        let elements = (0..<50).map { ("tensor \($0)", Tensor([Float($0)])) }
        let metadata = Dictionary(uniqueKeysWithValues: (0..<50).map { ("key \($0)", "\($0)") })
        try writeSafetensors(.init(uniqueKeysWithValues: elements), metadata: metadata, to: scratch.file("a"))
        try writeSafetensors(
            .init(uniqueKeysWithValues: elements.shuffled()), metadata: metadata, to: scratch.file("b"))
        #expect(try scratch.bytes(of: "a") == scratch.bytes(of: "b"))
    }

    @Test func stridedViewsAreWrittenInTheirOwnOrder() throws {
        let tensor = Tensor((0..<6).map(Float.init), shape: [2, 3]).transposed(0, 1)
        try writeSafetensors(["t": tensor], to: scratch.file("f"))
        let back = try SafetensorsFile(reading: scratch.file("f")).tensor("t")
        #expect(back.shape == [3, 2])
        #expect(back.scalars(as: Float.self) == [0, 3, 1, 4, 2, 5])
    }

    @Test func noTensorsAtAllIsAFileToo() throws {
        try writeSafetensors([:], to: scratch.file("f"))
        #expect(try scratch.bytes(of: "f") == [8, 0, 0, 0, 0, 0, 0, 0] + Array("{}      ".utf8))
        #expect(try SafetensorsFile(reading: scratch.file("f")).entries.isEmpty)
    }

    @Test func aMisalignedFileIsCopied() throws {
        let header =
            #"{"c":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"#
            + #""x":{"dtype":"F32","shape":[2],"data_offsets":[1,9]}}"#
        for padding in 0..<8 {
            let path = try scratch.place(
                safetensors(header + String(repeating: " ", count: padding), [9, 0, 0, 128, 63, 0, 0, 0, 64]), as: "f")
            let file = try SafetensorsFile(reading: path)
            let tensor = try file.tensor("x")
            #expect(tensor.scalars(as: Float.self) == [1, 2])
            let aligned = file.entries["x"].map { $0.byteRange.lowerBound % 4 == 0 }
            #expect(tensor.storage.isForeign == aligned)
            #expect(try file.tensor("c").scalars(as: UInt8.self) == [9])
        }
    }

    @Test func tensorsOutliveTheFileThatTheyCameFrom() throws {
        let path = scratch.file("f")
        try writeSafetensors(["x": Tensor([1, 2, 3] as [Float])], to: path)
        let tensor = try { try SafetensorsFile(reading: path).tensor("x") }()
        try writeSafetensors(["x": Tensor([9] as [Double])], to: path)
        #expect(tensor.scalars(as: Float.self) == [1, 2, 3])
    }

    @Test func savingOverAMappedFileIsSafe() throws {
        let path = scratch.file("f")
        let values = (0..<100_000).map(Float.init)
        try writeSafetensors(["a": Tensor(values), "b": Tensor(values)], to: path)
        let old = try SafetensorsFile(reading: path).tensors()
        // What is written comes out of the file that is being replaced.
        try writeSafetensors(["c": try #require(old["b"])], to: path)
        #expect(old["a"]?.scalars(as: Float.self) == values)
        #expect(try SafetensorsFile(reading: path).tensor("c").scalars(as: Float.self) == values)
        #expect(scratch.names == ["f"])
    }

    @Test func aMissingTensorIsAnErrorThatListsWhatIsThere() throws {
        try writeSafetensors(["weight": Tensor([1] as [Float])], to: scratch.file("f"))
        let file = try SafetensorsFile(reading: scratch.file("f"))
        expectFileError(file.path, #"holds no tensor "bias""#, #"it holds "weight""#) { _ = try file.tensor("bias") }
    }

    @Test func aReservedNameIsRefused() {
        let path = scratch.file("f")
        expectFileError(path, "reserves the name") {
            try writeSafetensors(["__metadata__": Tensor([1] as [Float])], to: path)
        }
    }

    @Test(arguments: [
        ("I8", [4], 4), ("I16", [2], 4), ("U16", [2], 4), ("U32", [1], 4), ("U64", [1], 8), ("C64", [1], 8),
        ("F8_E5M2", [4], 4), ("F8_E4M3", [4], 4), ("F8_E8M0", [4], 4), ("F8_E4M3FNUZ", [4], 4),
        ("F8_E5M2FNUZ", [4], 4), ("F4", [3, 2], 3), ("F6_E2M3", [4], 3), ("F6_E3M2", [8], 6),
    ])
    func typesThatFoveaDoesNotHoldAreListed(name: String, shape: [Int], size: Int) throws {
        let header = #"{"x":{"dtype":"\#(name)","shape":\#(shape),"data_offsets":[0,\#(size)]}}"#
        let path = try scratch.place(safetensors(header, [UInt8](repeating: 1, count: size)), as: "f")
        let file = try SafetensorsFile(reading: path)
        #expect(file.entries["x"]?.dtypeName == name)
        #expect(file.entries["x"]?.dtype == nil)
        #expect(file.entries["x"]?.shape == shape)
        expectFileError(path, #"tensor "x""#, name, "does not hold", "F32") { _ = try file.tensor("x") }
        expectFileError(path, name) { _ = try file.tensors() }
    }

    @Test func aBoolThatIsNeitherIsAnErrorWhenRead() throws {
        let header = #"{"m":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}"#
        let path = try scratch.place(safetensors(header, [0, 1, 2]), as: "f")
        let file = try SafetensorsFile(reading: path)
        expectFileError(path, #"tensor "m""#, "element 2", "the byte 2", "expected 0 or 1") { _ = try file.tensor("m") }
    }

    @Test func tenThousandTensorsAreFound() throws {
        let elements = (0..<10_000).map { ("layer.\($0).weight", Tensor([Float($0)])) }
        try writeSafetensors(.init(uniqueKeysWithValues: elements), to: scratch.file("f"))
        let tensors = try SafetensorsFile(reading: scratch.file("f")).tensors()
        #expect(tensors.count == 10_000)
        #expect(tensors["layer.9999.weight"]?.item() == 9_999)
    }
}

/// A safetensors file with this header, as it stands, and this data.
func safetensors(_ header: String, _ data: [UInt8] = []) -> [UInt8] {
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Array($0) } + Array(header.utf8) + data
}
