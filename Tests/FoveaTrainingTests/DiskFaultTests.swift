import Foundation
import FoveaIO
import FoveaTensor
import FoveaTraining
import Testing

#if DEBUG
/// Disks that are full, and folders that go away, in the middle of a run. Release builds have no `WriteFaults`.
@Suite struct DiskFaultTests {
    /// Three checkpoints, and records between them.
    private static var settings: TrainingSettings {
        var settings = tinySettings(9)
        (settings.checkpointEvery, settings.logEvery) = (3, 2)
        return settings
    }

    private struct Outcome {
        /// What the run said and went on.
        var told: [FileError] = []
        /// What it ended with.
        var thrown: FileError?
    }

    /// Trains with faults, and expects that nothing but a `FileError` comes of it.
    private func train(_ folder: String, _ faults: WriteFaults, opening: RunFolder.Opening = .new) throws -> Outcome {
        var outcome = Outcome()
        do {
            try faults.injected {
                _ = try trainTiny(folder, Self.settings, opening: opening) {
                    if case .writeFailed(_, let error) = $0 { outcome.told.append(error) }
                }
            }
        } catch let error as FileError {
            outcome.thrown = error
        }
        return outcome
    }

    /// Expects that whatever has the name of a checkpoint is one, and that half a one takes up no room.
    private func expectSoundCheckpoints(_ folder: String, _ label: String) {
        #expect(!names(folder + "/checkpoints").contains { $0.hasPrefix(".partial-") }, "\(label)")
        let store = CheckpointStore(run: folder)
        for step in store.steps {
            var state = tinyState()
            #expect(throws: Never.self, "\(label)") { try store.restore(step, into: &state) }
            #expect(state.step == step)
        }
    }

    private func records(_ folder: String) throws -> [StepRecord] {
        try MetricsLog(path: folder + "/metrics.jsonl", upTo: .max).records.map {
            var record = $0
            (record.seconds, record.samplesPerSecond) = (0, 0)
            return record
        }
    }

    /// Expects that going on ends in the bits and the records of a run that met no fault.
    private func expectGoesOn(_ folder: String, as straight: String, _ bits: StateBits, _ label: String) throws {
        let rest = try trainTiny(folder, Self.settings, opening: .resume).state
        #expect(StateBits(rest) == bits, "\(label)")
        #expect(try records(folder) == records(straight), "\(label)")
        #expect(!names(folder + "/checkpoints").contains { $0.hasPrefix(".") }, "\(label)")
    }

    @Test(
        "a disk that is full, or fails, at any one change: said, never a corrupt checkpoint, and the same end",
        arguments: [ENOSPC, EIO])
    func once(code: Int32) throws {
        try withTemporaryFolder { folder in
            let straight = folder + "/straight"
            let counter = WriteFaults(.failure(code: code), at: 0...0, below: straight)
            var state: TrainingState<TinyReader>?
            try counter.injected { state = try trainTiny(straight, Self.settings, opening: .new).state }
            let bits = StateBits(try #require(state))
            // The first 50 are not all: every change until the run's end has its turn.
            #expect(counter.changes.count > 60)
            var survived = 0
            for change in 1...counter.changes.count {
                let run = folder + "/run-\(change)"
                let outcome = try train(
                    run, WriteFaults(.failure(code: code), at: change...change, below: run))
                let errors = outcome.told + [outcome.thrown].compactMap(\.self)
                #expect(errors.count == 1, "change \(change): \(errors)")
                for error in errors {
                    #expect(error.description.contains(String(cString: strerror(code))), "\(error)")
                    #expect(error.path.hasPrefix(run) && !error.description.contains("\n"), "\(error)")
                }
                survived += outcome.thrown == nil ? 1 : 0
                expectSoundCheckpoints(run, "change \(change)")
                if outcome.thrown == nil {
                    // The run got over it by itself; its log too.
                    #expect(CheckpointStore(run: run).steps.first == 9, "change \(change)")
                    #expect(try records(run) == records(straight), "change \(change)")
                }
                try expectGoesOn(run, as: straight, bits, "change \(change)")
            }
            // Two of three checkpoints are followed by another.
            #expect(survived > counter.changes.count / 2)
        }
    }

    @Test(
        "a disk that stays full, or read-only, or over quota: the run ends with an error, and the last checkpoint stays",
        arguments: [ENOSPC, EROFS, EDQUOT])
    func forGood(code: Int32) throws {
        try withTemporaryFolder { folder in
            let straight = folder + "/straight"
            let bits = StateBits(try trainTiny(straight, Self.settings, opening: .new).state)
            for first in stride(from: 1, through: 60, by: 7) {
                let run = folder + "/run-\(first)"
                let outcome = try train(run, WriteFaults(.failure(code: code), at: first...Int.max, below: run))
                let error = try #require(outcome.thrown, "from change \(first)")
                #expect(error.description.contains(String(cString: strerror(code))), "\(error)")
                expectSoundCheckpoints(run, "from change \(first)")
                // A checkpoint takes about 25 changes.
                #expect((CheckpointStore(run: run).steps.first ?? 0) >= (first > 60 ? 6 : first > 35 ? 3 : 0))
                try expectGoesOn(run, as: straight, bits, "from change \(first)")
            }
        }
    }

    @Test("files and folders are flushed before they have their names, and the folders above right after")
    func flushes() throws {
        try withTemporaryFolder { folder in
            let faults = WriteFaults(.failure(code: EIO), at: 0...0, below: folder)
            try faults.injected { _ = try trainTiny(folder, Self.settings) }
            let changes = faults.changes
            var (files, checkpoints) = (0, 0)
            for (index, change) in changes.enumerated() where change.kind == .rename {
                let above = (change.path as NSString).deletingLastPathComponent
                let name = (change.path as NSString).lastPathComponent
                let before = Array(changes[..<index].suffix(2))
                // What is taken away may come back with the power.
                guard !name.hasPrefix(".removed-") else { continue }
                if name.hasPrefix("step-") {
                    checkpoints += 1
                    // Its files were, each in its turn.
                    let partial = above + "/.partial-\(Int(name.dropFirst(5)) ?? 0)"
                    #expect(before.last == .init(.flush, partial), "\(change)")
                } else {
                    files += 1
                    #expect(before.last == .init(.flush, change.path), "\(change)")
                    #expect(before.first?.path == change.path, "\(change)")
                }
                #expect(index + 1 < changes.count && changes[index + 1] == .init(.flush, above), "\(change)")
            }
            // Model, optimizer, average and state of each of three, and the log.
            #expect(checkpoints == 3 && files == 13)
            let makings = changes.indices.filter {
                changes[$0].kind == .makeFolder && changes[$0].path.hasSuffix("/checkpoints")
            }
            #expect(makings.first.map { changes[$0 + 1] } == .init(.flush, folder))
        }
    }

    @Test("a run whose folder is removed says so, goes on, does not make it anew, and ends with an error")
    func removedFolder() throws {
        try withTemporaryFolder { folder in
            let run = folder + "/run"
            var told: [FileError] = []
            let error = try #require(throws: FileError.self) {
                try trainTiny(run, Self.settings, opening: .new) { event in
                    if case .stepped(5, _, _) = event { try? FileManager.default.removeItem(atPath: run) }
                    if case .writeFailed(_, let error) = event { told.append(error) }
                }
            }
            #expect(error.description.contains("removed"))
            // Records of steps 6 and 8, and the checkpoint of step 6; those of step 9 end the run.
            #expect(told.count == 4, "\(told)")
            #expect(!exists(run))
        }
    }

    @Test("a run whose folder is moved away and comes back misses nothing")
    func movedFolder() throws {
        try withTemporaryFolder { folder in
            let (run, straight) = (folder + "/run", folder + "/straight")
            try trainTiny(straight, Self.settings, opening: .new)
            var told = 0
            let outcome = try trainTiny(run, Self.settings, opening: .new) { event in
                if case .stepped(5, _, _) = event {
                    try? FileManager.default.moveItem(atPath: run, toPath: folder + "/away")
                }
                if case .stepped(7, _, _) = event {
                    try? FileManager.default.moveItem(atPath: folder + "/away", toPath: run)
                }
                if case .writeFailed = event { told += 1 }
            }.outcome
            #expect(outcome == .finished && told == 2)
            #expect(try records(run) == records(straight))
            #expect(CheckpointStore(run: run).steps == [9, 3])
        }
    }

    @Test("another run's folder in the place of the run's own is left alone")
    func replacedFolder() throws {
        try withTemporaryFolder { folder in
            let run = folder + "/run"
            var other: RunFolder?
            let error = try #require(throws: FileError.self) {
                try trainTiny(run, Self.settings, opening: .new) { event in
                    if case .stepped(5, _, _) = event {
                        try? FileManager.default.removeItem(atPath: run)
                        other = try? RunFolder(run, .new)
                    }
                }
            }
            #expect(other != nil && error.description.contains("replaced"))
            #expect(!exists(run + "/checkpoints"))
        }
    }

    @Test("a folder of checkpoints that is removed is made anew")
    func removedCheckpoints() throws {
        try withTemporaryFolder { folder in
            try trainTiny(folder, Self.settings) { event in
                if case .stepped(5, _, _) = event {
                    try? FileManager.default.removeItem(atPath: folder + "/checkpoints")
                }
            }
            #expect(CheckpointStore(run: folder).steps == [9, 6])
        }
    }
}
#endif
