import Foundation
import Fovea
import Testing

// The code of docs/checking-gradients.md, line by line.

extension Op {
    static let softsign = Op("softsign", "x / (1 + |x|)") { $0.elementwise { $0.softsign() } }
}

extension Tensor {
    /// x / (1 + |x|) for each element.
    func softsign() -> Tensor {
        let scale = withoutGradient { abs() + 1 }
        return withoutGradient { self / scale }.derived(by: .softsign, from: self) { g in g / scale.square() }
    }
}

@Suite("docs/checking-gradients.md")
struct CheckingGradientsTests {
    @Test("its code compiles, its checks pass, and its errors fall as it says")
    func example() {
        let x = Tensor.uniform([3, 4], in: -2...2, key: RandomKey(seed: 0), dtype: .float64)
        let check = checkGradients(of: { $0[0].softsign() }, at: [x], named: ["x"], name: "softsign")
        precondition(check.passed, check.message)
        let all = Op.softsign.checkGradients()!
        precondition(all.passed, all.message)
        let attention = MultiHeadAttention(8, heads: 2, key: RandomKey(seed: 0))
        let tokens = Tensor.normal([2, 5, 8], key: RandomKey(seed: 1))
        let found = checkGradients(of: attention, at: [tokens]) { attention, inputs in attention(inputs[0]) }
        precondition(found.passed, found.message)
        let errors = [1e-3, 5e-4].map { step in
            checkGradients(of: { $0[0].softsign() }, at: [x], step: step).maxRelativeError
        }
        print(errors[0] / errors[1])
        #expect(abs(errors[0] / errors[1] - 4) < 0.1)
        #expect(all.samples == Op.softsign.samples().count)
    }

    @Test("a wrong gradient is told with its op, the input, the element and both values")
    func wrong() {
        let x = Tensor.uniform([3, 4], in: 1...2, key: RandomKey(seed: 0), dtype: .float64)
        let check = checkGradients(
            of: { x in withoutGradient { x[0].softsign() }.derived(by: .softsign, from: x[0]) { g in -g } }, at: [x],
            named: ["x"], name: "softsign")
        #expect(!check.passed)
        for part in ["softsign", "x", "element", "analytic", "numeric", "relative error"] {
            #expect(check.message.contains(part), "\(check.message)")
        }
    }

    @Test("each line of code of the page stands in this file")
    func sameCode() throws {
        let here = URL(fileURLWithPath: #filePath)
        let root = here.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let page = try String(contentsOf: root.appendingPathComponent("docs/checking-gradients.md"), encoding: .utf8)
        let source = try String(contentsOf: here, encoding: .utf8).split(separator: "\n").map { trimmed($0) }
        var rest = source[...]
        var lines = 0
        for (position, block) in page.components(separatedBy: "```").enumerated() where position % 2 == 1 {
            for line in block.split(separator: "\n").dropFirst().map({ trimmed($0) }) where !line.isEmpty {
                let found = rest.firstIndex(of: line)
                #expect(found != nil, "\(line)")
                rest = rest[((found ?? rest.startIndex - 1) + 1)...]
                lines += 1
            }
        }
        #expect(lines > 15)
    }

    private func trimmed(_ line: Substring) -> String { line.trimmingCharacters(in: .whitespaces) }
}
