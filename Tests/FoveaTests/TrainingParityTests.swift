import Foundation
import Fovea
import Testing

/// An encoder, a resampler and a classifier, trained as `Tests/Reference/training.py` trains them in PyTorch: from the
/// same weights, on the same batches, with clipping, AdamW, a warm-up and a cosine.
@Suite("Training equals PyTorch's")
struct TrainingParityTests {
    private let file: SafetensorsFile

    init() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        file = try SafetensorsFile(reading: root.appendingPathComponent("Fixtures/training/training.safetensors").path)
    }

    /// The model with the stored weights, in a type.
    private func model(_ dtype: DType) throws -> CompressorClassifier<PerceiverResampler> {
        let resampler = PerceiverResampler(
            .init(width: 12, depth: 2, heads: 2, headWidth: 6, latents: 3), key: RandomKey(seed: 1))
        var model = CompressorClassifier(
            .init(imageSize: (8, 8), classes: 5, patchSize: 2, width: 12, encoderDepth: 2, encoderHeads: 2),
            compressor: resampler, key: RandomKey(seed: 0))
        var weights: NamedTensors = [:]
        for name in file.entries.keys where name.hasPrefix("start.") {
            weights[String(name.dropFirst("start.".count))] = try file.tensor(name)
        }
        _ = try model.load(from: weights, source: "training.safetensors")
        return model.cast(to: dtype)
    }

    /// max|got − want| / (10⁻³ + max|want|), NaN as ∞.
    private func error(_ got: Tensor, _ want: Tensor) -> Double {
        let (got, want): ([Double], [Double]) = (got.cast(to: .float64).scalars(), want.cast(to: .float64).scalars())
        guard got.count == want.count else { return .infinity }
        let scale = want.reduce(0) { max($0, abs($1)) }
        let worst = zip(got, want).reduce(0.0) { abs($1.0 - $1.1) <= $0 ? $0 : abs($1.0 - $1.1) }
        return worst.isNaN ? .infinity : worst / (1e-3 + scale)
    }

    @Test(
        "ten steps: each loss and norm, every gradient of the first, every parameter after the first and the last",
        arguments: [
            (DType.float64, 1e-13, 1e-12, 1e-9), (.float32, 2e-6, 2e-5, 5e-3),
        ])
    func tenSteps(_ dtype: DType, _ forValues: Double, _ forGradients: Double, _ forParameters: Double) throws {
        var model = try model(dtype)
        var optimizer = AdamW(learningRate: .warmupCosine(peak: 0.02, warmup: 3, total: 12), weightDecay: 0.1)
        let losses: [Double] = try file.tensor("\(dtype).losses").cast(to: .float64).scalars()
        let norms: [Double] = try file.tensor("\(dtype).norms").cast(to: .float64).scalars()
        for step in 0..<10 {
            let images = try file.tensor("images.\(step % 3)").cast(to: dtype)
            let labels = try file.tensor("labels.\(step % 3)")
            let (loss, gradients) = valueAndGradient(of: model) {
                crossEntropy($0(images), labels, labelSmoothing: 0.1)
            }
            for (got, want) in [(loss.item(), losses[step]), (gradients.norm, norms[step])] {
                #expect(abs(got - want) <= forValues * want, "step \(step)")
            }
            if step == 0 {
                for (path, gradient) in gradients.tensors {
                    let difference = error(gradient, try file.tensor("\(dtype).gradient.\(path)"))
                    #expect(difference <= forGradients, "the gradient of \(path)")
                }
                #expect(gradients.tensors.count == model.parameters.count)
            }
            optimizer.update(&model, along: gradients.clipped(toNorm: 1))
            guard step == 0 || step == 9 else { continue }
            for (path, parameter) in model.parameters {
                // A softmax does not see the bias of its keys: the gradient is rounding alone, which AdamW divides by its
                // own size. In float64 the rounding is far below AdamW's epsilon, in float32 it is not.
                if dtype == .float32, path.hasSuffix("key.bias") { continue }
                let difference = error(parameter, try file.tensor("\(dtype).\(step + 1).\(path)"))
                #expect(difference <= forParameters, "\(path) after step \(step + 1)")
            }
        }
    }
}
