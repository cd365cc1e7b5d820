import FoveaIO
import FoveaTensor
import OrderedCollections

extension Module {
    /// Writes the parameters as safetensors, under the names of a layout.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - layout: the names; the module's own paths unless given.
    ///   - floats: the type that the parameters are stored in; their own unless given.
    ///   - metadata: texts to keep beside them.
    /// - Throws: `FileError` when the file cannot be written, or a parameter overflows the type; an older file of that
    ///   name then stays as it was.
    public func save(
        to path: String, layout: WeightLayout<Self> = .native, floatsAs floats: DType? = nil,
        metadata: [String: String] = [:]
    ) throws(FileError) {
        try writeSafetensors(
            layout.published(parameters), floatsAs: floats,
            metadata: metadata.merging(["format": "pt"]) { given, _ in given }, to: path)
    }

    /// Takes the parameters from safetensors that have them under the names of a layout.
    ///
    /// A prefix that all names have in the file, such as `perceiver.`, is found by itself; tensors outside it belong to
    /// other modules and are left alone.
    ///
    /// - Parameters:
    ///   - path: a safetensors file, the index of several, or the folder of either: see `SafetensorsArchive`.
    ///   - layout: the names of the parameters in the file; the module's own paths unless given.
    ///   - strict: whether missing, unexpected and misshapen tensors are an error. Otherwise what fits is taken, and
    ///     the report tells the rest.
    /// - Throws: `FileError`, or `WeightsError` with the module as it was before.
    @discardableResult
    public mutating func load(
        from path: String, layout: WeightLayout<Self> = .native, strict: Bool = true
    ) throws -> LoadReport {
        try load(from: try SafetensorsArchive(reading: path).tensors(), source: path, layout: layout, strict: strict)
    }

    /// Takes the parameters from tensors under the names of a layout, cast to the parameters' types.
    ///
    /// - Parameters:
    ///   - tensors: by name.
    ///   - source: where they come from, for errors.
    ///   - layout: the names of the parameters among them.
    ///   - strict: whether missing, unexpected and misshapen tensors are an error.
    ///   - keepsMatrices: whether matrices of a storage type stay as they are: constants, which `linear`
    ///     widens as it reads them, and of which `embedding` gives rows of the same type. Of a mapped file nothing is then copied.
    @discardableResult
    public mutating func load(
        from tensors: OrderedDictionary<String, Tensor>, source: String, layout: WeightLayout<Self> = .native,
        strict: Bool = true, keepsMatrices: Bool = false
    ) throws(WeightsError) -> LoadReport {
        let bindings = layout.bindings(parameters)
        var report = LoadReport()
        report.prefix = String(commonPrefix(of: tensors.keys, expected: Set(bindings.map { $0.published[...] })))
        var loaded: [String: Tensor] = [:]
        var taken: Set<String> = []
        for binding in bindings {
            let name = report.prefix + binding.published
            guard let tensor = tensors[name] else {
                report.missing.append(binding.published)
                continue
            }
            taken.insert(name)
            guard tensor.shape == binding.shape else {
                report.mismatched.append(
                    .init(name: binding.published, expected: binding.shape, found: tensor.shape))
                continue
            }
            if tensor.dtype == binding.native[0].tensor.dtype {
                report.matched.append(binding.published)
            } else {
                report.cast.append((binding.published, tensor.dtype.rawValue))
            }
            var start = 0
            for (path, parameter, _) in binding.native {
                let part =
                    binding.native.count == 1
                    ? tensor : tensor.sliced(axis: 0, start..<start + parameter.shape[0]).contiguous()
                start += parameter.rank == 0 ? 0 : parameter.shape[0]
                let isKept = keepsMatrices && parameter.rank == 2 && [.bfloat16, .float16].contains(part.dtype)
                loaded[path] = isKept ? part : part.cast(to: parameter.dtype)
            }
        }
        // A tied weight that is stored twice says the same twice, or the file is of another model.
        for copy in layout.copies {
            guard let repeated = tensors[report.prefix + copy.name],
                let original = tensors[report.prefix + copy.original],
                repeated.dtype == original.dtype, repeated.shape == original.shape,
                repeated.bytes() == original.bytes()
            else { continue }
            taken.insert(report.prefix + copy.name)
        }
        // Behind a prefix there may be more of a larger model; ours is what begins as our names do.
        let roots = Set(bindings.map { $0.published.prefix { $0 != "." } })
        report.unexpected = tensors.keys.filter { name in
            guard name.hasPrefix(report.prefix), !taken.contains(name), !isMarker(name, tensors) else { return false }
            guard !layout.leavesAlone(name.dropFirst(report.prefix.count)) else { return false }
            return report.prefix.isEmpty || roots.contains(name.dropFirst(report.prefix.count).prefix { $0 != "." })
        }
        guard !strict || report.isComplete else {
            throw WeightsError(source: source, layout: layout.name, report: report)
        }
        forEachParameter { path, parameter in
            if let tensor = loaded[path] { parameter = tensor }
        }
        self = named()
        return report
    }
}

/// Whether a tensor only says that there are none: files cannot be without any, so modules without weights write one
/// that is empty.
private func isMarker(_ name: String, _ tensors: NamedTensors) -> Bool {
    tensors.count == 1 && name == "_empty" && tensors[name]!.count == 0
}
