import Fovea

/// A value of a recipe.
enum RecipeValue: Equatable, Sendable {
    case integer(Int)
    case number(Double)
    case text(String)
    case flag(Bool)
    case list([String])
    case none

    /// As YAML.
    var yaml: String {
        switch self {
        case .integer(let value): "\(value)"
        case .number(let value): value == value.rounded() && abs(value) < 1e15 ? "\(Int(value)).0" : "\(value)"
        case .text(let value): quoted(value)
        case .flag(let value): value ? "true" : "false"
        case .list(let values): "[" + values.map(quoted).joined(separator: ", ") + "]"
        case .none: "null"
        }
    }

    private func quoted(_ text: String) -> String {
        let isPlain =
            !text.isEmpty && text.allSatisfy { $0.isLetter || "-_/.".contains($0) } && !text.hasPrefix("-")
            && !["true", "false", "null", "yes", "no", "on", "off"].contains(text.lowercased()) && !text.contains("..")
        return isPlain ? text : ConfigurationValue.string(text).description
    }
}

/// A key that recipes may have: its place, what it takes and what it means.
struct RecipeKey: Sendable {
    enum Kind: Sendable {
        case integer(ClosedRange<Int>)
        /// A number in the range; with `aboveZero` 0 itself is out.
        case number(ClosedRange<Double>, aboveZero: Bool = false)
        case choice([String])
        case text
        case flag
        case list
    }

    /// Group and name: `training.learningRate`.
    let path: String
    let kind: Kind
    let defaultValue: RecipeValue
    let summary: String

    init(_ path: String, _ kind: Kind, default defaultValue: RecipeValue, _ summary: String) {
        self.path = path
        self.kind = kind
        self.defaultValue = defaultValue
        self.summary = summary
    }

    /// What the key takes, in words.
    var expectation: String {
        switch kind {
        case .integer(let range):
            range.upperBound == .max
                ? "a whole number of at least \(range.lowerBound), in 64 bits"
                : "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .number(let range, let aboveZero):
            (aboveZero ? "a number above 0" : "a number from \(range.lowerBound)")
                + (range.upperBound == .infinity ? "" : " up to \(range.upperBound)")
        case .choice(let choices): "one of " + choices.joined(separator: ", ")
        case .text: "a text"
        case .flag: "true or false"
        case .list: "a list of path patterns"
        }
    }

    /// The value that a plain YAML scalar means, or nil where it is of another type or out of range.
    func value(of scalar: String, isQuoted: Bool) -> RecipeValue? {
        if !isQuoted, ["null", "~", ""].contains(scalar) { return defaultValue == .none ? RecipeValue.none : nil }
        switch kind {
        case .integer(let range):
            guard !isQuoted, let value = Int(scalar), range.contains(value) else { return nil }
            return .integer(value)
        case .number(let range, let aboveZero):
            guard !isQuoted, let value = Double(scalar), value.isFinite, range.contains(value),
                !aboveZero || value > 0
            else { return nil }
            return .number(value)
        case .choice(let choices): return choices.contains(scalar) ? .text(scalar) : nil
        case .text: return .text(scalar)
        case .flag:
            guard !isQuoted, scalar == "true" || scalar == "false" else { return nil }
            return .flag(scalar == "true")
        case .list: return nil
        }
    }
}
