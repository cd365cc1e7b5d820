import FoveaTensor
import OrderedCollections

/// Writes tensors to a safetensors file, atomically, without holding the file in memory.
///
/// The bytes depend on the content alone, and are those that the format's own implementation writes: tensors of the
/// larger element types first (I64, F64, F32, I32, BF16, F16, U8, BOOL) and by name within a type, so that all are
/// aligned to their size; metadata by name; names compared byte by byte; the header filled with spaces to a multiple
/// of 8. A file that is mapped at the moment, by this program too, may be written over: readers keep the old bytes.
///
/// - Parameters:
///   - tensors: the tensors by name, of any type, shape and layout.
///   - metadata: texts to keep beside them, under `__metadata__`.
///   - path: the file to create or replace.
/// - Throws: `FileError` when a tensor is called `__metadata__`, the header would be larger than the format allows, or
///   the file cannot be written; the old file stays then.
public func writeSafetensors(
    _ tensors: OrderedDictionary<String, Tensor>, metadata: [String: String] = [:], to path: String
) throws(FileError) {
    guard tensors[SafetensorsHeader.metadataKey] == nil else {
        throw FileError(
            path: path,
            problem: "a tensor cannot be called \(SafetensorsHeader.metadataKey); the format reserves the name")
    }
    let ordered = tensors.elements.sorted { left, right in
        let (leftRank, rightRank) = (
            SafetensorsType.rank(of: left.value.dtype), SafetensorsType.rank(of: right.value.dtype)
        )
        return leftRank == rightRank ? precedes(left.key, right.key) : leftRank > rightRank
    }

    var members: [String] = []
    if !metadata.isEmpty {
        let texts = metadata.sorted { precedes($0.key, $1.key) }.map { "\(jsonQuoted($0.key)):\(jsonQuoted($0.value))" }
        members.append("\(jsonQuoted(SafetensorsHeader.metadataKey)):{\(texts.joined(separator: ","))}")
    }
    var offset = 0
    for (name, tensor) in ordered {
        let type = SafetensorsType.all[SafetensorsType.rank(of: tensor.dtype)].name
        let shape = tensor.shape.map(String.init).joined(separator: ",")
        let end = offset + tensor.count * tensor.dtype.size
        members.append(
            "\(jsonQuoted(name)):{\"dtype\":\"\(type)\",\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(end)]}")
        offset = end
    }
    var header = Array("{\(members.joined(separator: ","))}".utf8)
    header.append(contentsOf: repeatElement(UInt8(ascii: " "), count: (8 - header.count % 8) % 8))
    guard header.count <= SafetensorsHeader.lengthLimit else {
        throw FileError(
            path: path,
            problem:
                "the names and metadata make a header of \(header.count) bytes, and the format allows 100,000,000; "
                + "split the tensors over several files"
        )
    }

    let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) }
    try writeAtomically(to: path) { sink throws(FileError) in
        try sink.write(length)
        try sink.write(header)
        for (_, tensor) in ordered where tensor.count > 0 {
            // One dense copy at a time, and only of a tensor that is a strided view.
            try sink.write(elementsOf: tensor.contiguous())
        }
    }
}

extension FileSink {
    /// Appends the elements of a dense tensor in the machine's byte order.
    mutating func write(elementsOf tensor: Tensor) throws(FileError) {
        // `read` loses the error's type.
        let outcome = tensor.read { address in
            Result { () throws(FileError) in
                try write(UnsafeRawBufferPointer(start: address, count: tensor.count * tensor.dtype.size))
            }
        }
        try outcome.get()
    }
}

/// Byte by byte, as other languages sort texts. Swift's own order depends on Unicode's normal forms.
private func precedes(_ left: String, _ right: String) -> Bool { left.utf8.lexicographicallyPrecedes(right.utf8) }
