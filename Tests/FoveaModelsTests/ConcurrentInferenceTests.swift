import Dispatch
import FoveaCompression
import FoveaModels
import FoveaTensor
import Synchronization
import Testing

@Suite struct ConcurrentInferenceTests {
    @Test("one model, read by several threads at once, gives each the bits that it gives one; gradients too")
    func sameBits() async {
        // In a process of its own, with workers on a machine of one core too.
        await #expect(processExitsWith: .success) {
            Workers.count = 3
            let resampler = PerceiverResampler(
                .init(width: 32, depth: 1, heads: 2, headWidth: 16, latents: 8), key: RandomKey(seed: 1))
            let model = CompressorClassifier(
                .init(imageSize: (24, 24), classes: 5, patchSize: 2, width: 32, encoderDepth: 1, encoderHeads: 2),
                compressor: resampler, key: RandomKey(seed: 0))
            // Large enough for ops to be cut in chunks: threads then want the same workers.
            let pictures = (0..<6).map {
                Tensor.uniform([4, 1, 24, 24], in: 0...1, key: RandomKey(seed: UInt64($0 + 2)))
            }
            @Sendable func answer(_ index: Int) -> [[Float]] {
                let logits = model(pictures[index])
                let slope = gradient(of: { model($0).square().sum() }, at: pictures[index])
                return [logits.scalars(), slope.scalars()]
            }
            let alone = pictures.indices.map(answer)
            let wrong = Mutex(0)
            DispatchQueue.concurrentPerform(iterations: 36) { round in
                let index = round % pictures.count
                if answer(index) != alone[index] { wrong.withLock { $0 += 1 } }
            }
            #expect(wrong.withLock { $0 } == 0)
        }
    }
}
