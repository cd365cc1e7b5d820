import Foundation
import Fovea
import Testing

/// What the command says and does when disks, terminals and numbers fail.
@Suite("Faults")
struct FaultTests {
    #if DEBUG
    @Test("a checkpoint that a full disk refuses is a warning, and the run ends as it would have")
    func fullForAMoment() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "straight"])
        let outcome = try Command.run(
            ["train", "tiny.yaml", "--output", "run"], in: bench.path,
            environment: ["FOVEA_WRITE_FAULTS": "full:20-22"])
        #expect(outcome.exitCode == 0, "\(outcome.summary)")
        let lines = outcome.errors.split(separator: "\n")
        #expect(!lines.isEmpty && lines.allSatisfy { $0.hasPrefix("fovea: warning: step ") }, "\(outcome.errors)")
        #expect(outcome.errors.contains("No space left on device"))
        try bench.expectSameRun("run", "straight")
    }

    @Test(
        "a disk that stays full ends the run with 1, names the last good checkpoint and how to go on",
        arguments: ["full", "quota", "read-only"])
    func fullForGood(_ fault: String) throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "straight"])
        let arguments = ["train", "tiny.yaml", "--output", "run"]
        let outcome = try Command.run(
            arguments, in: bench.path, environment: ["FOVEA_WRITE_FAULTS": fault + ":60-"])
        #expect(outcome.exitCode == 1, "\(outcome.summary)")
        let last = try #require(bench.checkpoints("run").last)
        #expect(outcome.output.contains("the last good checkpoint is of step \(last)\n"), "\(outcome.summary)")
        #expect(outcome.output.contains("fovea train tiny.yaml --output run --resume"))
        #expect(outcome.errors.split(separator: "\n").last?.hasPrefix("fovea: error: run/") == true)
        try bench.prints(arguments + ["--resume"])
        try bench.expectSameRun("run", "straight")
    }
    #endif

    @Test("a second process on the folder of a run is refused, and the run goes on")
    func secondProcess() throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "1000000"])
        let running = try Command.start(["train", "tiny.yaml", "--output", "run"], in: bench.path)
        #expect(running.waits(until: { !bench.checkpoints("run").isEmpty }))
        for option in ["--resume", "--overwrite"] {
            let outcome = try Command.run(["train", "tiny.yaml", "--output", "run", option], in: bench.path)
            #expect(outcome.exitCode == 1 && outcome.errors.contains("another process is training"))
        }
        let step = bench.checkpoints("run").last ?? 0
        #expect(running.waits(until: { (bench.checkpoints("run").last ?? 0) > step }))
        running.send(SIGTERM)
        #expect(running.wait().exitCode == 143)
    }

    @Test(
        "a terminal that closes, and a reader that goes, end a run with a checkpoint",
        arguments: [(SIGHUP, Int32(129)), (SIGPIPE, Int32(141))])
    func closed(_ signal: Int32, _ exitCode: Int32) throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "1000000", "training.checkpointEvery": "1000000"])
        let running = try Command.start(["train", "tiny.yaml", "--output", "run"], in: bench.path)
        #expect(running.waits(until: { (try? bench.text("run/metrics.jsonl").isEmpty) == false }))
        // A terminal may say so more than once.
        running.send(signal)
        running.send(signal)
        let outcome = running.wait()
        #expect(outcome.exitCode == exitCode, "\(outcome.summary)")
        #expect(bench.checkpoints("run").count == 1)
    }

    @Test("under nohup a terminal that closes ends nothing")
    func ignoredHangUp() throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "1000000", "training.checkpointEvery": "1000000"])
        let outcome = try shell(
            """
            trap '' HUP
            "$0" train tiny.yaml --output run >output & run=$!
            lines() { cat run/metrics.jsonl 2>/dev/null | wc -l; }
            waits() { while kill -0 $run && [ "$(lines)" -lt "$1" ]; do sleep 0.02; done; }
            waits 1
            kill -HUP $run
            waits $(($(lines) + 3))
            kill -TERM $run
            wait $run
            """, in: bench)
        #expect(outcome.exitCode == 143 && outcome.errors.isEmpty, "\(outcome.exitCode): \(outcome.errors)")
    }

    /// Runs a line of shell with the executable as `$0`.
    private func shell(_ line: String, in bench: Workbench) throws -> (exitCode: Int32, errors: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", line, try Command.executable.get()]
        process.currentDirectoryURL = URL(fileURLWithPath: bench.path)
        let errors = Pipe()
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, errors)
        try process.run()
        let text = errors.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: text, as: UTF8.self))
    }

    @Test("output that nobody reads to its end is no crash", arguments: ["modules", "gradcheck --only exp", "--help"])
    func head(_ command: String) throws {
        let bench = try Workbench()
        // The reader is gone before the first line; the status is the command's own.
        let line = "{ sleep 0.2; \"$0\" \(command); echo $? >status; } | true"
        let outcome = try shell(line, in: bench)
        #expect(outcome.errors.isEmpty)
        #expect(["141", "0"].contains(try bench.text("status").trimmingCharacters(in: .whitespacesAndNewlines)))
        // Also where a parent ignores the signal.
        _ = try shell("trap '' PIPE; " + line, in: bench)
        #expect(["141", "0"].contains(try bench.text("status").trimmingCharacters(in: .whitespacesAndNewlines)))
    }

    @Test("where the system gives no memory the command ends with 1 and one line")
    func noMemory() throws {
        // The tensors of this benchmark take 512 MiB.
        let line = "ulimit -v 600000; \"$0\" bench adamw --seconds 0.01"
        let outcome = try shell(line, in: try Workbench())
        #expect(outcome.exitCode == 1, "\(outcome.errors)")
        #expect(outcome.errors.hasPrefix("fovea: error: no memory for "), "\(outcome.errors)")
        #expect(outcome.errors.filter(\.isNewline).count == 1)
    }

    @Test("output that cannot be written is an error")
    func fullOutput() throws {
        let outcome = try shell("\"$0\" modules >/dev/full", in: try Workbench())
        #expect(outcome.exitCode == 1 && outcome.errors == "fovea: error: standard output cannot be written\n")
    }

    @Test("numbers that blow up end a run with one line: the step, the pictures, the module and what may help")
    func blownUp() throws {
        let bench = try Workbench()
        try bench.prepare([
            "training.optimizer": "sgd", "training.learningRate": "10", "training.momentum": "0.99",
            "training.warmup": "0", "training.steps": "400", "training.schedule": "constant",
        ])
        for options in [[], ["--detect-anomaly"]] {
            let outcome = try Command.run(
                ["train", "tiny.yaml", "--output", "run", "--overwrite"] + options, in: bench.path)
            #expect(outcome.exitCode == 1, "\(outcome.summary)")
            let error = try #require(outcome.errors.split(separator: "\n").last)
            #expect(error.hasPrefix("fovea: error: step "), "\(error)")
            for word in ["(samples ", "the first ", "out", "training.learningRate", "training.onNonFinite"] {
                #expect(error.contains(word), "no \"\(word)\" in \(error)")
            }
            #expect(outcome.output.contains("go on from there with:"))
        }
    }

    @Test("a value that the loss does not show ends a run where --detect-anomaly looks for it, and there alone")
    func hiddenInfinity() throws {
        let bench = try Workbench()
        try bench.prepare()
        // No picture is of class 3, so that a bias of -∞ changes neither loss nor gradient.
        for (part, count) in [("train", 60), ("validation", 12), ("test", 20)] {
            let labels = (0..<count).map { UInt8($0 % 4 == 3 ? 4 : $0 % 4) }
            try bench.write(Workbench.idx([count], labels), to: "digits/\(part)-labels-idx1-ubyte")
        }
        try bench.prints(["train", "tiny.yaml", "--output", "start"])
        var weights = try SafetensorsFile(reading: bench.file("start/model.safetensors")).tensors()
        var bias: [Float] = try #require(weights["classifier.bias"]).scalars()
        try #require(bias.count == 5)
        bias[3] = -.infinity
        weights["classifier.bias"] = Tensor(bias)
        try writeSafetensors(weights, to: bench.file("start.safetensors"))
        let train = ["train", "tiny.yaml", "--set", "model.initializeFrom=start.safetensors", "--output"]
        try bench.prints(train + ["plain"])
        let outcome = try Command.run(train + ["watched", "--detect-anomaly"], in: bench.path)
        #expect(outcome.exitCode == 1, "\(outcome.summary)")
        #expect(outcome.errors.hasPrefix("fovea: error: step 1: a value is not finite (samples "), "\(outcome.errors)")
        #expect(outcome.errors.contains("the parameter classifier.bias is infinite itself"), "\(outcome.errors)")
    }

    @Test("each spike is a line, and a note in the log")
    func spikes() throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "60"])
        #expect(!(try bench.prints(["train", "tiny.yaml", "--output", "plain"])).contains("usually"))
        // Half a deviation is nothing out of the ordinary.
        let output = try bench.prints([
            "train", "tiny.yaml", "--output", "run", "--set", "training.spikeDeviations=0.5",
        ])
        let told = output.split(separator: "\n").filter { $0.hasPrefix("step ") && $0.contains(", and usually about ") }
        let noted = try bench.text("run/metrics.jsonl").split(separator: "\n").flatMap {
            try JSONDecoder().decode(Notes.self, from: Data($0.utf8)).notes ?? []
        }
        #expect(told.count >= 3 && told.count == noted.count, "\(output)")
        for (line, note) in zip(told, noted) {
            #expect(line.split(separator: " is ").first == note.split(separator: " is ").first, "\(line), \(note)")
        }
        try bench.expectSameRun("run", "plain")
    }

    private struct Notes: Decodable { let notes: [String]? }

    @Test("a run that would take more memory than it may does not start, and is told what would fit")
    func memoryLimit() throws {
        let bench = try Workbench()
        try bench.prepare(["model.width": "64", "training.batchSize": "60"])
        let train = ["train", "tiny.yaml", "--output", "run", "--memory-limit"]
        try bench.refuses(train + ["1M"], mentions: ["--memory-limit 1M", "MiB", "model.width"])
        // Between what the encoder's layers keep and what they need, computing them twice is a way.
        let needs = { (options: [String]) throws -> Int in
            let outcome = try Command.run(train + ["1M"] + options, in: bench.path)
            let words = outcome.errors.split(separator: " ").map(String.init)
            let place = try #require(words.firstIndex(of: "about"))
            return try #require(Int(words[place + 1].filter(\.isNumber)))
        }
        let deep = ["--set", "model.encoderDepth=12", "--set", "model.patchSize=2"]
        let (kept, recomputed) = (try needs(deep), try needs(deep + ["--set", "training.recompute=true"]))
        #expect(recomputed < kept)
        try bench.refuses(
            train + ["\((kept + recomputed) / 2)M"] + deep,
            mentions: ["training.recompute: true", "training.accumulation", "training.batchSize"])
        for size in ["much", "0", "1e99G", "5X"] {
            try bench.refuses(train + [size], mentions: ["--memory-limit \(size)", "2G"])
        }
        try bench.prints(train + ["4GiB"])
        #expect(try bench.report("run").peakMemoryBytes < 4 << 30)
    }

    @Test("keeping the best needs samples that are held out")
    func keepBest() throws {
        let bench = try Workbench()
        try bench.prepare(["training.keepBest": "2"])
        try bench.refuses(
            ["train", "tiny.yaml", "--output", "run"], mentions: ["training.keepBest", "data.holdOutValidation: true"])
        try bench.prepare([
            "training.keepBest": "2", "training.keepCheckpoints": "1", "data.holdOutValidation": "true",
        ])
        let output = try bench.prints(["train", "tiny.yaml", "--output", "run"])
        #expect(output.contains("best    run/checkpoints/step-000000"))
        #expect((2...3).contains(bench.checkpoints("run").count))
    }
}
