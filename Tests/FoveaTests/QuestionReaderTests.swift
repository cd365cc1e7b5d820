import Foundation
import Fovea
import FoveaTestSupport
import Testing

private let digits: Digits = {
    let folder =
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path + "/Data/digits"
    guard let digits = try? Digits(folder: folder) else { fatalError("the shipped digits cannot be read") }
    return digits
}()

private func reader(_ set: QuestionSet, depth: Int = 2) -> QuestionReader<MLPProjector> {
    let shape = set.task.pictureShape
    let options = QuestionReaderOptions(
        channels: shape.channels, imageSize: (shape.height, shape.width), pictures: set.task.pictureCount.upperBound,
        patchSize: 8, width: 8, encoderDepth: 1, encoderHeads: 2,
        decoder: .init(
            vocabulary: set.vocabulary.count, width: 8, hidden: 12, depth: depth, heads: 2, deviation: 0.3))
    return QuestionReader(
        options, compressor: MLPProjector(8, outputs: 6, key: RandomKey(seed: 1)), key: RandomKey(seed: 2))
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

@Suite struct QuestionReaderTests {
    /// Rounding of float32 logits below 10.
    private let rounding: Float = 1e-5

    @Test(
        "a batch answers what its samples do alone, whatever it is filled up with", arguments: ["panels", "digit-grid"])
    func singles(_ name: String) {
        let set = set(name)
        let model = reader(set)
        let batch = set.batch(of: Array(0..<5), augmentation: nil)
        let (together, slots) = (rows(model(batch)), batch.labels.shape[1])
        for index in 0..<5 {
            let alone = rows(model(set.batch(of: [index], augmentation: nil)))
            for (slot, row) in alone.enumerated() {
                #expect(difference(row, together[index * slots + slot]) < rounding, "\(index), \(slot)")
            }
        }
    }

    @Test("an answer does not depend on what else is asked, nor on its place among the questions")
    func independence() {
        let set = set("digit-grid")
        let model = reader(set)
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

    @Test("the gradient of every parameter agrees with finite differences", arguments: ["panels", "tiny"])
    func gradients(_ name: String) {
        let set = set(name)
        let model = reader(set).cast(to: .float64)
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
    func oracle() {
        let set = set("digit-grid")
        let names = set.task.types.map(\.name)
        let scores = scores(of: Oracle(vocabulary: set.vocabulary.count), on: set, types: names)
        #expect(scores.map(\.type) == names)
        #expect(scores.map(\.asked) == [9000, 2000, 2000, 2000])
        #expect(scores.map(\.accuracy) == [1, 1, 0, 0])
        let whole = evaluate(Oracle(vocabulary: set.vocabulary.count), on: set)
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
