import FoveaTensor

/// What an npy file, or a member of an npz file, says that it holds.
///
/// Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, versions 1.0, 2.0 and 3.0.
public struct NPYHeader: Sendable, Equatable {
    /// The element type as the file spells it, such as `<f4`; of a structured type the list of its fields.
    public let dtypeName: String
    /// The element type of the tensor that is made of it, or nil for a type that Fovea does not hold: `int32` for
    /// `int8`, `int16` and `uint16`, `int64` for `uint32` and `uint64`.
    public let dtype: DType?
    /// The length of each axis; empty for a scalar.
    public let shape: [Int]
    /// Whether the first axis is the one whose elements stand side by side, as in Fortran.
    public let isColumnMajor: Bool

    /// How many elements there are.
    public var count: Int { shape.reduce(1, *) }

    /// How many bytes the elements take in the file, or nil for a type that Fovea does not hold.
    public var byteCount: Int? { element.map { count * $0.size } }

    let element: FileElement?
    let isBigEndian: Bool
    /// Bytes before the first element.
    let frontByteCount: Int

    /// How an error names the array.
    var text: String { "\(dtypeName) \(shape)" }
}

/// The longest header that is read. NumPy makes longer ones only for structured types, which Fovea does not hold.
private let headerLimit = 65_535

extension NPYHeader {
    /// What every npy file begins with.
    static let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)

    /// Reads the header from the front of `source`.
    init(_ source: inout ByteSource) throws(FileError) {
        let front = try source.header(8, of: "npy")
        guard front.starts(with: Self.magic) else {
            let found = front.prefix(6).map { $0 < 16 ? "0\(String($0, radix: 16))" : String($0, radix: 16) }
            throw source.error(
                "begins with the bytes \(found.joined(separator: " ")); expected the magic number of npy: "
                    + "93 4e 55 4d 50 59")
        }
        let (major, minor) = (front[6], front[7])
        guard (1...3).contains(major), minor == 0 else {
            throw source.error("byte 6: is of the version \(major).\(minor) of npy; expected 1.0, 2.0 or 3.0")
        }
        let lengthBytes = try source.header(major == 1 ? 2 : 4, of: "npy")
        let length = lengthBytes.reversed().reduce(0) { $0 << 8 | Int($1) }
        guard length <= headerLimit else {
            throw source.error(
                "byte 8: announces a header of \(length) bytes; expected no more than \(headerLimit), since only "
                    + "structured types need more, and Fovea does not hold them")
        }
        let text = try source.header(length, of: "npy")
        let start = 8 + lengthBytes.count
        do throws(TextProblem) {
            // Array's own accessor loses the error's type.
            let fields = text.withUnsafeBytes { bytes in
                Result { () throws(TextProblem) in try NPYFields(bytes, isUTF8: major == 3) }
            }
            self = try fields.get().header(frontByteCount: start + length)
        } catch {
            throw source.error("byte \(start + error.offset): \(error.problem)")
        }
    }
}

/// The header's dictionary: a literal of Python, read by its own grammar and never evaluated.
private struct NPYFields {
    private var descr: (value: String, isStructured: Bool, offset: Int)?
    private var isColumnMajor: Bool?
    private var shape: (value: [Int], offset: Int)?

    /// Reads the dictionary; names in it are Latin-1, or since version 3.0 UTF-8.
    init(_ bytes: UnsafeRawBufferPointer, isUTF8: Bool) throws(TextProblem) {
        var text = TextCursor(bytes)
        guard bytes.first == UInt8(ascii: "{"), text.take("{") else {
            throw text.unexpected("'{', with nothing before it")
        }
        while !text.take("}") {
            text.skipSpace()
            let offset = text.position
            let key = try Self.string(&text, "a key of the header")
            guard text.take(":") else { throw text.unexpected("':' after \(quoted(key))") }
            text.skipSpace()
            let isRepeated: Bool
            switch key {
            case "descr":
                isRepeated = descr != nil
                let place = text.position
                let isStructured = text.peek() == UInt8(ascii: "[")
                let value =
                    isStructured ? try Self.list(&text, isUTF8: isUTF8) : try Self.string(&text, "the value of descr")
                descr = (value, isStructured, place)
            case "fortran_order":
                isRepeated = isColumnMajor != nil
                if text.takeWord("True") {
                    isColumnMajor = true
                } else if text.takeWord("False") {
                    isColumnMajor = false
                } else {
                    throw text.unexpected("True or False for fortran_order")
                }
            case "shape":
                isRepeated = shape != nil
                let place = text.position
                shape = (try Self.shape(&text), place)
            default:
                throw TextProblem(
                    offset: offset, problem: "unknown key \(quoted(key)); expected descr, fortran_order and shape")
            }
            guard !isRepeated else { throw TextProblem(offset: offset, problem: "\(quoted(key)) appears twice") }
            if text.take(",") { continue }
            guard text.take("}") else { throw text.unexpected("',' or '}' in the header") }
            break
        }
        text.skipSpace()
        guard text.peek() == nil else { throw text.unexpected("nothing but spaces after the closing '}'") }
    }

    /// A text in either kind of quotes. An escape could only stand in a name of a structured type's field.
    private static func string(_ text: inout TextCursor, _ what: String) throws(TextProblem) -> String {
        text.skipSpace()
        guard let quote = text.peek(), quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"") else {
            throw text.unexpected("a text in quotes for \(what)")
        }
        let start = text.position + 1
        text.position = start
        while let byte = text.peek(), byte != quote {
            guard (0x20..<0x7F).contains(byte), byte != UInt8(ascii: "\\") else {
                throw text.unexpected("plain ASCII in \(what)")
            }
            text.position += 1
        }
        guard text.peek() == quote else {
            throw TextProblem(offset: start - 1, problem: "\(what) begins here and has no closing quote")
        }
        text.position += 1
        return String(decoding: text.bytes[start..<(text.position - 1)], as: UTF8.self)
    }

    /// A list of a structured type's fields, passed over and returned as it stands.
    private static func list(_ text: inout TextCursor, isUTF8: Bool) throws(TextProblem) -> String {
        let start = text.position
        var closing: [UInt8] = []
        while let byte = text.peek() {
            text.position += 1
            switch byte {
            case UInt8(ascii: "["): closing.append(UInt8(ascii: "]"))
            case UInt8(ascii: "("): closing.append(UInt8(ascii: ")"))
            case UInt8(ascii: "]"), UInt8(ascii: ")"):
                guard closing.popLast() == byte else {
                    throw TextProblem(offset: text.position - 1, problem: "a bracket that was not opened")
                }
                guard !closing.isEmpty else {
                    let list = text.bytes[start..<text.position]
                    // Every byte of Latin-1 is the character of its number.
                    return isUTF8
                        ? String(decoding: list, as: UTF8.self)
                        : String(String.UnicodeScalarView(list.map { Unicode.Scalar($0) }))
                }
            case UInt8(ascii: "'"), UInt8(ascii: "\""):
                while let next = text.peek(), next != byte { text.position += next == UInt8(ascii: "\\") ? 2 : 1 }
                text.position += 1
            default: break
            }
        }
        throw TextProblem(offset: start, problem: "the value of descr begins here and has no closing bracket")
    }

    /// A tuple of whole numbers.
    private static func shape(_ text: inout TextCursor) throws(TextProblem) -> [Int] {
        guard text.take("(") else { throw text.unexpected("'(' for the shape") }
        var shape: [Int] = []
        var endsInComma = true
        while !text.take(")") {
            guard endsInComma else { throw text.unexpected("',' or ')' in the shape") }
            guard shape.count < Tensor.maxRank else {
                throw TextProblem(
                    offset: text.position,
                    problem: "the shape has more axes than Fovea holds; expected no more than \(Tensor.maxRank)")
            }
            shape.append(try text.wholeNumber("a length in the shape"))
            endsInComma = text.take(",")
        }
        // Without a comma, Python takes one number in brackets for a number.
        guard shape.count != 1 || endsInComma else {
            throw TextProblem(offset: text.position, problem: "the shape is a number; expected a tuple, as in (3,)")
        }
        return shape
    }

    /// The header that the fields make, `frontByteCount` bytes long.
    func header(frontByteCount: Int) throws(TextProblem) -> NPYHeader {
        func missing(_ key: String) -> TextProblem {
            TextProblem(offset: 0, problem: "the key \(key) is missing in the header")
        }
        guard let descr else { throw missing("descr") }
        guard let isColumnMajor else { throw missing("fortran_order") }
        guard let shape else { throw missing("shape") }
        let (element, isBigEndian) =
            descr.isStructured ? (nil, false) : try Self.element(descr.value, at: descr.offset)
        // The header's bytes are counted in, so that nothing overflows later.
        guard let size = checkedCount(shape.value + [element?.size ?? 16]), size <= Int.max - 2 * headerLimit else {
            throw TextProblem(
                offset: shape.offset, problem: "the shape \(shape.value) has more elements than can be counted")
        }
        return NPYHeader(
            dtypeName: descr.value, dtype: element?.dtype, shape: shape.value, isColumnMajor: isColumnMajor,
            element: element, isBigEndian: isBigEndian, frontByteCount: frontByteCount)
    }

    /// The element type that NumPy spells like this; nil for one that it knows and Fovea does not hold.
    private static func element(
        _ descr: String, at offset: Int
    ) throws(TextProblem) -> (FileElement?, isBigEndian: Bool) {
        let letters = Array(descr.utf8)
        guard letters.count >= 2, "<>|=".utf8.contains(letters[0]) else {
            throw TextProblem(
                offset: offset,
                problem: "unknown type \(quoted(descr)); expected a byte order, a kind and a size, as in '<f4'")
        }
        let kind = String(decoding: letters[1...], as: UTF8.self)
        let element = known.first { $0.key == kind }?.value
        if element == nil, !"biufcSUVOMm".utf8.contains(letters[1]) {
            throw TextProblem(offset: offset, problem: "unknown type \(quoted(descr)); NumPy has no kind like it")
        }
        guard letters[0] != UInt8(ascii: "|") || (element?.size ?? 1) == 1 else {
            throw TextProblem(
                offset: offset, problem: "the type \(quoted(descr)) has no byte order; expected '<' or '>' before it")
        }
        return (element, letters[0] == UInt8(ascii: ">"))
    }

    /// NumPy's names of the types that Fovea holds or can widen, without the byte order.
    private static let known: KeyValuePairs<String, FileElement> = [
        "b1": .bool, "u1": .uint8, "i1": .int8, "u2": .uint16, "i2": .int16, "u4": .uint32, "i4": .int32,
        "u8": .uint64, "i8": .int64, "f2": .float16, "f4": .float32, "f8": .float64,
    ]
}
