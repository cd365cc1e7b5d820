import Foundation
import Testing

/// SIGKILL at any instant, any number of times: the run ends in the same bits as one that was never stopped.
@Suite("Kills")
struct KillTests {
    /// What a kill waits for.
    private enum Aim: CaseIterable {
        /// A random time.
        case anyInstant
        /// A file of the run that is being written: the log as a run starts, the model or the report as it ends.
        case fileWrite
    }

    /// How many kills; `make kills` asks for 200.
    private static let kills = ProcessInfo.processInfo.environment["FOVEA_KILLS"].flatMap { Int($0) } ?? 24
    /// A run that its kills do not outlast: a session ends a few checkpoints after it began.
    private static let steps = max(240, kills * 15)

    private static let recipe: [String: String?] = [
        "training.steps": "\(steps)", "training.checkpointEvery": "3", "training.logEvery": "4",
        "training.prefetch": "4", "training.batchSize": "12", "training.accumulation": "2",
        "training.averageDecay": "0.95", "training.clipNorm": "1.0", "model.dropout": "0.1", "data.maxShift": "1",
        "data.holdOutValidation": "true", "training.validateEvery": "60",
    ]

    @Test(
        "kills, half of them in the middle of a write, lose at most one interval and no bit", .timeLimit(.minutes(60)))
    func kills() throws {
        let bench = try Workbench()
        try bench.prepare(KillTests.recipe)
        let start = Date()
        try bench.prints(["train", "tiny.yaml", "--output", "straight"])
        // Of the order of a short run, so that most kills come before its end on fast machines and slow ones.
        let longest = Date().timeIntervalSince(start) / 3 * 240 / Double(KillTests.steps)
        let steps = try bench.metrics("straight").map(\.step)
        #expect(steps == Array(stride(from: 4, through: KillTests.steps, by: 4)))

        var random = SplitMix(state: 20)
        var (kills, cutCheckpoints, round) = (0, 0, 0)
        // A run that ends before its kills are done makes room for another: there are always enough of them.
        while kills < KillTests.kills {
            let run = "run-\(round)"
            round += 1
            try #require(round <= KillTests.kills / 2, "runs end before they are killed")
            var isFinished = false
            while !isFinished, kills < KillTests.kills {
                // Half kill themselves in the middle of a change of a file; a checkpoint is some 25 of them.
                let isInside = kills % 2 == 0
                let running = try Command.start(
                    ["train", "tiny.yaml", "--output", run, bench.exists(run) ? "--resume" : "--overwrite"],
                    in: bench.path,
                    environment: isInside ? ["FOVEA_WRITE_FAULTS": "kill:\(12 + random.next() % 75)"] : [:])
                if !isInside {
                    wait(for: Aim.allCases[kills / 2 % 2], running, bench.file(run), longest, &random)
                    running.send(SIGKILL)
                }
                let outcome = running.wait()
                isFinished = outcome.exitCode == 0
                guard !isFinished else { break }
                try #require(outcome.signal == SIGKILL, "\(outcome.summary)")
                kills += 1
                cutCheckpoints +=
                    entries(bench.file(run + "/checkpoints")).contains { $0.hasPrefix(".partial-") } ? 1 : 0
                // Of what was done, the steps since the last checkpoint at most are lost.
                let logged = bench.loggedSteps(run).max() ?? 0
                #expect(logged - (bench.checkpoints(run).last ?? 0) <= 3, "kill \(kills)")
            }
            try bench.prints(["train", "tiny.yaml", "--output", run, "--resume"])
            try bench.expectSameRun(run, "straight")
            #expect(try bench.metrics(run).map(\.step) == steps)
            #expect(try bench.text(run + "/report.json").contains("validationAccuracy"))
            #expect(!entries(bench.file(run + "/checkpoints")).contains { $0.hasPrefix(".") })
        }
        #expect(cutCheckpoints >= KillTests.kills / 4, "only \(cutCheckpoints) kills hit a checkpoint being written")
    }

    /// Returns at the instant to kill at, or when the process has ended.
    private func wait(
        for aim: Aim, _ running: Running, _ run: String, _ longest: Double, _ random: inout SplitMix
    ) {
        let delay = Double(random.next() % 1_000) / 1_000 * longest
        let moment = Date(timeIntervalSinceNow: delay)
        while running.isRunning {
            let isDue = Date() >= moment
            switch aim {
            case .anyInstant:
                if isDue { return }
                usleep(200)
            case .fileWrite:
                if entries(run).contains(where: { $0.hasPrefix(".") && $0.contains(".tmp-") }) { return }
                // Between start and end there is none; the end may be far.
                if Date() >= moment + longest { return }
            }
        }
    }

    private func entries(_ folder: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    }

    @Test("kills while an old run is being replaced never mix the two", .timeLimit(.minutes(30)))
    func killsWhileOverwriting() throws {
        let bench = try Workbench()
        try bench.prepare(["training.keepCheckpoints": "40", "training.checkpointEvery": "1", "training.steps": "40"])
        try bench.prints(["train", "tiny.yaml", "--output", "old"])
        let other = ["--set", "training.seed=1", "--set", "training.steps=6"]
        try bench.prints(["train", "tiny.yaml", "--output", "straight"] + other)
        let before = entries(bench.file("old")).count
        for _ in 0..<4 {
            try? FileManager.default.removeItem(atPath: bench.file("run"))
            try FileManager.default.copyItem(atPath: bench.file("old"), toPath: bench.file("run"))
            let arguments = ["train", "tiny.yaml", "--output", "run"] + other
            let running = try Command.start(arguments + ["--overwrite"], in: bench.path)
            // As soon as the first of the old files is gone.
            while running.isRunning, entries(bench.file("run")).count == before {}
            running.send(SIGKILL)
            _ = running.wait()
            let outcome = try Command.run(arguments + ["--resume"], in: bench.path)
            if outcome.exitCode == 0 {
                try bench.expectSameRun("run", "straight")
            } else {
                #expect(outcome.errors.contains("training.seed is 1 and was 0"), "\(outcome.summary)")
            }
        }
    }
}

/// Random numbers that are the same in every run of the tests.
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
