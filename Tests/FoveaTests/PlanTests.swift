import Fovea
import FoveaTensor
import Testing

@Suite("Planning a module")
struct PlanTests {
    @Test("a module of 63 million parameters is planned with its shapes and without its memory")
    func flamingo() {
        // The pool is shared with other tests: what counts is that nothing of this size passes through it.
        let before = StoragePool.statistics.peakBytes
        let plan = withoutMemory {
            PerceiverResampler(.init(width: 1024), key: RandomKey(seed: 0)).cast(to: .float64)
        }
        #expect(plan.parameterCount == 63_019_008)
        #expect(plan.parameterBytes == 8 * 63_019_008)
        #expect(StoragePool.statistics.peakBytes < before + 8 * 63_019_008)
        // Afterwards tensors have memory again.
        #expect(Tensor.ones([2]).scalars(as: Float.self) == [1, 1])
    }
}
