import Fovea
import FoveaTestSupport
import Testing

private typealias Model = VisionLanguageModel<CompactEncoder, MLPProjector>

/// Ways for pictures into the decoder.
enum Way: CaseIterable {
    case prefix, gated, hyper, vlora

    func injector(_ decoder: LanguageModel, tokens: Int) -> (any Injector)? {
        switch self {
        case .prefix: return nil
        case .gated:
            var options = GatedCrossAttention.Options(width: 8, mediaWidth: 6, heads: 2, headWidth: 4)
            options.seesLastMediumOnly = false
            options.gateInitializer = .ones
            return GatedCrossAttentionLayers(
                options, layers: decoder.layers.count, interval: 1, key: RandomKey(seed: 3))
        case .hyper:
            return HyperAttentionLayers(Array(decoder.layers.indices), of: decoder, fusion: .tokenGates)
        case .vlora:
            var options = VLoRA.Options(
                width: 8, depth: 1, imageWidth: 6, imageTokens: tokens, modelWidth: 8,
                modelDepth: decoder.layers.count, rank: 2)
            options.heads = 2
            var vlora = VLoRA(options, key: RandomKey(seed: 4))
            vlora.outputs = .normal(vlora.outputs.shape, deviation: 0.3, key: RandomKey(seed: 5))
            return vlora
        }
    }
}

private func reader(_ set: QuestionSet, way: Way = .prefix, depth: Int = 2) -> Model {
    let shape = set.task.pictureShape
    let encoder = CompactEncoder(
        .init(
            channels: shape.channels, imageSize: (shape.height, shape.width), patchSize: 8, width: 8, depth: 1,
            heads: 2), key: RandomKey(seed: 2))
    let decoder = LanguageModel(
        .init(vocabulary: set.vocabulary.count, width: 8, hidden: 12, depth: depth, heads: 2, deviation: 0.3),
        key: RandomKey(seed: 2).folding("decoder"))
    return Model(
        encoder: encoder, compressor: MLPProjector(8, outputs: 6, key: RandomKey(seed: 1)), decoder: decoder,
        injector: way.injector(decoder, tokens: encoder.tokenShape.count), projects: true,
        pictures: set.task.pictureCount.upperBound, key: RandomKey(seed: 2))
}

private func set(_ name: String, types: [String]? = nil) -> QuestionSet {
    QuestionSet("test", of: QuestionTasks.task(name, digits: digits.test)!, types: types)
}

private func rows(_ logits: Tensor) -> [[Float]] {
    let width = logits.shape[2]
    let values: [Float] = logits.scalars()
    return stride(from: 0, to: values.count, by: width).map { Array(values[$0..<$0 + width]) }
}

private func difference(_ a: [Float], _ b: [Float]) -> Float {
    a.count == b.count ? zip(a, b).map { abs($0 - $1) }.max() ?? 0 : .infinity
}

/// Takes nothing away.
private struct Idle: LayerReducer {
    func seat(inLayer layer: Int) -> LayerSeat? { .afterLayer }
    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens { tokens }
}

@Suite("packed questions") struct PackedQuestionTests {
    /// Rounding of float32 logits below 10.
    private let rounding: Float = 1e-5

    /// The ways that take several pictures, on tasks with several and with one.
    private static let cases = Way.allCases.flatMap { way in
        (way == .vlora ? ["digit-grid"] : ["panels", "digit-grid"]).map { (way, $0) }
    }

    @Test("a batch answers what its samples do alone, whatever it is filled up with", arguments: cases)
    func singles(_ way: Way, _ name: String) {
        let set = set(name)
        let model = reader(set, way: way)
        let batch = set.batch(of: Array(0..<5), augmentation: nil)
        let (together, slots) = (rows(model(batch)), batch.labels.shape[1])
        for index in 0..<5 {
            let alone = rows(model(set.batch(of: [index], augmentation: nil)))
            for (slot, row) in alone.enumerated() {
                #expect(difference(row, together[index * slots + slot]) < rounding, "\(index), \(slot)")
            }
        }
    }

    @Test("an answer does not depend on what else is asked, nor on its place among the questions", arguments: cases)
    func independence(_ way: Way, _ name: String) {
        let set = set(name)
        let model = reader(set, way: way)
        let sample = set.sample(0)
        let all = rows(model(set.packed([sample])))
        var turned = sample
        turned.questions.reverse()
        #expect(zip(all, rows(model(set.packed([turned]))).reversed()).allSatisfy { difference($0, $1) < rounding })
        for (index, question) in sample.questions.enumerated() {
            var single = sample
            single.questions = [question]
            #expect(difference(rows(model(set.packed([single])))[0], all[index]) < rounding, "\(question.words)")
        }
    }

    @Test("each question sees every picture of its sample, and no other's", arguments: [Way.prefix, .gated, .hyper])
    func everyPicture(_ way: Way) {
        let set = set("panels")
        let model = reader(set, way: way)
        let batch = set.batch(of: [0, 1], augmentation: nil)
        let (slots, before) = (batch.labels.shape[1], rows(model(batch)))
        let asked = (0..<2).map { set.sample($0).questions.count }
        for picture in 0..<set.sample(0).pictures.count {
            var pixels: [Float] = batch.pictures.scalars()
            let size = batch.pictures.count / (2 * batch.pictures.shape[1])
            for place in picture * size..<(picture + 1) * size { pixels[place] = 1 - pixels[place] }
            var other = batch
            other.pictures = Tensor(pixels, shape: batch.pictures.shape)
            let after = rows(model(other))
            for slot in 0..<asked[0] { #expect(difference(before[slot], after[slot]) > 1e-6, "\(picture), \(slot)") }
            for slot in slots..<slots + asked[1] { #expect(difference(before[slot], after[slot]) == 0) }
        }
    }

    @Test("packed questions are what the decoder reads of each behind its pictures' placeholders", arguments: cases)
    func unpacked(_ way: Way, _ name: String) throws {
        let set = set(name)
        let model = reader(set, way: way)
        let batch = set.batch(of: [0, 1, 2], augmentation: nil)
        let (packed, slots) = (rows(model(batch)), batch.labels.shape[1])
        guard let injector = model.injector else {
            // A reducer that takes nothing away has each question read by itself.
            let single = try model.answers(to: batch, reducers: Reducers(decoder: [Idle()]))
            for (slot, label) in batch.labels.scalars(as: Int64.self).enumerated() where label >= 0 {
                #expect(difference(rows(single.logits)[slot], packed[slot]) < rounding)
            }
            return
        }
        for index in 0..<3 {
            let sample = set.sample(index)
            let count = sample.pictures.count
            let pictures = batch.pictures[index].sliced(axis: 0, 0..<count)
            let seen = try model.visualTokens(pictures, numbers: Array(0..<count)).features
            let injection = injector.injection(
                of: seen, at: PicturePlaces([Array(0..<count)]), in: model.decoder)
            for (slot, question) in sample.questions.enumerated() {
                let ids = try question.words.map { Int64(try set.vocabulary.id(of: $0)) }
                let tokens = LayerTokens(
                    features: model.decoder.embed(Tensor(ids, shape: [1, ids.count])),
                    positions: Tensor(ids.indices.map { Double(count + $0) }, shape: [1, ids.count]))
                var cache = KeyValueCache(for: model.decoder, policy: .original)
                let read = model.decoder.reading(tokens, cache: &cache, injection: injection)
                let alone = rows(model.decoder.logits(read.last))[0]
                #expect(difference(alone, packed[index * slots + slot]) < rounding, "\(question.words)")
            }
        }
    }

    @Test("reducers in encoder and decoder and between them; each answer says of which patches it is read")
    func reduced() throws {
        let set = set("panels")
        let model = reader(set)
        let batch = set.batch(of: [0, 1], augmentation: nil)
        let whole = try model.answers(to: batch, tracked: true)
        let (slots, most) = (batch.labels.shape[1], batch.pictures.shape[1])
        let patches = 9 * most
        #expect(whole.origins?.shape == [2, slots, patches, patches])
        let counts = (0..<2).map { set.sample($0).pictures.count }
        func patchesSeen(_ origins: Tensor, _ sample: Int, _ slot: Int) -> [Int] {
            let shares: [Float] = origins[sample][slot].sum(axes: [0]).scalars()
            return shares.indices.filter { shares[$0] > 0 }
        }
        #expect(patchesSeen(whole.origins!, 0, 0) == Array(0..<9 * counts[0]))

        // Between encoder and decoder: each picture keeps so many patches, the same for all questions.
        let picked = try model.answers(
            to: batch, reducers: Reducers(tokens: [UniformSelection(keep: 3)]), tracked: true)
        #expect(patchesSeen(picked.origins!, 1, 0).count == 3 * counts[1])
        #expect(difference(rows(picked.logits)[0], rows(whole.logits)[0]) > 1e-6)

        // In the decoder: so many patches of each picture, for each question its own.
        let dropped = try model.answers(
            to: batch, reducers: Reducers(decoder: [FastV(keep: 4, layer: 1)]), tracked: true)
        let asked = set.sample(0).questions.count
        let kept = (0..<asked).map { patchesSeen(dropped.origins!, 0, $0) }
        #expect(kept.allSatisfy { $0.count == 4 * counts[0] })
        #expect(Set(kept).count > 1, "every question keeps the same")
        // One after the other they are asked as all at once.
        var single = set.sample(0)
        single.questions = [single.questions[1]]
        let alone = try model.answers(
            to: set.packed([single]), reducers: Reducers(decoder: [FastV(keep: 4, layer: 1)]))
        #expect(difference(rows(alone.logits)[0], rows(dropped.logits)[1]) < rounding)

        // In the encoder: positions of what is merged are mixed as it is.
        let merged = try model.answers(
            to: batch, reducers: Reducers(encoder: [ToMeLayers(ReductionSchedule([2]))]), tracked: true)
        #expect(merged.origins?.shape == [2, slots, 7 * most, patches])
        #expect(patchesSeen(merged.origins!, 0, 0).count == 9 * counts[0])
        #expect(difference(rows(merged.logits)[0], rows(whole.logits)[0]) > 1e-6)
    }

    @Test("pictures that the model cannot take are errors of one line")
    func refusals() throws {
        let panels = set("panels")
        let model = reader(panels)
        var batch = panels.batch(of: [0], augmentation: nil)
        batch.pictures = .zeros([1, 9, 1, 24, 24])
        batch.pictureMask = nil
        func refused(_ model: Model, _ batch: PackedQuestions, _ words: String) {
            let error = #expect(throws: LanguageModelError.self) { _ = try model.answers(to: batch) }
            #expect(error?.description.contains(words) == true, "\(String(describing: error))")
        }
        refused(model, batch, "9 pictures are more than the 8")
        batch.pictures = .zeros([1, 1, 1, 16, 24])
        refused(model, batch, "are not [B, 1, 24, 24]")
        let several = panels.batch(of: [0], augmentation: nil)
        refused(reader(panels, way: .vlora), several, "VLoRA makes weights of one")
    }

    @Test("an answer depends on the picture, on each word of the question, and on which picture is where")
    func dependence() {
        let (grid, panels) = (set("digit-grid"), set("panels"))
        let model = reader(grid)
        let first = grid.batch(of: [0], augmentation: nil)
        var other = first
        other.pictures = grid.batch(of: [1], augmentation: nil).pictures
        #expect(difference(rows(model(first))[0], rows(model(other))[0]) > 1e-3)
        other = first
        var ids: [Int64] = first.ids.scalars()
        ids[1] += 1
        other.ids = Tensor(ids, shape: first.ids.shape)
        #expect(difference(rows(model(first))[0], rows(model(other))[0]) > 1e-3)
        var sample = panels.sample(0)
        let order = reader(panels)
        let before = rows(order(panels.packed([sample])))
        sample.pictures.reverse()
        #expect(difference(before[0], rows(order(panels.packed([sample])))[0]) > 1e-3)
    }

    @Test("the gradient of every parameter agrees with finite differences", arguments: cases)
    func gradients(_ way: Way, _ name: String) {
        let set = set(name)
        let model = reader(set, way: way).cast(to: .float64)
        var batch = set.batch(of: [0, 1], augmentation: nil)
        batch.pictures = batch.pictures.cast(to: .float64)
        let (_, gradients) = valueAndGradient(of: model) { crossEntropy($0(batch), batch.labels) }
        for (path, parameter) in model.parameters {
            let direction = Tensor.normal(parameter.shape, key: RandomKey(seed: 9).folding(path), dtype: .float64)
            func loss(_ step: Double) -> Double {
                var moved = model
                moved.forEachParameter { other, tensor in if other == path { tensor = tensor + direction * step } }
                return crossEntropy(moved(batch), batch.labels).item()
            }
            let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
            let want = (gradients[path]! * direction).sum().item()
            // Rounding of a difference of losses below 10, over the step; and the third derivative's share.
            #expect(abs(slope - want) < 1e-7 + 1e-5 * abs(want), "\(path): \(slope) and \(want)")
        }
    }

    @Test("each parameter and member is visited: as many numbers as the sizes say")
    func visits() {
        let set = set("panels")
        let model = reader(set)
        let c = 8
        let patches = 9
        let v = set.vocabulary.count
        let stem = (64 * c + c) + (9 * c * c + c) + patches * c
        let block = 4 * (c * c + c) + 4 * c + (c * 2 * c + 2 * c) + (2 * c * c + c)
        let decoder = 2 * v * c + 2 * (4 * c * c + 3 * 12 * c + 2 * c) + c
        #expect(
            model.parameterCount == stem + block + 2 * c + (c * 6 + 6 + 6 * 6 + 6) + (6 * c + c) + patches * c + 8 * c
                + decoder)
    }

    @Test("a few steps of Muon learn the questions of one batch by heart")
    func learns() {
        let set = set("digit-grid", types: ["digit"])
        var model = reader(set)
        let batch = set.batch(of: [0, 1], augmentation: nil)
        var muon = Muon(learningRate: .constant(0.02), weightDecay: 0)
        for _ in 0..<120 {
            let (_, gradients) = valueAndGradient(of: model) { crossEntropy($0(batch), batch.labels) }
            muon.update(&model, along: gradients)
        }
        #expect(crossEntropy(model(batch), batch.labels).item() < 0.1)
    }
}

@Suite struct QuestionScoreTests {
    /// Gives the right answer to every question of the first half of the types, and the padding to the others.
    private struct Oracle: QuestionAnswerer {
        let vocabulary: Int
        mutating func visit(_ visitor: inout ModuleVisitor) {}
        func callAsFunction(_ questions: PackedQuestions) -> Tensor {
            let known = (questions.labels .>= 0) .& (questions.types .< 2)
            let labels: [Int64] = questions.labels.scalars()
            let right = zip(labels, known.scalars(as: Bool.self)).map { $1 ? $0 : 0 }
            return Tensor(right, shape: questions.labels.shape).oneHot(classes: vocabulary)
        }
    }

    @Test("scores by type: who knows two types of four is right in those alone")
    func oracle() throws {
        let set = set("digit-grid")
        let names = set.task.types.map(\.name)
        let whole = evaluate(Oracle(vocabulary: set.vocabulary.count), on: set, types: names)
        let scores = try #require(whole.questions)
        #expect(scores.map(\.type) == names)
        #expect(scores.map(\.asked) == [9000, 2000, 2000, 2000])
        #expect(scores.map(\.accuracy) == [1, 1, 0, 0])
        #expect(whole.samples == 15_000 && whole.accuracy == 11.0 / 15)
    }

    @Test("Wilson's interval of independent questions; wider where a sample's answers go together")
    func interval() {
        // 81 of 100: from Wilson's formula by hand, 0.7222 to 0.8749.
        let single = QuestionScore(type: "a", samples: (0..<100).map { (1, $0 < 81 ? 1 : 0) })
        #expect(abs(single.lower - 0.7222) < 1e-4 && abs(single.upper - 0.8749) < 1e-4)
        // The same share, but ten answers at once right or wrong: as 100 questions, not 1,000.
        let together = QuestionScore(type: "a", samples: (0..<100).map { (10, $0 < 81 ? 10 : 0) })
        #expect(abs(together.lower - single.lower) < 1e-12 && abs(together.upper - single.upper) < 1e-12)
        let spread = QuestionScore(type: "a", samples: (0..<100).map { _ in (10, 8) })
        #expect(spread.upper - spread.lower < single.upper - single.lower)
        let perfect = QuestionScore(type: "a", samples: (0..<100).map { _ in (1, 1) })
        #expect(perfect.upper == 1 && perfect.lower > 0.95 && perfect.lower < 0.97)
        #expect(QuestionScore(type: "a", samples: []).upper == 1)
    }
}
