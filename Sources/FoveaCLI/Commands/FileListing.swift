import Fovea
import FoveaIO

/// What `fovea inspect` tells of a file that holds tensors.
struct FileListing: Encodable {
    struct Entry: Encodable {
        let name: String
        let dtype: String
        let shape: [Int]
    }

    let path: String
    let format: String
    /// The files that the tensors are in, where there are several.
    var files: [String]?
    let tensors: [Entry]
    var metadata: [String: String] = [:]
    let elements: Int
    let bytes: Int

    /// Looks into a file, or a folder of weights.
    init(of path: String, isFolder: Bool) throws(FileError) {
        switch isFolder ? .safetensors : try FileFormat(of: path) {
        case .safetensors, .safetensorsIndex:
            let archive = try SafetensorsArchive(reading: path)
            let names = archive.files.map(\.path)
            let entries = archive.entries.values
            self.init(
                path: path, format: names.count > 1 ? "safetensors, \(names.count) files" : "safetensors",
                files: names == [path] ? nil : names,
                tensors: entries.map { .init(name: $0.name, dtype: $0.dtypeName, shape: $0.shape) }
                    .sorted { $0.name < $1.name },
                metadata: Dictionary(uniqueKeysWithValues: archive.metadata.map { ($0.key, $0.value) }),
                elements: entries.reduce(0) { $0 + $1.count }, bytes: entries.reduce(0) { $0 + $1.byteCount })
        case .npy:
            self.init(path: path, format: "npy", arrays: [("data", try npyHeader(path))])
        case .npz:
            let entries = try NPZFile(reading: path).entries
            self.init(path: path, format: "npz", arrays: entries.map { ($0.key, $0.value) })
        case .idx:
            let header = try idxHeader(path)
            self.init(
                path: path, format: header.isCompressed ? "IDX (gzip)" : "IDX",
                tensors: [.init(name: "data", dtype: header.dtypeName, shape: header.shape)],
                elements: header.count, bytes: header.count * header.dtype.size)
        case .cifar10:
            let (images, labels) = try readCIFAR10(path)
            self.init(path: path, format: "CIFAR-10", parts: [("images", images), ("labels", labels)])
        case .cifar100:
            let (images, labels, groups) = try readCIFAR100(path)
            self.init(
                path: path, format: "CIFAR-100", parts: [("images", images), ("labels", labels), ("groups", groups)])
        case .png:
            self.init(path: path, format: "PNG", parts: [("pixels", try readPNG(path))])
        }
    }

    private init(
        path: String, format: String, files: [String]? = nil, tensors: [Entry], metadata: [String: String] = [:],
        elements: Int, bytes: Int
    ) {
        self.path = path
        self.format = format
        self.files = files
        self.tensors = tensors
        self.metadata = metadata
        self.elements = elements
        self.bytes = bytes
    }

    /// Arrays of NumPy, under the types as NumPy spells them.
    private init(path: String, format: String, arrays: [(name: String, header: NPYHeader)]) {
        self.init(
            path: path, format: format,
            tensors: arrays.map { .init(name: $0.name, dtype: $0.header.dtypeName, shape: $0.header.shape) },
            // Of types that Fovea does not hold, the count is only the file's word.
            elements: arrays.reduce(0) { $0 + ($1.header.dtype == nil ? 0 : $1.header.count) },
            bytes: arrays.reduce(0) { $0 + ($1.header.byteCount ?? 0) })
    }

    private init(path: String, format: String, parts: [(name: String, tensor: Tensor)]) {
        self.init(
            path: path, format: format,
            tensors: parts.map { .init(name: $0.name, dtype: $0.tensor.dtype.rawValue, shape: $0.tensor.shape) },
            elements: parts.reduce(0) { $0 + $1.tensor.count },
            bytes: parts.reduce(0) { $0 + $1.tensor.count * $1.tensor.dtype.size })
    }

    /// The listing for a person, no line wider than `columns`.
    func text(columns: Int = 80) -> String {
        var lines = ["\(path): \(format)"]
        let dtypes = ["dtype"] + tensors.map { escapingControls($0.dtype).shortened(to: 12) }
        let shapes = ["shape"] + tensors.map { "\($0.shape)" }
        let dtypeWidth = dtypes.map(\.count).max() ?? 0
        let shapeWidth = shapes.map(\.count).max() ?? 0
        // What is too long for its place is cut in the middle; `--json` has it in full.
        let nameLimit = max(20, columns - dtypeWidth - shapeWidth - 6)
        let names = ["tensor"] + tensors.map { escapingControls($0.name).shortened(to: nameLimit) }
        var table = TextTable(["  " + names[0], dtypes[0], shapes[0]])
        for index in names.indices.dropFirst() { table.add(["  " + names[index], dtypes[index], shapes[index]]) }
        lines.append(table.text)
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
            lines.append(escapingControls("  metadata \(key): \(value)"))
        }
        let noun = tensors.count == 1 ? "tensor" : "tensors"
        let unit = format.hasPrefix("safetensors") ? "parameters" : "elements"
        lines.append("\(tensors.count) \(noun), \(elements.grouped) \(unit), \(bytes.grouped) bytes")
        return lines.flatMap { $0.split(separator: "\n", omittingEmptySubsequences: false) }
            .map { String($0).shortened(to: columns) }.joined(separator: "\n")
    }
}

extension String {
    /// The text with its middle left out where it is longer than `limit` characters.
    func shortened(to limit: Int) -> String {
        guard count > limit else { return self }
        return prefix((limit - 1) / 2) + "…" + suffix(limit / 2)
    }
}
