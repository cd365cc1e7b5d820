/// Which weights tell the value of a configuration key: files come without a configuration, and with wrong ones.
///
/// Names are the published ones, without the prefix that a file may put in front of all of them; `*` stands for one
/// component.
public struct DimensionSource: Sendable {
    enum Rule: Sendable {
        case axis(Int, String)
        case count(String)
        case presence(String)
    }
    let rule: Rule
    /// The key whose value the length is divided by.
    let divisor: String?

    /// The length of an axis of a tensor, or, with a divisor, how many times that key's value goes into it.
    public static func axis(_ axis: Int, of tensor: String, over divisor: String? = nil) -> DimensionSource {
        DimensionSource(rule: .axis(axis, tensor), divisor: divisor)
    }

    /// How many tensors there are of these names: layers, where `*` counts them.
    public static func count(of pattern: String) -> DimensionSource {
        DimensionSource(rule: .count(pattern), divisor: nil)
    }

    /// Whether there is a tensor of this name.
    public static func presence(of tensor: String) -> DimensionSource {
        DimensionSource(rule: .presence(tensor), divisor: nil)
    }

    var pattern: String {
        switch rule {
        case .axis(_, let name), .count(let name), .presence(let name): name
        }
    }
}

/// The names and shapes of weights that a configuration is read from.
struct WeightShapes {
    private let shapes: [String: [Int]]

    /// - Parameters:
    ///   - tensors: weights under their names in a file, with or without a common prefix.
    ///   - keys: the keys that want to know, whose sources tell the prefix.
    init(_ tensors: NamedTensors, for keys: [ConfigurationKey]) {
        // The first of each row stands for all of them.
        let anchors = keys.compactMap { $0.source?.pattern.replacing("*", with: "0") }
        let prefix = commonPrefix(of: tensors.keys.elements) { candidate in
            anchors.count { tensors[candidate + $0] != nil }
        }
        shapes = Dictionary(
            uniqueKeysWithValues: tensors.lazy.filter { $0.key.hasPrefix(prefix) }
                .map { (String($0.key.dropFirst(prefix.count)), $0.value.shape) })
    }

    private func first(_ pattern: String) -> (name: String, shape: [Int])? {
        if let shape = shapes[pattern] { return (pattern, shape) }
        guard pattern.contains("*") else { return nil }
        return shapes.keys.filter { NamePattern(pattern).captures($0[...]) != nil }.min().map { ($0, shapes[$0]!) }
    }

    /// What the weights say, and which tensor says it; nil where they say nothing.
    ///
    /// - Parameter divisor: the value of the source's divisor.
    /// - Throws: where the divisor does not divide the length.
    func value(
        of source: DimensionSource, divisor: Int?
    ) throws(ModuleInputError) -> (value: ConfigurationValue, place: String)? {
        switch source.rule {
        case .axis(let axis, let pattern):
            guard let (name, shape) = first(pattern), shape.indices.contains(axis) else { return nil }
            let place = "\(name) is \(shape)"
            guard let key = source.divisor else { return (.int(shape[axis]), place) }
            guard let divisor else { return nil }
            guard shape[axis] % divisor == 0 else {
                throw ModuleInputError(
                    "\(place) in the weights: \(shape[axis]) does not divide by \"\(key)\", which is \(divisor)")
            }
            return (.int(shape[axis] / divisor), place)
        case .count(let pattern):
            let count = shapes.keys.count { NamePattern(pattern).captures($0[...]) != nil }
            return count == 0 ? nil : (.int(count), "there are \(count) tensors \(pattern)")
        case .presence(let pattern):
            let found = first(pattern)
            return (.bool(found != nil), found.map { "there is a tensor \($0.name)" } ?? "there is no \(pattern)")
        }
    }
}
