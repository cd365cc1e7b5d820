import FoveaTensor
import OrderedCollections

/// Writes tensors as an npz file, atomically: stored, not compressed, as `numpy.savez` does.
///
/// The bytes depend on the content alone. Sizes are always given in 64 bits too, so that one form serves small and
/// huge arrays.
///
/// - Parameters:
///   - tensors: the tensors by name, of any type but `bfloat16`, in the order in which they are written.
///   - path: the file to create or replace.
/// - Throws: `FileError` when a tensor is `bfloat16`, a name is longer than 65,000 bytes, or the file cannot be written.
public func writeNPZ(_ tensors: OrderedDictionary<String, Tensor>, to path: String) throws(FileError) {
    var fronts: [[UInt8]] = []
    for (name, tensor) in tensors {
        guard name.utf8.count <= 65_000 else {
            throw FileError(path: path, problem: "the name \(quoted(name)) is longer than 65,000 bytes")
        }
        do throws(FileError) {
            fronts.append(try npyFront(of: tensor, path))
        } catch {
            throw FileError(path: path, problem: "tensor \(quoted(name)): \(error.problem)")
        }
    }
    try writeAtomically(to: path) { sink throws(FileError) in
        var directory: [UInt8] = []
        for ((name, tensor), front) in zip(tensors, fronts) {
            // One dense copy at a time, and only of a tensor that is a strided view.
            let dense = tensor.contiguous()
            let byteCount = tensor.count * tensor.dtype.size
            let sum = dense.read { elements in
                front.withUnsafeBytes {
                    checksum(UnsafeRawBufferPointer(start: elements, count: byteCount), after: checksum($0))
                }
            }
            let record = ZipRecord(
                name: Array("\(name).npy".utf8), checksum: sum, byteCount: front.count + byteCount,
                start: sink.byteCount)
            try sink.write(record.header)
            try sink.write(front)
            if byteCount > 0 { try sink.write(elementsOf: dense) }
            directory += record.entry
        }
        let start = sink.byteCount
        try sink.write(directory)
        try sink.write(zipEnd(count: tensors.count, start: start, byteCount: directory.count))
    }
}

/// A stored member as its header and the directory describe it.
private struct ZipRecord {
    let name: [UInt8]
    let checksum: UInt32
    let byteCount: Int
    /// Where its header stands in the file.
    let start: Int

    /// What stands in front of the content.
    var header: [UInt8] {
        little(ZipSignature.member) + common + little(UInt16(name.count)) + little(UInt16(20)) + name
            + little(ZipSignature.wideSizes) + little(UInt16(16)) + little(UInt64(byteCount))
            + little(UInt64(byteCount))
    }

    /// What stands in the directory.
    var entry: [UInt8] {
        // Made on Unix (3), by version 4.5.
        little(ZipSignature.entry) + little(UInt16(3 << 8 | 45)) + common + little(UInt16(name.count))
            + little(UInt16(28))
            // No comment, the first disk, no attributes; the offset is in the extra field.
            + [UInt8](repeating: 0, count: 10) + little(UInt32.max) + name + little(ZipSignature.wideSizes)
            + little(UInt16(24)) + little(UInt64(byteCount)) + little(UInt64(byteCount)) + little(UInt64(start))
    }

    /// Version needed (4.5), flags, method, time and date (the first of zip's calendar), checksum, and the two sizes,
    /// which are in the extra field.
    private var common: [UInt8] {
        let flags = name.allSatisfy { $0 < 0x80 } ? 0 : ZipFlags.isUTF8
        return little(UInt16(45)) + little(flags) + little(ZipMethod.stored) + little(UInt16(0))
            + little(UInt16(1 << 5 | 1)) + little(checksum) + little(UInt32.max) + little(UInt32.max)
    }
}

/// The records behind the directory: the wide one, its locator, and the narrow one. An empty file has only the last,
/// since NumPy knows npz by its first bytes.
private func zipEnd(count: Int, start: Int, byteCount: Int) -> [UInt8] {
    let wide =
        little(ZipSignature.wideEnd) + little(UInt64(44)) + little(UInt16(3 << 8 | 45)) + little(UInt16(45))
        + little(UInt32(0)) + little(UInt32(0)) + little(UInt64(count)) + little(UInt64(count))
        + little(UInt64(byteCount)) + little(UInt64(start))
    let locator =
        little(ZipSignature.locator) + little(UInt32(0)) + little(UInt64(start + byteCount)) + little(UInt32(1))
    guard count > 0 else { return little(ZipSignature.end) + [UInt8](repeating: 0, count: 18) }
    let narrow =
        little(ZipSignature.end) + little(UInt16(0)) + little(UInt16(0)) + little(UInt16.max) + little(UInt16.max)
        + little(UInt32.max) + little(UInt32.max) + little(UInt16(0))
    return wide + locator + narrow
}

private func little(_ number: some FixedWidthInteger) -> [UInt8] {
    withUnsafeBytes(of: number.littleEndian) { [UInt8]($0) }
}
