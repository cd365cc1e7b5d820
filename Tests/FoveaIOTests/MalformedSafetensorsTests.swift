import FoveaIO
import Testing

/// A malformed file, and what the error must say.
struct MalformedCase: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let bytes: [UInt8]
    let fragment: String

    init(_ name: String, bytes: [UInt8], _ fragment: String) {
        testDescription = name
        self.bytes = bytes
        self.fragment = fragment
    }

    /// A header with so many bytes of data after it.
    init(_ name: String, _ header: String, data: Int = 0, _ fragment: String) {
        self.init(name, bytes: safetensors(header, [UInt8](repeating: 0, count: data)), fragment)
    }
}

/// One float32 of one element under this name.
private func member(_ name: String, _ begin: Int = 0) -> String {
    #""\#(name)":{"dtype":"F32","shape":[1],"data_offsets":[\#(begin),\#(begin + 4)]}"#
}

private func length(_ count: UInt64) -> [UInt8] { withUnsafeBytes(of: count.littleEndian) { Array($0) } }

private let malformed: [MalformedCase] = [
    // The eight bytes in front.
    .init("no bytes", bytes: [], "is 0 bytes long"),
    .init("seven bytes", bytes: [2, 0, 0, 0, 0, 0, 0], "is 7 bytes long"),
    .init("header beyond the file", bytes: length(3) + Array("{}".utf8), "announces a header of 3 bytes, but only 2"),
    .init("header beyond the limit", bytes: length(100_000_001) + [123], "the format allows 100,000,000"),
    .init("header beyond every number", bytes: length(.max) + Array("{}".utf8), "is this a safetensors file?"),
    .init("empty header", bytes: length(0), "expected '{'"),
    // JSON.
    .init("space in front", " {}", "expected '{', with nothing before it"),
    .init("array at the top", "[]", "expected '{'"),
    .init("brace alone", "{", "found the end"),
    .init("never closed", "{" + member("x"), data: 4, "expected ',' or '}'"),
    .init("comma at the end", "{" + member("x") + ",}", data: 4, "expected a text in quotes for a member's name"),
    .init("comma missing", "{" + member("x") + member("y", 4) + "}", data: 8, "expected ',' or '}'"),
    .init("colon missing", #"{"x" 1}"#, #"expected ':' after "x""#),
    .init("name without quotes", "{x:1}", "expected a text in quotes for a member's name, found 'x'"),
    .init("name never closed", #"{"x"#, "no closing quote"),
    .init("text after the header", "{}x", "expected nothing but spaces after the closing '}', found 'x'"),
    .init("line break after the header", "{}\n", "found byte 0xa"),
    .init("zero byte after the header", "{}\0", "found byte 0x0"),
    .init(
        "name that is not UTF-8", bytes: length(9) + [123, 34, 0xC3, 0x28, 34, 58, 123, 125, 125], "not valid UTF-8"),
    .init("overlong UTF-8", bytes: length(9) + [123, 34, 0xC0, 0x80, 34, 58, 123, 125, 125], "not valid UTF-8"),
    .init("byte outside of ASCII", bytes: length(3) + [123, 0xFF, 125], "byte 0xff, which is not ASCII"),
    .init("bare control character", "{\"a\u{1}\":{}}", "bare control character"),
    .init("unknown escape", #"{"a\x":{}}"#, "unknown escape"),
    .init("escape cut short", #"{"a\"#, "ends inside an escape"),
    .init("unicode escape cut short", #"{"a\u12"}"#, "four hexadecimal digits"),
    .init("low surrogate alone", #"{"a\uDC00":{}}"#, "half of a surrogate pair"),
    .init("high surrogate alone", #"{"a\uD800":{}}"#, "half of a surrogate pair"),
    .init("two high surrogates", #"{"a\uD800\uD800":{}}"#, "half of a surrogate pair"),
    .init("same tensor twice", "{" + member("x") + "," + member("x", 4) + "}", data: 8, #""x" appears twice"#),
    .init(
        "same tensor twice, once escaped", "{" + member("x") + "," + member("\\u0078", 4) + "}", data: 8,
        #""x" appears twice"#),
    .init(
        "same tensor twice, once decomposed", "{" + member("\u{e9}") + "," + member("e\u{301}", 4) + "}", data: 8,
        "appears twice"),
    .init(
        "same field twice", #"{"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, data: 4,
        #""dtype" appears twice in tensor "x""#),
    .init("same metadata twice", #"{"__metadata__":{"a":"1","a":"2"}}"#, #""a" appears twice in __metadata__"#),
    .init("metadata twice", #"{"__metadata__":{},"__metadata__":{}}"#, #""__metadata__" appears twice"#),
    .init("deep nesting", #"{"x":"# + String(repeating: "[", count: 100_000), "expected an object"),
    .init(
        "deep nesting in a shape", #"{"x":{"shape":"# + String(repeating: "[", count: 100_000),
        "expected a whole number"),
    // Fields.
    .init("tensor that is a number", #"{"x":1}"#, #"expected an object for tensor "x", found '1'"#),
    .init("tensor that is null", #"{"x":null}"#, "expected an object"),
    .init(
        "no dtype", #"{"x":{"shape":[1],"data_offsets":[0,4]}}"#, data: 4, #"tensor "x": the field dtype is missing"#),
    .init("no shape", #"{"x":{"dtype":"F32","data_offsets":[0,4]}}"#, data: 4, "the field shape is missing"),
    .init("no offsets", #"{"x":{"dtype":"F32","shape":[1]}}"#, data: 4, "the field data_offsets is missing"),
    .init(
        "unknown field", #"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"stride":[1]}}"#, data: 4,
        #"tensor "x": unknown field "stride"; expected dtype, shape and data_offsets"#),
    .init(
        "unknown dtype", #"{"x":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}"#, data: 4,
        #"unknown dtype "F33"; expected one of BOOL"#),
    .init("dtype in lower case", #"{"x":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}"#, data: 4, "unknown dtype"),
    .init(
        "dtype that is a number", #"{"x":{"dtype":4,"shape":[1],"data_offsets":[0,4]}}"#, data: 4,
        "expected a text in quotes for the dtype"),
    .init(
        "shape that is a number", #"{"x":{"dtype":"F32","shape":1,"data_offsets":[0,4]}}"#, data: 4,
        "expected an array of whole numbers for the shape"),
    .init(
        "negative length", #"{"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, data: 4,
        "expected a whole number of 0 or more"),
    .init(
        "fractional length", #"{"x":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}"#, data: 4,
        "without sign, point or exponent"),
    .init(
        "length with exponent", #"{"x":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}"#, data: 4,
        "without sign, point or exponent"),
    .init(
        "length with a leading zero", #"{"x":{"dtype":"F32","shape":[01],"data_offsets":[0,4]}}"#, data: 4,
        "superfluous 0"),
    .init(
        "length beyond Int", #"{"x":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}}"#, data: 4,
        "is larger than"),
    .init(
        "length that is a text", #"{"x":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}"#, data: 4,
        "expected a whole number"),
    .init(
        "comma at the end of a shape", #"{"x":{"dtype":"F32","shape":[1,],"data_offsets":[0,4]}}"#, data: 4,
        "expected a whole number"),
    .init(
        "too many axes", #"{"x":{"dtype":"U8","shape":["# + String(repeating: "1,", count: 64) + "1]}}",
        "more than 64 numbers"),
    .init(
        "one offset", #"{"x":{"dtype":"F32","shape":[1],"data_offsets":[4]}}"#, data: 4, "data_offsets has length 1"),
    .init(
        "three offsets", #"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}"#, data: 4, "more than 2 numbers"),
    .init("metadata that is a text", #"{"__metadata__":"a"}"#, "expected an object for __metadata__"),
    .init("metadata that is null", #"{"__metadata__":null}"#, "expected an object for __metadata__"),
    .init(
        "metadata of numbers", #"{"__metadata__":{"a":1}}"#,
        #"expected a text in quotes for the value of "a" in __metadata__"#),
    .init("metadata of objects", #"{"__metadata__":{"a":{}}}"#, "found an object"),
    // Places.
    .init(
        "end before begin", #"{"x":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, data: 4,
        "data_offsets [4, 0] end before they begin"),
    .init("beyond the file", "{" + member("x") + "}", data: 3, "reach beyond the file, which holds 3 bytes of data"),
    .init("hole in front", "{" + member("x", 4) + "}", data: 8, "leave a hole: the tensor before ends at 0"),
    .init(
        "hole between", "{" + member("x") + "," + member("y", 5) + "}", data: 9,
        #"tensor "y": data_offsets [5, 9] leave"#),
    .init(
        "overlap", "{" + member("x") + "," + member("y", 2) + "}", data: 6, #"tensor "y": data_offsets [2, 6] overlap"#),
    .init("same place", "{" + member("x") + "," + member("y") + "}", data: 4, "overlap with the tensor before"),
    .init(
        "bytes after the last", "{" + member("x") + "}", data: 5,
        "the tensors end after 4 bytes of data, but the file holds 5"),
    .init("data without tensors", "{}", data: 1, "the tensors end after 0 bytes"),
    .init(
        "shape too large for its place", #"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, data: 4,
        "shape [2] of F32 takes 8 bytes, but data_offsets [0, 4] give 4"),
    .init(
        "shape too small for its place", #"{"x":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}}"#, data: 4,
        "takes 0 bytes"),
    .init(
        "product overflows", #"{"x":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#,
        "more elements than can be counted"),
    .init(
        "product with type overflows", #"{"x":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}}"#,
        "more elements than can be counted"),
    .init(
        "empty, and overflows without the zero",
        #"{"x":{"dtype":"F64","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}}"#,
        "more elements than can be counted"),
    .init(
        "half a byte", #"{"x":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}"#, data: 2, "does not fill whole bytes"),
    .init(
        "three quarters of a byte", #"{"x":{"dtype":"F6_E2M3","shape":[1],"data_offsets":[0,1]}}"#, data: 1,
        "does not fill whole bytes"),
]

@Suite struct MalformedSafetensorsTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test(arguments: malformed)
    func isAnErrorThatSaysWhat(_ malformed: MalformedCase) throws {
        let path = try scratch.place(malformed.bytes, as: "f.safetensors")
        expectFileError(path, malformed.fragment) { _ = try SafetensorsFile(reading: path) }
    }

    /// What looks odd and is allowed.
    @Test(arguments: [
        "{" + member("x") + "}     ", "{ \t\r\n" + member("x") + " }", "{" + member("x") + #","__metadata__":{}}"#,
        "{" + member("y") + #","x":{"dtype":"U8","shape":[7,0],"data_offsets":[4,4]}}"#,
        #"{"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"# + member("y") + "}",
        #"{"x":{ "data_offsets" : [ 0 , 4 ] , "shape" : [ ] , "dtype":"\u0046\u0033\u0032"}}"#,
        #"{"\ud83d\udc41\b\f\n\r\t\/\\\"x":{"dtype":"F32","shape":[1,1,1],"data_offsets":[0,4]},"#
            + #""x":{"dtype":"F16","shape":[0],"data_offsets":[4,4]}}"#,
    ])
    func isAccepted(header: String) throws {
        let path = try scratch.place(safetensors(header, [0, 0, 128, 63]), as: "f.safetensors")
        let tensors = try SafetensorsFile(reading: path).tensors()
        #expect(tensors["x"] != nil)
        #expect(tensors.values.contains { $0.count == 1 && $0.item() == 1 })
    }

    @Test func theErrorSaysAtWhichByte() throws {
        let path = try scratch.place(safetensors(#"{"a":{"dtype":"F32","shape":[true]}}"#), as: "f.safetensors")
        expectFileError(path, "header byte 29: expected a whole number", "found 't'") {
            _ = try SafetensorsFile(reading: path)
        }
    }

    @Test func aNameOfAnyLengthMakesAShortError() throws {
        let path = try scratch.place(
            safetensors(#"{"\#(String(repeating: "n\\n", count: 100_000))":1}"#), as: "f.safetensors")
        let error = #expect(throws: FileError.self) { _ = try SafetensorsFile(reading: path) }
        #expect((error?.description.utf8.count ?? 0) < 2_000)
    }
}
