import Foundation
import FoveaIO
import FoveaTensor
import OrderedCollections
import Testing

@Suite struct SafetensorsArchiveTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test(arguments: ["shards", "shards/model.safetensors.index.json"])
    func shardsOfPythonAreRead(path: String) throws {
        let archive = try SafetensorsArchive(reading: Fixtures.path(path))
        #expect(archive.files.count == 2)
        #expect(Array(archive.metadata.keys) == ["total_size", "format"])
        #expect(archive.metadata["total_size"] == "62")
        let tensors = try archive.tensors()
        #expect(Array(tensors.keys) == Array(archive.entries.keys))
        #expect(tensors["a"]?.bytes() == Fixtures.counting([2, 3], .float32).bytes())
        #expect(tensors["b"]?.bytes() == Fixtures.counting([4], .int64).bytes())
        #expect(try archive.tensor("c.weight").bytes() == Fixtures.counting([3], .float16).bytes())
        #expect(tensors["a"]?.storage.isForeign == true)
    }

    @Test func oneFileIsReadToo() throws {
        try writeSafetensors(["x": Tensor([1] as [Float])], metadata: ["a": "b"], to: scratch.file("w.safetensors"))
        for path in [scratch.path, scratch.file("w.safetensors")] {
            let archive = try SafetensorsArchive(reading: path)
            #expect(archive.path == path)
            #expect(archive.metadata == ["a": "b"])
            #expect(try archive.tensor("x").item() == 1)
            expectFileError(path, #"holds no tensor "y"; it holds "x""#) { _ = try archive.tensor("y") }
        }
    }

    @Test func aFolderThatLeavesOpenWhatIsMeantIsRefused() throws {
        let folder = scratch.path
        expectFileError(folder, "holds no *.safetensors and no") { _ = try SafetensorsArchive(reading: folder) }
        try writeSafetensors([:], to: scratch.file("a.safetensors"))
        try writeSafetensors([:], to: scratch.file("b.safetensors"))
        expectFileError(folder, "holds 2 safetensors files and no index", "a.safetensors") {
            _ = try SafetensorsArchive(reading: folder)
        }
        try scratch.place(Array(#"{"weight_map":{}}"#.utf8), as: "a.safetensors.index.json")
        expectFileError(folder, "leaves open which weights are meant") { _ = try SafetensorsArchive(reading: folder) }
        try FileManager.default.removeItem(atPath: scratch.file("a.safetensors"))
        #expect(try SafetensorsArchive(reading: folder).entries.isEmpty)
        #expect(throws: FileError.self) { _ = try SafetensorsArchive(reading: scratch.file("none")) }
    }

    /// What a malformed index says, and what the error must say.
    @Test(arguments: [
        ("", "expected an object for the index"), ("{}", "the index has no weight_map"),
        ("[]", "expected an object for the index"), (#"{"weight_map":[]}"#, "expected an object for weight_map"),
        (#"{"weight_map":{"x":1}}"#, #"expected a text in quotes for the file of tensor "x""#),
        (#"{"weight_map":{"x":"f","x":"f"}}"#, #""x" appears twice"#),
        (#"{"weight_map":{},"weight_map":{}}"#, #""weight_map" appears twice"#),
        (#"{"weight_map":{"x":"../f"}}"#, "expected the plain name of a file"),
        (#"{"weight_map":{"x":"/etc/passwd"}}"#, "expected the plain name of a file"),
        (#"{"weight_map":{"x":"a/f"}}"#, "expected the plain name of a file"),
        (#"{"weight_map":{"x":"\u002e\u002e"}}"#, "expected the plain name of a file"),
        (#"{"weight_map":{"x":"."}}"#, "expected the plain name of a file"),
        (#"{"weight_map":{"x":""}}"#, "expected the plain name of a file"),
        (#"{"weight_map":{"x":"f\u0000"}}"#, "expected the plain name of a file"),
        (#"{"weight_map":{}} x"#, "expected nothing but spaces"),
        (#"{"metadata":1}"#, "expected an object for metadata"),
        (#"{"metadata":{"a":}}"#, "a value for"), (#"{"metadata":{"a":[}}"#, "a value for"),
        (#"{"metadata":{"a":[1,{]}}}"#, "a value for"), (#"{"metadata":{"a":"b}}"#, "no closing quote"),
        (#"{"other":"# + String(repeating: "[", count: 100_000), "a value for"),
    ])
    func aMalformedIndexIsAnError(text: String, fragment: String) throws {
        let path = try scratch.place(Array(text.utf8), as: "model.safetensors.index.json")
        expectFileError(path, "byte ", fragment) { _ = try SafetensorsArchive(reading: path) }
    }

    @Test func whatAnIndexMaySayBesides() throws {
        let text = """
            {"metadata": {"total_size": 13.5e9, "note": "a", "list": [1, {"b": [null, true]}, -2.5], "none": {}},
             "more": {"x": []}, "weight_map": {}}

            """
        let path = try scratch.place(Array(text.utf8), as: "i.json")
        let metadata = try SafetensorsArchive(reading: path).metadata
        #expect(metadata["total_size"] == "13.5e9")
        #expect(metadata["note"] == "a")
        #expect(metadata["list"] == #"[1, {"b": [null, true]}, -2.5]"#)
    }

    @Test func indexAndFilesMustAgree() throws {
        func index(_ map: String) throws -> String {
            try scratch.place(Array(#"{"weight_map":{\#(map)}}"#.utf8), as: "i.json")
        }
        let (one, two) = (scratch.file("1"), scratch.file("2"))
        try writeSafetensors(["x": Tensor([1] as [Float])], to: one)
        try writeSafetensors(["x": Tensor([2] as [Float]), "y": Tensor([3] as [Float])], to: two)
        let missing = try index(#""x":"1","y":"3""#)
        expectFileError(scratch.file("3"), "cannot be opened") { _ = try SafetensorsArchive(reading: missing) }
        let absent = try index(#""x":"1","z":"1""#)
        expectFileError(one, #"does not hold tensor "z", which the index "#) {
            _ = try SafetensorsArchive(reading: absent)
        }
        let twice = try index(#""x":"1","y":"2""#)
        expectFileError(two, #"holds tensor "x", which the index "#, #"has in "1""#) {
            _ = try SafetensorsArchive(reading: twice)
        }
        let unlisted = try index(#""x":"2""#)
        expectFileError(two, #"holds tensor "y", which the index "#, "has nowhere") {
            _ = try SafetensorsArchive(reading: unlisted)
        }
    }

    // MARK: Writing

    private let tensors: OrderedDictionary<String, Tensor> = [
        "d": .full([3], 4), "a": .full([4], 1), "big": .full([100], 5), "c": .full([2], 3),
        "n": .full([2], 7, dtype: .int64),
    ]

    @Test func weightsAreSplitInTheirOrder() throws {
        let folder = scratch.file("model")
        try writeShardedSafetensors(tensors, metadata: ["format": "pt"], maxShardBytes: 28, to: folder)
        let names = (1...3).map { "model-0000\($0)-of-00003.safetensors" }
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
                == names + ["model.safetensors.index.json"])
        let archive = try SafetensorsArchive(reading: folder)
        #expect(archive.files.map { Set($0.entries.keys) } == [["big"], ["a", "d"], ["c", "n"]].map { Set($0) })
    }

    @Test func whatIsSplitComesBack() throws {
        for limit in [1, 28, 1_000] {
            let folder = scratch.file("model")
            try writeShardedSafetensors(tensors, metadata: ["format": "pt"], maxShardBytes: limit, to: folder)
            let archive = try SafetensorsArchive(reading: folder)
            #expect(archive.metadata["format"] == "pt")
            #expect(archive.files.count == (limit == 1 ? 5 : limit == 28 ? 3 : 1))
            if limit < 1_000 { #expect(archive.metadata["total_size"] == "452") }
            for (name, tensor) in tensors { #expect(try archive.tensor(name).bytes() == tensor.bytes()) }
            // Files of the weights before are gone.
            #expect(
                try FileManager.default.contentsOfDirectory(atPath: folder).count
                    == archive.files.count + (limit < 1_000 ? 1 : 0))
        }
    }

    @Test func theIndexIsThatOfTransformers() throws {
        try writeShardedSafetensors(
            ["b": .full([2], 1), "a\"": .full([1], 1)], maxShardBytes: 8, to: scratch.file("model"))
        #expect(
            String(decoding: try fileBytes(scratch.file("model/model.safetensors.index.json")), as: UTF8.self) == """
                {
                  "metadata": {
                    "total_parameters": 3,
                    "total_size": 12
                  },
                  "weight_map": {
                    "a\\"": "model-00002-of-00002.safetensors",
                    "b": "model-00001-of-00002.safetensors"
                  }
                }

                """)
    }

    @Test func savingOverMappedWeightsIsSafe() throws {
        let folder = scratch.file("model")
        try writeShardedSafetensors(tensors, maxShardBytes: 28, to: folder)
        let mapped = try SafetensorsArchive(reading: folder).tensors()
        try writeShardedSafetensors(mapped, maxShardBytes: 1, to: folder)
        let again = try SafetensorsArchive(reading: folder)
        for (name, tensor) in tensors { #expect(try again.tensor(name).bytes() == tensor.bytes()) }
        #expect(mapped["big"]?.bytes() == tensors["big"]?.bytes())
    }

    @Test func anErrorLeavesTheOldWeights() throws {
        let folder = scratch.file("model")
        try writeShardedSafetensors(tensors, maxShardBytes: 28, to: folder)
        let before = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        expectFileError(folder, "overflow float16", #""huge" (1 of its numbers)"#) {
            try writeShardedSafetensors(
                ["fine": .ones([4]), "huge": .full([1], 1e6)], floatsAs: .float16, maxShardBytes: 8, to: folder)
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == before)
        #expect(try SafetensorsArchive(reading: folder).tensor("a").bytes() == tensors["a"]?.bytes())
        expectFileError(folder, "expected more than 0") {
            try writeShardedSafetensors(tensors, maxShardBytes: 0, to: folder)
        }
        let nowhere = scratch.file("none/model")
        expectFileError(nowhere, "cannot be made as a folder") {
            try writeShardedSafetensors(tensors, maxShardBytes: 1, to: nowhere)
        }
    }

    // MARK: Types

    @Test(arguments: [DType.float16, .bfloat16, .float32])
    func floatsAreCastOnWriting(dtype: DType) throws {
        let tensors: OrderedDictionary<String, Tensor> = [
            "x": Tensor([0.1, -1, 3, 65_504] as [Double], shape: [2, 2]).transposed(0, 1),
            "i": .full([3], 7, dtype: .int32),
            "odd": Tensor([Float.infinity, -.infinity, .nan, 0]),
        ]
        try writeSafetensors(tensors, floatsAs: dtype, to: scratch.file("f"))
        let back = try SafetensorsFile(reading: scratch.file("f")).tensors()
        #expect(back["x"]?.dtype == dtype)
        #expect(back["x"]?.bytes() == tensors["x"]?.cast(to: dtype).bytes())
        #expect(back["i"]?.dtype == .int32)
        let odd = try #require(back["odd"]).cast(to: .float32).scalars(as: Float.self)
        #expect(odd[0] == .infinity && odd[1] == -.infinity && odd[2].isNaN && odd[3] == 0)
    }

    @Test func overflowIsReportedWithNamesAndCounts() throws {
        let path = scratch.file("f")
        let tensors: OrderedDictionary<String, Tensor> = [
            // 65,519 still rounds to the largest number of float16; 65,520 does not.
            "most": Tensor([65_519, -65_519] as [Float]), "two": Tensor([65_520, -1e30, 1] as [Float]),
            "one": Tensor([.infinity, 1e5] as [Float]),
        ]
        expectFileError(
            path, #"finite numbers overflow float16, whose largest is 65504"#,
            #""one" (1 of its numbers), "two" (2 of its numbers);"#
        ) {
            try writeSafetensors(tensors, floatsAs: .float16, to: path)
        }
        #expect(scratch.names.isEmpty)
        try writeSafetensors(tensors, floatsAs: .bfloat16, to: path)
        expectFileError(path, "overflow float32", #""d""#) {
            try writeSafetensors(["d": Tensor([1e300] as [Double])], floatsAs: .float32, to: path)
        }
        expectFileError(path, "overflow bfloat16", #""d""#) {
            try writeSafetensors(
                ["d": Tensor([Float.greatestFiniteMagnitude])], floatsAs: .bfloat16, to: path)
        }
    }
}
