import FoveaTensor

/// Reads an IDX file, the format of MNIST: a header and one array of numbers, plain or gzipped.
///
/// The tensor has the file's shape. Bytes become `uint8`, 32-bit integers `int32`, floating-point numbers `float32`
/// and `float64`; `int8` and `int16`, which Fovea does not hold, become `int32`.
///
/// Format: http://yann.lecun.com/exdb/mnist, "The IDX file format".
///
/// - Throws: `FileError` when the file cannot be read, is not IDX, has 0 or more than 8 axes, is truncated or damaged,
///   or goes on after the last element. Nothing is allocated that the size of the file contradicts.
public func readIDX(_ path: String) throws(FileError) -> Tensor {
    let file = try MappedFile(path)
    var source = try IDXSource(file)
    let header = try IDXHeader(&source, path: path)

    try checkMemory(header.count * header.dtype.size, path)
    let tensor = Tensor(uninitialized: header.shape, header.dtype)
    let target = tensor.write { UnsafeMutableRawBufferPointer(start: $0, count: tensor.count * tensor.dtype.size) }
    defer { withExtendedLifetime(tensor) {} }
    // Elements pass through a buffer, because the file's are big-endian and may be narrower than the tensor's.
    let perChunk = (1 << 16) / header.type.size
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: perChunk * header.type.size, alignment: 16)
    defer { buffer.deallocate() }
    var done = 0
    while done < header.count {
        let count = min(perChunk, header.count - done)
        let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[..<(count * header.type.size)])
        guard try source.read(into: chunk) == chunk.count else {
            throw FileError(
                path: path,
                problem: "ends before the last element of \(header.dtypeName) \(header.shape); it is truncated")
        }
        header.type.decode(
            UnsafeRawBufferPointer(chunk),
            into: UnsafeMutableRawBufferPointer(rebasing: target[(done * header.dtype.size)...]))
        done += count
    }
    // Asking for one byte more also has zlib verify its checksum.
    guard try source.read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<1])) == 0 else {
        throw FileError(
            path: path,
            problem: "goes on after the last element of \(header.dtypeName) \(header.shape); extra bytes follow")
    }
    return tensor
}

/// Reads what an IDX file says that it holds, without its elements.
///
/// - Throws: as `readIDX(_:)`, as far as the header and the size of the file tell.
public func idxHeader(_ path: String) throws(FileError) -> IDXHeader {
    let file = try MappedFile(path)
    var source = try IDXSource(file)
    return try IDXHeader(&source, path: path)
}

/// Writes a tensor as a plain IDX file, atomically.
///
/// - Parameters:
///   - tensor: `uint8`, `int32`, `float32` or `float64`, of 1 to 8 axes, none longer than 2³² − 1.
///   - path: the file to create or replace.
/// - Throws: `FileError` when the tensor is of another type or rank, or the file cannot be written.
public func writeIDX(_ tensor: Tensor, to path: String) throws(FileError) {
    guard let type = IDXType(tensor.dtype) else {
        throw FileError(
            path: path, problem: "IDX does not hold \(tensor.dtype); cast to uint8, int32, float32 or float64 first")
    }
    guard (1...idxRankLimit).contains(tensor.rank) else {
        throw FileError(path: path, problem: "the tensor has \(tensor.rank) axes; expected 1 to \(idxRankLimit)")
    }
    guard tensor.shape.allSatisfy({ $0 <= Int(UInt32.max) }) else {
        throw FileError(path: path, problem: "the shape \(tensor.shape) has an axis longer than 2^32 - 1")
    }
    var header: [UInt8] = [0, 0, type.rawValue, UInt8(tensor.rank)]
    for length in tensor.shape { withUnsafeBytes(of: UInt32(length).bigEndian) { header.append(contentsOf: $0) } }

    let dense = tensor.contiguous()
    try writeAtomically(to: path) { sink throws(FileError) in
        try sink.write(header)
        if type.size == 1 { return try sink.write(elementsOf: dense) }
        let perChunk = (1 << 16) / type.size
        for start in stride(from: 0, to: dense.count, by: perChunk) {
            let count = min(perChunk, dense.count - start)
            try sink.write(
                dense.read {
                    type.encode(UnsafeRawBufferPointer(start: $0 + start * type.size, count: count * type.size))
                })
        }
    }
}

/// The bytes of an IDX file in order, decompressed where need be.
struct IDXSource {
    let fileByteCount: Int
    private var rest: UnsafeRawBufferPointer
    private let gzip: GzipReader?
    /// Keeps the bytes alive.
    private let file: MappedFile

    var isCompressed: Bool { gzip != nil }

    init(_ file: MappedFile) throws(FileError) {
        self.file = file
        fileByteCount = file.count
        rest = file.bytes
        gzip = GzipReader.recognises(file.bytes) ? try GzipReader(file.bytes, path: file.path) : nil
    }

    /// Fills `output` as far as there are bytes, and returns how many there were.
    mutating func read(into output: UnsafeMutableRawBufferPointer) throws(FileError) -> Int {
        if let gzip { return try gzip.read(into: output) }
        let count = min(output.count, rest.count)
        output.copyMemory(from: UnsafeRawBufferPointer(rebasing: rest[..<count]))
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        return count
    }

    /// The next bytes of the header.
    mutating func header(_ count: Int, _ path: String) throws(FileError) -> [UInt8] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 1)
        defer { buffer.deallocate() }
        guard try read(into: buffer) == count else {
            throw FileError(path: path, problem: "ends inside the header of IDX; it is truncated or not IDX at all")
        }
        return Array(buffer)
    }
}

extension IDXType {
    /// Turns big-endian elements into the tensor's.
    func decode(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
        let count = source.count / size
        switch self {
        case .uint8: target.copyMemory(from: source)
        case .int8:
            for index in 0..<count {
                target.storeBytes(of: Int32(Int8(bitPattern: source[index])), toByteOffset: index * 4, as: Int32.self)
            }
        case .int16:
            for index in 0..<count {
                let element = Int16(bigEndian: source.load(fromByteOffset: index * 2, as: Int16.self))
                target.storeBytes(of: Int32(element), toByteOffset: index * 4, as: Int32.self)
            }
        case .int32, .float32: swapBytes(source, target, as: UInt32.self)
        case .float64: swapBytes(source, target, as: UInt64.self)
        }
    }

    /// Turns the tensor's elements into big-endian ones. Not for the types that are widened on reading.
    func encode(_ source: UnsafeRawBufferPointer) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: source.count) { buffer, count in
            count = source.count
            let target = UnsafeMutableRawBufferPointer(buffer)
            switch size {
            case 4: swapBytes(source, target, as: UInt32.self)
            case 8: swapBytes(source, target, as: UInt64.self)
            default: target.copyMemory(from: source)
            }
        }
    }
}

/// Copies numbers from the machine's byte order to big-endian or back, which is the same.
private func swapBytes<Word: FixedWidthInteger>(
    _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer, as type: Word.Type
) {
    for offset in stride(from: 0, to: source.count, by: MemoryLayout<Word>.size) {
        target.storeBytes(
            of: source.loadUnaligned(fromByteOffset: offset, as: Word.self).bigEndian, toByteOffset: offset,
            as: Word.self)
    }
}
