import Foundation
import FoveaIO
import FoveaTensor
import Testing

/// Damaged files by the thousand: whatever they hold, reading either works or throws `FileError`.
@Suite struct HostileFilesTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    /// Reads `count` damaged copies of a file, and returns how many were refused.
    private func refusals(
        of original: [UInt8], _ count: Int, seed: UInt64, suffix: String = "",
        repair: (inout [UInt8]) -> Void = { _ in },
        read: (String) throws -> Void
    ) throws -> Int {
        var generator = SeededGenerator(seed: seed)
        var refused = 0
        for number in 0..<count {
            var bytes = mutated(original, &generator)
            repair(&bytes)
            let path = try scratch.place(bytes, as: "damaged \(number)\(suffix)")
            defer { unlink(path) }
            do {
                try read(path)
            } catch let error as FileError {
                refused += 1
                // An index names other files, which may be missing.
                #expect(suffix.isEmpty ? error.path == path : error.path.hasPrefix(scratch.path))
                #expect(isOneLine(error.description))
            } catch {
                Issue.record("damage \(number) of seed \(seed) threw \(error)")
            }
        }
        return refused
    }

    @Test func safetensors() throws {
        try writeSafetensors(
            [
                "weight": Tensor((0..<12).map(Float.init), shape: [3, 4]), "scale": Tensor([2] as [Double], shape: []),
                "mask": Tensor([true, false, true]), "none": Tensor.zeros([0, 7]), "half": .ones([2], dtype: .float16),
                "größe \"1\"\n": Tensor([1, 2, 3] as [UInt8]),
            ], metadata: ["format": "pt", "note": "a\tb"], to: scratch.file("f"))
        let refused = try refusals(of: scratch.bytes(of: "f"), 6_000, seed: 1) { path in
            let file = try SafetensorsFile(reading: path)
            for (name, tensor) in try file.tensors() {
                #expect(tensor.bytes().count == file.entries[name]?.byteCount)
                _ = tensor.description
            }
        }
        // Nearly every damage that is not to the elements themselves must be noticed.
        #expect(refused > 4_000)
    }

    @Test func idx() throws {
        try writeIDX(Tensor((0..<60).map(Float.init), shape: [3, 4, 5]), to: scratch.file("f"))
        let refused = try refusals(of: scratch.bytes(of: "f"), 3_000, seed: 2) { path in
            _ = try idxHeader(path)
            _ = try readIDX(path).bytes()
        }
        #expect(refused > 1_000)
    }

    @Test func damagedGzip() throws {
        let whole = gzipped(IDXTests.idx(8, [10, 30], (0..<300).map { UInt8(truncatingIfNeeded: $0) }))
        let refused = try refusals(of: whole, 3_000, seed: 3) { path in _ = try readIDX(path).bytes() }
        #expect(refused > 2_500)
    }

    @Test func gzipOfDamagedIDX() throws {
        let whole = IDXTests.idx(0x0B, [10, 3], (0..<60).map { UInt8($0) })
        let refused = try refusals(
            of: whole, 2_000, seed: 4, repair: { $0 = gzipped($0) }, read: { _ = try readIDX($0).bytes() })
        #expect(refused > 500)
    }

    @Test(arguments: [[13, 9, 1], [13, 9, 3], [13, 9, 4]], [false, true])
    func png(shape: [Int], repaired: Bool) throws {
        try writePNG(PNGTests.picture(shape), to: scratch.file("f"))
        // With its checksums put right, a damage gets past the first test and into the decoder.
        let refused = try refusals(
            of: scratch.bytes(of: "f"), 1_500, seed: 6, repair: { if repaired { correctChecksums(&$0) } },
            read: { _ = try readPNG($0).bytes() })
        #expect(refused > 700)
    }

    @Test(
        arguments: [("f4.little.npy", 9), ("fortran.big.npy", 10), ("fields.npy", 11), ("u8.big.npy", 12)]
            as [(String, UInt64)])
    func npy(name: String, seed: UInt64) throws {
        let refused = try refusals(of: fileBytes(Fixtures.path(name)), 2_000, seed: seed) { path in
            let header = try npyHeader(path)
            #expect(try readNPY(path).shape == header.shape)
            _ = try readNPY(path).bytes()
        }
        #expect(refused > 1_000)
    }

    @Test(arguments: [false, true], [false, true])
    func npz(isDeflated: Bool, repaired: Bool) throws {
        var zip = ZipBuilder()
        for name in ["i4.little.npy", "fortran.npy", "u2.big.npy", "empty.npy"] {
            zip.members.append(.init(name, try fileBytes(Fixtures.path(name))))
            zip.members[zip.members.count - 1].isDeflated = isDeflated
        }
        func read(_ path: String) throws {
            let file = try NPZFile(reading: path)
            for (name, tensor) in try file.tensors() {
                #expect(tensor.shape == file.entries[name]?.shape)
                _ = tensor.bytes()
            }
        }
        guard repaired else {
            let refused = try refusals(of: zip.bytes, 3_000, seed: 13, read: read)
            return #expect(refused > 2_000)
        }
        // Around a damaged array everything is as it should be, checksums too.
        for index in zip.members.indices {
            _ = try refusals(
                of: zip.members[index].content, 1_000, seed: 14 + UInt64(index),
                repair: { content in
                    var damaged = zip
                    damaged.members[index].content = content
                    content = damaged.bytes
                }, read: read)
        }
    }

    @Test func npzOfNumPy() throws {
        for name in ["stored.npz", "deflated.npz"] {
            let refused = try refusals(of: fileBytes(Fixtures.path(name)), 1_500, seed: 20) {
                _ = try NPZFile(reading: $0).tensors()
            }
            #expect(refused > 750)
        }
    }

    @Test func cifar() throws {
        let whole = CIFARTests.record([3], first: 0) + CIFARTests.record([9], first: 1)
        let refused = try refusals(of: whole, 1_000, seed: 21) { path in
            let (images, labels) = try readCIFAR10(path)
            #expect(images.shape[0] == labels.shape[0])
            _ = images.bytes()
        }
        #expect(refused > 400)
    }

    @Test func safetensorsIndex() throws {
        for name in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
            try scratch.place(fileBytes(Fixtures.path("shards/\(name)")), as: name)
        }
        let whole = try fileBytes(Fixtures.path("shards/model.safetensors.index.json"))
        let refused = try refusals(of: whole, 3_000, seed: 22, suffix: ".json") { path in
            _ = try SafetensorsArchive(reading: path).tensors()
        }
        #expect(refused > 2_000)
    }

    @Test func noiseIsNoFileOfAnyKind() throws {
        var generator = SeededGenerator(seed: 7)
        for length in 0..<200 {
            let path = try scratch.place((0..<length).map { _ in .random(in: 0...255, using: &generator) }, as: "noise")
            #expect(throws: FileError.self) { _ = try SafetensorsFile(reading: path) }
            #expect(throws: FileError.self) { _ = try readIDX(path) }
            #expect(throws: FileError.self) { _ = try readPNG(path) }
            #expect(throws: FileError.self) { _ = try readNPY(path) }
            #expect(throws: FileError.self) { _ = try NPZFile(reading: path) }
            #expect(throws: FileError.self) { _ = try readCIFAR10(path) }
        }
    }
}

/// Gives every chunk of a PNG file the checksum of its content.
private func correctChecksums(_ bytes: inout [UInt8]) {
    var place = 8
    while place + 12 <= bytes.count {
        let length = bytes[place..<(place + 4)].reduce(0) { $0 << 8 | Int($1) }
        guard length <= bytes.count - place - 12 else { return }
        let end = place + 8 + length
        let sum = checksum(bytes[(place + 4)..<end])
        for index in 0..<4 { bytes[end + index] = UInt8(truncatingIfNeeded: sum >> (24 - 8 * UInt32(index))) }
        place = end + 4
    }
}
