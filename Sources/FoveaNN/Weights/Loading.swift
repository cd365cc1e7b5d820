import FoveaIO
import FoveaTensor
import OrderedCollections

extension Module {
    /// Writes the parameters as safetensors, under the names of a layout.
    ///
    /// - Throws: `FileError` when the file cannot be written; an older file of that name then stays as it was.
    public func save(
        to path: String, layout: WeightLayout<Self> = .native, metadata: [String: String] = [:]
    ) throws(FileError) {
        try writeSafetensors(
            layout.published(parameters), metadata: metadata.merging(["format": "pt"]) { given, _ in given }, to: path)
    }

    /// Takes the parameters from a safetensors file that has them under the names of a layout.
    ///
    /// A prefix that all names have in the file, such as `perceiver.`, is found by itself; tensors outside it belong to
    /// other modules and are left alone.
    ///
    /// - Parameters:
    ///   - path: the safetensors file.
    ///   - layout: the names of the parameters in the file; the module's own paths unless given.
    ///   - strict: whether missing, unexpected and misshapen tensors are an error. Otherwise what fits is taken, and
    ///     the report tells the rest.
    /// - Throws: `FileError`, or `WeightsError` with the module as it was before.
    @discardableResult
    public mutating func load(
        from path: String, layout: WeightLayout<Self> = .native, strict: Bool = true
    ) throws -> LoadReport {
        try load(from: try SafetensorsFile(reading: path).tensors(), source: path, layout: layout, strict: strict)
    }

    /// Takes the parameters from tensors under the names of a layout, cast to the parameters' types.
    @discardableResult
    public mutating func load(
        from tensors: OrderedDictionary<String, Tensor>, source: String, layout: WeightLayout<Self> = .native,
        strict: Bool = true
    ) throws(WeightsError) -> LoadReport {
        let bindings = layout.bindings(parameters)
        var report = LoadReport()
        report.prefix = commonPrefix(of: tensors.keys.elements, expecting: bindings.map(\.published))
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
            for (path, parameter) in binding.native {
                let part =
                    binding.native.count == 1
                    ? tensor : tensor.sliced(axis: 0, start..<start + parameter.shape[0]).contiguous()
                start += parameter.rank == 0 ? 0 : parameter.shape[0]
                loaded[path] = part.cast(to: parameter.dtype)
            }
        }
        report.unexpected = tensors.keys.filter { $0.hasPrefix(report.prefix) && !taken.contains($0) }
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

/// What stands in front of the expected names in a file: the prefix under which most of them are found.
private func commonPrefix(of names: [String], expecting expected: [String]) -> String {
    let known = Set(names)
    var best = (prefix: "", count: expected.count { known.contains($0) })
    guard best.count < expected.count else { return "" }
    for anchor in expected.prefix(3) {
        for name in names where name.hasSuffix("." + anchor) {
            let prefix = String(name.dropLast(anchor.count))
            let count = expected.count { known.contains(prefix + $0) }
            if count > best.count { best = (prefix, count) }
        }
    }
    return best.prefix
}
