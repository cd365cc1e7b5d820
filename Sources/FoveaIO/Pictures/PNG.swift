import CPNG
import FoveaTensor

/// Reads a PNG picture.
///
/// The result is `uint8` [H, W, C]: C is 1 for grey, 3 for colour, 4 for anything with transparency (not multiplied
/// into the colours). Palettes are expanded, 16 bits a channel reduced to 8, and colours brought to sRGB where the file
/// states another gamma.
///
/// - Throws: `FileError` when the file cannot be read, is not PNG, is damaged or truncated, or is larger than 65,535
///   pixels a side or 2²⁸ in all.
public func readPNG(_ path: String) throws(FileError) -> Tensor {
    let file = try MappedFile(path)
    let bytes = file.bytes
    defer { withExtendedLifetime(file) {} }
    // libpng reads the first byte without asking whether there is one.
    guard let start = bytes.baseAddress else {
        throw FileError(path: path, problem: "is empty; expected a PNG picture")
    }
    try checkChunks(bytes, path)
    let image = PNGImage()
    guard png_image_begin_read_from_memory(image.state, start, bytes.count) != 0 else {
        throw FileError(path: path, problem: "is not a readable PNG picture (\(image.message))")
    }
    let (height, width) = (Int(image.state.pointee.height), Int(image.state.pointee.width))
    try checkPixels(height: height, width: width, path)
    // A pixel takes one bit at least, and deflate has its limit.
    guard height * width / 8 / Inflater.ratioLimit <= bytes.count else {
        throw FileError(
            path: path, problem: "announces \(width) x \(height) pixels, which \(bytes.count) bytes of PNG cannot hold")
    }

    let layout: PNGLayout =
        if image.state.pointee.format & PNGLayout.alphaFlag != 0 {
            .rgba
        } else if image.state.pointee.format & PNGLayout.colorFlag != 0 { .rgb } else { .gray }
    image.state.pointee.format = layout.rawValue
    // Without this, libpng takes 16-bit samples for linear light.
    image.state.pointee.flags |= PNGImage.flag16BitIsSRGB
    try checkMemory(height * width * layout.channels, path)
    let pixels = Tensor(uninitialized: [height, width, layout.channels], .uint8)
    let finished = pixels.write { png_image_finish_read(image.state, nil, $0, 0, nil) }
    guard finished != 0 else {
        throw FileError(path: path, problem: "is a damaged PNG picture (\(image.message)); copy the file again")
    }
    return pixels
}

/// Writes a picture as PNG, atomically.
///
/// - Parameters:
///   - pixels: `uint8` [H, W] or [H, W, 1] grey, [H, W, 3] colour, or [H, W, 4] colour and opacity; sRGB.
///   - path: the file to create or replace.
/// - Throws: `FileError` when the tensor is of another type or shape, is empty or larger than 65,535 pixels a side
///   or 2²⁸ in all, or the file cannot be written.
public func writePNG(_ pixels: Tensor, to path: String) throws(FileError) {
    let channels = pixels.rank == 2 ? 1 : pixels.shape.last ?? 0
    guard pixels.dtype == .uint8, [2, 3].contains(pixels.rank), let layout = PNGLayout(channels: channels) else {
        throw FileError(
            path: path,
            problem:
                "a picture is a uint8 tensor [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], not "
                + "\(pixels.dtype) \(pixels.shape)"
        )
    }
    let (height, width) = (pixels.shape[0], pixels.shape[1])
    try checkPixels(height: height, width: width, path)

    let image = PNGImage()
    image.state.pointee.width = UInt32(width)
    image.state.pointee.height = UInt32(height)
    image.state.pointee.format = layout.rawValue
    let dense = pixels.contiguous()
    // Pictures that cannot be compressed come out a little larger than they are; libpng says how much it would need.
    var capacity = dense.count + dense.count / 8 + (1 << 12)
    for _ in 0..<2 {
        try checkMemory(capacity, path)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity, alignment: 16)
        defer { buffer.deallocate() }
        var size = capacity
        let done = dense.read { png_image_write_to_memory(image.state, buffer.baseAddress, &size, 0, $0, 0, nil) }
        if done != 0 {
            let encoded = UnsafeRawBufferPointer(rebasing: buffer[..<size])
            return try writeAtomically(to: path) { sink throws(FileError) in try sink.write(encoded) }
        }
        guard size > capacity else { break }
        capacity = size
    }
    throw FileError(path: path, problem: "libpng cannot encode the picture (\(image.message))")
}

/// libpng's description of a picture, for its simplified interface: the one that reports errors by return value
/// instead of jumping over Swift's frames.
private final class PNGImage {
    /// libpng keeps its address while it works.
    let state: UnsafeMutablePointer<png_image>

    /// `PNG_IMAGE_FLAG_16BIT_sRGB` of png.h: a macro, and so not imported.
    static let flag16BitIsSRGB: UInt32 = 0x04

    init() {
        state = .allocate(capacity: 1)
        state.initialize(to: png_image())
        state.pointee.version = UInt32(PNG_IMAGE_VERSION)
    }

    deinit {
        png_image_free(state)
        state.deallocate()
    }

    /// What libpng has to say.
    var message: String {
        withUnsafeBytes(of: &state.pointee.message) { bytes in
            let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            return text.isEmpty ? "libpng gives no reason" : text
        }
    }
}

/// The layouts of a row, with the values that png.h composes for `PNG_FORMAT_GRAY`, `PNG_FORMAT_RGB` and
/// `PNG_FORMAT_RGBA`: macros, and so not imported.
private enum PNGLayout: UInt32 {
    case gray = 0
    case rgb = 2
    case rgba = 3

    /// `PNG_FORMAT_FLAG_ALPHA`.
    static let alphaFlag: UInt32 = 1
    /// `PNG_FORMAT_FLAG_COLOR`.
    static let colorFlag: UInt32 = 2

    init?(channels: Int) {
        switch channels {
        case 1: self = .gray
        case 3: self = .rgb
        case 4: self = .rgba
        default: return nil
        }
    }

    var channels: Int {
        switch self {
        case .gray: 1
        case .rgb: 3
        case .rgba: 4
        }
    }
}

/// Refuses a chunk that is longer than what follows: libpng would take memory for all of it first.
private func checkChunks(_ bytes: UnsafeRawBufferPointer, _ path: String) throws(FileError) {
    // What is no PNG at all libpng says better.
    guard bytes.starts(with: [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]) else { return }
    // Length, kind, data and checksum, behind a signature of eight bytes.
    var start = 8
    while start + 8 <= bytes.count {
        let length = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: start, as: UInt32.self)))
        // The end of the file in the middle of pixels is libpng's to tell, which reads those piece by piece.
        let isPixels = bytes[(start + 4)..<(start + 8)].elementsEqual("IDAT".utf8)
        let left = bytes.count - start - 8
        guard isPixels || length <= left else {
            throw FileError(
                path: path,
                problem: "is no whole PNG picture: byte \(start) announces a chunk of \(length) bytes, \(left) follow")
        }
        start += 12 + length
    }
}

/// Refuses what no picture of this field is, before any memory is taken for it.
private func checkPixels(height: Int, width: Int, _ path: String) throws(FileError) {
    guard (1...65_535).contains(height), (1...65_535).contains(width), height * width <= 1 << 28 else {
        throw FileError(
            path: path,
            problem: "\(width) x \(height) pixels; expected 1 to 65,535 a side and no more than \(1 << 28) in all")
    }
}
