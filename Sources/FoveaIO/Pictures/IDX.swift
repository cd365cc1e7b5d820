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
    var source = try ByteSource(MappedFile(path))
    let header = try IDXHeader(&source)
    try checkMemory(header.count * header.dtype.size, path)
    let tensor = Tensor(uninitialized: header.shape, header.dtype)
    let target = tensor.write { UnsafeMutableRawBufferPointer(start: $0, count: tensor.count * tensor.dtype.size) }
    defer { withExtendedLifetime(tensor) {} }
    try source.decode(
        header.element, isBigEndian: true, count: header.count, into: target, "\(header.dtypeName) \(header.shape)")
    return tensor
}

/// Reads what an IDX file says that it holds, without its elements.
///
/// - Throws: as `readIDX(_:)`, as far as the header and the size of the file tell.
public func idxHeader(_ path: String) throws(FileError) -> IDXHeader {
    var source = try ByteSource(MappedFile(path))
    return try IDXHeader(&source)
}

/// Writes a tensor as a plain IDX file, atomically.
///
/// - Parameters:
///   - tensor: `uint8`, `int32`, `float32` or `float64`, of 1 to 8 axes, none longer than 2³² − 1.
///   - path: the file to create or replace.
/// - Throws: `FileError` when the tensor is of another type or rank, or the file cannot be written.
public func writeIDX(_ tensor: Tensor, to path: String) throws(FileError) {
    guard let (code, element) = idxElements.first(where: { $0.value.rawValue == tensor.dtype.rawValue }) else {
        throw FileError(
            path: path, problem: "IDX does not hold \(tensor.dtype); cast to uint8, int32, float32 or float64 first")
    }
    guard (1...idxRankLimit).contains(tensor.rank) else {
        throw FileError(path: path, problem: "the tensor has \(tensor.rank) axes; expected 1 to \(idxRankLimit)")
    }
    guard tensor.shape.allSatisfy({ $0 <= Int(UInt32.max) }) else {
        throw FileError(path: path, problem: "the shape \(tensor.shape) has an axis longer than 2^32 - 1")
    }
    var header: [UInt8] = [0, 0, code, UInt8(tensor.rank)]
    for length in tensor.shape { withUnsafeBytes(of: UInt32(length).bigEndian) { header.append(contentsOf: $0) } }

    let dense = tensor.contiguous()
    try writeAtomically(to: path) { sink throws(FileError) in
        try sink.write(header)
        let perChunk = (1 << 16) / element.size
        for start in stride(from: 0, to: dense.count, by: perChunk) {
            let count = min(perChunk, dense.count - start)
            try sink.write(
                dense.read {
                    element.encodeBigEndian(
                        UnsafeRawBufferPointer(start: $0 + start * element.size, count: count * element.size))
                })
        }
    }
}
