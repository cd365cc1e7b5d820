import FoveaTensor

/// Reads an npy file, NumPy's format of one array.
///
/// The tensor has the file's shape, whatever the order of the elements in the file. Its type is the file's where Fovea
/// holds it, and the next wider integer elsewhere: see `NPYHeader.dtype`. Little-endian elements of a type that Fovea
/// holds are a view of the mapped file, which costs nothing until it is touched and stays valid when the file is
/// replaced.
///
/// - Throws: `FileError` when the file cannot be read, is not npy, is truncated or goes on after the last element; when
///   the elements are objects, which NumPy pickles and which are code rather than numbers, or of another type that
///   Fovea does not hold; when a `uint64` is beyond `int64`, or a bool neither 0 nor 1. Nothing is allocated that the
///   size of the file contradicts.
public func readNPY(_ path: String) throws(FileError) -> Tensor {
    let file = try MappedFile(path)
    var source = try npySource(file)
    let header = try NPYHeader(&source)
    try header.checkSize(file.count, source)
    return try header.tensor(&source, in: file, at: 0)
}

/// Reads what an npy file says that it holds, without its elements.
///
/// - Throws: as `readNPY(_:)`, as far as the header and the size of the file tell.
public func npyHeader(_ path: String) throws(FileError) -> NPYHeader {
    let file = try MappedFile(path)
    var source = try npySource(file)
    let header = try NPYHeader(&source)
    try header.checkSize(file.count, source)
    return header
}

/// Writes a tensor as an npy file, atomically: version 1.0, row-major, the bytes that NumPy itself writes.
///
/// - Parameters:
///   - tensor: of any type but `bfloat16`, which NumPy does not have.
///   - path: the file to create or replace.
/// - Throws: `FileError` when the tensor is `bfloat16`, or the file cannot be written.
public func writeNPY(_ tensor: Tensor, to path: String) throws(FileError) {
    let header = try npyFront(of: tensor, path)
    try writeAtomically(to: path) { sink throws(FileError) in
        try sink.write(header)
        if tensor.count > 0 { try sink.write(elementsOf: tensor.contiguous()) }
    }
}

/// What stands before the elements of this tensor.
func npyFront(of tensor: Tensor, _ path: String) throws(FileError) -> [UInt8] {
    let descr: String =
        switch tensor.dtype {
        case .float32: "<f4"
        case .float64: "<f8"
        case .float16: "<f2"
        case .int64: "<i8"
        case .int32: "<i4"
        case .uint8: "|u1"
        case .bool: "|b1"
        case .bfloat16:
            throw FileError(path: path, problem: "NumPy does not have bfloat16; cast the tensor to float32 first")
        }
    let lengths = tensor.shape.map(String.init)
    let tuple = lengths.count == 1 ? "(\(lengths[0]),)" : "(\(lengths.joined(separator: ", ")))"
    var text = "{'descr': '\(descr)', 'fortran_order': False, 'shape': \(tuple), }"
    // NumPy leaves room for the first length to grow to 21 digits when rows are appended.
    if let first = lengths.first { text += String(repeating: " ", count: max(0, 21 - first.count)) }
    // The elements begin at a multiple of 64; magic number, version and length take 10 bytes.
    text += String(repeating: " ", count: 63 - (10 + text.utf8.count) % 64) + "\n"
    let length = UInt16(text.utf8.count)
    return NPYHeader.magic + [1, 0, UInt8(length & 0xFF), UInt8(length >> 8)] + Array(text.utf8)
}

/// A file's bytes, plain whatever they begin with: a gzipped npy file is none.
private func npySource(_ file: MappedFile) throws(FileError) -> ByteSource {
    try ByteSource(file, 0..<file.count, .plain, part: nil, checksum: nil)
}

extension NPYHeader {
    /// Refuses what the number of bytes contradicts, before any memory is taken for it.
    func checkSize(_ byteCount: Int, _ source: ByteSource) throws(FileError) {
        guard let elements = self.byteCount, frontByteCount + elements != byteCount else { return }
        let expected = frontByteCount + elements
        let difference =
            byteCount < expected ? "it is truncated" : "\(byteCount - expected) extra bytes follow"
        throw source.error(
            "\(text) takes \(expected) bytes with its header, but there are \(byteCount): \(difference)")
    }

    /// The tensor of this header, whose elements come next in `source`; they are the plain bytes of `file` from
    /// `start` on, header included, where `source` is not compressed.
    func tensor(_ source: inout ByteSource, in file: MappedFile, at start: Int) throws(FileError) -> Tensor {
        guard let element, let dtype else {
            let held = "bool, integers, f2, f4 and f8"
            throw source.error(
                dtypeName.utf8.dropFirst().first == UInt8(ascii: "O")
                    ? "holds pickled Python objects (\(quoted(dtypeName))), which can run code and are never read; "
                        + "save numbers instead (\(held))"
                    : "is of the type \(quoted(dtypeName)), which Fovea does not hold; convert it to one of \(held)")
        }
        if !source.isCompressed, element.isHeldAsIs, !isBigEndian || element.size == 1 {
            try source.verifyInPlace()
            return try file.tensor(shape, dtype, at: start + frontByteCount, isColumnMajor: isColumnMajor) {
                source.error($0)
            }
        }
        try checkMemory(count * dtype.size, file.path)
        let tensor = Tensor(uninitialized: isColumnMajor ? shape.reversed() : shape, dtype)
        let target = tensor.write { UnsafeMutableRawBufferPointer(start: $0, count: count * dtype.size) }
        defer { withExtendedLifetime(tensor) {} }
        try source.decode(element, isBigEndian: isBigEndian, count: count, into: target, text)
        return isColumnMajor ? tensor.withAxesReversed() : tensor
    }
}
