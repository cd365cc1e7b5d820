/// A name in which `*` stands for one component between dots.
struct NamePattern: Sendable {
    private let components: [Substring]

    init(_ text: String) { components = NamePattern.components(of: text[...]) }

    /// What stands between the dots of a name.
    static func components(of name: Substring) -> [Substring] {
        name.split(separator: ".", omittingEmptySubsequences: false)
    }

    /// What the stars stand for in a name; nil where it does not match.
    func captures(_ name: Substring) -> [Substring]? { captures(NamePattern.components(of: name)) }

    /// The same for the components of a name, where many patterns are tried on it.
    func captures(_ found: [Substring]) -> [Substring]? {
        guard components.count == found.count else { return nil }
        var captured: [Substring] = []
        for (expected, component) in zip(components, found) {
            if expected == "*" {
                captured.append(component)
            } else if expected != component {
                return nil
            }
        }
        return captured
    }

    /// The name with these components for its stars.
    func filled(with captured: [Substring]) -> String {
        var rest = captured[...]
        return components.map { $0 == "*" ? rest.removeFirst() : $0 }.joined(separator: ".")
    }
}

/// What stands in front of the expected names in a file: the prefix, ending in a dot, behind which the most of them are
/// found; none where that does as well, and among equals the first in the file.
///
/// Files of whole models put a module's tensors behind a path, which differs between generations of the same code.
func commonPrefix<Names: Sequence<String>>(of names: Names, expected: Set<Substring>) -> Substring {
    var counts: [Substring: Int] = [:]
    var prefixes: [Substring] = [""]
    for name in names {
        var end = name.startIndex
        while true {
            if expected.contains(name[end...]) {
                let prefix = name[..<end]
                if counts[prefix] == nil, !prefix.isEmpty { prefixes.append(prefix) }
                counts[prefix, default: 0] += 1
            }
            guard let dot = name[end...].firstIndex(of: ".") else { break }
            end = name.index(after: dot)
        }
    }
    return prefixes.reduce("") { best, prefix in counts[prefix, default: 0] > counts[best, default: 0] ? prefix : best }
}
