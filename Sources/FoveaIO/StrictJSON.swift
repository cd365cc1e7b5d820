/// What is wrong with a JSON text, and at which byte.
struct JSONProblem: Error {
    var offset: Int
    var problem: String
}

/// Reads JSON (RFC 8259) as its caller expects it, and nothing else.
///
/// The caller says what comes next: an object, a text, a whole number. There is no tree of values and no recursion, so
/// neither depth nor length of a hostile text costs more than the text itself. Members of the same name, which
/// parsers commonly let pass, are errors: two readers would see two different files. Two names are the same when
/// they are canonically equivalent in Unicode, because that is how Swift compares strings.
struct StrictJSON {
    private let bytes: UnsafeRawBufferPointer
    /// The byte to be read next.
    private(set) var position: Int

    /// Starts at `position`. The bytes must outlive the reader.
    init(_ bytes: UnsafeRawBufferPointer, from position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    /// Reads an object. `member` is called with each name, where it stands, and the reader at the member's value.
    mutating func object(
        _ what: String,
        _ member: (_ name: String, _ offset: Int, _ json: inout StrictJSON) throws(JSONProblem) -> Void
    ) throws(JSONProblem) {
        try open("{", what, "an object")
        var names: Set<String> = []
        if take("}") { return }
        repeat {
            skipSpace()
            let offset = position
            let name = try string("a member's name")
            guard names.insert(name).inserted else {
                throw JSONProblem(offset: offset, problem: "\(quoted(name)) appears twice in \(what)")
            }
            guard take(":") else { throw unexpected("':' after \(quoted(name))") }
            try member(name, offset, &self)
        } while take(",")
        guard take("}") else { throw unexpected("',' or '}' in \(what)") }
    }

    /// Reads an array of whole numbers, of no more than `limit` members.
    mutating func wholeNumbers(_ what: String, limit: Int) throws(JSONProblem) -> [Int] {
        try open("[", what, "an array of whole numbers")
        var numbers: [Int] = []
        if take("]") { return numbers }
        repeat {
            guard numbers.count < limit else {
                throw JSONProblem(offset: position, problem: "\(what) has more than \(limit) numbers")
            }
            numbers.append(try wholeNumber("a number of \(what)"))
        } while take(",")
        guard take("]") else { throw unexpected("',' or ']' in \(what)") }
        return numbers
    }

    /// Reads a whole number that is not negative and fits in `Int`.
    mutating func wholeNumber(_ what: String) throws(JSONProblem) -> Int {
        skipSpace()
        let start = position
        let needed = "a whole number of 0 or more without sign, point or exponent"
        guard let first = peek(), isDigit(first) else { throw unexpected("\(needed) for \(what)") }
        var value = 0
        while let digit = peek(), isDigit(digit) {
            let (shifted, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = shifted.addingReportingOverflow(Int(digit - UInt8(ascii: "0")))
            guard !overflow, !carry else {
                throw JSONProblem(offset: start, problem: "\(what) is larger than \(Int.max)")
            }
            value = sum
            position += 1
        }
        if first == UInt8(ascii: "0"), position - start > 1 {
            throw JSONProblem(offset: start, problem: "\(what) begins with a superfluous 0")
        }
        if let next = peek(), [".", "e", "E"].contains(UnicodeScalar(next)) {
            throw unexpected("\(needed) for \(what)")
        }
        return value
    }

    /// Reads a text.
    mutating func string(_ what: String) throws(JSONProblem) -> String {
        try open("\"", what, "a text in quotes")
        let start = position
        var text: [UInt8] = []
        // Stretches without escapes are copied in one go.
        var stretch = position
        while let byte = peek() {
            switch byte {
            case UInt8(ascii: "\""):
                text.append(contentsOf: bytes[stretch..<position])
                position += 1
                guard let valid = String(validating: text, as: UTF8.self) else {
                    throw JSONProblem(offset: start, problem: "\(what) is not valid UTF-8")
                }
                return valid
            case UInt8(ascii: "\\"):
                text.append(contentsOf: bytes[stretch..<position])
                text.append(contentsOf: String(Character(try escape())).utf8)
                stretch = position
            case ..<0x20:
                throw JSONProblem(
                    offset: position, problem: "\(what) contains a bare control character; expected an escape")
            default:
                position += 1
            }
        }
        throw JSONProblem(offset: start - 1, problem: "\(what) begins here and has no closing quote")
    }

    /// Checks that only spaces are left.
    mutating func end() throws(JSONProblem) {
        // The padding of the format is spaces alone; a line break would be content.
        while peek() == UInt8(ascii: " ") { position += 1 }
        guard position == bytes.count else { throw unexpected("nothing but spaces after the closing '}'") }
    }

    // MARK: Characters

    /// Reads one escape; the reader stands at its backslash.
    private mutating func escape() throws(JSONProblem) -> Unicode.Scalar {
        let start = position
        position += 1
        guard let letter = peek() else {
            throw JSONProblem(offset: start, problem: "the text ends inside an escape")
        }
        position += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(letter)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): break
        default:
            throw JSONProblem(
                offset: start, problem: "unknown escape; expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")
        }
        let unit = try codeUnit(of: start)
        if let scalar = Unicode.Scalar(unit) { return scalar }
        // A character beyond 16 bits is written as a pair: high half, low half.
        if unit < 0xDC00, peek() == UInt8(ascii: "\\"), position + 1 < bytes.count,
            bytes[position + 1] == UInt8(ascii: "u")
        {
            position += 2
            let low = try codeUnit(of: start)
            if (0xDC00...0xDFFF).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00))
            {
                return scalar
            }
        }
        throw JSONProblem(offset: start, problem: "half of a surrogate pair; expected both halves")
    }

    /// Reads the four hexadecimal digits of a `\u` escape that begins at `start`.
    private mutating func codeUnit(of start: Int) throws(JSONProblem) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = peek(), let digit = Character(UnicodeScalar(byte)).hexDigitValue else {
                throw JSONProblem(offset: start, problem: "expected four hexadecimal digits after \\u")
            }
            unit = unit << 4 | UInt32(digit)
            position += 1
        }
        return unit
    }

    private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    private func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = peek(), byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    /// Steps over the character if it comes next.
    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard let byte = peek(), byte == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func open(_ bracket: Unicode.Scalar, _ what: String, _ needed: String) throws(JSONProblem) {
        guard take(bracket) else { throw unexpected("\(needed) for \(what)") }
    }

    private func unexpected(_ expected: String) -> JSONProblem {
        let found =
            switch peek() {
            case nil: "the end of the text"
            case UInt8(ascii: "{"): "an object"
            case UInt8(ascii: "["): "an array"
            case UInt8(ascii: "\""): "a text"
            case let byte? where byte >= 0x80: "byte 0x\(String(byte, radix: 16)), which is not ASCII"
            case let byte? where byte <= 0x20 || byte == 0x7F: "byte 0x\(String(byte, radix: 16))"
            case let byte?: "'\(Character(UnicodeScalar(byte)))'"
            }
        return JSONProblem(offset: position, problem: "expected \(expected), found \(found)")
    }
}

/// The text as a JSON string in quotes, escaped as little as JSON demands.
func jsonQuoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\u{8}": result += "\\b"
        case "\u{c}": result += "\\f"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case "\0"..<" ":
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
