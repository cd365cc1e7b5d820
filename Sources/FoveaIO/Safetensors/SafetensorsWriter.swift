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
///   - floats: the type that floating-point tensors are cast to, one at a time; they keep theirs unless given.
///   - metadata: texts to keep beside them, under `__metadata__`.
///   - path: the file to create or replace.
/// - Throws: `FileError` when a tensor is called `__metadata__`, the header would be larger than the format allows, a
///   finite number overflows in the cast (with the tensors' names and how many of their numbers do), or the file cannot
///   be written; the old file stays then.
public func writeSafetensors(
    _ tensors: OrderedDictionary<String, Tensor>, floatsAs floats: DType? = nil, metadata: [String: String] = [:],
    to path: String
) throws(FileError) {
    guard tensors[SafetensorsHeader.metadataKey] == nil else {
        throw FileError(
            path: path,
            problem: "a tensor cannot be called \(SafetensorsHeader.metadataKey); the format reserves the name")
    }
    let ordered = tensors.elements.map { StoredTensor(name: $0.key, tensor: $0.value, floatsAs: floats) }
        .sorted { left, right in
            let (leftRank, rightRank) = (SafetensorsType.rank(of: left.dtype), SafetensorsType.rank(of: right.dtype))
            return leftRank == rightRank ? precedes(left.name, right.name) : leftRank > rightRank
        }
    let header = try safetensorsHeader(ordered, metadata, path)
    let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) }
    try writeAtomically(to: path) { sink throws(FileError) in
        try sink.write(length)
        try sink.write(header)
        var overflows: [(name: String, count: Int)] = []
        for stored in ordered where stored.tensor.count > 0 {
            // One dense copy at a time, and only of a tensor that is a strided view or cast.
            let dense = stored.tensor.contiguous()
            let cast = dense.cast(to: stored.dtype)
            if dense.dtype != cast.dtype, dense.dtype.isFloatingPoint {
                // Infinities stay, and a finite number never becomes NaN: what has been added is overflow.
                let count = cast.infinityCount() - dense.infinityCount()
                if count > 0 { overflows.append((stored.name, count)) }
            }
            try sink.write(elementsOf: cast)
        }
        guard let floats, !overflows.isEmpty else { return }
        let names = overflows.prefix(5).map { "\(quoted($0.name)) (\($0.count) of its numbers)" }
        let more = overflows.count > 5 ? " and \(overflows.count - 5) more" : ""
        throw FileError(
            path: path,
            problem:
                "finite numbers overflow \(floats), whose largest is \(floats.largest), in the tensors "
                + "\(names.joined(separator: ", "))\(more); write a type of a larger range")
    }
}

/// A tensor, and the type that it is stored in.
struct StoredTensor {
    let name: String
    let tensor: Tensor
    let dtype: DType

    init(name: String, tensor: Tensor, floatsAs floats: DType?) {
        self.name = name
        self.tensor = tensor
        dtype = tensor.dtype.isFloatingPoint ? floats ?? tensor.dtype : tensor.dtype
    }

    /// Bytes that its elements take in the file.
    var byteCount: Int { tensor.count * dtype.size }
}

/// The header of a file that holds these tensors in this order.
private func safetensorsHeader(
    _ tensors: [StoredTensor], _ metadata: [String: String], _ path: String
) throws(FileError) -> [UInt8] {
    var members: [String] = []
    if !metadata.isEmpty {
        let texts = metadata.sorted { precedes($0.key, $1.key) }.map { "\(jsonQuoted($0.key)):\(jsonQuoted($0.value))" }
        members.append("\(jsonQuoted(SafetensorsHeader.metadataKey)):{\(texts.joined(separator: ","))}")
    }
    var offset = 0
    for stored in tensors {
        let type = SafetensorsType.all[SafetensorsType.rank(of: stored.dtype)].name
        let shape = stored.tensor.shape.map(String.init).joined(separator: ",")
        let end = offset + stored.byteCount
        members.append(
            "\(jsonQuoted(stored.name)):{\"dtype\":\"\(type)\",\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(end)]}"
        )
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
    return header
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

extension Tensor {
    /// How many elements of this dense tensor are infinite.
    fileprivate func infinityCount() -> Int {
        func occurrences<Word: FixedWidthInteger>(of pattern: Word) -> Int {
            read { address in
                // Shifted left once, the sign is gone.
                UnsafeRawBufferPointer(start: address, count: count * dtype.size).bindMemory(to: Word.self)
                    .reduce(0) { $0 + ($1 << 1 == pattern << 1 ? 1 : 0) }
            }
        }
        return switch dtype {
        case .float16: occurrences(of: 0x7C00 as UInt16)
        case .bfloat16: occurrences(of: 0x7F80 as UInt16)
        case .float32: occurrences(of: Float.infinity.bitPattern)
        case .float64: occurrences(of: Double.infinity.bitPattern)
        case .int64, .int32, .uint8, .bool: 0
        }
    }
}

extension DType {
    /// The largest finite number of a floating-point type, as a text.
    fileprivate var largest: String {
        switch self {
        case .float16: "65504"
        case .bfloat16: "3.39e38"
        case .float32: "3.40e38"
        case .float64: "1.80e308"
        case .int64, .int32, .uint8, .bool: "not a fraction"
        }
    }
}

/// Byte by byte, as other languages sort texts. Swift's own order depends on Unicode's normal forms.
func precedes(_ left: String, _ right: String) -> Bool { left.utf8.lexicographicallyPrecedes(right.utf8) }
