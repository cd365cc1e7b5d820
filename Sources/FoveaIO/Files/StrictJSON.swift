/// Reads JSON (RFC 8259) as its caller expects it, and nothing else.
///
/// The caller says what comes next: an object, a text, a whole number. There is no tree of values and no recursion, so
/// neither depth nor length of a hostile text costs more than the text itself. Members of the same name, which
/// parsers commonly let pass, are errors: two readers would see two different files. Two names are the same when
/// they are canonically equivalent in Unicode, because that is how Swift compares strings.
struct StrictJSON {
    private var text: TextCursor

    /// Starts at the beginning. The bytes must outlive the reader.
    init(_ bytes: UnsafeRawBufferPointer) { text = TextCursor(bytes) }

    /// Reads an object. `member` is called with each name, where it stands, and the reader at the member's value.
    mutating func object(
        _ what: String,
        _ member: (_ name: String, _ offset: Int, _ json: inout StrictJSON) throws(TextProblem) -> Void
    ) throws(TextProblem) {
        try open("{", what, "an object")
        var names: Set<String> = []
        if text.take("}") { return }
        repeat {
            text.skipSpace()
            let offset = text.position
            let name = try string("a member's name")
            guard names.insert(name).inserted else {
                throw TextProblem(offset: offset, problem: "\(quoted(name)) appears twice in \(what)")
            }
            guard text.take(":") else { throw text.unexpected("':' after \(quoted(name))") }
            try member(name, offset, &self)
        } while text.take(",")
        guard text.take("}") else { throw text.unexpected("',' or '}' in \(what)") }
    }

    /// Reads an array of whole numbers, of no more than `limit` members.
    mutating func wholeNumbers(_ what: String, limit: Int) throws(TextProblem) -> [Int] {
        try open("[", what, "an array of whole numbers")
        var numbers: [Int] = []
        if text.take("]") { return numbers }
        repeat {
            guard numbers.count < limit else {
                throw TextProblem(offset: text.position, problem: "\(what) has more than \(limit) numbers")
            }
            numbers.append(try wholeNumber("a number of \(what)"))
        } while text.take(",")
        guard text.take("]") else { throw text.unexpected("',' or ']' in \(what)") }
        return numbers
    }

    /// Reads a whole number that is not negative and fits in `Int`.
    mutating func wholeNumber(_ what: String) throws(TextProblem) -> Int { try text.wholeNumber(what) }

    /// Reads a text.
    mutating func string(_ what: String) throws(TextProblem) -> String {
        try open("\"", what, "a text in quotes")
        let start = text.position
        var content: [UInt8] = []
        // Stretches without escapes are copied in one go.
        var stretch = text.position
        while let byte = text.peek() {
            switch byte {
            case UInt8(ascii: "\""):
                content.append(contentsOf: text.bytes[stretch..<text.position])
                text.position += 1
                guard let valid = String(validating: content, as: UTF8.self) else {
                    throw TextProblem(offset: start, problem: "\(what) is not valid UTF-8")
                }
                return valid
            case UInt8(ascii: "\\"):
                content.append(contentsOf: text.bytes[stretch..<text.position])
                content.append(contentsOf: String(Character(try escape())).utf8)
                stretch = text.position
            case ..<0x20:
                throw TextProblem(
                    offset: text.position, problem: "\(what) contains a bare control character; expected an escape")
            default:
                text.position += 1
            }
        }
        throw TextProblem(offset: start - 1, problem: "\(what) begins here and has no closing quote")
    }

    /// Passes over a value of any kind, and returns it as it stands in the text.
    ///
    /// Brackets and texts are checked; numbers and words are taken as they are.
    mutating func anyValue(_ what: String) throws(TextProblem) -> String {
        text.skipSpace()
        let start = text.position
        // The closing brackets that are still to come: a list, so that depth needs no stack.
        var closing: [UInt8] = []
        repeat {
            text.skipSpace()
            switch text.peek() {
            case UInt8(ascii: "\""): _ = try string("a text in \(what)")
            case UInt8(ascii: "{"):
                closing.append(UInt8(ascii: "}"))
                text.position += 1
            case UInt8(ascii: "["):
                closing.append(UInt8(ascii: "]"))
                text.position += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                guard let expected = closing.popLast(), text.peek() == expected else {
                    throw text.unexpected("a value for \(what)")
                }
                text.position += 1
            case UInt8(ascii: ","), UInt8(ascii: ":"):
                guard !closing.isEmpty else { throw text.unexpected("a value for \(what)") }
                text.position += 1
            default:
                let word = text.position
                while let byte = text.peek(), "+-.".utf8.contains(byte) || isAlphanumeric(byte) { text.position += 1 }
                guard text.position > word else { throw text.unexpected("a value for \(what)") }
            }
        } while !closing.isEmpty
        // Every character outside of texts is ASCII, and texts were checked.
        return String(decoding: text.bytes[start..<text.position], as: UTF8.self)
    }

    private func isAlphanumeric(_ byte: UInt8) -> Bool {
        let letters = UInt8(ascii: "a")...UInt8(ascii: "z")
        return letters.contains(byte | 0x20) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
    }

    /// Whether a text comes next.
    mutating func isAtString() -> Bool {
        text.skipSpace()
        return text.peek() == UInt8(ascii: "\"")
    }

    /// Checks that only spaces are left, and line breaks where `allowingLines`.
    mutating func end(allowingLines: Bool = false) throws(TextProblem) {
        if allowingLines { text.skipSpace() }
        // The padding of safetensors is spaces alone; a line break would be content.
        while text.peek() == UInt8(ascii: " ") { text.position += 1 }
        guard text.position == text.bytes.count else {
            throw text.unexpected("nothing but spaces after the closing '}'")
        }
    }

    // MARK: Characters

    /// Reads one escape; the reader stands at its backslash.
    private mutating func escape() throws(TextProblem) -> Unicode.Scalar {
        let start = text.position
        text.position += 1
        guard let letter = text.peek() else {
            throw TextProblem(offset: start, problem: "the text ends inside an escape")
        }
        text.position += 1
        switch letter {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(letter)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): break
        default:
            throw TextProblem(
                offset: start, problem: "unknown escape; expected one of \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u")
        }
        let unit = try codeUnit(of: start)
        if let scalar = Unicode.Scalar(unit) { return scalar }
        // A character beyond 16 bits is written as a pair: high half, low half.
        if unit < 0xDC00, text.peek() == UInt8(ascii: "\\"), text.position + 1 < text.bytes.count,
            text.bytes[text.position + 1] == UInt8(ascii: "u")
        {
            text.position += 2
            let low = try codeUnit(of: start)
            if (0xDC00...0xDFFF).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00))
            {
                return scalar
            }
        }
        throw TextProblem(offset: start, problem: "half of a surrogate pair; expected both halves")
    }

    /// Reads the four hexadecimal digits of a `\u` escape that begins at `start`.
    private mutating func codeUnit(of start: Int) throws(TextProblem) -> UInt32 {
        var unit: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = text.peek(), let digit = Character(UnicodeScalar(byte)).hexDigitValue else {
                throw TextProblem(offset: start, problem: "expected four hexadecimal digits after \\u")
            }
            unit = unit << 4 | UInt32(digit)
            text.position += 1
        }
        return unit
    }

    private mutating func open(_ bracket: Unicode.Scalar, _ what: String, _ needed: String) throws(TextProblem) {
        guard text.take(bracket) else { throw text.unexpected("\(needed) for \(what)") }
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
