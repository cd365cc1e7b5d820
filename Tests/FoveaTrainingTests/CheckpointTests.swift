import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTraining
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
    let found = try CheckpointStore(run: folder).restore(&state)
    #expect(!found, sourceLocation: sourceLocation)
}

private func truncate(_ path: String, by bytes: Int) throws {
    let data = try Data(contentsOf: URL(fileURLWithPath: path))
    try data.dropLast(bytes).write(to: URL(fileURLWithPath: path))
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
            #expect(try CheckpointStore(run: folder).restore(&restored))
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
            #expect(CheckpointStore(run: folder).restoreForReading(&state))
            // Reading leaves the folder to the process that may be writing to it.
            #expect(state.step == 20 && exists(leftover))
            #expect(try CheckpointStore(run: folder).restore(&state))
            #expect(state.step == 20 && !exists(leftover))
            #expect(names(folder + "/checkpoints") == ["step-00000010", "step-00000020"])
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
        (
            "a format of the future",
            { folder in
                let path = folder + "/state.json"
                let text = try String(contentsOfFile: path, encoding: .utf8)
                try text.replacing("\"formatVersion\" : 1", with: "\"formatVersion\" : 2")
                    .write(toFile: path, atomically: true, encoding: .utf8)
            }
        ),
        (
            "moments of another shape in a file of the same length",
            { folder in
                let path = folder + "/optimizer.safetensors"
                var tensors = try SafetensorsFile(reading: path).tensors()
                for name in tensors.keys { tensors[name] = tensors[name]!.reshaped(to: [-1, 1]) }
                for name in tensors.keys where name.hasSuffix("head.weight") {
                    tensors[name] = .ones([3, 1])
                }
                try writeSafetensors(tensors, to: path)
                let state = folder + "/state.json"
                let size = try Data(contentsOf: URL(fileURLWithPath: path)).count
                let text = try String(contentsOfFile: state, encoding: .utf8)
                try text.replacing(#/"optimizer.safetensors" : \d+/#, with: "\"optimizer.safetensors\" : \(size)")
                    .write(toFile: state, atomically: true, encoding: .utf8)
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
            #expect(try CheckpointStore(run: folder + "/run").restore(&state), "\(label)")
            #expect(state.step == 10, "\(label)")
            let rest = try trainTiny(folder + "/run", tinySettings(30), opening: .resume)
            #expect(StateBits(rest.state) == StateBits(straight), "\(label)")
        }
    }

    @Test("a damaged checkpoint is written again when the run reaches its step")
    func damagedIsReplaced() throws {
        try withTemporaryFolder { folder in
            let last = try trainTiny(folder, tinySettings(20)).state
            try truncate(folder + "/checkpoints/step-00000020/model.safetensors", by: 4)
            try trainTiny(folder, tinySettings(20), opening: .resume)
            var state = tinyState()
            #expect(try CheckpointStore(run: folder).restore(&state))
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
            #expect(try CheckpointStore(run: folder).restore(&state))
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
