import FoveaIO
import FoveaTensor

/// A configuration, a tensor or an argument that a module of the catalogue cannot take.
public struct ModuleInputError: Error, Sendable, CustomStringConvertible {
    /// What was given, what is expected, and how to mend it, in one line.
    public let description: String

    /// Line breaks and other control characters are shown as escapes, so that it stays one line.
    public init(_ description: String) { self.description = escapingControls(description) }
}

/// The values of a module's configuration: what was given, checked against the keys and the weights; for the rest what
/// the weights tell; then the defaults.
public struct Configuration: Sendable {
    /// The value of each key.
    public private(set) var values: [String: ConfigurationValue] = [:]
    /// Of the random numbers that fresh weights start with.
    public let key: RandomKey
    private let owner: String

    /// - Parameters:
    ///   - given: the values by name.
    ///   - keys: the keys that the module knows.
    ///   - weights: the weights that the module will get, under published names; nil before there are any.
    ///   - key: of the random numbers that fresh weights start with.
    ///   - owner: where the configuration comes from, for errors.
    /// - Throws: for an unknown key, a value that its key cannot have, a required key that is absent, and a value that
    ///   the weights contradict.
    package init(
        _ given: [String: ConfigurationValue], keys: [ConfigurationKey], weights: NamedTensors?, key: RandomKey,
        owner: String
    ) throws(ModuleInputError) {
        self.key = key
        self.owner = owner
        if let unknown = given.keys.filter({ name in !keys.contains { $0.name == name } }).min() {
            throw ModuleInputError(
                "\(owner): unknown configuration key \"\(unknown)\"; "
                    + (keys.isEmpty ? "there are none" : "known are \(keys.map(\.name).joined(separator: ", "))"))
        }
        for key in keys {
            guard let value = given[key.name] else { continue }
            if let complaint = key.complaint(about: value) {
                throw ModuleInputError("\(owner): \"\(key.name)\" \(complaint)")
            }
        }
        let shapes = weights.map { WeightShapes($0, for: keys) }
        let divisors = shapes.map { Configuration.divisors(of: given, keys: keys, $0) } ?? [:]
        // Those that are divided by others come last.
        let plainFirst = keys.filter { $0.source?.divisor == nil } + keys.filter { $0.source?.divisor != nil }
        for key in plainFirst {
            let told = try told(key, shapes)
            if let value = given[key.name] {
                if let told, told.value != value {
                    throw ModuleInputError("\(owner): \"\(key.name)\" is \(value), but \(told.place) in the weights")
                }
                // Else layers by the thousand would be laid out before the first tensor is missed.
                if shapes != nil, told == nil, let counted = key.source?.counted, case .int(1...) = value {
                    let names = counted.joined(separator: " or ")
                    throw ModuleInputError(
                        "\(owner): \"\(key.name)\" is \(value), but there is no tensor \(names) in the weights")
                }
                values[key.name] = value
            } else if let value = told?.value ?? divisors[key.name] ?? key.defaultValue {
                values[key.name] = value
            } else {
                throw ModuleInputError("\(owner): the configuration lacks \"\(key.name)\" (\(key.summary))")
            }
        }
    }

    /// What the weights say of keys that go into a length and are not given, by what is left when they do: how many heads there are, by
    /// the width of one.
    private static func divisors(
        of given: [String: ConfigurationValue], keys: [ConfigurationKey], _ shapes: WeightShapes
    ) -> [String: ConfigurationValue] {
        var found: [String: ConfigurationValue] = [:]
        for key in keys {
            guard let source = key.source, let divisor = source.divisor, given[divisor.key] == nil,
                case .int(let share)? = given[key.name], share > 0,
                case .int(let length)? = (try? shapes.value(of: source, divisor: 1))?.value, length % share == 0,
                divisor.value(.int(length / share)) == length / share
            else { continue }
            found[divisor.key] = .int(length / share)
        }
        return found
    }

    /// What the weights say of a key.
    private func told(
        _ key: ConfigurationKey, _ shapes: WeightShapes?
    ) throws(ModuleInputError) -> (value: ConfigurationValue, place: String)? {
        guard let shapes, let source = key.source else { return nil }
        let divisor = source.divisor.flatMap { divisor in values[divisor.key].flatMap(divisor.value) }
        do {
            return try shapes.value(of: source, divisor: divisor)
        } catch {
            throw self.error("\"\(key.name)\" cannot be told: \(error)")
        }
    }

    /// An error about this configuration, in one line.
    public func error(_ problem: String) -> ModuleInputError { ModuleInputError("\(owner): \(problem)") }

    private func value(_ key: String) -> ConfigurationValue {
        guard let value = values[key] else { trap("Configuration", "the form declares no key \"\(key)\"") }
        return value
    }

    /// The value of a size.
    public func int(_ key: String) -> Int {
        guard case .int(let value) = value(key) else { trap("Configuration", "\"\(key)\" is declared as no size") }
        return value
    }

    /// The value of a size that may be null.
    public func optionalInt(_ key: String) -> Int? { value(key) == .null ? nil : int(key) }

    /// The value of a number.
    public func double(_ key: String) -> Double {
        guard let number = value(key).number else { trap("Configuration", "\"\(key)\" is declared as no number") }
        return number
    }

    /// The value of a number that may be null.
    public func optionalDouble(_ key: String) -> Double? { value(key) == .null ? nil : double(key) }

    /// The value of a flag.
    public func bool(_ key: String) -> Bool {
        guard case .bool(let value) = value(key) else { trap("Configuration", "\"\(key)\" is declared as no flag") }
        return value
    }

    /// The value of a choice.
    public func string(_ key: String) -> String {
        guard case .string(let value) = value(key) else { trap("Configuration", "\"\(key)\" is declared as no choice") }
        return value
    }

    /// The value of a list of sizes.
    public func ints(_ key: String) -> [Int] {
        guard case .list(let values) = value(key) else { trap("Configuration", "\"\(key)\" is declared as no list") }
        return values.compactMap { if case .int(let value) = $0 { value } else { nil } }
    }

    /// The values of an object by their names; nil for null.
    public func object(_ key: String) -> [String: ConfigurationValue]? {
        switch value(key) {
        case .object(let values): return values
        case .null: return nil
        default: trap("Configuration", "\"\(key)\" is declared as no object")
        }
    }

    /// The value of a list of pairs.
    public func pairs(_ key: String) -> [(Int, Int)] {
        guard case .list(let values) = value(key) else { trap("Configuration", "\"\(key)\" is declared as no list") }
        return values.compactMap {
            if case .list(let pair) = $0, case .int(let first) = pair[0], case .int(let second) = pair[1] {
                (first, second)
            } else {
                nil
            }
        }
    }
}
