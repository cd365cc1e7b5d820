import FoveaNN
import FoveaTensor
import FoveaTraining
import Testing

@Suite struct MemoryEstimateTests {
    /// A task whose step holds a known amount for each sample: `wide` numbers in float32, several times over.
    private struct Wide: TrainingTask {
        let batchSize: Int
        static let wide = 1 << 20

        func batch(at step: Int, part: Int, of parts: Int) -> Int {
            batchSize * (part + 1) / parts - batchSize * part / parts
        }

        func loss(_ model: TinyReader, _ batch: Int) -> TaskLoss {
            let x = model.head.bias![0] * Tensor.ones([batch, Self.wide])
            return TaskLoss(x.exp().log().square().mean(), right: 0, samples: batch)
        }

        func validate(_ model: TinyReader) -> Evaluation? { nil }
    }

    @Test("what a sample adds is what its activations take, whatever the batch; and what fits is what was asked for")
    func perSample() async {
        // In a process of its own: the pool is everybody's.
        await #expect(processExitsWith: .success) {
            for batchSize in [4, 16, 61] {
                let estimate = MemoryEstimate(of: Wide(batchSize: batchSize), tinySettings(1), tinyState())
                let tensors = Double(estimate.bytesPerSample) / Double(4 * Wide.wide)
                // x, exp and log are kept, and the gradient on its way needs one or two more.
                #expect((3...8).contains(tensors), "\(tensors) tensors a sample at \(batchSize)")
                let limit = estimate.bytes(samples: 10)
                #expect(estimate.samples(within: limit) == 10 && estimate.samples(within: limit - 1) == 9)
                #expect(estimate.samples(within: 0) == 0)
            }
        }
    }

    @Test("measuring leaves the state as it was")
    func pure() {
        let state = tinyState()
        let before = StateBits(state)
        _ = MemoryEstimate(of: tinyTask(), tinySettings(1), state)
        #expect(StateBits(state) == before)
    }
}
