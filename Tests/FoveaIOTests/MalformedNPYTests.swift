import FoveaIO
import Testing

private let front: [UInt8] = [0x93] + Array("NUMPY".utf8)

/// A header of one float32, with the fields in this order or others in their place.
private func header(_ name: String, _ header: String, data: Int = 4, _ fragment: String) -> MalformedCase {
    MalformedCase(name, bytes: npy(header, [UInt8](repeating: 0, count: data)), fragment)
}

private func shape(_ name: String, _ shape: String, data: Int = 4, _ fragment: String) -> MalformedCase {
    MalformedCase(name, bytes: npy("<f4", shape, [UInt8](repeating: 0, count: data)), fragment)
}

private func descr(_ name: String, _ descr: String, data: [UInt8] = [0, 0, 0, 0], _ fragment: String) -> MalformedCase {
    MalformedCase(name, bytes: npy(descr, "(1,)", data), fragment)
}

private let malformed: [MalformedCase] = [
    // Magic number, version and length.
    .init("no bytes", bytes: [], "ends inside the header of npy"),
    .init("seven bytes", bytes: Array(front) + [1], "ends inside the header of npy"),
    .init("another magic number", bytes: Array("NUMPY\u{0}\u{1}\u{0}{}".utf8), "expected the magic number of npy"),
    .init("version 0", bytes: front + [0, 0, 0, 0], "byte 6: is of the version 0.0"),
    .init("version 4", bytes: front + [4, 0, 0, 0], "is of the version 4.0 of npy; expected 1.0, 2.0 or 3.0"),
    .init("version 1.1", bytes: front + [1, 1, 0, 0], "is of the version 1.1"),
    .init("no length", bytes: front + [1, 0, 7], "ends inside the header"),
    .init("half of a long length", bytes: front + [2, 0, 7, 0], "ends inside the header"),
    .init("header beyond the file", bytes: front + [1, 0, 3, 0] + Array("{}".utf8), "ends inside the header"),
    .init(
        "header of 4 GiB", bytes: front + [2, 0, 0xFF, 0xFF, 0xFF, 0xFF],
        "byte 8: announces a header of 4294967295 bytes; expected no more than 65535"),
    .init("no header", bytes: front + [1, 0, 0, 0], "byte 10: expected '{'"),
    // The dictionary.
    header("space in front", " {'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "nothing before it"),
    header("a call", "open('x')", "byte 10: expected '{'"),
    header("a call as a value", "{'descr': open('x'), 'fortran_order': False, 'shape': (1,)}", "expected a text"),
    header("a call as a shape", "{'descr': '<f4', 'fortran_order': False, 'shape': tuple()}", "expected '('"),
    header("empty", "{}", "the key descr is missing"),
    header("no order", "{'descr': '<f4', 'shape': (1,)}", "the key fortran_order is missing"),
    header("no shape", "{'descr': '<f4', 'fortran_order': False}", "the key shape is missing"),
    header("a key too many", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}", "unknown key"),
    header("a key twice", "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", "appears twice"),
    header("a shape twice", "{'shape': (1,), 'shape': (1,)}", "\"shape\" appears twice"),
    header("key without quotes", "{descr: '<f4'}", "expected a text in quotes for a key"),
    header("colon missing", "{'descr' '<f4'}", "expected ':'"),
    header("comma missing", "{'descr': '<f4' 'fortran_order': False}", "expected ',' or '}'"),
    header("never closed", "{'descr': '<f4'", "expected ',' or '}'"),
    header("text never closed", "{'descr': '<f4", "no closing quote"),
    header("an escape", "{'descr': '\\x3cf4'}", "expected plain ASCII"),
    header("a zero byte", "{'descr': '<f4\0'}", "expected plain ASCII"),
    header("order as a number", "{'fortran_order': 0}", "expected True or False"),
    header("order in lower case", "{'fortran_order': false}", "expected True or False"),
    header("text after it", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} x", "nothing but spaces"),
    header("list never closed", "{'descr': [('a', '<f4'", "no closing bracket"),
    header("list closed wrongly", "{'descr': [('a', '<f4'])}", "a bracket that was not opened"),
    header("text in a list never closed", "{'descr': [('a", "no closing bracket"),
    header("escape at the end of a list", "{'descr': ['\\", "no closing bracket"),
    header("deep nesting", "{'descr': " + String(repeating: "[", count: 60_000), "no closing bracket"),
    // Shapes.
    shape("number in brackets", "(1)", "expected a tuple, as in (3,)"),
    shape("list", "[1]", "expected '('"),
    shape("comma alone", "(,)", "expected a whole number"),
    shape("two commas", "(1,,)", "expected a whole number"),
    shape("comma missing", "(1 1)", "expected ',' or ')'"),
    shape("negative", "(-1,)", "expected a whole number of 0 or more"),
    shape("fraction", "(1.0,)", "without sign, point or exponent"),
    shape("underscore", "(1_0,)", "expected ',' or ')'"),
    shape("long of Python 2", "(1L,)", "expected ',' or ')'"),
    shape("leading zero", "(01,)", "superfluous 0"),
    shape("beyond Int", "(9223372036854775808,)", "is larger than"),
    shape("product overflows", "(4294967296, 4294967296)", "more elements than can be counted"),
    shape("product with type overflows", "(2305843009213693952,)", "more elements than can be counted"),
    shape("product with the header overflows", "(2305843009213693951,)", "more elements than can be counted"),
    shape("overflows without the zero", "(0, 4294967296, 4294967296)", data: 0, "more elements than can be counted"),
    shape(
        "33 axes", "(" + String(repeating: "1,", count: 33) + ")",
        "more axes than Fovea holds; expected no more than 32"
    ),
    shape("too few bytes", "(2,)", "<f4 [2] takes"),
    shape("truncated", "(1,)", data: 3, "it is truncated"),
    shape("bytes after the last", "(1,)", data: 5, "1 extra bytes follow"),
    // Types.
    descr("no byte order", "f4", "unknown type \"f4\"; expected a byte order"),
    descr("unknown byte order", "!f4", "unknown type"),
    descr("unknown kind", "<x4", "NumPy has no kind like it"),
    descr("empty", "", "unknown type"),
    descr("order alone", "<", "unknown type"),
    descr("no byte order where one is needed", "|f4", "has no byte order"),
    descr("float of 3 bytes", "<f3", "does not hold"),
    descr("objects", "|O", "pickled Python objects"),
    descr("objects of 8 bytes", "|O8", "pickled Python objects"),
    descr("dates", "<M8[ns]", "does not hold"),
    descr("a bool that is neither", "|b1", data: [2], "element 0 of this bool tensor is the byte 2; expected 0 or 1"),
    descr("a number beyond int64", ">u8", data: [0x80, 0, 0, 0, 0, 0, 0, 0], "larger than 9223372036854775807"),
]

@Suite struct MalformedNPYTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test(arguments: malformed)
    func isAnErrorThatSaysWhat(_ malformed: MalformedCase) throws {
        let path = try scratch.place(malformed.bytes, as: "f.npy")
        expectFileError(path, malformed.fragment) { _ = try readNPY(path) }
    }

    /// What looks odd and is allowed, because Python allows it.
    @Test(arguments: [
        "{'shape': (1,), 'fortran_order': False, 'descr': '<f4'}",
        "{\"descr\":\"<f4\",'fortran_order':True,'shape':(1,)}",
        "{ 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 1 , ) , }  \n",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1,)}",
        "{'descr': '<f4', 'fortran_order': True, 'shape': ()}",
    ])
    func isAccepted(header: String) throws {
        let path = try scratch.place(npy(header, [0, 0, 128, 63]), as: "f.npy")
        #expect(try readNPY(path).item() == 1)
    }

    @Test func theErrorSaysAtWhichByte() throws {
        let path = try scratch.place(npy("{'descr': '<f4', 'shape': (x,)}", []), as: "f.npy")
        expectFileError(path, "byte 37: expected a whole number", "found 'x'") { _ = try readNPY(path) }
    }

    @Test func aTensorOfTooManyAxesInSafetensorsIsAnError() throws {
        for (ones, data) in [("1", 4), ("0", 0)] {
            let shape = "[" + Array(repeating: ones, count: 33).joined(separator: ",") + "]"
            let header = #"{"x":{"dtype":"F32","shape":\#(shape),"data_offsets":[0,\#(data)]}}"#
            let path = try scratch.place(safetensors(header, [UInt8](repeating: 0, count: data)), as: "f")
            #expect(try SafetensorsFile(reading: path).entries["x"]?.shape.count == 33)
            expectFileError(path, "has 33 axes", "no more than 32") { _ = try SafetensorsFile(reading: path).tensors() }
        }
    }
}
