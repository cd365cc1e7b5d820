import FoveaTensor
import FoveaTestSupport
import Testing

private let inf = Double.infinity
private let nan = Double.nan

private func row(_ values: Double...) -> Tensor { Tensor(values) }
private func scalar(_ value: Double) -> Tensor { Tensor([value], shape: []) }
private func nothing(_ shape: Int...) -> Tensor { .zeros(shape, dtype: .float64) }

/// Calls that are a programmer's mistake.
let reductionMistakes: [TrapCase] = [
    TrapCase("min's axis", saying: "min: axis 2 is outside the 2 axes", "float32 [2, 3]") {
        _ = Tensor.zeros([2, 3]).min(axes: [2])
    },
    TrapCase("an axis twice", saying: "product: an axis is named twice in [0, -2]") {
        _ = Tensor.zeros([2, 3]).product(axes: [0, -2])
    },
    TrapCase("argmin of nothing", saying: "argmin: axis 0 is empty", "[0, 3]") {
        _ = Tensor.zeros([0, 3]).argmin(axis: 0)
    },
    TrapCase("any of numbers", saying: "any: a mask of type bool is needed", "float32 [2]") {
        _ = Tensor.zeros([2]).any()
    },
    TrapCase("all of numbers", saying: "all: a mask of type bool is needed") { _ = Tensor.zeros([2]).all() },
    TrapCase("running sum of a scalar", saying: "cumulativeSum: axis 0 is outside the 0 axes") {
        _ = Tensor.zeros([]).cumulativeSum(axis: 0)
    },
    TrapCase("variance of integers", saying: "variance: float32 or float64 is needed", "int64 [2]") {
        _ = Tensor([Int64(1), 2]).variance()
    },
]

@Suite("Reductions")
struct ReductionTests {
    @Test("trap on mistakes", arguments: zip(reductionMistakes.indices, reductionMistakes.map(\.label)))
    func trap(index: Int, label: String) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            reductionMistakes[index].call()
        }
        reductionMistakes[index].expectMessage(in: result)
    }

    /// Expects a result, and gradients for the cotangent 1 where they are given, in both types.
    private func expect(
        _ comment: String, _ x: Tensor, gives output: Tensor, gradient: Tensor? = nil,
        _ call: (Tensor) -> Tensor
    ) {
        for (type, tolerance) in [(DType.float64, 4e-15), (.float32, 1e-6)] {
            let pulled = pullBack(
                { call($0[0]) }, [x.cast(to: type)], cotangent: { .ones($0.shape, dtype: $0.dtype) })
            let place = "\(comment) in \(type)"
            expectClose(pulled.output.cast(to: .float64), output, tolerance: tolerance, place)
            if let gradient {
                expectClose(
                    pulled.gradients[0].cast(to: .float64), gradient, tolerance: tolerance, place + ", gradient")
            }
        }
    }

    @Test("min and argmin: ties, NaN, infinities, nothing")
    func extremes() {
        expect("tie", row(2, 1, 1, 3), gives: scalar(1), gradient: row(0, 0.5, 0.5, 0)) { $0.min() }
        expect("NaN", row(2, nan, 1), gives: scalar(nan)) { $0.min() }
        expect("∞", row(inf, inf), gives: scalar(inf)) { $0.min() }
        expect("−∞", row(1, -inf), gives: scalar(-inf), gradient: row(0, 1)) { $0.min() }
        expect("nothing", nothing(2, 0), gives: row(inf, inf), gradient: nothing(2, 0)) { $0.min(axes: [1]) }
        let rows = Tensor([3.0, 1, 1, 1, nan, 0, inf, inf, inf], shape: [3, 3])
        #expect(rows.argmin(axis: 1).scalars(as: Int64.self) == [1, 1, 0])
    }

    @Test("any and all: nothing, many axes, kept axes")
    func quantifiers() {
        let mask = Tensor([true, false, true, true, false, false], shape: [3, 2])
        #expect(mask.any(axes: [1]).scalars() == [true, true, false])
        #expect(mask.all(axes: [1]).scalars() == [false, true, false])
        #expect(mask.any().scalars() == [true])
        #expect(mask.all(keepingAxes: true).shape == [1, 1])
        let empty = Tensor([Bool](), shape: [2, 0])
        #expect(empty.any(axes: [1]).scalars() == [false, false])
        #expect(empty.all(axes: [1]).scalars() == [true, true])
        #expect(Tensor([true], shape: []).all().scalars() == [true])
    }

    @Test("product: zeros, NaN, infinities, nothing")
    func products() {
        expect("one zero", row(2, 0, 3), gives: scalar(0), gradient: row(0, 6, 0)) { $0.product() }
        expect("two zeros", row(2, 0, 0), gives: scalar(0), gradient: row(0, 0, 0)) { $0.product() }
        expect("nothing", nothing(0), gives: scalar(1), gradient: nothing(0)) { $0.product() }
        expect("0 · ∞", row(0, inf), gives: scalar(nan), gradient: row(inf, 0)) { $0.product() }
        expect("NaN", row(2, nan), gives: scalar(nan), gradient: row(nan, 2)) { $0.product() }
    }

    @Test("cumulativeSum: NaN from the first one on, a long row in float32")
    func runningSums() {
        expect("NaN", row(1, nan, 2), gives: row(1, nan, nan), gradient: row(3, 2, 1)) { $0.cumulativeSum(axis: 0) }
        expect("∞", row(1, inf, -inf), gives: row(1, inf, nan)) { $0.cumulativeSum(axis: 0) }
        expect("nothing", nothing(2, 0), gives: nothing(2, 0), gradient: nothing(2, 0)) { $0.cumulativeSum(axis: 1) }
        let last = Tensor.full([1 << 20], 0.1).cumulativeSum(axis: 0)[(1 << 20) - 1]
        #expect(abs(last.item() - Double(Float(0.1)) * 0x1p20) < 0.01)
    }

    @Test("variance and standard deviation: corrections, constants, one element, nothing")
    func moments() {
        expect("usual", row(1, 2, 3, 6), gives: scalar(14.0 / 3), gradient: row(-4, -2, 0, 6) / 3) { $0.variance() }
        expect("constant", row(4, 4, 4), gives: scalar(0), gradient: row(0, 0, 0)) { $0.standardDeviation() }
        expect("one", row(5), gives: scalar(nan)) { $0.variance() }
        expect("one, population", row(5), gives: scalar(0), gradient: row(0)) { $0.variance(correction: 0) }
        expect("too large a correction", row(1, 3), gives: scalar(inf)) { $0.variance(correction: 3) }
        expect("nothing", nothing(0), gives: scalar(nan)) { $0.standardDeviation() }
        expect("NaN", row(1, nan), gives: scalar(nan)) { $0.variance() }
        expect("∞", row(1, inf), gives: scalar(nan)) { $0.variance() }
        expect("far from zero", row(1e6, 1e6 + 2), gives: scalar(2)) { $0.variance() }
    }

    @Test("l2Norm: zero, infinities, nothing")
    func lengths() {
        expect("3, 4, 5", row(3, 4), gives: scalar(5), gradient: row(0.6, 0.8)) { $0.l2Norm() }
        expect("zero", row(0, 0), gives: scalar(0), gradient: row(0, 0)) { $0.l2Norm() }
        expect("∞", row(1, -inf), gives: scalar(inf), gradient: row(0, nan)) { $0.l2Norm() }
        expect("nothing", nothing(0, 2), gives: row(0, 0), gradient: nothing(0, 2)) { $0.l2Norm(axes: [0]) }
        expect("NaN", row(1, nan), gives: scalar(nan)) { $0.l2Norm() }
    }

    @Test("logSumExp: −∞ alone, large numbers, infinities, nothing")
    func exponentials() {
        expect("−∞ alone", row(-inf, -inf), gives: scalar(-inf), gradient: row(0, 0)) { $0.logSumExp() }
        expect("some −∞", row(-inf, 2), gives: scalar(2), gradient: row(0, 1)) { $0.logSumExp() }
        expect("large", row(1e4, -1e4), gives: scalar(1e4), gradient: row(1, 0)) { $0.logSumExp() }
        expect("∞", row(inf, 1), gives: scalar(inf)) { $0.logSumExp() }
        expect("NaN", row(nan, 1), gives: scalar(nan)) { $0.logSumExp() }
        expect("nothing", nothing(2, 0), gives: row(-inf, -inf), gradient: nothing(2, 0)) { $0.logSumExp(axes: [1]) }
    }
}
