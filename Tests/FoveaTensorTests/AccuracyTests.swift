import Foundation
import FoveaTensor
import FoveaTestSupport
import Testing

/// How far the polynomials of float32 are from the functions, in units in the last place, over floats of every size.
@Suite("Accuracy in float32")
struct AccuracyTests {
    struct Function: CustomTestStringConvertible {
        let testDescription: String
        let run: @Sendable (Tensor) -> Tensor
        let exact: @Sendable (Double) -> Double
        /// The most units for operands above 0, and below.
        let units: (above: Double, below: Double)
    }

    static let functions: [Function] = [
        Function(testDescription: "exp", run: { $0.exp() }, exact: { exp($0) }, units: (1, 1)),
        Function(testDescription: "tanh", run: { $0.tanh() }, exact: { tanh($0) }, units: (2, 2)),
        Function(testDescription: "erf", run: { $0.erf() }, exact: { erf($0) }, units: (2, 2)),
        Function(
            testDescription: "sigmoid", run: { $0.sigmoid() }, exact: { 1 / (1 + exp(-$0)) }, units: (2, 2.5)),
        Function(testDescription: "silu", run: { $0.silu() }, exact: { $0 / (1 + exp(-$0)) }, units: (2.5, 3)),
        // Far below 0 the value is a density times a polynomial; with 1 + erf nothing would be left of its digits.
        Function(
            testDescription: "gelu", run: { $0.gelu() }, exact: { 0.5 * $0 * erfc(-$0 / 2.0.squareRoot()) },
            units: (2, 6)),
        Function(testDescription: "log", run: { $0.log() }, exact: { log($0) }, units: (1, 1)),
    ]

    /// Every 9,973rd float, of both signs: some 430,000.
    private static let operands: [Float] = stride(from: UInt32(0), to: 0x7F80_0000, by: 9_973).flatMap {
        [Float(bitPattern: $0), -Float(bitPattern: $0)]
    }

    @Test("stays within stated units in the last place", arguments: functions)
    func accuracy(_ function: Function) {
        let values: [Float] = function.run(Tensor(Self.operands)).scalars()
        var worst = (above: 0.0, below: 0.0)
        for (x, y) in zip(Self.operands, values) {
            let exact = function.exact(Double(x))
            // Beyond the range of float the result is infinite, and near its lower end digits are lost anyway.
            guard abs(exact) < Double(Float.greatestFiniteMagnitude), abs(exact) > 1e-30 else { continue }
            let units = abs(Double(y) - exact) / Double(Float(exact).ulp)
            if !(units <= (x > 0 ? worst.above : worst.below)) {
                if x > 0 { worst.above = units } else { worst.below = units }
            }
        }
        #expect(worst.above <= function.units.above)
        #expect(worst.below <= function.units.below)
    }

    // In units of what it is made of: it has a zero at −0.75.
    @Test("GELU's slope stays within stated units in the last place, above and below the end of its table")
    func slopeOfGELU() {
        let operands = Self.operands.filter { abs($0) < 11 }
        let x = Tensor(operands)
        let slopes: [Float] = gradient(of: { $0.gelu().sum() }, at: x).scalars()
        var worst = 0.0
        for (x, slope) in zip(operands, slopes) {
            let t = Double(abs(x))
            let (tail, density) = (0.5 * erfc(t / 2.0.squareRoot()), exp(-0.5 * t * t) / (2 * Double.pi).squareRoot())
            let exact = x < 0 ? tail - t * density : 1 - tail + t * density
            worst = max(worst, abs(Double(slope) - exact) / Double(Float(max(tail, t * density, x < 0 ? 0 : 1)).ulp))
        }
        #expect(worst <= 12)
    }

    // The distance to the largest element, up to 40 here, is rounded before its exponential is taken.
    @Test("a softmax does not differ from one in float64 by more than rounding")
    func softmax() {
        let x = Tensor.normal([64, 1000], deviation: 5, key: RandomKey(seed: 1))
        expectClose(x.softmax(axis: -1), x.cast(to: .float64).softmax(axis: -1), tolerance: 40 * 0x1p-24, floor: 0)
    }
}
