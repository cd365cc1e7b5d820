import FoveaIO

/// What happened to each tensor when weights were loaded.
public struct LoadReport: Sendable, CustomStringConvertible {
    /// Tensors that were taken as they are.
    public internal(set) var matched: [String] = []
    /// Tensors that the module needs and the file does not have.
    public internal(set) var missing: [String] = []
    /// Tensors of the file that the module has no place for.
    public internal(set) var unexpected: [String] = []
    /// Tensors of another shape than the module's.
    public internal(set) var mismatched: [Mismatch] = []
    /// Tensors that were converted, with their type in the file.
    public internal(set) var cast: [(name: String, from: String)] = []
    /// What stood in front of every name in the file.
    public internal(set) var prefix = ""

    /// A tensor whose shape does not fit.
    public struct Mismatch: Sendable {
        public let name: String
        public let expected: [Int]
        public let found: [Int]
    }

    /// Whether every tensor of the module, and none besides, was in the file with its shape.
    public var isComplete: Bool { missing.isEmpty && unexpected.isEmpty && mismatched.isEmpty }

    /// One line: what does not fit first.
    public var description: String {
        var parts: [String] = []
        func list(_ title: String, _ names: [String]) {
            guard !names.isEmpty else { return }
            let shown = names.prefix(4).joined(separator: ", ")
            parts.append("\(names.count) \(title) (\(shown)\(names.count > 4 ? ", …" : ""))")
        }
        list("of another shape", mismatched.map { "\($0.name) is \($0.found), not \($0.expected)" })
        list("missing", missing)
        list("unexpected", unexpected)
        list("cast", cast.map { "\($0.name) from \($0.from)" })
        parts.append("\(matched.count + cast.count) matched")
        return parts.joined(separator: "; ")
    }
}

/// Weights that do not fit a module.
public struct WeightsError: Error, Sendable, CustomStringConvertible {
    /// Where the weights come from: a path.
    public let source: String
    /// The layout they were read by.
    public let layout: String
    /// What fits and what does not.
    public let report: LoadReport

    public var description: String {
        escapingControls("\(source): the weights do not fit the layout \(layout): \(report); nothing was loaded")
    }
}
