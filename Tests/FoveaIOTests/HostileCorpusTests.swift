import Foundation
import FoveaIO
import FoveaTensor
import Testing

/// The files in `Tests/Fixtures/hostile`: classes of damage and malice, and whatever fuzzing found. `make fuzz` starts
/// from them. A name begins with what must come of the file: `valid`, `refused`, or `any` of the two.
@Suite struct HostileCorpusTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Fixtures/hostile").path

    private static let readers: [String: @Sendable (String) throws -> [Tensor]] = [
        "safetensors": { Array(try SafetensorsFile(reading: $0).tensors().values) },
        "npy": { [try readNPY($0)] },
        "npz": { Array(try NPZFile(reading: $0).tensors().values) },
        "idx": { [try readIDX($0)] },
        "cifar": { [try readCIFAR10($0).images] },
        "png": { [try readPNG($0)] },
    ]

    @Test("each file is read or refused, as its name says", arguments: readers.keys.sorted())
    func corpus(_ format: String) throws {
        let read = try #require(Self.readers[format])
        let names = try FileManager.default.contentsOfDirectory(atPath: "\(Self.folder)/\(format)").sorted()
        #expect(names.count >= 2)
        for name in names {
            let path = "\(Self.folder)/\(format)/\(name)"
            do {
                for tensor in try read(path) { _ = tensor.bytes() }
                #expect(!name.hasPrefix("refused"), "\(path) was read")
            } catch let error as FileError {
                #expect(!name.hasPrefix("valid"), "\(error)")
                #expect(error.path == path && isOneLine(error.description), "\(error)")
            }
        }
    }

    @Test("an index cannot lead outside, to nothing or to another tensor")
    func indices() throws {
        let scratch = try ScratchFolder()
        try writeSafetensors(["a": .ones([2])], to: scratch.file("a.safetensors"))
        let source = Self.folder + "/index"
        for name in try FileManager.default.contentsOfDirectory(atPath: source).sorted() {
            let path = scratch.file("x.safetensors.index.json")
            try? FileManager.default.removeItem(atPath: path)
            try FileManager.default.copyItem(atPath: source + "/" + name, toPath: path)
            #expect(throws: FileError.self, "\(name)") { try SafetensorsArchive(reading: path) }
        }
    }
}
