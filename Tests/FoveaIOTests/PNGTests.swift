import FoveaIO
import FoveaTensor
import Testing

@Suite struct PNGTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    static func picture(_ shape: [Int]) -> Tensor {
        Tensor((0..<shape.reduce(1, *)).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 >> 3) }, shape: shape)
    }

    @Test(arguments: [[5, 7], [5, 7, 1], [5, 7, 3], [5, 7, 4], [1, 1, 3], [1, 300], [300, 1, 4]])
    func whatIsWrittenIsRead(shape: [Int]) throws {
        let pixels = Self.picture(shape)
        try writePNG(pixels, to: scratch.file("f.png"))
        let back = try readPNG(scratch.file("f.png"))
        #expect(back.shape == (shape.count == 2 ? shape + [1] : shape))
        #expect(back.bytes() == pixels.bytes())
    }

    @Test func noiseThatDoesNotCompressIsWritten() throws {
        var generator = SeededGenerator(seed: 5)
        let noise = Tensor(
            (0..<(300 * 300 * 4)).map { _ in UInt8.random(in: 0...255, using: &generator) }, shape: [300, 300, 4])
        try writePNG(noise, to: scratch.file("f.png"))
        #expect(try readPNG(scratch.file("f.png")).bytes() == noise.bytes())
    }

    @Test func stridedViewsAreWrittenInTheirOwnOrder() throws {
        try writePNG(Tensor([1, 2, 3, 4] as [UInt8], shape: [2, 2]).transposed(0, 1), to: scratch.file("f.png"))
        #expect(try readPNG(scratch.file("f.png")).bytes() == [1, 3, 2, 4])
    }

    @Test func aPaletteIsExpanded() throws {
        let bytes = Self.png(
            width: 2, height: 1, depth: 8, color: 3, rows: [0, 1, 0], palette: [10, 20, 30, 40, 50, 60])
        let pixels = try readPNG(scratch.place(bytes, as: "f.png"))
        #expect(pixels.shape == [1, 2, 3])
        #expect(pixels.bytes() == [40, 50, 60, 10, 20, 30])
    }

    @Test func sixteenBitsAreReducedWithoutAChangeOfBrightness() throws {
        let bytes = Self.png(width: 3, height: 1, depth: 16, color: 0, rows: [0, 0, 0, 0x80, 0x80, 0xFF, 0xFF])
        let pixels = try readPNG(scratch.place(bytes, as: "f.png"))
        #expect(pixels.shape == [1, 3, 1])
        #expect(pixels.bytes() == [0, 128, 255])
    }

    @Test func greyWithOpacityBecomesColour() throws {
        let bytes = Self.png(width: 1, height: 1, depth: 8, color: 4, rows: [0, 100, 50])
        let pixels = try readPNG(scratch.place(bytes, as: "f.png"))
        #expect(pixels.shape == [1, 1, 4])
        #expect(pixels.bytes() == [100, 100, 100, 50])
    }

    @Test func whatIsNoPictureIsAnError() throws {
        expectFileError(try scratch.place([], as: "empty"), "is empty") { _ = try readPNG(scratch.file("empty")) }
        expectFileError(try scratch.place(Array("GIF89a, not PNG".utf8), as: "gif"), "not a readable PNG") {
            _ = try readPNG(scratch.file("gif"))
        }
        try writePNG(Self.picture([40, 40, 3]), to: scratch.file("whole"))
        let whole = try scratch.bytes(of: "whole")
        for cut in [1, 8, 20, 33, 60, whole.count / 2] {
            let path = try scratch.place(Array(whole[..<cut]), as: "cut")
            expectFileError(path, "PNG") { _ = try readPNG(path) }
        }
    }

    @Test func absurdDimensionsAreRefusedBeforeMemoryIsTaken() throws {
        let wide = try scratch.place(Self.png(width: 70_000, height: 1, depth: 8, color: 0, rows: [0]), as: "wide")
        expectFileError(wide, "70000 x 1 pixels; expected 1 to 65,535") { _ = try readPNG(wide) }
        let large = try scratch.place(
            Self.png(width: 60_000, height: 60_000, depth: 8, color: 0, rows: [0]), as: "large")
        expectFileError(large, "no more than 268435456") { _ = try readPNG(large) }
        let bomb = try scratch.place(Self.png(width: 16_000, height: 16_000, depth: 8, color: 2, rows: [0]), as: "bomb")
        expectFileError(bomb, "bytes of PNG cannot hold") { _ = try readPNG(bomb) }
    }

    @Test(arguments: [
        ([], "a picture is a uint8 tensor"), ([3], "a picture is a uint8 tensor"), ([0, 3], "expected 1 to 65,535"),
        ([3, 0, 3], "expected 1 to 65,535"), ([2, 2, 2], "not uint8 [2, 2, 2]"), ([2, 2, 5], "not uint8 [2, 2, 5]"),
        ([1, 2, 2, 3], "a picture is a uint8 tensor"), ([1, 70_000], "expected 1 to 65,535"),
    ])
    func shapesThatAreNoPictureAreRefused(shape: [Int], problem: String) {
        let path = scratch.file("f.png")
        expectFileError(path, problem) { try writePNG(.zeros(shape, dtype: .uint8), to: path) }
        #expect(scratch.names.isEmpty)
    }

    @Test func otherTypesAreRefused() {
        let path = scratch.file("f.png")
        expectFileError(path, "not float32 [2, 2]") { try writePNG(.zeros([2, 2]), to: path) }
    }

    // MARK: Pictures that writePNG does not make

    /// A PNG file of unfiltered rows, each beginning with its filter byte.
    static func png(
        width: UInt32, height: UInt32, depth: UInt8, color: UInt8, rows: [UInt8], palette: [UInt8] = []
    ) -> [UInt8] {
        func big(_ number: UInt32) -> [UInt8] { withUnsafeBytes(of: number.bigEndian) { Array($0) } }
        func chunk(_ name: String, _ content: [UInt8]) -> [UInt8] {
            let covered = Array(name.utf8) + content
            return big(UInt32(content.count)) + covered + big(checksum(covered[...]))
        }
        return [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
            + chunk("IHDR", big(width) + big(height) + [depth, color, 0, 0, 0])
            + (palette.isEmpty ? [] : chunk("PLTE", palette))
            + chunk("IDAT", deflated(rows, windowBits: 15)) + chunk("IEND", [])
    }
}
