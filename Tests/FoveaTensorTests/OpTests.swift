import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("Every op of the catalogue")
struct OpTests {
    @Test("passes every check of the table", arguments: OpCheck.cases(Op.catalogue))
    func table(_ item: OpCheck.Case) throws {
        for finding in try item.check.findings(item.op) { Issue.record("\(item.op.name): \(finding)") }
    }

    // MARK: Scalars and broadcasting

    @Test("has forms with a number for one operand")
    func numbers() {
        let forms: [(String, @Sendable (Tensor) -> Tensor, @Sendable (Double) -> Double)] = [
            ("x + s", { $0 + 1.5 }, { $0 + 1.5 }), ("s + x", { 1.5 + $0 }, { 1.5 + $0 }),
            ("x − s", { $0 - 1.5 }, { $0 - 1.5 }), ("s − x", { 1.5 - $0 }, { 1.5 - $0 }),
            ("x · s", { $0 * 1.5 }, { $0 * 1.5 }), ("s · x", { 1.5 * $0 }, { 1.5 * $0 }),
            ("x / s", { $0 / 1.5 }, { $0 / 1.5 }), ("s / x", { 1.5 / $0 }, { 1.5 / $0 }),
        ]
        for n in ShapedCall.tails + [70_001] {
            let x = Tensor.uniform([n], in: 0.5...2, key: RandomKey(seed: 9), dtype: .float64)
            for (name, form, reference) in forms {
                expectClose(form(x), Grid(x).map(reference).tensor, tolerance: 0, "\(name), \(n) elements")
                if n > 0, n < 100 {
                    let check = checkGradients(of: { form($0[0]) }, at: [x], name: name)
                    #expect(check.passed, "\(check.message)")
                }
            }
        }
    }

    @Test("broadcasts any shapes that fit", arguments: [11, 12, 13] as [UInt64])
    func broadcasting(seed: UInt64) {
        var shapes = RandomShapes(seed: seed)
        let key = RandomKey(seed: seed)
        for round in 0..<60 {
            let (a, b, result) = shapes.broadcastable()
            let x = Tensor.uniform(a, in: -2...2, key: key.folding(UInt64(2 * round)), dtype: .float64)
            let y = Tensor.uniform(b, in: 0.5...2, key: key.folding(UInt64(2 * round + 1)), dtype: .float64)
            let place = "seed \(seed), round \(round), \(a) and \(b)"
            let quotient = pullBack({ $0[0] / $0[1] }, [x, y])
            #expect(quotient.output.shape == result, "\(place)")
            expectClose(quotient.output, Grid.combine(Grid(x), Grid(y), /).tensor, tolerance: 1e-15, floor: 0, place)
            // d(x/y): the cotangent over y, and −x/y² times it, summed over what was repeated.
            let g = Grid(normal(like: quotient.output, seed: 1))
            var (dx, dy) = (Grid(a) { _ in 0 }, Grid(b) { _ in 0 })
            Grid.forEachIndex(in: result) { index in
                let (xs, ys) = (Grid(x)[broadcast: index], Grid(y)[broadcast: index])
                let ownX = zip(index.suffix(a.count), a).map { $1 == 1 ? 0 : $0 }
                let ownY = zip(index.suffix(b.count), b).map { $1 == 1 ? 0 : $0 }
                dx[ownX] += g[index] / ys
                dy[ownY] -= g[index] * xs / (ys * ys)
            }
            expectClose(quotient.gradients[0], dx.tensor, tolerance: 1e-12, floor: 8, "\(place), gradient of x")
            expectClose(quotient.gradients[1], dy.tensor, tolerance: 1e-12, floor: 8, "\(place), gradient of y")
        }
    }
}
