/// A key that a published class takes: its name, what values it may have, and which tensor tells it.
public struct ConfigurationKey: Sendable {
    /// The published name.
    public let name: String
    /// What it sets, in a few words.
    public let summary: String
    /// What an absent key means; nil where the key is required.
    public let defaultValue: ConfigurationValue?
    /// The weights that tell the value too; nil where none do.
    public let source: DimensionSource?
    let kind: Kind

    enum Kind: Sendable {
        /// A whole number from the bound on.
        case size(atLeast: Int)
        /// A number within bounds, where there are some.
        case number(atLeast: Double?, above: Double?, atMost: Double?)
        case flag
        case choice([String])
        case text(expected: String, fits: @Sendable (String) -> Bool)
        /// As many whole numbers as stated, or any number of them, from the bound on.
        case sizes(count: Int?, atLeast: Int)
        /// An object of these keys, none of them required.
        case object([ConfigurationKey])
        case constant(ConfigurationValue)
        case anything
        /// Pairs of whole numbers from 1 on.
        case pairs
    }

    private init(
        _ name: String, _ summary: String, _ kind: Kind, _ defaultValue: ConfigurationValue?, _ source: DimensionSource?
    ) {
        (self.name, self.summary, self.kind, self.defaultValue, self.source) =
            (name, summary, kind, defaultValue, source)
    }

    /// A whole number from `minimum` to 2²⁰, or to 2¹⁰ where it is a number of layers, which weights tell by their number.
    /// No published size comes near the end, and products of sizes do not overflow.
    ///
    /// - Parameters:
    ///   - name: the published name.
    ///   - summary: what it sets, in a few words.
    ///   - defaultValue: what an absent key means; nil where the key is required, `.null` where it may be missing.
    ///   - minimum: the smallest value that makes sense.
    ///   - source: the weights that tell the value too. They win over the default, and must agree with what is given.
    public static func size(
        _ name: String, _ summary: String, default defaultValue: ConfigurationValue? = nil, atLeast minimum: Int = 1,
        from source: DimensionSource? = nil
    ) -> ConfigurationKey {
        ConfigurationKey(name, summary, .size(atLeast: minimum), defaultValue, source)
    }

    /// A number; `.null` as a default lets it be missing.
    ///
    /// - Parameters:
    ///   - name: the published name.
    ///   - summary: what it sets, in a few words.
    ///   - defaultValue: what an absent key means; nil where the key is required.
    ///   - minimum: the smallest value that makes sense, if there is one.
    ///   - bound: what all values that make sense lie above, if there is such a number.
    ///   - maximum: the largest value that makes sense, if there is one.
    public static func number(
        _ name: String, _ summary: String, default defaultValue: ConfigurationValue? = nil,
        atLeast minimum: Double? = nil, above bound: Double? = nil, atMost maximum: Double? = nil
    ) -> ConfigurationKey {
        ConfigurationKey(
            name, summary, .number(atLeast: minimum, above: bound, atMost: maximum), defaultValue, nil)
    }

    /// A number from 0 to 1.
    ///
    /// - Parameters:
    ///   - name: the published name.
    ///   - summary: what it sets, in a few words.
    ///   - defaultValue: what an absent key means; nil where the key is required.
    public static func share(
        _ name: String, _ summary: String, default defaultValue: ConfigurationValue? = nil
    ) -> ConfigurationKey {
        number(name, summary, default: defaultValue, atLeast: 0, atMost: 1)
    }

    /// true or false.
    public static func flag(
        _ name: String, _ summary: String, default defaultValue: ConfigurationValue? = nil,
        from source: DimensionSource? = nil
    ) -> ConfigurationKey {
        ConfigurationKey(name, summary, .flag, defaultValue, source)
    }

    /// One of some words.
    public static func choice(
        _ name: String, _ summary: String, of words: [String], default defaultValue: ConfigurationValue? = nil
    ) -> ConfigurationKey {
        ConfigurationKey(name, summary, .choice(words), defaultValue, nil)
    }

    /// A word out of more than can be listed, such as one with a number in it.
    ///
    /// - Parameters:
    ///   - name: the published name.
    ///   - summary: what it sets, in a few words.
    ///   - defaultValue: what an absent key means; nil where the key is required.
    ///   - expected: which words there are, for errors.
    ///   - source: the weights that tell the value too.
    ///   - fits: whether a word is one of them.
    public static func text(
        _ name: String, _ summary: String, default defaultValue: ConfigurationValue? = nil, expected: String,
        from source: DimensionSource? = nil, where fits: @escaping @Sendable (String) -> Bool
    ) -> ConfigurationKey {
        ConfigurationKey(name, summary, .text(expected: expected, fits: fits), defaultValue, source)
    }

    /// A list of whole numbers from `minimum` on, such as a grid; of `count` of them where that is given.
    public static func sizes(
        _ name: String, _ summary: String, count: Int? = nil, atLeast minimum: Int = 1,
        default defaultValue: ConfigurationValue? = nil
    ) -> ConfigurationKey {
        ConfigurationKey(name, summary, .sizes(count: count, atLeast: minimum), defaultValue, nil)
    }

    /// An object of keys, each of which may be missing.
    public static func object(
        _ name: String, _ summary: String, of members: [ConfigurationKey],
        default defaultValue: ConfigurationValue? = nil
    ) -> ConfigurationKey {
        ConfigurationKey(name, summary, .object(members), defaultValue, nil)
    }

    /// A key that can have one value only, since nothing else is supported; `summary` says what that means.
    public static func constant(_ name: String, _ summary: String, _ value: ConfigurationValue) -> ConfigurationKey {
        ConfigurationKey(name, summary, .constant(value), value, nil)
    }

    /// A key that published configurations have and that changes nothing here; any value will do.
    public static func ignored(
        _ name: String, _ summary: String = "without influence here", default defaultValue: ConfigurationValue = .null
    ) -> ConfigurationKey {
        ConfigurationKey(name, summary, .anything, defaultValue, nil)
    }

    /// A list of pairs of whole numbers from 1 on, such as the heights and widths of pictures.
    public static func pairs(
        _ name: String, _ summary: String, default defaultValue: ConfigurationValue? = nil
    ) -> ConfigurationKey {
        ConfigurationKey(name, summary, .pairs, defaultValue, nil)
    }

    /// What a value of this key must be, for errors; nil when this one is.
    public func complaint(about value: ConfigurationValue) -> String? {
        if value == .null, defaultValue == .null { return nil }
        let orNull = defaultValue == .null ? " or null" : ""
        // A layer takes time to make, however small.
        let largest = source?.counted != nil ? 1 << 10 : 1 << 20
        switch (kind, value) {
        case (.size(let minimum), .int(let size)):
            return (minimum...largest).contains(size) ? nil : "must be from \(minimum) to \(largest), not \(size)"
        case (.size, _): return "must be a whole number\(orNull)"
        case (.number(let minimum, let bound, let maximum), .int),
            (.number(let minimum, let bound, let maximum), .double):
            let number = value.number!
            let isAbove = number >= minimum ?? -.greatestFiniteMagnitude && number > bound ?? -.infinity
            if isAbove, number <= maximum ?? .greatestFiniteMagnitude { return nil }
            func text(_ x: Double) -> String { Int(exactly: x).map(String.init) ?? "\(x)" }
            let bounds =
                switch (minimum, bound, maximum) {
                case (let minimum?, _, let maximum?): "from \(text(minimum)) to \(text(maximum))"
                case (let minimum?, _, nil): "\(text(minimum)) or more"
                case (nil, let bound?, let maximum?): "above \(text(bound)) and at most \(text(maximum))"
                case (nil, let bound?, nil): "above \(text(bound))"
                case (nil, nil, let maximum?): "at most \(text(maximum))"
                case (nil, nil, nil): "a finite number"
                }
            return "must be \(bounds), not \(text(number))"
        case (.number, _): return "must be a number\(orNull)"
        case (.flag, .bool): return nil
        case (.flag, _): return "must be true or false"
        case (.choice(let words), .string(let word)) where words.contains(word): return nil
        case (.choice(let words), _):
            return "must be " + words.map { "\"\($0)\"" }.joined(separator: " or ") + ", not \(value)"
        case (.anything, _): return nil
        case (.constant(let constant), _): return value == constant ? nil : "must be \(constant): \(summary)"
        case (.object(let members), .object(let values)):
            // What is known first: of a kind that is not, every other key is unknown too.
            for member in members {
                guard let complaint = values[member.name].flatMap(member.complaint) else { continue }
                return "has a \"\(member.name)\" that \(complaint)"
            }
            let strays = Set(values.keys).subtracting(members.map(\.name)).sorted()
            guard let stray = strays.first else { return nil }
            return "has an unknown key \"\(stray)\"; known are \(members.map(\.name).joined(separator: ", "))"
        case (.object, _): return "must be an object\(orNull)"
        case (.text(_, let fits), .string(let word)) where fits(word): return nil
        case (.text(let expected, _), _): return "must be \(expected), not \(value)"
        case (.pairs, .list(let pairs)) where !pairs.isEmpty && pairs.allSatisfy { isPair($0, below: largest) }:
            return nil
        case (.pairs, _): return "must be a list of pairs of whole numbers from 1 on"
        case (.sizes(let count, let minimum), .list(let values)):
            let fit = values.allSatisfy { if case .int(minimum...largest) = $0 { true } else { false } }
            if fit, count == nil ? !values.isEmpty : values.count == count { return nil }
            fallthrough
        case (.sizes(let count, let minimum), _):
            return "must be a list of \(count.map { "\($0) " } ?? "")whole numbers from \(minimum) on\(orNull)"
        }
    }

    private func isPair(_ value: ConfigurationValue, below largest: Int) -> Bool {
        guard case .list(let values) = value, values.count == 2 else { return false }
        return values.allSatisfy { if case .int(1...largest) = $0 { true } else { false } }
    }
}
