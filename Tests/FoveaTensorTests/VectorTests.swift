#if arch(x86_64) && os(Linux)
import Glibc
import Testing

/// Whether the compiler made vectors of the loops that training lives on: their machine code is read.
@Suite("Vectors")
struct VectorTests {
    /// Loops over float32 of which there is a copy for each instruction set.
    static let loops = [
        "add", "multiply", "accumulate", "exp", "tanh", "erf", "sigmoid", "gelu", "gelu_with_slope", "silu",
        "silu_with_slope", "sum_of", "column_sum", "softmax", "softmax_gradient", "layer_norm", "layer_norm_gradient",
        "rms_norm", "rms_norm_gradient", "cross_entropy", "cross_entropy_gradient", "attention_product",
        "attention_scores", "tile_whole_6", "adamw", "sgd",
    ]

    @Test("hot loops compute in the widest registers of AVX2 and AVX-512, and in packed ones on the baseline")
    func hotLoops() throws {
        let copies = try disassembly(of: Self.loops.map { $0 + "_f32" } + ["tile_whole_14_f32"])
        for loop in Self.loops {
            let found = copies.filter { $0.name == loop + "_f32" }
            #expect(found.count == 3, "\(loop): one copy for each of base, v3 and v4")
            let wide = found.filter { $0.arithmetic("ymm") + $0.arithmetic("zmm") > 0 }
            #expect(wide.count == 2, "\(loop) does not compute in vectors on AVX2 or AVX-512")
            #expect(found.allSatisfy { $0.arithmetic("mm") > 0 }, "\(loop) does not compute in vectors on the baseline")
        }
        // All of a tile stays in registers: one multiply-add for each of its 14 × 2 vectors, and nothing spilled between.
        let tile = try #require(copies.first { $0.name == "tile_whole_14_f32" })
        #expect(tile.lines.count { $0.contains("vfmadd") && $0.contains("zmm") } == 28)
        #expect(!tile.lines.contains { $0.contains("zmm") && $0.contains("rsp") })
    }

    private struct Copy {
        let name: Substring
        var lines: [Substring] = []

        /// Packed additions, multiplications and multiply-adds in registers of that name.
        func arithmetic(_ register: String) -> Int {
            lines.count { line in
                guard line.contains(register), let word = line.split(whereSeparator: \.isWhitespace).dropFirst().first
                else { return false }
                return word.hasSuffix("ps") && ["add", "mul", "sub", "max", "div"].contains { word.contains($0) }
            }
        }
    }

    /// The functions of that name in the file that this process runs, one after the other.
    private func disassembly(of names: [String]) throws -> [Copy] {
        let command =
            "llvm-objdump --no-show-raw-insn --disassemble-symbols=\(names.joined(separator: ",")) /proc/\(getpid())/exe"
        let pipe = try #require(popen(command, "r"))
        var text: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&piece, 1, piece.count, pipe), count > 0 { text += piece[..<count] }
        try #require(pclose(pipe) == 0, "llvm-objdump, which comes with Swift, did not run: \(command)")
        var copies: [Copy] = []
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
            if line.hasSuffix(">:"), let start = line.firstIndex(of: "<") {
                copies.append(Copy(name: line[line.index(after: start)...].dropLast(2)))
            } else if !copies.isEmpty {
                copies[copies.count - 1].lines.append(line)
            }
        }
        return copies
    }
}
#endif
