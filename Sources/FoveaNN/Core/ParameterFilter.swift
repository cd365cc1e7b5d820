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
        let pattern = pattern.split(separator: ".").map { Array($0.utf8) }
        // An optimizer asks for each parameter in each step, mostly for how its path ends.
        if pattern.first == Array("**".utf8), !pattern.dropFirst().contains(where: { $0.contains(UInt8(ascii: "*")) }) {
            let end = Array(pattern.dropFirst().joined(separator: [UInt8(ascii: ".")]))
            return ParameterFilter { path, _ in
                var path = path
                return path.withUTF8 { path in
                    let start = path.count - end.count
                    return path.suffix(end.count).elementsEqual(end)
                        && (start == 0 || end.isEmpty || path[start - 1] == UInt8(ascii: "."))
                }
            }
        }
        return ParameterFilter { path, _ in
            var path = path
            return path.withUTF8 { matches(pattern[...], $0[...]) }
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

/// Whether a path fits a pattern, given by its components. Nothing is allocated.
private func matches(_ pattern: ArraySlice<[UInt8]>, _ path: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
    guard let first = pattern.first else { return path.isEmpty }
    let rest = pattern.dropFirst()
    let component = path.prefix { $0 != UInt8(ascii: ".") }
    let tail = path.dropFirst(component.count + 1)
    if first.elementsEqual("**".utf8) { return matches(rest, path) || !path.isEmpty && matches(pattern, tail) }
    guard !path.isEmpty, first.elementsEqual("*".utf8) || first.elementsEqual(component) else { return false }
    return matches(rest, tail)
}
