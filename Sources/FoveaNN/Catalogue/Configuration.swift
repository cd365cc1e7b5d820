/// A value of a published configuration, as JSON has it.
public enum ConfigurationValue: Sendable, Equatable, Codable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case string(String)
    case list([ConfigurationValue])

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int.self) {
            self = .int(value)
        } else if let value = try? container.decode(Double.self) {
            self = .double(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else {
            self = .list(try container.decode([ConfigurationValue].self))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .int(let value): try container.encode(value)
        case .double(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .list(let values): try container.encode(values)
        }
    }
}

/// A key that a published class takes.
public struct ConfigurationKey: Sendable {
    /// The published name.
    public let name: String
    /// What it sets, in a few words.
    public let summary: String
    /// What an absent key means; nil where the key is required.
    public let defaultValue: ConfigurationValue?

    public init(_ name: String, _ summary: String, default defaultValue: ConfigurationValue? = nil) {
        self.name = name
        self.summary = summary
        self.defaultValue = defaultValue
    }
}

/// A configuration, a tensor or an argument that a module of the catalogue cannot take.
public struct ModuleInputError: Error, Sendable, CustomStringConvertible {
    /// What was given, what is expected, and how to mend it, in one line.
    public let description: String

    public init(_ description: String) { self.description = description }
}

/// The values of a module's configuration, checked against its keys.
public struct Configuration: Sendable {
    private let values: [String: ConfigurationValue]
    private let owner: String

    /// - Throws: for a key that the module does not know, and for a required one that is absent.
    public init(
        _ given: [String: ConfigurationValue], keys: [ConfigurationKey], owner: String
    ) throws(ModuleInputError) {
        self.owner = owner
        var values: [String: ConfigurationValue] = [:]
        for key in keys {
            guard let value = given[key.name] ?? key.defaultValue else {
                throw ModuleInputError("\(owner): the configuration lacks \"\(key.name)\" (\(key.summary))")
            }
            values[key.name] = value
        }
        if let unknown = given.keys.filter({ values[$0] == nil }).min() {
            throw ModuleInputError(
                "\(owner): unknown configuration key \"\(unknown)\"; known are \(keys.map(\.name).joined(separator: ", "))"
            )
        }
        self.values = values
    }

    /// A size: a whole number from `minimum` to 2²⁰. No published one comes near the end, and products of sizes do not
    /// overflow.
    public func int(_ key: String, atLeast minimum: Int = 1) throws(ModuleInputError) -> Int {
        guard case .int(let value)? = values[key] else {
            throw ModuleInputError("\(owner): \"\(key)\" must be a whole number")
        }
        guard (minimum...1 << 20).contains(value) else {
            throw ModuleInputError("\(owner): \"\(key)\" must be from \(minimum) to \(1 << 20), not \(value)")
        }
        return value
    }

    /// A whole number, or nil for null.
    public func optionalInt(_ key: String) throws(ModuleInputError) -> Int? {
        if values[key] == .null { return nil }
        return try int(key)
    }

    /// A number.
    public func double(_ key: String) throws(ModuleInputError) -> Double {
        switch values[key] {
        case .int(let value)?: return Double(value)
        case .double(let value)?: return value
        default: throw ModuleInputError("\(owner): \"\(key)\" must be a number")
        }
    }

    /// true or false.
    public func bool(_ key: String) throws(ModuleInputError) -> Bool {
        guard case .bool(let value)? = values[key] else {
            throw ModuleInputError("\(owner): \"\(key)\" must be true or false")
        }
        return value
    }
}
