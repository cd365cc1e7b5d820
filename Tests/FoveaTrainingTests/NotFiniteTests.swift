import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTraining
import Testing

/// Pictures of which some hold a value that is not a number.
private struct Blotted: Dataset {
    let pictures = TinyPictures(count: 30, jitter: 0)
    let blots: Set<Int>

    var count: Int { pictures.count }

    func batch(of indices: [Int], augmentation: RandomKey?) -> LabelledImages {
        let batch = pictures.batch(of: indices, augmentation: augmentation)
        var values: [Float] = batch.images.scalars()
        for (position, index) in indices.enumerated() where blots.contains(index) { values[position * 16 + 5] = .nan }
        return LabelledImages(images: Tensor(values, shape: batch.images.shape), labels: batch.labels)
    }
}

/// A loss that does something special at one step.
private struct Special: TrainingTask {
    let step: Int
    let loss: @Sendable (Tensor) -> Tensor
    var batchSize: Int { 1 }

    func batch(at step: Int, part: Int, of parts: Int) -> Int { step }

    func loss(_ model: TinyReader, _ batch: Int) -> TaskLoss {
        let weight = model.head.weight
        return TaskLoss(batch == step ? loss(weight) : (weight - 1).square().mean(), right: 0, samples: 1)
    }

    func validate(_ model: TinyReader) -> Evaluation? { nil }
}

@Suite struct NotFiniteTests {
    private func train<Task: TrainingTask>(
        _ task: Task, _ folder: String, stopAt: Int? = nil, _ change: (inout TrainingSettings) -> Void = { _ in },
        observe: (TrainingEvent) -> Void = { _ in }
    ) throws -> TrainingState<TinyReader> where Task.Model == TinyReader {
        var settings = tinySettings(30)
        settings.accumulation = 2
        change(&settings)
        var state = tinyState()
        let run = try RunFolder(folder, FileManager.default.fileExists(atPath: folder) ? .resume : .new)
        _ = try CheckpointStore(run: folder).restore(&state) { _ in }
        var done = state.step
        _ = try Trainer(task: task, settings: settings, folder: run, key: RandomKey(seed: 9))
            .run(
                &state,
                shouldStop: {
                    done += 1
                    return done == stopAt
                }, observe: observe)
        return state
    }

    private func blotted(_ blots: Set<Int>) -> TinyTask {
        TinyTask(training: Blotted(blots: blots), validation: nil, batchSize: 6, key: RandomKey(seed: 6))
    }

    @Test("a bad picture stops the run with the step, the batch's pictures and the first module that it spoilt")
    func picture() throws {
        let task = blotted([17])
        let step = try #require((0..<5).first { task.samples(at: $0).contains(17) })
        try withTemporaryFolder { folder in
            let error = try #require(throws: NotFiniteError.self) { try train(task, folder) }
            #expect(error.step == step + 1 && error.quantity == "loss" && error.value.isNaN)
            #expect(error.samples == task.samples(at: step) && error.samples.count == 6)
            let origin = try #require(error.origin)
            #expect(origin.kind == .output && origin.isNaN && origin.module == "patches", "\(origin)")
            let text = error.description
            #expect(text.contains("step \(step + 1): the loss is nan (samples ") && text.contains("17"))
            #expect(text.contains("module patches") && text.contains("onNonFinite: skip") && !text.contains("\n"))
        }
    }

    @Test("a gradient is traced to the op that made it")
    func gradient() throws {
        try withTemporaryFolder { folder in
            let task = Special(step: 4) { ($0 * 0).sqrt().sum() }
            let error = try #require(throws: NotFiniteError.self) { try train(task, folder) }
            #expect(error.step == 5 && error.quantity == "gradient norm" && !error.value.isFinite)
            let origin = try #require(error.origin)
            #expect(origin.kind == .gradient && origin.op == "sqrt" && origin.module == "head", "\(origin)")
            #expect(error.samples.isEmpty)
        }
    }

    @Test("detecting anomalies stops at a value that the loss does not show, and changes no bit where there is none")
    func detection() throws {
        try withTemporaryFolder { folder in
            // The square overflows, and the limit hides it.
            let task = Special(step: 4) { ($0 * 1e30).square().clamped(max: 1).mean() + $0.square().mean() }
            #expect(try train(task, folder + "/plain").step == 30)
            let error = try #require(throws: NotFiniteError.self) {
                try train(task, folder + "/watched") { $0.detectsAnomalies = true }
            }
            #expect(error.step == 5 && error.origin?.op == "square" && error.origin?.isNaN == false, "\(error)")
            #expect(error.description.contains("step 5: a value is not finite"))
        }
        try withTemporaryFolder { folder in
            let plain = try train(blotted([]), folder + "/plain")
            let watched = try train(blotted([]), folder + "/watched") { $0.detectsAnomalies = true }
            #expect(StateBits(plain) == StateBits(watched))
        }
    }

    @Test("skipping leaves bad steps out, counts and tells them, also across a stop")
    func skipping() throws {
        let task = blotted([4, 17])
        let bad = (0..<30).filter { !Set(task.samples(at: $0)).isDisjoint(with: [4, 17]) }
        #expect((5..<20).contains(bad.count))
        try withTemporaryFolder { folder in
            func skip(_ settings: inout TrainingSettings) { settings.onNonFinite = .skip }
            var skipped: [Int] = []
            var stepped: [Int] = []
            let straight = try train(task, folder + "/straight", skip) { event in
                if case .skipped(let error) = event { skipped.append(error.step - 1) }
                if case .stepped(let step, let loss, _) = event {
                    stepped.append(step - 1)
                    #expect(loss.isFinite)
                }
            }
            #expect(skipped == bad && straight.skippedSteps == bad.count && straight.step == 30)
            #expect(stepped == (0..<30).filter { !bad.contains($0) })
            #expect(straight.optimizer.step == 30 - bad.count)
            #expect(straight.model.parameters.values.allSatisfy { $0.doubles.allSatisfy(\.isFinite) })
            let records = try MetricsLog(path: folder + "/straight/metrics.jsonl", upTo: 30).records
            #expect(records.allSatisfy { $0.loss.isFinite && $0.gradientNorm.isFinite })
            let notes = records.flatMap { $0.notes ?? [] }
            #expect(notes == bad.map { "step \($0 + 1): the loss is nan; skipped" })

            _ = try train(task, folder + "/parts", stopAt: bad[2] + 1, skip)
            let rest = try train(task, folder + "/parts", skip)
            #expect(StateBits(rest) == StateBits(straight) && rest.skippedSteps == bad.count)
        }
    }

    @Test("a run that can only skip ends with an error after a hundred steps")
    func onlySkips() throws {
        try withTemporaryFolder { folder in
            var skips = 0
            func change(_ settings: inout TrainingSettings) {
                settings.onNonFinite = .skip
                settings.steps = 1_000
            }
            let error = try #require(throws: NotFiniteError.self) {
                try train(blotted(Set(0..<30)), folder, change) { if case .skipped = $0 { skips += 1 } }
            }
            #expect(skips == 100 && error.step == 101)
        }
    }

    @Test("a spike of the loss or of the gradient is told with its step, and so it is after a stop; nothing else is")
    func spikes() throws {
        struct Spike: Equatable {
            let step: Int
            let quantity: String
        }
        func spikes(_ task: Special, _ folder: String, stopAt: Int? = nil) throws -> [Spike] {
            var found: [Spike] = []
            func change(_ settings: inout TrainingSettings) {
                settings.spikeDeviations = 8
                settings.steps = 60
            }
            _ = try train(task, folder, stopAt: stopAt, change) { event in
                if case .spiked(let step, let quantity, let value, let usual) = event {
                    found.append(Spike(step: step, quantity: quantity))
                    #expect(value > usual)
                }
            }
            return found
        }
        let both = [Spike(step: 41, quantity: "loss"), Spike(step: 41, quantity: "gradient norm")]
        try withTemporaryFolder { folder in
            #expect(try spikes(Special(step: 40) { ($0 - 1).square().mean() * 100 }, folder + "/both") == both)
            let records = try MetricsLog(path: folder + "/both/metrics.jsonl", upTo: 60).records
            #expect(records.filter { $0.notes != nil }.map(\.step) == [44])
            #expect(records.flatMap { $0.notes ?? [] }.count == 2)
            // Large, but not a slope.
            #expect(
                try spikes(Special(step: 40) { ($0 - 1).square().mean() + 100 }, folder + "/loss")
                    == [Spike(step: 41, quantity: "loss")])
            // The first steps have nothing to be compared with.
            #expect(try spikes(Special(step: 10) { ($0 - 1).square().mean() * 100 }, folder + "/early") == [])
            let task = Special(step: 40) { ($0 - 1).square().mean() * 100 }
            #expect(try spikes(task, folder + "/parts", stopAt: 35) == [])
            #expect(try spikes(task, folder + "/parts") == both)
        }
    }
}
