import FoveaTensor
import OrderedCollections

#if _endian(big)
#error("safetensors files are mapped as they are: little-endian")
#endif

/// A safetensors file, open for reading.
///
/// The header is read and checked in full at once; the tensors are views of the mapped file and cost nothing until
/// they are touched. A tensor keeps the mapping alive, so it stays valid when the file is replaced or this value is
/// gone.
/// The reader is strict: whatever the format forbids (members of the same name, overlapping tensors, holes, bytes
/// after the last tensor, unknown fields) is an error that says where.
///
/// Format: https://github.com/huggingface/safetensors.
public struct SafetensorsFile: Sendable {
    /// The path as given.
    public var path: String { file.path }
    /// The texts under `__metadata__`, in the file's order.
    public let metadata: OrderedDictionary<String, String>
    /// The tensors in the order of their data.
    public let entries: OrderedDictionary<String, SafetensorsEntry>
    private let file: MappedFile
    /// The size of the whole file.
    package var byteCount: Int { file.count }

    /// Opens a file and checks its header.
    ///
    /// - Throws: `FileError` when the file cannot be read or is malformed, with the place in the header.
    public init(reading path: String) throws(FileError) {
        file = try MappedFile(path)
        let header = try SafetensorsHeader(file.bytes, path: path)
        metadata = header.metadata
        entries = header.entries
    }

    /// One tensor, of the shape and type of its entry.
    ///
    /// It is a view of the file where its first element is aligned to its size, as in every file that a current
    /// writer made, and a copy elsewhere.
    ///
    /// - Throws: `FileError` when there is no tensor of this name, its type is one that Fovea does not hold, or a byte
    ///   of a BOOL tensor is neither 0 nor 1.
    public func tensor(_ name: String) throws(FileError) -> Tensor {
        guard let entry = entries[name] else {
            throw FileError(path: path, problem: "holds no tensor \(quoted(name)); it holds \(listing(entries.keys))")
        }
        guard let dtype = entry.dtype else {
            let held = SafetensorsType.all.filter { $0.dtype != nil }.map(\.name).joined(separator: " ")
            throw FileError(
                path: path,
                problem:
                    "tensor \(quoted(name)) has the dtype \(entry.dtypeName), which Fovea does not hold; convert "
                    + "it to one of \(held)"
            )
        }
        return try file.tensor(entry.shape, dtype, at: entry.byteRange.lowerBound) { problem in
            FileError(path: path, problem: "tensor \(quoted(name)): \(problem)")
        }
    }

    /// All tensors in the order of their data.
    ///
    /// - Throws: as `tensor(_:)`.
    public func tensors() throws(FileError) -> OrderedDictionary<String, Tensor> {
        var tensors = OrderedDictionary<String, Tensor>(minimumCapacity: entries.count)
        for name in entries.keys { tensors[name] = try tensor(name) }
        return tensors
    }
}
