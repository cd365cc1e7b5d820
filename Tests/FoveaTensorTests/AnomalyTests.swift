import FoveaTensor
import Testing

@Suite("Anomalies")
struct AnomalyTests {
    private func anomaly(_ x: [Double], _ function: (Tensor) -> Tensor) -> Anomaly? {
        detectingAnomalies { gradient(of: { function($0).sum() }, at: Tensor(x)) }.anomaly
    }

    @Test("the op whose output is not finite first is named, not those that it spoils")
    func outputs() {
        #expect(anomaly([1, -1]) { ($0.log() * 2).exp() }?.op == "log")
        #expect(anomaly([1, -1]) { $0.log() }?.isNaN == true)
        let infinite = anomaly([1, 0]) { $0.log().exp() }
        #expect(infinite?.kind == .output && infinite?.isNaN == false && infinite?.op == "log")
        #expect(anomaly([1000]) { $0.exp() - $0.exp() }?.op == "exp")
        #expect(anomaly([1, .infinity]) { $0.exp() }?.kind == .parameter)
        // One of several outputs of an op.
        #expect(anomaly([1, 1e308]) { ($0.split(axis: 0, into: [1, 1])[1] * 10) }?.op == "multiply")
    }

    @Test("so is the op whose gradient is not finite first")
    func gradients() {
        let found = anomaly([0, 4]) { ($0.sqrt() * 2).square() }
        // 2·0 · 1/√0: the square root's slope at 0 is infinite, and nothing times it is NaN.
        #expect(found?.kind == .gradient && found?.op == "sqrt")
        #expect(anomaly([0, 4]) { $0.sqrt() }?.isNaN == false)
    }

    @Test("what is finite, and infinities that are meant, pass")
    func fine() {
        #expect(anomaly([1, 2]) { $0.exp().log().sqrt() } == nil)
        #expect(anomaly([1, 2]) { $0.maskedFill(Tensor([true, false]), -.infinity).softmax(axis: 0) * $0 } == nil)
        #expect(anomaly([1, 2]) { $0.maskedFill(Tensor([true, false]), .nan) }?.op == "maskedFill")
    }

    @Test("a stretch that is computed again is named as one")
    func recomputation() {
        #expect(anomaly([-1]) { x in checkpointed { x.log().exp() } * 2 }?.op == "checkpointed")
        #expect(anomaly([0]) { x in checkpointed { x.sqrt() * 2 } }?.op == "sqrt")
        #expect(anomaly([2]) { x in checkpointed { x.log().exp() } } == nil)
    }

    @Test("looking changes no bit, and ends with the closure")
    func bits() {
        let x = Tensor((0..<40).map { Double($0) / 7 }, shape: [5, 8])
        func run() -> [UInt8] { gradient(of: { $0.softmax(axis: -1).square().sum() }, at: x).bytes() }
        let (watched, found) = detectingAnomalies(run)
        #expect(found == nil && watched == run())
        _ = anomaly([0]) { $0.log() }
        #expect(detectingAnomalies(run).anomaly == nil)
    }
}
