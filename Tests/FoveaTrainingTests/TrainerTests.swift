import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTraining
import Testing

/// A task that goes wrong at one step.
private struct Poisoned: TrainingTask {
    enum Poison { case loss, gradient }

    let step: Int
    let poison: Poison
    var batchSize: Int { 1 }

    func batch(at step: Int, part: Int, of parts: Int) -> Int { step }

    func loss(_ model: TinyReader, _ batch: Int) -> TaskLoss {
        let bias = model.head.bias!
        var loss = (bias - 1).square().sum()
        if batch == step {
            // The square root of zero is zero, and its slope is infinite.
            loss = poison == .loss ? loss * .nan : (bias * 0).sqrt().sum()
        }
        return TaskLoss(loss, right: 0, samples: 1)
    }

    func validate(_ model: TinyReader) -> Evaluation? { nil }
}

/// A task of three samples a step that has nothing to learn, and a wish besides that is known beforehand.
private struct Wishing: TrainingTask {
    var batchSize: Int { 3 }

    func batch(at step: Int, part: Int, of parts: Int) -> Int { 10 * step + 3 * part }

    func loss(_ model: TinyReader, _ batch: Int) -> TaskLoss {
        TaskLoss(
            (model.head.bias! * 0).sum(), right: 0, samples: 1,
            adding: [AuxiliaryLoss("wish", Tensor([Float(batch)]), weight: 0.5)])
    }

    func validate(_ model: TinyReader) -> Evaluation? { nil }
}

@Suite struct TrainerTests {
    @Test("training teaches: the loss falls and the pictures are told apart")
    func learns() throws {
        try withTemporaryFolder { folder in
            let (outcome, state) = try trainTiny(folder, tinySettings(60))
            #expect(outcome == .finished && state.step == 60)
            let found = evaluate(state.model, on: TinyPictures(count: 60, seed: 2))
            #expect(found.accuracy > 0.9)
            #expect(found.loss < evaluate(tinyState().model, on: TinyPictures(count: 60, seed: 2)).loss / 2)
        }
    }

    @Test("what a run tells: every step, records and checkpoints when they are due")
    func events() throws {
        try withTemporaryFolder { folder in
            var (steps, logged, saved): ([Int], [StepRecord], [Int]) = ([], [], [])
            var started: Int?
            try trainTiny(folder, tinySettings(30)) { event in
                switch event {
                case .started(let step): started = step
                case .stepped(let step, let loss, let accuracy):
                    steps.append(step)
                    #expect(loss.isFinite && (0...1).contains(accuracy))
                case .logged(let record): logged.append(record)
                case .checkpointed(let step, let path):
                    saved.append(step)
                    #expect(exists(path + "/model.safetensors"))
                case .skipped, .spiked, .writeFailed: Issue.record("\(event)")
                }
            }
            #expect(started == 0 && steps == Array(1...30) && saved == [10, 20, 30])
            #expect(logged.map(\.step) == [4, 8, 12, 16, 20, 24, 28, 30])
            #expect(logged.filter { $0.validationAccuracy != nil }.map(\.step) == [8, 16, 24, 30])
            let schedule = Schedule.warmupCosine(peak: 0.02, warmup: 3, total: 30)
            #expect(logged.map(\.learningRate) == logged.map { schedule.rate(at: $0.step - 1) })
            #expect(try MetricsLog(path: folder + "/metrics.jsonl", upTo: 30).records == logged)
        }
    }

    @Test("a batch in parts, of equal or unequal size, trains like the batch in one", arguments: [2, 3, 8])
    func accumulation(parts: Int) throws {
        func parameters(_ parts: Int) throws -> [String: [Double]] {
            try withTemporaryFolder { folder in
                var settings = tinySettings(4)
                settings.accumulation = parts
                // Plain steps: Adam would blow rounding up where gradients are near zero.
                let model = TinyReader(dropout: 0)
                var state = TrainingState(model: model, optimizer: SGD(learningRate: .constant(0.1)))
                // Samples without augmentation, whose numbers belong to a part.
                let task = TinyTask(
                    training: TinyPictures(count: 30, jitter: 0), validation: nil, batchSize: 8, key: RandomKey(seed: 6)
                )
                let run = try RunFolder(folder, .new)
                _ = try Trainer(task: task, settings: settings, folder: run, key: RandomKey(seed: 1)).run(&state)
                return Dictionary(uniqueKeysWithValues: state.model.parameters.map { ($0.key, $0.value.doubles) })
            }
        }
        let whole = try parameters(1)
        for (path, values) in try parameters(parts) {
            #expect(difference(values, whole[path]!) < 1e-6, "\(path)")
        }
    }

    @Test("prefetch changes nothing, whatever its depth", arguments: [1, 2, 7])
    func prefetch(depth: Int) throws {
        func train(_ depth: Int, _ parts: Int) throws -> StateBits {
            try withTemporaryFolder { folder in
                var settings = tinySettings(30)
                settings.prefetch = depth
                settings.accumulation = parts
                return StateBits(try trainTiny(folder, settings).state)
            }
        }
        for parts in [1, 3] {
            let (ahead, plain) = (try train(depth, parts), try train(0, parts))
            #expect(ahead == plain)
        }
    }

    @Test("the seed decides: the same key gives the same bits, another key others")
    func seeds() throws {
        func train(_ seed: UInt64) throws -> StateBits {
            try withTemporaryFolder { folder in
                var state = tinyState()
                let run = try RunFolder(folder, .new)
                _ = try Trainer(task: tinyTask(), settings: tinySettings(6), folder: run, key: RandomKey(seed: seed))
                    .run(&state)
                return StateBits(state)
            }
        }
        // The key reaches dropout alone here: the order of the data has one of its own.
        let (first, again, other) = (try train(1), try train(1), try train(2))
        #expect(first == again)
        #expect(first.model != other.model)
    }

    @Test("what is added to the loss is logged before it is weighed, each part by its size", arguments: [1, 2])
    func auxiliary(parts: Int) throws {
        try withTemporaryFolder { folder in
            var settings = tinySettings(4)
            (settings.accumulation, settings.logEvery) = (parts, 2)
            var (state, records): (TrainingState<TinyReader>, [StepRecord]) = (tinyState(), [])
            _ = try Trainer(
                task: Wishing(), settings: settings, folder: RunFolder(folder, .new), key: RandomKey(seed: 1)
            ).run(&state, observe: { if case .logged(let record) = $0 { records.append(record) } })
            // The second of two parts has two of three samples.
            let wanted = parts == 1 ? [5.0, 25] : [7, 27]
            #expect(records.count == 2)
            for (record, wish) in zip(records, wanted) {
                #expect(abs((record.auxiliaryLosses?["wish"] ?? .nan) - wish) < 1e-9)
                #expect(abs(record.loss - 0.5 * wish) < 1e-5)
            }
        }
    }

    @Test("clipping bounds the step, and the log tells the norm before it")
    func clipping() throws {
        try withTemporaryFolder { folder in
            var settings = tinySettings(1)
            settings.clipNorm = 1e-3
            let model = TinyReader(dropout: 0)
            var state = TrainingState(model: model, optimizer: SGD(learningRate: .constant(1)))
            var norm = 0.0
            _ = try Trainer(
                task: tinyTask(), settings: settings, folder: RunFolder(folder, .new), key: RandomKey(seed: 1)
            )
            .run(
                &state,
                observe: { event in
                    if case .logged(let record) = event { norm = record.gradientNorm }
                })
            #expect(norm > 0.1)
            var moved = 0.0
            for (path, tensor) in state.model.parameters {
                moved += zip(tensor.doubles, model.parameters[path]!.doubles).reduce(0) {
                    $0 + ($1.0 - $1.1) * ($1.0 - $1.1)
                }
            }
            // float32 weights near one keep a step of 1e-3 to about 1e-4 of it.
            #expect(abs(moved.squareRoot() - 1e-3) < 1e-6)
        }
    }

    @Test("frozen parameters keep their bits, and get no state")
    func frozen() throws {
        try withTemporaryFolder { folder in
            var settings = tinySettings(10)
            settings.trained = !.path("patches.**")
            let state = try trainTiny(folder, settings).state
            let start = tinyState().model.parameters
            for (path, tensor) in state.model.parameters {
                #expect((tensor.bytes() == start[path]!.bytes()) == path.hasPrefix("patches."), "\(path)")
            }
            #expect(!state.optimizer.state.keys.contains { $0.contains("patches") })
        }
    }

    @Test("a loss that is not a number ends the run with an error; the last checkpoint stays")
    func notFiniteLoss() throws {
        try withTemporaryFolder { folder in
            var settings = tinySettings(30)
            settings.checkpointEvery = 4
            var state = tinyState()
            let run = try RunFolder(folder, .new)
            let trainer = Trainer(
                task: Poisoned(step: 6, poison: .loss), settings: settings, folder: run, key: RandomKey(seed: 1))
            let error = try #require(throws: NotFiniteError.self) { _ = try trainer.run(&state) }
            #expect(error.step == 7 && error.quantity == "loss" && error.value.isNaN)
            #expect(!error.description.contains("\n"))
            #expect(state.step == 6)
            #expect(state.model.parameters.values.allSatisfy { $0.doubles.allSatisfy { $0.isFinite } })
            #expect(CheckpointStore(run: folder).steps == [4])
        }
    }

    @Test("so does a gradient that is not a number, before it reaches the weights")
    func notFiniteGradient() throws {
        try withTemporaryFolder { folder in
            var state = tinyState()
            let run = try RunFolder(folder, .new)
            var settings = tinySettings(30)
            settings.prefetch = 0
            let trainer = Trainer(
                task: Poisoned(step: 2, poison: .gradient), settings: settings, folder: run, key: RandomKey(seed: 1))
            let error = try #require(throws: NotFiniteError.self) { _ = try trainer.run(&state) }
            #expect(error.step == 3 && error.quantity == "gradient norm" && !error.value.isFinite)
            #expect(state.model.parameters.values.allSatisfy { $0.doubles.allSatisfy { $0.isFinite } })
        }
    }

    @Test("shouldStop stops after the step, and saves")
    func stops() throws {
        try withTemporaryFolder { folder in
            let (outcome, state) = try trainTiny(folder, tinySettings(30), stopAt: 13)
            #expect(outcome == .stopped(step: 13) && state.step == 13)
            #expect(CheckpointStore(run: folder).steps == [13, 10])
            var restored = tinyState()
            #expect(try CheckpointStore(run: folder).restore(&restored) { _ in })
            #expect(StateBits(restored) == StateBits(state))
        }
    }

    @Test("a stop at the last step is a finished run")
    func stopAtEnd() throws {
        try withTemporaryFolder { folder in
            let outcome = try trainTiny(folder, tinySettings(10), stopAt: 10).outcome
            #expect(outcome == .finished)
        }
    }

    @Test("going on with a finished run changes no file")
    func finished() throws {
        try withTemporaryFolder { folder in
            func contents() -> [String: Data] {
                var contents: [String: Data] = [:]
                for case let name as String in FileManager.default.enumerator(atPath: folder)! {
                    contents[name] = FileManager.default.contents(atPath: folder + "/" + name)
                }
                return contents
            }
            let first = try trainTiny(folder, tinySettings(12)).state
            let before = contents()
            let (outcome, state) = try trainTiny(folder, tinySettings(12), opening: .resume)
            #expect(outcome == .finished)
            #expect(contents() == before)
            #expect(StateBits(state) == StateBits(first))
        }
    }

    /// The counters are the process's: a process of its own keeps other tests out of them.
    @Test("1,000 steps leave the number of live buffers where it was", arguments: [0, 2])
    func liveBuffers(prefetch: Int) async {
        await #expect(processExitsWith: .success) { [prefetch = prefetch as Int] in
            let start = StoragePool.statistics.liveBuffers
            try withTemporaryFolder { folder in
                var settings = tinySettings(1_000)
                settings.prefetch = prefetch
                (settings.checkpointEvery, settings.logEvery, settings.validateEvery) = (10_000, 10_000, 10_000)
                var (early, late) = (0, 0)
                let state = try trainTiny(folder, settings) { event in
                    if case .stepped(let step, _, _) = event {
                        // With prefetch, batches that wait come and go on the other thread.
                        if prefetch == 0, step == 10 { early = StoragePool.statistics.liveBuffers }
                        if prefetch == 0, step == 999 { late = StoragePool.statistics.liveBuffers }
                    }
                }.state
                #expect(late == early)
                #expect(state.step == 1_000)
            }
            // The thread that prefetches may hold its last batch for a moment longer.
            for _ in 0..<6_000 where StoragePool.statistics.liveBuffers != start { usleep(10_000) }
            #expect(StoragePool.statistics.liveBuffers == start)
        }
    }
}

@Suite struct EvaluationTests {
    @Test func confusion() {
        var matrix = ConfusionMatrix(classes: 3)
        #expect(matrix.total == 0 && matrix.accuracy == 0)
        let logits = Tensor([0.1, 0.9, 0, 2, 1, 0, 0, 0, 1, -3, -1, -2] as [Float], shape: [4, 3])
        matrix.add(logits, Tensor([Int64(1), 0, 0, 2]))
        #expect(matrix.counts == [[1, 0, 1], [0, 1, 0], [0, 1, 0]])
        #expect(matrix.total == 4 && matrix.accuracy == 0.5)
        matrix.add(logits.sliced(axis: 0, 0..<1), Tensor([Int64(1)]))
        #expect(matrix.counts[1][1] == 2 && matrix.accuracy == 0.6)
    }

    @Test("evaluation is the same in batches of any size, without augmentation or dropout")
    func batches() {
        let model = TinyReader(dropout: 0.9)
        let pictures = TinyPictures(count: 23)
        let whole = evaluate(model, on: pictures, batchSize: 23)
        #expect(whole.samples == 23 && whole.confusion.total == 23)
        #expect(whole.accuracy == whole.confusion.accuracy)
        let batch = pictures.batch(of: Array(0..<23), augmentation: nil)
        #expect(abs(whole.loss - crossEntropy(model(batch.images), batch.labels).item()) < 1e-6)
        for size in [1, 5, 100] {
            let parts = evaluate(model, on: pictures, batchSize: size)
            #expect(parts.confusion == whole.confusion)
            #expect(abs(parts.loss - whole.loss) < 1e-6)
        }
    }

    @Test("nothing to evaluate is no error")
    func empty() {
        let found = evaluate(TinyReader(), on: TinyPictures(count: 0))
        #expect(found.samples == 0 && found.loss == 0 && found.accuracy == 0)
    }
}
