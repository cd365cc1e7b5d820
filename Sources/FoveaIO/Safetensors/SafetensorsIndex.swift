import OrderedCollections

/// The index of weights that are spread over several safetensors files: which tensor is in which file.
///
/// Format: `model.safetensors.index.json` of transformers, an object with `weight_map` and, mostly, `metadata`.
struct SafetensorsIndex {
    /// What is said of the whole, each value as a text; others than texts as they stand in the file. `total_size` is
    /// among it, and not relied upon: published files count tied tensors in different ways.
    private(set) var metadata: OrderedDictionary<String, String> = [:]
    /// The file of each tensor, in the order of the index.
    private(set) var fileNames: OrderedDictionary<String, String> = [:]

    /// Reads and checks the index; its files are not looked at.
    init(reading path: String) throws(FileError) {
        let file = try MappedFile(path)
        defer { withExtendedLifetime(file) {} }
        do throws(TextProblem) {
            try parse(file.bytes)
        } catch {
            throw FileError(path: path, problem: "byte \(error.offset): \(error.problem)")
        }
    }

    private mutating func parse(_ bytes: UnsafeRawBufferPointer) throws(TextProblem) {
        var json = StrictJSON(bytes)
        var metadata: OrderedDictionary<String, String> = [:]
        var fileNames: OrderedDictionary<String, String>?
        try json.object("the index") { (name, offset, json) throws(TextProblem) in
            switch name {
            case "metadata":
                try json.object(name) { (key, _, json) throws(TextProblem) in
                    let what = "the value of \(quoted(key)) in metadata"
                    metadata[key] = json.isAtString() ? try json.string(what) : try json.anyValue(what)
                }
            case "weight_map":
                var map: OrderedDictionary<String, String> = [:]
                try json.object(name) { (tensor, offset, json) throws(TextProblem) in
                    let file = try json.string("the file of tensor \(quoted(tensor))")
                    // What is opened stays inside the index's own folder.
                    guard !file.isEmpty, file != ".", file != "..", !file.utf8.contains(where: { $0 == 0 || $0 == 47 })
                    else {
                        throw TextProblem(
                            offset: offset,
                            problem:
                                "tensor \(quoted(tensor)) is said to be in \(quoted(file)); expected the plain name of "
                                + "a file in the same folder")
                    }
                    map[tensor] = file
                }
                fileNames = map
            default: _ = try json.anyValue("the value of \(quoted(name))")
            }
        }
        try json.end(allowingLines: true)
        guard let fileNames else { throw TextProblem(offset: 0, problem: "the index has no weight_map") }
        self.metadata = metadata
        self.fileNames = fileNames
    }
}
