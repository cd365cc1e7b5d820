import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTraining
import OrderedCollections
import Synchronization
import Testing

/// Copies what a run has on the disk at this moment: what a kill would leave behind.
private func snapshot(_ folder: String, to copy: String) throws {
    try FileManager.default.copyItem(atPath: folder, toPath: copy)
}

/// The records without what a clock decides.
private func records(_ folder: String) throws -> [StepRecord] {
    try MetricsLog(path: folder + "/metrics.jsonl", upTo: .max).records.map {
        var record = $0
        (record.seconds, record.samplesPerSecond) = (0, 0)
        return record
    }
}

/// Restores, and expects that there is nothing to restore.
private func expectNoCheckpoint<Model: Module>(
    for state: inout TrainingState<Model>, in folder: String, sourceLocation: SourceLocation = #_sourceLocation
) throws {
    let found = try CheckpointStore(run: folder).restore(&state) { _ in }
    #expect(!found, sourceLocation: sourceLocation)
}

private func truncate(_ path: String, by bytes: Int) throws {
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    try data.dropLast(bytes).write(to: URL(fileURLWithPath: path))
}

/// Changes one bit of the last number of a safetensors file.
private func flipBit(of path: String) throws {
    var data = try Data(contentsOf: URL(fileURLWithPath: path))
    data[data.count - 3] ^= 4
    try data.write(to: URL(fileURLWithPath: path))
}

/// Changes a checkpoint's state.
private func replace(_ text: String, by other: String, in checkpoint: String) throws {
    let path = checkpoint + "/state.json"
    let state = try String(contentsOfFile: path, encoding: .utf8)
    try #require(state.contains(text))
    try state.replacing(text, with: other).write(toFile: path, atomically: true, encoding: .utf8)
}

/// Puts the file of another checkpoint in the place of a checkpoint's own.
private func copy(_ name: String, of other: String, to checkpoint: String) throws {
    try FileManager.default.removeItem(atPath: checkpoint + "/" + name)
    try FileManager.default.copyItem(
        atPath: checkpoint + "/../" + other + "/" + name, toPath: checkpoint + "/" + name)
}

/// A task that comes to scores of its own choice, one for each validation.
private struct Scored: TrainingTask {
    let scores: [(accuracy: Double, loss: Double)]
    private let asked = Counter()
    var batchSize: Int { 1 }

    init(scores: [(accuracy: Double, loss: Double)]) { self.scores = scores }

    private final class Counter: Sendable {
        let next = Atomic<Int>(0)
    }

    func batch(at step: Int, part: Int, of parts: Int) -> Int { step }

    func loss(_ model: TinyReader, _ batch: Int) -> TaskLoss {
        TaskLoss((model.head.bias! - 1).square().sum(), right: 0, samples: 1)
    }

    func validate(_ model: TinyReader) -> Evaluation? {
        let score = scores[asked.next.wrappingAdd(1, ordering: .relaxed).oldValue]
        return Evaluation(
            loss: score.loss, accuracy: score.accuracy, samples: 1, confusion: ConfusionMatrix(classes: 1))
    }
}

/// An optimizer that saves a state that no parameter has the shape of.
private struct Misshapen: Optimizer {
    let step = 0
    let learningRate = 1.0
    var state: OrderedDictionary<String, Tensor> { ["moment1.head.weight": .ones([3, 1])] }
    mutating func update<Model: Module>(_ model: inout Model, along gradients: Gradients) {}
    mutating func restore(step: Int, state: OrderedDictionary<String, Tensor>) throws(OptimizerStateError) {}
}

@Suite struct CheckpointTests {
    @Test("13 steps, a restore and 17 more are 30 steps, to the bit", arguments: [0, 2])
    func continuation(prefetch: Int) throws {
        try withTemporaryFolder { folder in
            var settings = tinySettings(30)
            settings.prefetch = prefetch
            let straight = try trainTiny(folder + "/straight", settings)
            #expect(straight.outcome == .finished)
            let first = try trainTiny(folder + "/parts", settings, stopAt: 13)
            #expect(first.outcome == .stopped(step: 13))
            let rest = try trainTiny(folder + "/parts", settings, opening: .resume)
            #expect(rest.outcome == .finished)
            #expect(StateBits(rest.state) == StateBits(straight.state))
            #expect(rest.state.step == 30 && rest.state.optimizer.step == 30 && rest.state.average?.updates == 30)
            // The record at step 16 averages over steps on both sides of the stop.
            #expect(try records(folder + "/parts") == records(folder + "/straight"))
        }
    }

    @Test("killed at any step, a run ends in the same bits")
    func kills() throws {
        try withTemporaryFolder { folder in
            let straight = try trainTiny(folder + "/straight", tinySettings(30)).state
            var copies: [String] = []
            var failure: (any Error)?
            try trainTiny(folder + "/run", tinySettings(30)) { event in
                guard case .stepped(let step, _, _) = event, [1, 9, 10, 11, 17, 20, 29, 30].contains(step) else {
                    return
                }
                copies.append(folder + "/killed-\(step)")
                do { try snapshot(folder + "/run", to: copies.last!) } catch { failure = error }
            }
            #expect(failure == nil)
            for copy in copies {
                let (outcome, state) = try trainTiny(copy, tinySettings(30), opening: .resume)
                #expect(outcome == .finished)
                #expect(StateBits(state) == StateBits(straight), "\(copy)")
                #expect(try records(copy) == records(folder + "/straight"), "\(copy)")
            }
        }
    }

    @Test("a run may be made longer, and goes on as the long one would have")
    func longer() throws {
        try withTemporaryFolder { folder in
            let long = try trainTiny(folder + "/long", tinySettings(24)).state
            try trainTiny(folder + "/short", tinySettings(12))
            let made = try trainTiny(folder + "/short", tinySettings(24), opening: .resume).state
            #expect(StateBits(made) == StateBits(long))
        }
    }

    @Test("restore gives every part of the state back")
    func everything() throws {
        try withTemporaryFolder { folder in
            let state = try trainTiny(folder, tinySettings(7)).state
            var restored = tinyState()
            #expect(try CheckpointStore(run: folder).restore(&restored) { _ in })
            #expect(StateBits(restored) == StateBits(state))
            #expect(restored.seconds == state.seconds && restored.peakBytes == state.peakBytes)
            #expect(
                restored.result.parameters["head.bias"]!.bytes()
                    == state.average!.model.parameters["head.bias"]!.bytes())
        }
    }

    @Test("without a checkpoint the state stays as it was")
    func none() throws {
        try withTemporaryFolder { folder in
            var state = tinyState()
            try expectNoCheckpoint(for: &state, in: folder)
            try expectNoCheckpoint(for: &state, in: folder + "/missing")
            #expect(StateBits(state) == StateBits(tinyState()))
        }
    }

    @Test("leftovers of a write that was cut short are removed, and ignored")
    func partial() throws {
        try withTemporaryFolder { folder in
            try trainTiny(folder, tinySettings(20))
            let leftover = folder + "/checkpoints/.partial-30"
            try FileManager.default.copyItem(atPath: folder + "/checkpoints/step-00000010", toPath: leftover)
            try truncate(leftover + "/model.safetensors", by: 5)
            var state = tinyState()
            #expect(CheckpointStore(run: folder).steps == [20, 10])
            #expect(CheckpointStore(run: folder).restoreForReading(&state) { _ in })
            // Reading leaves the folder to the process that may be writing to it.
            #expect(state.step == 20 && exists(leftover))
            #expect(try CheckpointStore(run: folder).restore(&state) { _ in })
            #expect(state.step == 20 && !exists(leftover))
            #expect(names(folder + "/checkpoints") == ["step-00000010", "step-00000020"])
        }
    }

    @Test("a folder that somebody named like a later step counts for nothing")
    func stray() throws {
        try withTemporaryFolder { folder in
            let store = CheckpointStore(run: folder, keepLast: 1)
            var state = TrainingState(
                model: Linear(2, 2, key: RandomKey(seed: 0)), optimizer: AdamW(learningRate: .constant(1)))
            state.step = 6
            try store.save(state)
            try FileManager.default.copyItem(atPath: store.path(6), toPath: folder + "/checkpoints/step-100")
            state.step = 8
            try store.save(state)
            #expect(store.steps == [8])
            #expect(FileManager.default.fileExists(atPath: folder + "/checkpoints/step-100"))
        }
    }

    @Test("leftovers do not stand in the way of the next checkpoint")
    func partialOfSameStep() throws {
        try withTemporaryFolder { folder in
            let leftover = folder + "/checkpoints/.partial-10"
            try FileManager.default.createDirectory(
                atPath: leftover + "/model.safetensors", withIntermediateDirectories: true)
            var state = tinyState()
            state.step = 10
            try CheckpointStore(run: folder).save(state)
            #expect(names(folder + "/checkpoints") == ["step-00000010"])
            #expect(names(folder + "/checkpoints/step-00000010").contains("state.json"))
        }
    }

    /// Ways in which a checkpoint may not hold together.
    private static let damages: [(String, @Sendable (String) throws -> Void)] = [
        ("a truncated model", { try truncate($0 + "/model.safetensors", by: 4) }),
        ("an empty model", { try Data().write(to: URL(fileURLWithPath: $0 + "/model.safetensors")) }),
        ("a truncated optimizer", { try truncate($0 + "/optimizer.safetensors", by: 4) }),
        ("a missing average", { try FileManager.default.removeItem(atPath: $0 + "/average.safetensors") }),
        ("a truncated state", { try truncate($0 + "/state.json", by: 20) }),
        ("no state", { try FileManager.default.removeItem(atPath: $0 + "/state.json") }),
        ("a format of the future", { try replace("\"formatVersion\" : 2", by: "\"formatVersion\" : 3", in: $0) }),
        ("one bit of the model", { try flipBit(of: $0 + "/model.safetensors") }),
        ("one bit of the optimizer", { try flipBit(of: $0 + "/optimizer.safetensors") }),
        ("one bit of the average", { try flipBit(of: $0 + "/average.safetensors") }),
        ("a digit of the state", { try replace("\"optimizerStep\" : 20", by: "\"optimizerStep\" : 10", in: $0) }),
        ("a state without its checksum", { try replace("\"checksum\"", by: "\"cheksum\"", in: $0) }),
        ("the state of another step", { try copy("state.json", of: "step-00000010", to: $0) }),
        ("the model of another step", { try copy("model.safetensors", of: "step-00000010", to: $0) }),
        (
            "all of another step",
            {
                let other = $0.replacing("step-00000020", with: "step-00000010")
                try FileManager.default.removeItem(atPath: $0)
                try FileManager.default.copyItem(atPath: other, toPath: $0)
            }
        ),
    ]

    @Test("a damaged newest checkpoint is passed over for the one before", arguments: damages.indices)
    func damaged(_ index: Int) throws {
        let (label, damage) = Self.damages[index]
        try withTemporaryFolder { folder in
            let straight = try trainTiny(folder + "/straight", tinySettings(30)).state
            try trainTiny(folder + "/run", tinySettings(20))
            try damage(folder + "/run/checkpoints/step-00000020")
            var state = tinyState()
            var reasons: [String] = []
            let store = CheckpointStore(run: folder + "/run")
            #expect(try store.restore(&state) { reasons.append("\($0)") }, "\(label)")
            #expect(state.step == 10, "\(label)")
            #expect(reasons.count == 1 && reasons[0].contains("/checkpoints/step-00000020"), "\(label): \(reasons)")
            let rest = try trainTiny(folder + "/run", tinySettings(30), opening: .resume)
            #expect(StateBits(rest.state) == StateBits(straight), "\(label)")
        }
    }

    @Test("hostile states are refused, each with one line")
    func hostileStates() throws {
        let corpus = repository + "/Tests/Fixtures/hostile/manifest"
        let hostile = try FileManager.default.contentsOfDirectory(atPath: corpus).sorted()
        #expect(hostile.count >= 7)
        try withTemporaryFolder { folder in
            try CheckpointStore(run: folder).save(tinyState())
            let path = folder + "/checkpoints/step-00000000/state.json"
            for name in hostile {
                try FileManager.default.removeItem(atPath: path)
                try FileManager.default.copyItem(atPath: corpus + "/" + name, toPath: path)
                var state = tinyState()
                let error = try #require(throws: FileError.self, "\(name)") {
                    try CheckpointStore(run: folder).restore(0, into: &state)
                }
                #expect(error.path == path && !error.description.contains("\n"))
            }
        }
    }

    @Test("moments of another shape than their parameter's are refused")
    func misshapenMoments() throws {
        try withTemporaryFolder { folder in
            var state = tinyState()
            state.optimizer = Misshapen()
            try CheckpointStore(run: folder).save(state)
            var other = tinyState()
            let error = try #require(throws: FileError.self) {
                try CheckpointStore(run: folder).restore(0, into: &other)
            }
            #expect(error.description.contains("moment1.head.weight is float32 [3, 1], unlike its parameter"))
        }
    }

    @Test("a damaged checkpoint is written again when the run reaches its step")
    func damagedIsReplaced() throws {
        try withTemporaryFolder { folder in
            let last = try trainTiny(folder, tinySettings(20)).state
            try truncate(folder + "/checkpoints/step-00000020/model.safetensors", by: 4)
            try trainTiny(folder, tinySettings(20), opening: .resume)
            var state = tinyState()
            #expect(try CheckpointStore(run: folder).restore(&state) { _ in })
            #expect(StateBits(state) == StateBits(last))
            #expect(names(folder + "/checkpoints") == ["step-00000010", "step-00000020"])
        }
    }

    @Test("a damaged checkpoint does not push usable ones out")
    func damagedIsNotCounted() throws {
        try withTemporaryFolder { folder in
            var settings = tinySettings(30)
            settings.keepCheckpoints = 2
            try trainTiny(folder, settings)
            settings.keepCheckpoints = 1
            try truncate(folder + "/checkpoints/step-00000030/model.safetensors", by: 4)
            // Goes on from 20 and stops before 30.
            let outcome = try trainTiny(folder, settings, opening: .resume, stopAt: 25).outcome
            #expect(outcome == .stopped(step: 25))
            var state = tinyState()
            #expect(try CheckpointStore(run: folder).restore(&state) { _ in })
            #expect(state.step == 25)
        }
    }

    @Test("with every checkpoint damaged a run starts anew")
    func allDamaged() throws {
        try withTemporaryFolder { folder in
            let straight = try trainTiny(folder, tinySettings(20)).state
            for step in ["step-00000010", "step-00000020"] {
                try truncate(folder + "/checkpoints/\(step)/model.safetensors", by: 4)
            }
            var started: Int?
            let again = try trainTiny(folder, tinySettings(20), opening: .resume) { event in
                if case .started(let step) = event { started = step }
            }
            #expect(started == 0)
            #expect(StateBits(again.state) == StateBits(straight))
        }
    }

    @Test("the checkpoints of another model are not taken")
    func otherModel() throws {
        try withTemporaryFolder { folder in
            try trainTiny(folder, tinySettings(10))
            struct Other: Module {
                var weight = Tensor.ones([2])

                mutating func visit(_ visitor: inout ModuleVisitor) { visitor.parameter("weight", &weight) }
            }
            var state = TrainingState(model: Other(), optimizer: AdamW(learningRate: .constant(1)))
            try expectNoCheckpoint(for: &state, in: folder)
            #expect(state.model.weight.doubles == [1, 1])
            // Nor those of another optimizer.
            var sgd = tinyState()
            sgd.optimizer = SGD(learningRate: .constant(1))
            try expectNoCheckpoint(for: &sgd, in: folder)
        }
    }

    @Test(
        "as many checkpoints stay as are wanted, the newest",
        arguments: [(1, [30]), (2, [30, 20]), (9, [30, 20, 10])])
    func keepLast(_ keep: Int, _ expected: [Int]) throws {
        try withTemporaryFolder { folder in
            var settings = tinySettings(30)
            settings.keepCheckpoints = keep
            try trainTiny(folder, settings)
            #expect(CheckpointStore(run: folder).steps == expected)
        }
    }

    @Test("besides the newest, the best on the validation samples stay, by accuracy and then by loss")
    func keepBest() throws {
        func trained(_ keep: (last: Int, best: Int)) throws -> (steps: [Int], best: [Int]) {
            try withTemporaryFolder { folder in
                var settings = tinySettings(6)
                (settings.checkpointEvery, settings.logEvery, settings.validateEvery) = (1, 1, 1)
                (settings.keepCheckpoints, settings.keepBest) = keep
                var state = tinyState()
                let task = Scored(scores: [(0.2, 1), (0.9, 0.5), (0.9, 0.4), (0.9, .nan), (0.5, 0.1), (0.1, 0)])
                let run = try RunFolder(folder, .new)
                _ = try Trainer(task: task, settings: settings, folder: run, key: RandomKey(seed: 1)).run(&state)
                let store = CheckpointStore(run: folder)
                return (store.steps, store.best.map(\.step))
            }
        }
        #expect(try trained((1, 0)) == ([6], [6]))
        #expect(try trained((1, 1)) == ([6, 3], [3, 6]))
        #expect(try trained((1, 2)) == ([6, 3, 2], [3, 2, 6]))
        #expect(try trained((2, 3)) == ([6, 5, 4, 3, 2], [3, 2, 4, 5, 6]))
    }

    @Test("a folder that cannot be written to is an error that names it; earlier checkpoints stay")
    func unwritable() throws {
        try withTemporaryFolder { folder in
            try "a file".write(toFile: folder + "/checkpoints", atomically: true, encoding: .utf8)
            let error = try #require(throws: FileError.self) { try CheckpointStore(run: folder).save(tinyState()) }
            #expect(error.description.contains(folder + "/checkpoints"))
            #expect(!error.description.contains("\n"))
        }
    }
}
