import FoveaTensor

/// A tensor that a module takes or returns: its published name, its type and its symbolic shape.
///
/// In a shape, a word that is a configuration key stands for that key's value, such as `dim` in `[B, N, dim]`; any
/// other word is a length that must be the same wherever it stands; numbers, `+` and `*` do the rest. `...` in front
/// is any number of axes. A product with one free length, such as `M*m*m` for M blocks of m² rows, asks that the rest
/// of it divides. The same text is documentation and check.
public struct TensorRole: Sendable {
    /// What kind of numbers the tensor holds.
    public enum Kind: String, Sendable {
        /// float32 or float64: gradients flow to it.
        case numbers
        /// int64.
        case indices
        /// bool.
        case mask
    }

    /// The published name. In that of an output `*` stands for one component, where it depends on the configuration how
    /// many there are.
    public let name: String
    /// The symbolic shape, such as `[B, N, dim]`.
    public let shape: String
    public let kind: Kind
    /// Whether a call may leave it out.
    public let isOptional: Bool

    /// - Parameters:
    ///   - name: the published name.
    ///   - shape: the symbolic shape.
    ///   - kind: what kind of numbers it holds.
    ///   - optional: whether a call may leave it out.
    public init(_ name: String, _ shape: String, _ kind: Kind = .numbers, optional: Bool = false) {
        self.name = name
        self.shape = shape
        self.kind = kind
        isOptional = optional
    }

    /// Whether a tensor of this name is meant.
    public func covers(_ name: String) -> Bool { NamePattern(self.name).captures(name[...]) != nil }

    /// The words between the commas of the shape.
    fileprivate var words: [String] {
        shape.dropFirst().dropLast().split(separator: ",").map { String($0.filter { $0 != " " }) }
    }

    /// Whether the tensor has a part for each member of a batch; not where its first axis has a fixed length, as a loss
    /// over the whole batch has.
    public var isPerMember: Bool { words.first.map { Int($0) == nil } ?? false }

    /// How many rows of the first axis belong to one member of a batch: one, or those of a block where members are
    /// packed one after the other.
    public func rowsPerMember(_ configuration: Configuration) -> Int {
        words.first.flatMap { ShapeCheck(configuration).freeLength(of: $0) }?.multiple ?? 1
    }
}

/// The lengths that the words of symbolic shapes stand for, found while inputs are checked one by one.
struct ShapeCheck {
    private let configuration: Configuration
    private var lengths: [String: (length: Int, input: String)] = [:]

    init(_ configuration: Configuration) { self.configuration = configuration }

    /// Checks one tensor and remembers what its free words stand for.
    mutating func check(_ tensor: Tensor, _ role: TensorRole) throws(ModuleInputError) {
        let fits =
            switch role.kind {
            case .numbers: tensor.dtype.isDifferentiable
            case .indices: tensor.dtype == .int64
            case .mask: tensor.dtype == .bool
            }
        guard fits else {
            let wanted = [.numbers: "float32 or float64", .indices: "int64", .mask: "bool"][role.kind]!
            throw ModuleInputError("input \(role.name) is \(tensor.dtype); \(wanted) is needed")
        }
        var words = role.words
        var shape = tensor.shape[...]
        if words.first == "..." {
            words.removeFirst()
            shape = shape.suffix(words.count)
        }
        guard shape.count == words.count else { throw misshapen(tensor, role) }
        for (word, length) in zip(words, shape) {
            if let expected = value(of: word) {
                guard expected == length else { throw misshapen(tensor, role) }
            } else if let free = freeLength(of: word) {
                guard length.isMultiple(of: free.multiple) else { throw misshapen(tensor, role) }
                lengths[free.word] = (length / free.multiple, role.name)
            }
        }
    }

    /// The one free word of a product, and what the rest of it amounts to.
    func freeLength(of text: String) -> (word: String, multiple: Int)? {
        guard !text.contains("+") else { return nil }
        var free: [String] = []
        var multiple = 1
        for factor in text.split(separator: "*").map(String.init) {
            if let value = Int(factor) ?? length(of: factor) { multiple *= value } else { free.append(factor) }
        }
        guard free.count == 1, !isKey(free[0]), multiple > 0 else { return nil }
        return (free[0], multiple)
    }

    private func isKey(_ word: String) -> Bool { configuration.values[word] != nil }

    /// What a sum of products of words is; nil while one of the words is free.
    private func value(of text: String) -> Int? {
        var sum = 0
        for term in text.split(separator: "+") {
            var product = 1
            for factor in term.split(separator: "*") {
                guard let value = Int(factor) ?? length(of: String(factor)) else { return nil }
                product *= value
            }
            sum += product
        }
        return sum
    }

    private func length(of word: String) -> Int? {
        guard let value = configuration.values[word] else { return lengths[word]?.length }
        if case .int(let length) = value { return length }
        return nil
    }

    private func misshapen(_ tensor: Tensor, _ role: TensorRole) -> ModuleInputError {
        let words = role.shape.split { !($0.isLetter || $0.isNumber || $0 == "_") }.map(String.init)
        var known: [String] = []
        for word in words where !known.contains(where: { $0.hasPrefix(word + " ") }) {
            // What this tensor itself said of a word tells nothing.
            guard let length = length(of: word), isKey(word) || lengths[word]?.input != role.name else { continue }
            known.append("\(word) = \(length)" + (isKey(word) ? "" : " as in \(lengths[word]!.input)"))
        }
        return ModuleInputError(
            "input \(role.name) is \(tensor.shape); expected is \(role.shape)"
                + (known.isEmpty ? "" : " with " + known.joined(separator: ", ")))
    }
}
