import Foundation
import Fovea
import FoveaTestSupport
import Testing

private typealias Model = VisionLanguageModel<CompactEncoder, AnyCompressor>

private func set(_ name: String) -> QuestionSet {
    QuestionSet("test", of: QuestionTasks.task(name, digits: digits.test)!)
}

private func model(_ set: QuestionSet, _ sampler: FocusTextSampler?, depth: Int) -> Model {
    let shape = set.task.pictureShape
    let encoder = CompactEncoder(
        .init(
            channels: shape.channels, imageSize: (shape.height, shape.width), patchSize: 8, width: 8, depth: 1,
            heads: 2), key: RandomKey(seed: 2))
    let decoder = LanguageModel(
        .init(vocabulary: set.vocabulary.count, width: 8, hidden: 12, depth: depth, heads: 2, deviation: 0.5),
        key: RandomKey(seed: 2).folding("decoder"))
    return Model(
        encoder: encoder, compressor: AnyCompressor(MLPProjector(8, outputs: 6, key: RandomKey(seed: 1))),
        decoder: decoder, sampler: sampler, projects: true, pictures: set.task.pictureCount.upperBound,
        key: RandomKey(seed: 2))
}

@Suite("The text sampler inside a model") struct TextSamplerTests {
    /// Rounding of float32 logits below 10.
    private let rounding = 1e-5

    @Test(
        "packed questions are answered as where each is a text of its own with the sampler as a reducer",
        arguments: ["digit-grid", "panels"], [1, 2])
    func packed(_ name: String, _ layer: Int) throws {
        let set = set(name)
        let sampler = FocusTextSampler(keep: 3, layer: layer)
        let (seated, plain) = (model(set, sampler, depth: layer + 1), model(set, nil, depth: layer + 1))
        let batch = set.batch(of: Array(0..<5), augmentation: nil)
        let packed = try seated.answers(to: batch)
        let alone = try plain.answers(to: batch, reducers: Reducers(decoder: [sampler]))
        let real = (batch.labels .>= 0).cast(to: .float32).unsqueezed(2)
        #expect(relativeDifference(packed.logits * real, alone.logits * real) < rounding)
        // It takes something away, and says what.
        #expect(relativeDifference(packed.logits * real, plain(batch) * real) > 1e-3)
        let traced = try seated.answers(to: batch, tracked: true)
        let wanted = try plain.answers(to: batch, reducers: Reducers(decoder: [sampler]), tracked: true)
        let (own, theirs) = (try #require(traced.origins), try #require(wanted.origins))
        #expect(relativeDifference(own, theirs) == 0)
        // Everything kept is the model without it.
        let whole = model(set, FocusTextSampler(keep: 9, layer: layer), depth: layer + 1)
        #expect(relativeDifference(whole(batch) * real, plain(batch) * real) < rounding)
    }

    @Test("in front of another layer than the last it decides for each question just so")
    func earlier() throws {
        let set = set("digit-grid")
        let sampler = FocusTextSampler(keep: 4, layer: 1)
        let batch = set.batch(of: [0, 1], augmentation: nil)
        let (seated, plain) = (model(set, sampler, depth: 3), model(set, nil, depth: 3))
        let wanted = try plain.answers(to: batch, reducers: Reducers(decoder: [sampler])).logits
        #expect(relativeDifference(seated(batch), wanted) < rounding)
        #expect(relativeDifference(seated(batch), plain(batch)) > 1e-3)
    }

    @Test("the kept tokens carry gradients; training draws its share for each step, and evaluation keeps the number")
    func training() throws {
        let set = set("digit-grid")
        let model = model(set, FocusTextSampler(keep: 2, layer: 1, trainingShares: 0.1...1), depth: 2)
        let batch = set.batch(of: [0, 1, 2], augmentation: nil)
        func step(_ seed: UInt64) -> (value: Tensor, gradients: Gradients) {
            valueAndGradient(of: model, randomness: RandomKey(seed: seed)) { crossEntropy($0(batch), batch.labels) }
        }
        let steps = (0..<6).map { step($0) }
        #expect(Set(steps.map { $0.value.item() }).count > 2)
        #expect(steps[0].value.item() == step(0).value.item())
        for path in ["encoder.patches.weight", "media.positions", "decoder.layers.1.attention.value.weight"] {
            #expect(steps[0].gradients[path]!.scalars(as: Float.self).contains { $0 != 0 }, "\(path)")
        }
        #expect(relativeDifference(model(batch), model(batch)) == 0)
    }

    @Test("the scale sampler's losses reach whoever trains, and its pictures may differ in length")
    func losses() throws {
        let set = set("digit-grid")
        let shape = set.task.pictureShape
        let encoder = CompactEncoder(
            .init(
                channels: shape.channels, imageSize: (shape.height, shape.width), patchSize: 4, width: 8, depth: 1,
                heads: 2), key: RandomKey(seed: 2))
        var scales = FocusScaleSampler(
            8, hidden: 8, window: 2, scales: [2, 1], wishes: .init(balance: 0.5, budget: 2, share: 0.4),
            key: RandomKey(seed: 3))
        // Half of the windows of these pictures get each scale.
        scales.fc2.weight = .normal(scales.fc2.weight.shape, key: RandomKey(seed: 4))
        let batch = set.batch(of: Array(0..<6), augmentation: nil)
        let pictures = batch.pictures.flattened(from: 0, to: 1)
        let chances: [Float] = scales.sampled(encoder.visualTokens(pictures).raster).probabilities.scalars()
        let leaning = stride(from: 0, to: chances.count, by: 2).map { log(chances[$0] / chances[$0 + 1]) }.sorted()
        scales.fc2.bias = Tensor([-leaning[leaning.count / 2], 0], shape: [2])
        let decoder = LanguageModel(
            .init(vocabulary: set.vocabulary.count, width: 8, hidden: 12, depth: 2, heads: 2, deviation: 0.3),
            key: RandomKey(seed: 2).folding("decoder"))
        let model = Model(
            encoder: encoder, compressor: AnyCompressor(scales), decoder: decoder, projects: true, pictures: 1,
            key: RandomKey(seed: 2))
        let (logits, losses) = model.answering(batch)
        #expect(losses.map(\.name) == ["balance", "budget"] && losses.map(\.weight) == [0.5, 2])
        let seen = try model.visualTokens(pictures, numbers: [Int](repeating: 0, count: 6))
        #expect(seen.mask != nil)
        // A picture alone, without the others' padding, gives the same.
        let single = model(set.batch(of: [4], augmentation: nil))
        #expect(relativeDifference(logits[4].sliced(axis: 0, 0..<single.shape[1]), single[0]) < rounding)
        // The loss is the task's and both.
        let task = VisualQuestions<Model>(training: set, validation: nil, batchSize: 6, key: RandomKey(seed: 1))
        let told = task.loss(model, batch)
        #expect(told.auxiliary == ["balance": losses[0].value.item(), "budget": losses[1].value.item()])
        let plain = crossEntropy(logits, batch.labels).item()
        let sum = plain + 0.5 * losses[0].value.item() + 2 * losses[1].value.item()
        #expect(abs(told.loss.item() - sum) < rounding)
        let gradients = valueAndGradient(of: model) { task.loss($0, batch).loss }.gradients
        #expect(gradients["compressor.fc2.weight"]!.scalars(as: Float.self).contains { $0 != 0 })
    }
}
