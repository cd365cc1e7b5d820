import FoveaTensor
import OrderedCollections

/// The header of a safetensors file: the length in 8 bytes, then JSON.
///
/// Format: https://github.com/huggingface/safetensors, README and `safetensors/src/tensor.rs`.
struct SafetensorsHeader {
    /// The largest header that the format allows.
    static let lengthLimit = 100_000_000
    /// More axes than any library in use allows (NumPy and PyTorch stop at 64).
    static let rankLimit = 64
    static let metadataKey = "__metadata__"

    private(set) var metadata: OrderedDictionary<String, String> = [:]
    private(set) var entries: OrderedDictionary<String, SafetensorsEntry> = [:]

    /// Reads and checks the header of the file that consists of these bytes.
    init(_ file: UnsafeRawBufferPointer, path: String) throws(FileError) {
        guard file.count >= 8 else {
            throw FileError(
                path: path,
                problem:
                    "is \(file.count) bytes long; a safetensors file begins with 8 bytes that give the "
                    + "length of its header"
            )
        }
        let length = UInt64(littleEndian: file.loadUnaligned(as: UInt64.self))
        guard length <= UInt64(Self.lengthLimit) else {
            throw FileError(
                path: path,
                problem:
                    "its first 8 bytes announce a header of \(length) bytes, and the format allows 100,000,000; is "
                    + "this a safetensors file?"
            )
        }
        guard length <= UInt64(file.count - 8) else {
            throw FileError(
                path: path,
                problem:
                    "announces a header of \(length) bytes, but only \(file.count - 8) follow; the file is cut "
                    + "short, or not a safetensors file"
            )
        }
        let dataStart = 8 + Int(length)
        guard length > 0, file[8] == UInt8(ascii: "{") else {
            throw FileError(path: path, problem: "header byte 0: expected '{', with nothing before it")
        }
        do throws(TextProblem) {
            let found = try parse(UnsafeRawBufferPointer(rebasing: file[8..<dataStart]))
            try place(found, dataStart: dataStart, dataCount: file.count - dataStart)
        } catch {
            throw FileError(path: path, problem: "header byte \(error.offset): \(error.problem)")
        }
    }

    /// A tensor's description, and where in the header it stands.
    private struct Found {
        let name: String
        let headerOffset: Int
        let type: SafetensorsType
        let shape: [Int]
        /// Counted from where the data begins.
        let begin: Int
        let end: Int

        func problem(_ text: String) -> TextProblem {
            TextProblem(offset: headerOffset, problem: "tensor \(quoted(name)): \(text)")
        }
    }

    private mutating func parse(_ header: UnsafeRawBufferPointer) throws(TextProblem) -> [Found] {
        var found: [Found] = []
        var metadata: OrderedDictionary<String, String> = [:]
        var json = StrictJSON(header)
        try json.object("the header") { (name, offset, json) throws(TextProblem) in
            if name == Self.metadataKey {
                try json.object(Self.metadataKey) { (key, _, json) throws(TextProblem) in
                    metadata[key] = try json.string("the value of \(quoted(key)) in \(Self.metadataKey)")
                }
            } else {
                found.append(try Self.tensor(name, offset, &json))
            }
        }
        try json.end()
        self.metadata = metadata
        return found
    }

    private static func tensor(
        _ name: String, _ offset: Int, _ json: inout StrictJSON
    ) throws(TextProblem) -> Found {
        let what = "tensor \(quoted(name))"
        var type: SafetensorsType?
        var shape: [Int]?
        var offsets: [Int]?
        try json.object(what) { (field, fieldOffset, json) throws(TextProblem) in
            switch field {
            case "dtype":
                let typeName = try json.string("the dtype of \(what)")
                type = SafetensorsType.named(typeName)
                if type == nil {
                    let known = SafetensorsType.all.map(\.name).joined(separator: " ")
                    throw TextProblem(
                        offset: fieldOffset,
                        problem: "\(what): unknown dtype \(quoted(typeName)); expected one of \(known)")
                }
            case "shape": shape = try json.wholeNumbers("the shape of \(what)", limit: rankLimit)
            case "data_offsets": offsets = try json.wholeNumbers("the data_offsets of \(what)", limit: 2)
            default:
                throw TextProblem(
                    offset: fieldOffset,
                    problem: "\(what): unknown field \(quoted(field)); expected dtype, shape and data_offsets")
            }
        }
        func missing(_ field: String) -> TextProblem {
            TextProblem(offset: offset, problem: "\(what): the field \(field) is missing")
        }
        guard let type else { throw missing("dtype") }
        guard let shape else { throw missing("shape") }
        guard let offsets else { throw missing("data_offsets") }
        guard offsets.count == 2 else {
            throw TextProblem(
                offset: offset, problem: "\(what): data_offsets has length \(offsets.count); expected [begin, end]")
        }
        return Found(
            name: name, headerOffset: offset, type: type, shape: shape, begin: offsets[0], end: offsets[1])
    }

    /// Checks that the tensors cover the data one after the other, from its first byte to its last, and lists them.
    private mutating func place(_ found: [Found], dataStart: Int, dataCount: Int) throws(TextProblem) {
        // An empty tensor stands before the one that begins at the same byte.
        let ordered = found.sorted { ($0.begin, $0.end) < ($1.begin, $1.end) }
        entries.reserveCapacity(ordered.count)
        var reached = 0
        for tensor in ordered {
            let range = "data_offsets [\(tensor.begin), \(tensor.end)]"
            guard tensor.begin <= tensor.end else {
                throw tensor.problem("\(range) end before they begin")
            }
            guard tensor.end <= dataCount else {
                throw tensor.problem("\(range) reach beyond the file, which holds \(dataCount) bytes of data")
            }
            guard tensor.begin >= reached else {
                throw tensor.problem("\(range) overlap with the tensor before, which ends at \(reached)")
            }
            guard tensor.begin == reached else {
                throw tensor.problem("\(range) leave a hole: the tensor before ends at \(reached)")
            }
            let bits = checkedCount(tensor.shape + [tensor.type.bits])
            guard let bits, bits >= 0 else {
                throw tensor.problem("shape \(tensor.shape) has more elements than can be counted")
            }
            guard bits % 8 == 0 else {
                throw tensor.problem(
                    "shape \(tensor.shape) of \(tensor.type.name), \(tensor.type.bits) bits each, does "
                        + "not fill whole bytes"
                )
            }
            guard bits / 8 == tensor.end - tensor.begin else {
                throw tensor.problem(
                    "shape \(tensor.shape) of \(tensor.type.name) takes \(bits / 8) bytes, but \(range) give "
                        + "\(tensor.end - tensor.begin)"
                )
            }
            entries[tensor.name] = SafetensorsEntry(
                name: tensor.name, dtypeName: tensor.type.name, dtype: tensor.type.dtype, shape: tensor.shape,
                byteRange: (dataStart + tensor.begin)..<(dataStart + tensor.end))
            reached = tensor.end
        }
        guard reached == dataCount else {
            throw TextProblem(
                offset: 0,
                problem:
                    "the tensors end after \(reached) bytes of data, but the file holds \(dataCount); expected no "
                    + "bytes that belong to no tensor"
            )
        }
    }
}
