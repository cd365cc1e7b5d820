/// Which weights tell the value of a configuration key: files come without a configuration, and with wrong ones.
///
/// Names are the published ones, without the prefix that a file may put in front of all of them; `*` stands for one
/// component.
public struct DimensionSource: Sendable {
    enum Rule: Sendable {
        case axis(Int, [String], @Sendable (Int) -> Int)
        case count([String], @Sendable (Int) -> ConfigurationValue)
        case presence(String)
    }
    let rule: Rule
    /// The key whose value the length is divided by, and the number that its value stands for.
    let divisor: (key: String, value: @Sendable (ConfigurationValue) -> Int?)?

    /// The length of an axis of a tensor, or, with a divisor, how many times that key's value goes into it.
    ///
    /// - Parameters:
    ///   - axis: which axis.
    ///   - tensors: names of the tensor; the first that there is tells.
    ///   - divisor: the key whose value goes into the length.
    ///   - number: what that value stands for, where it is no size itself.
    public static func axis(
        _ axis: Int, of tensors: String..., over divisor: String? = nil,
        as number: @escaping @Sendable (ConfigurationValue) -> Int? = {
            if case .int(let size) = $0 { size } else { nil }
        }
    ) -> DimensionSource {
        DimensionSource(rule: .axis(axis, tensors, { $0 }), divisor: divisor.map { ($0, number) })
    }

    /// What the length of an axis of a tensor says.
    ///
    /// - Parameters:
    ///   - axis: which axis.
    ///   - tensor: name of the tensor.
    ///   - value: what a length says.
    public static func axis(
        _ axis: Int, of tensor: String, through value: @escaping @Sendable (Int) -> Int
    ) -> DimensionSource {
        DimensionSource(rule: .axis(axis, [tensor], value), divisor: nil)
    }

    /// How many tensors there are of these names: layers, where `*` counts them.
    ///
    /// - Parameters:
    ///   - patterns: the names; the first that there are tensors of tell.
    ///   - value: the value that says so many, where it is not the number itself.
    public static func count(
        of patterns: String..., as value: @escaping @Sendable (Int) -> ConfigurationValue = { .int($0) }
    ) -> DimensionSource {
        DimensionSource(rule: .count(patterns, value), divisor: nil)
    }

    /// Whether there is a tensor of this name.
    public static func presence(of tensor: String) -> DimensionSource {
        DimensionSource(rule: .presence(tensor), divisor: nil)
    }

    /// The names of the tensors that it counts; nil where it counts none.
    var counted: [String]? { if case .count(let patterns, _) = rule { patterns } else { nil } }

    var patterns: [String] {
        switch rule {
        case .axis(_, let names, _), .count(let names, _): names
        case .presence(let name): [name]
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
        let anchors = keys.flatMap { $0.source?.patterns ?? [] }.map { $0.replacing("*", with: "0") }
        let prefix = commonPrefix(of: tensors.keys, expected: Set(anchors.map { $0[...] }))
        shapes = Dictionary(
            uniqueKeysWithValues: tensors.lazy.filter { $0.key.hasPrefix(prefix) }
                .map { (String($0.key.dropFirst(prefix.count)), $0.value.shape) })
    }

    private func first(_ pattern: String) -> (name: String, shape: [Int])? {
        if let shape = shapes[pattern] { return (pattern, shape) }
        guard pattern.contains("*") else { return nil }
        let names = NamePattern(pattern)
        return shapes.keys.filter { names.captures($0[...]) != nil }.min().map { ($0, shapes[$0]!) }
    }

    /// What the weights say, and which tensor says it; nil where they say nothing.
    ///
    /// - Parameter divisor: the value of the source's divisor.
    /// - Throws: where the divisor does not divide the length.
    func value(
        of source: DimensionSource, divisor: Int?
    ) throws(ModuleInputError) -> (value: ConfigurationValue, place: String)? {
        switch source.rule {
        case .axis(let axis, let patterns, let value):
            guard let (name, shape) = patterns.lazy.compactMap({ first($0) }).first, shape.indices.contains(axis) else {
                return nil
            }
            let place = "\(name) is \(shape)"
            guard let key = source.divisor?.key else { return (.int(value(shape[axis])), place) }
            guard let divisor else { return nil }
            guard divisor > 0, shape[axis] % divisor == 0 else {
                throw ModuleInputError(
                    "\(place) in the weights: \(shape[axis]) does not divide by \(divisor), which \"\(key)\" says")
            }
            return (.int(shape[axis] / divisor), place)
        case .count(let patterns, let value):
            for pattern in patterns {
                let names = NamePattern(pattern)
                let count = shapes.keys.count { names.captures($0[...]) != nil }
                if count > 0 { return (value(count), "there are \(count) tensors \(pattern)") }
            }
            return nil
        case .presence(let pattern):
            let found = first(pattern)
            return (.bool(found != nil), found.map { "there is a tensor \($0.name)" } ?? "there is no \(pattern)")
        }
    }
}
