import FoveaIO
import FoveaTensor
import Testing

@Suite struct CIFARTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    /// A record with these labels, whose picture counts from `first` on.
    static func record(_ labels: [UInt8], first: Int) -> [UInt8] {
        labels + (0..<3_072).map { UInt8(truncatingIfNeeded: first + $0) }
    }

    @Test(arguments: [1, 3])
    func picturesAndLabelsOfTen(count: Int) throws {
        let bytes = (0..<count).flatMap { Self.record([UInt8(9 - $0)], first: $0) }
        let (images, labels) = try readCIFAR10(scratch.place(bytes, as: "data_batch_1.bin"))
        #expect(images.shape == [count, 3, 32, 32])
        #expect(images.dtype == .uint8)
        #expect(labels.scalars(as: UInt8.self) == (0..<count).map { UInt8(9 - $0) })
        let expected = (0..<count).flatMap { first in (0..<3_072).map { UInt8(truncatingIfNeeded: first + $0) } }
        #expect(images.scalars(as: UInt8.self) == expected)
    }

    @Test func picturesAndLabelsOfHundred() throws {
        let bytes = Self.record([19, 99], first: 5) + Self.record([0, 1], first: 6)
        let (images, labels, groups) = try readCIFAR100(scratch.place(bytes, as: "train.bin"))
        #expect(labels.scalars(as: UInt8.self) == [99, 1])
        #expect(groups.scalars(as: UInt8.self) == [19, 0])
        #expect(images.shape == [2, 3, 32, 32])
        #expect(images.sliced(axis: 0, 1..<2).scalars(as: UInt8.self).prefix(3) == [6, 7, 8])
    }

    @Test(arguments: [0, 1, 3_072, 3_074, 6_145])
    func partsOfRecordsAreRefused(count: Int) throws {
        let path = try scratch.place([UInt8](repeating: 0, count: count), as: "f.bin")
        expectFileError(path, "is \(count) bytes long", "records of 3073 bytes") { _ = try readCIFAR10(path) }
    }

    @Test func aLabelTooLargeIsRefusedWithItsPlace() throws {
        let ten = try scratch.place(Self.record([9], first: 0) + Self.record([10], first: 0), as: "ten.bin")
        expectFileError(ten, "byte 3073: picture 1 has the label 10; expected 0 to 9") { _ = try readCIFAR10(ten) }
        let hundred = try scratch.place(Self.record([0, 100], first: 0), as: "hundred.bin")
        expectFileError(hundred, "byte 1: picture 0 has the label 100; expected 0 to 99") {
            _ = try readCIFAR100(hundred)
        }
    }

    @Test func formatsAreToldApart() throws {
        #expect(try FileFormat(of: scratch.place(Self.record([3], first: 0), as: "a.bin")) == .cifar10)
        #expect(try FileFormat(of: scratch.place(Self.record([3, 3], first: 0), as: "b.bin")) == .cifar100)
        #expect(try FileFormat(of: scratch.place(IDXTests.digits, as: "c")) == .idx)
        #expect(try FileFormat(of: scratch.place(gzipped(IDXTests.digits), as: "d")) == .idx)
        #expect(try FileFormat(of: Fixtures.path("vector.npy")) == .npy)
        #expect(try FileFormat(of: Fixtures.path("stored.npz")) == .npz)
        #expect(try FileFormat(of: Fixtures.path("nothing.npz")) == .npz)
        #expect(try FileFormat(of: Fixtures.path("shards/model.safetensors.index.json")) == .safetensorsIndex)
        #expect(try FileFormat(of: Fixtures.path("shards/model-00001-of-00002.safetensors")) == .safetensors)
        try writePNG(Tensor.zeros([2, 2], dtype: .uint8), to: scratch.file("e"))
        #expect(try FileFormat(of: scratch.file("e")) == .png)
        #expect(try FileFormat(of: scratch.place([], as: "f.safetensors")) == .safetensors)
        for (name, bytes) in [("h", []), ("i.txt", Array("a text of some length".utf8))] as [(String, [UInt8])] {
            #expect(throws: FileError.self) { try FileFormat(of: scratch.place(bytes, as: name)) }
        }
        // A header of 2^19 bytes begins as IDX does.
        let header = "{}" + String(repeating: " ", count: (1 << 19) - 2)
        #expect(try FileFormat(of: scratch.place(safetensors(header), as: "g")) == .safetensors)
    }
}
