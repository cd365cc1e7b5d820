import Foundation
import Fovea
import Testing

@Suite("The README")
struct ReadmeTests {
    @Test("its Swift example compiles, trains and saves")
    func example() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let output = folder.appendingPathComponent("resampler.safetensors").path
        let data = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Data/digits").path

        // The README's lines, with its paths and its number of steps replaced.
        let digits = try Digits(folder: data)
        let resampler = PerceiverResampler(
            .init(width: 48, depth: 2, heads: 4, headWidth: 12, latents: 4), key: RandomKey(seed: 1))
        var model = CompressorClassifier(
            .init(imageSize: (8, 8), classes: 10, patchSize: 2, width: 48, encoderDepth: 2, encoderHeads: 4),
            compressor: resampler, key: RandomKey(seed: 0))
        var optimizer = AdamW(learningRate: .warmupCosine(peak: 2e-3, warmup: 100, total: 2_000))

        var losses: [Double] = []
        for batch in digits.train.batches(of: 64, seed: 0).prefix(40) {
            let (loss, gradients) = valueAndGradient(of: model) { crossEntropy($0(batch.images), batch.labels) }
            optimizer.update(&model, along: gradients.clipped(toNorm: 1))
            losses.append(loss.item())
        }
        #expect((0...1).contains(evaluate(model, on: digits.validation).accuracy))
        try model.compressor.save(to: output, layout: .openFlamingo)

        #expect(losses.suffix(5).reduce(0, +) < losses.prefix(5).reduce(0, +))
        #expect(try SafetensorsFile(reading: output).entries["layers.1.0.to_kv.weight"]?.shape == [96, 48])
    }
}
