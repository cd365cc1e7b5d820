/// A name in which `*` stands for one component between dots.
struct NamePattern {
    private let components: [Substring]

    init(_ text: String) { components = text.split(separator: ".", omittingEmptySubsequences: false) }

    /// What the stars stand for in a name; nil where it does not match.
    func captures(_ name: Substring) -> [Substring]? {
        let found = name.split(separator: ".", omittingEmptySubsequences: false)
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
/// found; none where that does as well.
///
/// Files of whole models put a module's tensors behind a path, which differs between generations of the same code.
///
/// - Parameters:
///   - names: the names in the file.
///   - matches: how many of the expected names the file has behind a prefix.
func commonPrefix(of names: [String], _ matches: (String) -> Int) -> String {
    var best = (prefix: "", count: matches(""))
    var tried: Set<String> = [""]
    for name in names {
        var end = name.startIndex
        while let dot = name[end...].firstIndex(of: ".") {
            end = name.index(after: dot)
            let prefix = String(name[..<end])
            guard tried.insert(prefix).inserted else { continue }
            let count = matches(prefix)
            if count > best.count { best = (prefix, count) }
        }
    }
    return best.prefix
}
