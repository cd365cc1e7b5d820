import FoveaTensor

/// Says which parameters of a module are meant: for freezing, for groups of an optimizer, for averages.
///
/// ```swift
/// let trained = !ParameterFilter.path("encoder.**")
/// let decayed = ParameterFilter.rank(atLeast: 2) && !.path("**.latents")
/// ```
public struct ParameterFilter: Sendable {
    let accepts: @Sendable (_ path: String, _ tensor: Tensor) -> Bool

    /// A filter of one's own.
    public init(_ accepts: @escaping @Sendable (_ path: String, _ tensor: Tensor) -> Bool) {
        self.accepts = accepts
    }

    /// Whether the filter takes this parameter.
    public func callAsFunction(_ path: String, _ tensor: Tensor) -> Bool { accepts(path, tensor) }

    /// Every parameter.
    public static let all = ParameterFilter { _, _ in true }

    /// Parameters whose path matches the pattern: `*` stands for one component, `**` for any number of them.
    public static func path(_ pattern: String) -> ParameterFilter {
        let pattern = pattern.split(separator: ".").map(String.init)
        return ParameterFilter { path, _ in
            matches(pattern[...], path.split(separator: ".").map(String.init)[...])
        }
    }

    /// Parameters with at least so many axes: matrices are 2, norms and biases 1.
    public static func rank(atLeast rank: Int) -> ParameterFilter {
        ParameterFilter { _, tensor in tensor.rank >= rank }
    }

    /// What the filter leaves out.
    public static prefix func ! (filter: ParameterFilter) -> ParameterFilter {
        ParameterFilter { !filter.accepts($0, $1) }
    }

    /// What both take.
    public static func && (a: ParameterFilter, b: ParameterFilter) -> ParameterFilter {
        ParameterFilter { a.accepts($0, $1) && b.accepts($0, $1) }
    }

    /// What either takes.
    public static func || (a: ParameterFilter, b: ParameterFilter) -> ParameterFilter {
        ParameterFilter { a.accepts($0, $1) || b.accepts($0, $1) }
    }
}

private func matches(_ pattern: ArraySlice<String>, _ path: ArraySlice<String>) -> Bool {
    guard let first = pattern.first else { return path.isEmpty }
    let rest = pattern.dropFirst()
    if first == "**" {
        return (path.startIndex...path.endIndex).contains { matches(rest, path[$0...]) }
    }
    guard let component = path.first, first == "*" || first == component else { return false }
    return matches(rest, path.dropFirst())
}
