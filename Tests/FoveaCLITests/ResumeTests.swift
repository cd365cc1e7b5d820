import Foundation
import Testing

/// Stopping and going on.
@Suite("Resuming")
struct ResumeTests {
    @Test("a finished run has nothing to do, and stays as it is to the last byte and second")
    func finished() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        let before = try bench.snapshot()
        #expect(try bench.prints(["train", "tiny.yaml", "--output", "run", "--resume"]).contains("nothing to do"))
        #expect(try bench.snapshot().changes(since: before).isEmpty)
    }

    @Test("of a finished run resuming mends what is damaged or gone", arguments: ["model.safetensors", "recipe.yaml"])
    func mending(_ name: String) throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        let whole = try bench.data("run/" + name)
        for damage in ["cut", "gone"] {
            let path = bench.file("run/" + name)
            try FileManager.default.removeItem(atPath: path)
            // A recipe that cannot be read is refused: it may be another's.
            if damage == "cut", name == "model.safetensors" { try bench.write("short", to: "run/" + name) }
            try bench.prints(["train", "tiny.yaml", "--output", "run", "--resume"])
            #expect(try bench.data("run/" + name) == whole, "\(damage)")
        }
    }

    @Test("raising training.steps trains on, as if it had been so from the start")
    func raised() throws {
        let bench = try Workbench()
        // With a constant rate, a longer run is the shorter one and more.
        try bench.prepare(["training.schedule": "constant"])
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try bench.prints(["train", "tiny.yaml", "--output", "run", "--resume", "--set", "training.steps=30"])
        try bench.prints(["train", "tiny.yaml", "--output", "straight", "--set", "training.steps=30"])
        #expect(try bench.report("run").steps == 30)
        #expect(try bench.text("run/recipe.yaml").contains("steps: 30"))
        try bench.expectSameRun("run", "straight")
    }

    @Test("a folder without a run in it starts at step 0")
    func emptyFolder() throws {
        let bench = try Workbench()
        try bench.prepare()
        try FileManager.default.createDirectory(atPath: bench.file("run"), withIntermediateDirectories: false)
        try bench.prints(["train", "tiny.yaml", "--output", "run", "--resume"])
        try bench.prints(["train", "tiny.yaml", "--output", "straight"])
        try bench.expectSameRun("run", "straight")
    }

    /// Something that may be wrong with a file of a checkpoint.
    enum Damage: String, CaseIterable, CustomTestStringConvertible {
        case modelTruncated, modelGone, optimizerEmpty, optimizerOfAnotherRun, stateGone, stateNoJSON,
            stateOfAnotherFormat

        var testDescription: String { rawValue }

        func apply(to checkpoint: String, in bench: Workbench) throws {
            let (model, optimizer, state) = (
                checkpoint + "/model.safetensors", checkpoint + "/optimizer.safetensors", checkpoint + "/state.json"
            )
            switch self {
            case .modelTruncated: try bench.write(try bench.data(model).dropLast(1), to: model)
            case .modelGone: try FileManager.default.removeItem(atPath: bench.file(model))
            case .optimizerEmpty: try bench.write("", to: optimizer)
            case .optimizerOfAnotherRun: try bench.write(try bench.data(model), to: optimizer)
            case .stateGone: try FileManager.default.removeItem(atPath: bench.file(state))
            case .stateNoJSON: try bench.write("{", to: state)
            case .stateOfAnotherFormat:
                let text = try bench.text(state)
                try bench.write(
                    text.replacingOccurrences(of: "\"formatVersion\" : 2", with: "\"formatVersion\" : 9"), to: state)
            }
        }
    }

    @Test(
        "a damaged checkpoint is passed over for the one before, and without any the run starts anew",
        arguments: Damage.allCases)
    func damaged(_ damage: Damage) throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "straight"])
        for victims in [[20], [15, 20]] {
            try? FileManager.default.removeItem(atPath: bench.file("run"))
            try FileManager.default.copyItem(atPath: bench.file("straight"), toPath: bench.file("run"))
            for victim in victims {
                try damage.apply(to: "run/checkpoints/step-000000\(victim)", in: bench)
            }
            let outcome = try Command.run(["train", "tiny.yaml", "--output", "run", "--resume"], in: bench.path)
            #expect(outcome.exitCode == 0, "\(outcome.summary)")
            #expect(outcome.output.contains("going on after step 15") == (victims == [20]), "\(outcome.output)")
            // It says which it cannot use, newest first.
            let warnings = outcome.errors.split(separator: "\n")
            #expect(warnings.count == victims.count, "\(outcome.errors)")
            for (victim, warning) in zip(victims.reversed(), warnings) {
                #expect(warning.hasPrefix("fovea: warning: ") && warning.contains("step-000000\(victim)"))
            }
            // The damaged checkpoint of the last step does not stand in the way of the new one.
            try bench.expectSameRun("run", "straight")
        }
    }

    @Test("a damaged checkpoint of a later step does not push out the ones that are being written")
    func damagedAndKeepingOne() throws {
        let bench = try Workbench()
        try bench.prepare([
            "training.steps": "1000", "training.checkpointEvery": "100000", "training.keepCheckpoints": "1",
            "training.logEvery": "1",
        ])
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try Damage.modelTruncated.apply(to: "run/checkpoints/step-00001000", in: bench)
        // The log of the first time goes when the run starts anew, and grows again.
        let long = try bench.data("run/metrics.jsonl").count
        let running = try Command.start(["train", "tiny.yaml", "--output", "run", "--resume"], in: bench.path)
        #expect(running.waits(until: { (try? 1..<long ~= bench.data("run/metrics.jsonl").count) == true }))
        running.send(SIGINT)
        let outcome = running.wait()
        #expect(outcome.exitCode == 130, "\(outcome.summary)")
        let steps = bench.checkpoints("run")
        #expect(steps.count == 1 && outcome.output.contains("stopped after step \(steps[0]);"), "\(outcome.summary)")
    }

    @Test("what was logged after the last checkpoint, half a line too, is logged again and once")
    func logAfterCheckpoint() throws {
        let bench = try Workbench()
        try bench.prepare(["training.logEvery": "2", "training.checkpointEvery": "5", "training.keepCheckpoints": "9"])
        try bench.prints(["train", "tiny.yaml", "--output", "straight"])
        try FileManager.default.copyItem(atPath: bench.file("straight"), toPath: bench.file("run"))
        for step in [15, 20] {
            try FileManager.default.removeItem(atPath: bench.file("run/checkpoints/step-000000\(step)"))
        }
        try FileManager.default.removeItem(atPath: bench.file("run/report.json"))
        let log = try bench.text("run/metrics.jsonl")
        try bench.write(String(log.dropLast(30)), to: "run/metrics.jsonl")
        try bench.prints(["train", "tiny.yaml", "--output", "run", "--resume"])
        #expect(try bench.metrics("run").map(\.step) == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20])
        try bench.expectSameRun("run", "straight")
    }

    @Test("Ctrl-C saves, says how to go on and exits with 130; a request to end likewise with 143")
    func interrupted() throws {
        let bench = try Workbench()
        // No checkpoint falls due before the interruption: the one that is there is the interruption's own. On a busy
        // machine the run may be well on its way before this one gets to look.
        try bench.prepare([
            "training.steps": "1200", "training.checkpointEvery": "100000", "model.dropout": "0.1",
            "data.maxShift": "1", "training.averageDecay": "0.9",
        ])
        try bench.prints(["train", "tiny.yaml", "--output", "straight"])

        for (signal, exitCode, run) in [(SIGINT, Int32(130), "a run"), (SIGTERM, Int32(143), "another run")] {
            let arguments = ["train", "tiny.yaml", "--output", run]
            let running = try Command.start(arguments, in: bench.path)
            #expect(running.waits(until: { (try? bench.text("\(run)/metrics.jsonl").isEmpty) == false }))
            running.send(signal)
            let outcome = running.wait()
            #expect(outcome.exitCode == exitCode, "\(outcome.summary)")
            #expect(outcome.errors.isEmpty)
            let step = try #require(bench.checkpoints(run).last)
            #expect(step < 1200 && bench.checkpoints(run) == [step])
            #expect(
                outcome.output.contains(
                    "stopped after step \(step); the checkpoint is \(try bench.newestCheckpoint(run))"))
            #expect(!bench.exists("\(run)/report.json"))

            // What it says can be typed as it is.
            let line = try #require(outcome.output.split(separator: "\n").last { $0.hasPrefix("go on with: ") })
            #expect(line == "go on with: fovea train tiny.yaml --output '\(run)' --resume")
            let resumed = try bench.prints(arguments + ["--resume"])
            #expect(resumed.contains("going on after step \(step)"))
            try bench.expectSameRun(run, "straight")
        }
    }

    @Test("progress is written line by line while it happens")
    func progress() throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "1000000"])
        let running = try Command.start(["train", "tiny.yaml", "--output", "run"], in: bench.path)
        #expect(running.waits(until: { running.output.contains("training ") && running.output.hasSuffix("\n") }))
        #expect(running.isRunning)
    }

    @Test("a second process is refused while the first trains, and not once it is dead")
    func locked() throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "1000000"])
        let running = try Command.start(["train", "tiny.yaml", "--output", "run"], in: bench.path)
        #expect(running.waits(until: { bench.exists("run/metrics.jsonl") && bench.checkpoints("run").count > 1 }))
        for flag in ["--resume", "--overwrite"] {
            let arguments = ["train", "tiny.yaml", "--output", "run", flag]
            let outcome = try Command.run(arguments, in: bench.path)
            #expect(outcome.exitCode == 1, "\(outcome.summary)")
            #expect(outcome.errors.contains("run: another process is training in this folder"))
            #expect(outcome.errors.filter(\.isNewline).count == 1)
        }
        // It can be looked at all the same.
        #expect(try bench.prints(["evaluate", "run"]).contains("at step"))
        #expect(running.isRunning)
        running.send(SIGKILL)
        #expect(running.wait().signal == SIGKILL)
        // Refused no longer: what is wrong now is the recipe.
        let outcome = try Command.run(
            ["train", "tiny.yaml", "--output", "run", "--resume", "--set", "training.steps=5"], in: bench.path)
        #expect(outcome.errors.contains("training.steps is 5 and was 1000000"))
        try bench.prints(["train", "tiny.yaml", "--output", "run", "--overwrite", "--set", "training.steps=5"])
        #expect(try bench.report("run").steps == 5)
    }
}
