import CKernels
import Foundation
import Testing

/// The compiler turns the hot loops into vector instructions only as long as nothing in them stands in its way, such as a
/// call that may set `errno`. Nothing else would notice: the results are the same. A sanitizer's checks do stand in its way.
@Suite("Vector width", .disabled(if: isSanitized, "the checks of a sanitizer stand between the instructions"))
struct VectorWidthTests {
    @Test("the hot loops of v4 take 512 bits at once")
    func hotLoops() throws {
        // A machine without the instructions has no such table.
        guard let table = ck_table_named("v4") else { return }
        let code = MachineCode(table)
        for (name, address) in hotLoops(table.pointee) {
            let count = code.wideInstructions(from: try #require(address, "\(name) is missing"))
            #expect(count >= 3, "\(name): \(count) instructions of 512 bits")
        }
    }

    @Test("the count tells loops from scalar code")
    func scalarCode() throws {
        guard let table = ck_table_named("v4") else { return }
        // Running sums depend on each other: there is nothing to widen.
        let sum = try #require(address(table.pointee.row_cumulative_sum.0))
        #expect(MachineCode(table).wideInstructions(from: sum) == 0)
    }

    @Test("the register tiles multiply and add 512 bits at once, and most of their code does")
    func tiles() throws {
        guard let table = ck_table_named("v4") else { return }
        let code = MachineCode(table)
        // A tile of products holds 14 × 2 vectors, one of attention 6 × 4: so many multiply-adds stand in its loop.
        for (name, start, least) in [
            ("products", table.pointee.product_tile(), 28), ("attention", table.pointee.attention_tile(), 24),
        ] {
            let count = code.wideInstructions(from: UInt(start))
            #expect(count >= least, "\(name): \(count) instructions of 512 bits")
        }
    }

    @Test("products of pieces go through the tiles of AMX, six for each pair")
    func amx() throws {
        guard let table = ck_table_named("amx") else { return }
        let product = try #require(address(table.pointee.product.0))
        // Two tiles by two of C, the five small products and the large one.
        let count = MachineCode(table).tileProducts(from: product)
        #expect(count >= 24, "\(count) products of tiles")
    }

    private func address<Function>(_ function: Function?) -> UInt? { function.map { unsafeBitCast($0, to: UInt.self) } }

    private func hotLoops(_ table: ck_table) -> [(String, UInt?)] {
        withUnsafePointer(to: table) { table in
            let unary: [(String, ck_unary)] = [
                ("negate", CK_NEGATE), ("exp", CK_EXP), ("sqrt", CK_SQRT), ("square", CK_SQUARE), ("abs", CK_ABS),
                ("tanh", CK_TANH), ("sigmoid", CK_SIGMOID), ("erf", CK_ERF), ("relu", CK_RELU), ("gelu", CK_GELU),
                ("reciprocal", CK_RECIPROCAL), ("rsqrt", CK_RSQRT), ("silu", CK_SILU), ("geluTanh", CK_GELU_TANH),
            ]
            let binary: [(String, ck_binary)] = [
                ("add", CK_ADD), ("subtract", CK_SUBTRACT), ("multiply", CK_MULTIPLY), ("divide", CK_DIVIDE),
                ("maximum", CK_MAXIMUM), ("tanh's gradient", CK_TANH_GRADIENT), ("relu's gradient", CK_RELU_GRADIENT),
            ]
            let sloped: [(String, ck_sloped)] = [
                ("gelu with slope", CK_SLOPED_GELU), ("silu with slope", CK_SLOPED_SILU),
            ]
            let t = table.pointee
            return unary.map { ($0, address(ck_unary_loop(table, 0, $1))) }
                + binary.map { ($0, address(ck_binary_loop(table, 0, $1))) }
                + sloped.map { ($0, address(ck_sloped_loop(table, 0, $1))) } + [
                    ("accumulate", address(t.accumulate.0)), ("multiply in place", address(t.multiply_by.0)),
                    ("column sum", address(t.column_sum.0)),
                    ("softmax", address(t.softmax.0)), ("softmax's gradient", address(t.softmax_gradient.0)),
                    ("layerNorm", address(t.layer_norm.0)),
                    ("layerNorm's gradient", address(t.layer_norm_gradient.0)),
                    ("rmsNorm", address(t.rms_norm.0)), ("rmsNorm's gradient", address(t.rms_norm_gradient.0)),
                    ("crossEntropy's gradient", address(t.cross_entropy_gradient.0)),
                    ("swiGLU", address(t.swiglu.0)), ("swiGLU's gradient", address(t.swiglu_gradient.0)),
                    ("rotary embedding", address(t.rotate.0)),
                    ("AdamW", address(t.adamw.0)), ("AdamW in float64", address(t.adamw.1)),
                    ("SGD", address(t.sgd.0)), ("blend", address(t.blend.0)), ("scale", address(t.scale.0)),
                ]
        }
    }
}

/// A sanitizer's library is part of the process.
private let isSanitized = ["__asan_init", "__tsan_init", "__ubsan_default_options"].contains { (name: String) in
    dlsym(UnsafeMutableRawPointer(bitPattern: 0), name) != nil
}

/// The bytes of the loops of a table, each up to where the next one begins.
private struct MachineCode {
    private let starts: [UInt]

    /// All of a table but its first word, the name, are functions.
    init(_ table: UnsafePointer<ck_table>) {
        let words = MemoryLayout<ck_table>.size / MemoryLayout<UInt>.size
        starts = table.withMemoryRebound(to: UInt.self, capacity: words) { first in
            Array(UnsafeBufferPointer(start: first + 1, count: words - 1)).sorted()
        }
    }

    /// How many instructions of 512 bits stand in the loop at an address. Such an instruction begins with 0x62, and three
    /// bytes in which some bits are fixed and two tell the width.
    func wideInstructions(from start: UInt) -> Int {
        let bytes = bytes(from: start)
        return bytes.indices.dropLast(3).count { i in
            bytes[i] == 0x62 && bytes[i + 1] & 0x08 == 0 && bytes[i + 1] & 0x07 != 0 && bytes[i + 2] & 0x04 != 0
                && bytes[i + 3] & 0x60 == 0x40
        }
    }

    /// How many products of bfloat16 tiles stand in the loop at an address: `tdpbf16ps`, VEX.128.F3.0F38.W0 5C /r.
    func tileProducts(from start: UInt) -> Int {
        let bytes = bytes(from: start, atMost: 16_384)
        return bytes.indices.dropLast(4).count { i in
            bytes[i] == 0xC4 && bytes[i + 1] & 0x1F == 0x02 && bytes[i + 2] & 0x87 == 0x02 && bytes[i + 3] == 0x5C
                && bytes[i + 4] & 0xC0 == 0xC0
        }
    }

    private func bytes(from start: UInt, atMost most: UInt = 4_096) -> UnsafeRawBufferPointer {
        let end = min(starts.first { $0 > start } ?? .max, start + most)
        return UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: start), count: Int(end - start))
    }
}
