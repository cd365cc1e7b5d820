/// What is wrong with a text inside a file, and at which byte.
struct TextProblem: Error {
    var offset: Int
    var problem: String
}

/// A place in a text of ASCII syntax, and the steps that every reader of such a text takes.
struct TextCursor {
    let bytes: UnsafeRawBufferPointer
    /// The byte to be read next.
    var position: Int

    /// Starts at `position`. The bytes must outlive the cursor.
    init(_ bytes: UnsafeRawBufferPointer, from position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    /// The byte that comes next.
    func peek() -> UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func skipSpace() {
        while let byte = peek(), byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    /// Steps over the character if it comes next, after any space.
    mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard let byte = peek(), byte == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    /// Steps over the word if it comes next, after any space.
    mutating func takeWord(_ word: StaticString) -> Bool {
        skipSpace()
        let text = UnsafeRawBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)
        guard bytes.count - position >= text.count, bytes[position..<(position + text.count)].elementsEqual(text) else {
            return false
        }
        position += text.count
        return true
    }

    /// Reads a whole number that is not negative and fits in `Int`.
    mutating func wholeNumber(_ what: String) throws(TextProblem) -> Int {
        skipSpace()
        let start = position
        let needed = "a whole number of 0 or more without sign, point or exponent"
        guard let first = peek(), isDigit(first) else { throw unexpected("\(needed) for \(what)") }
        var value = 0
        while let digit = peek(), isDigit(digit) {
            let (shifted, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = shifted.addingReportingOverflow(Int(digit - UInt8(ascii: "0")))
            guard !overflow, !carry else {
                throw TextProblem(offset: start, problem: "\(what) is larger than \(Int.max)")
            }
            value = sum
            position += 1
        }
        if first == UInt8(ascii: "0"), position - start > 1 {
            throw TextProblem(offset: start, problem: "\(what) begins with a superfluous 0")
        }
        if let next = peek(), [".", "e", "E"].contains(UnicodeScalar(next)) {
            throw unexpected("\(needed) for \(what)")
        }
        return value
    }

    private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    /// The problem that something else comes next than expected.
    func unexpected(_ expected: String) -> TextProblem {
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
        return TextProblem(offset: position, problem: "expected \(expected), found \(found)")
    }
}
