import Dispatch
import Foundation
import FoveaIO
import FoveaTraining
import Synchronization
import Testing

#if canImport(FoundationXML)
import FoundationXML
#endif

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

@Suite struct RunFolderTests {
    private func write(_ path: String, _ text: String = "x") throws {
        try text.write(toFile: path, atomically: true, encoding: .utf8)
    }

    @Test("a new run makes its folder, and those above")
    func new() throws {
        try withTemporaryFolder { folder in
            let run = try RunFolder(folder + "/a/b", .new)
            #expect(run.path == folder + "/a/b" && exists(folder + "/a/b"))
            #expect(run.file("report.json") == folder + "/a/b/report.json")
            #expect(!RunFolder.isRun(run.path))
        }
    }

    @Test("a new run may use an empty folder, and no folder with a run")
    func newOnExisting() throws {
        try withTemporaryFolder { folder in
            _ = try RunFolder(folder, .new)
            for name in ["recipe.yaml", "metrics.jsonl", "checkpoints"] {
                try write(folder + "/" + name)
                #expect(RunFolder.isRun(folder))
                let error = try #require(throws: FileError.self) { _ = try RunFolder(folder, .new) }
                #expect(error.description.contains("--resume") && error.description.contains("--overwrite"))
                #expect(try String(contentsOfFile: folder + "/" + name, encoding: .utf8) == "x")
                try FileManager.default.removeItem(atPath: folder + "/" + name)
            }
        }
    }

    @Test(
        "what is called as a run's files are, and is of no run, is not touched",
        arguments: [RunFolder.Opening.new, .resume, .overwrite])
    func foreign(_ opening: RunFolder.Opening) throws {
        try withTemporaryFolder { folder in
            // A published model.
            try write(folder + "/model.safetensors")
            try write(folder + "/config.json")
            let error = try #require(throws: FileError.self) { _ = try RunFolder(folder, opening) }
            #expect(error.description.contains("holds model.safetensors, and no run"))
            #expect(names(folder) == ["model.safetensors", "config.json"])
        }
    }

    @Test("resuming needs the folder")
    func resumeMissing() throws {
        try withTemporaryFolder { folder in
            let error = try #require(throws: FileError.self) { _ = try RunFolder(folder + "/none", .resume) }
            #expect(error.description.contains("none") && error.description.contains("no run"))
            #expect(!exists(folder + "/none"))
            try write(folder + "/recipe.yaml")
            _ = try RunFolder(folder, .resume)
            #expect(exists(folder + "/recipe.yaml"))
        }
    }

    @Test("overwriting removes what a run wrote, and nothing else")
    func overwrite() throws {
        try withTemporaryFolder { folder in
            try write(folder + "/notes.txt", "mine")
            try write(folder + "/model.safetensors.old", "mine")
            try write(folder + "/metrics.jsonl")
            try FileManager.default.createDirectory(
                atPath: folder + "/checkpoints/step-00000010", withIntermediateDirectories: true)
            try write(folder + "/checkpoints/step-00000010/state.json")
            try FileManager.default.createDirectory(atPath: folder + "/pictures", withIntermediateDirectories: true)
            _ = try RunFolder(folder, .overwrite)
            #expect(names(folder).subtracting([".lock"]) == ["notes.txt", "model.safetensors.old", "pictures"])
            #expect(!RunFolder.isRun(folder))
        }
    }

    @Test("one process at a time: a second opening is refused while the first is alive", arguments: [0, 1, 2])
    func lock(_ index: Int) throws {
        let opening = [RunFolder.Opening.new, .resume, .overwrite][index]
        try withTemporaryFolder { folder in
            var first: RunFolder? = try RunFolder(folder, .new)
            try write(folder + "/notes.txt")
            let error = try #require(throws: FileError.self) { _ = try RunFolder(folder, opening) }
            #expect(error.description.contains("another process"))
            #expect(exists(folder + "/notes.txt"))
            withExtendedLifetime(first) {}
            first = nil
            let second = try RunFolder(folder, opening)
            #expect(throws: FileError.self) { _ = try RunFolder(folder, opening) }
            withExtendedLifetime(second) {}
        }
    }

    @Test("a refused overwriting removes nothing")
    func refusedOverwrite() throws {
        try withTemporaryFolder { folder in
            let first = try RunFolder(folder, .new)
            try write(folder + "/metrics.jsonl")
            #expect(throws: FileError.self) { _ = try RunFolder(folder, .overwrite) }
            #expect(exists(folder + "/metrics.jsonl"))
            withExtendedLifetime(first) {}
        }
    }

    /// A descriptor closed twice is, the second time, somebody else's: here that of a thread that opens and closes.
    @Test("a refused opening closes its own descriptor, and no other")
    func descriptors() async {
        // A process of its own, so that no other test opens files in between.
        await #expect(processExitsWith: .success) {
            try withTemporaryFolder { folder in
                let first = try RunFolder(folder, .new)
                let stop = Atomic<Bool>(false)
                let lost = Atomic<Int>(0)
                func lowestFree() -> Int32 {
                    let descriptor = open("/dev/null", O_RDONLY)
                    close(descriptor)
                    return descriptor
                }
                let before = lowestFree()
                DispatchQueue.concurrentPerform(iterations: 2) { worker in
                    if worker == 0 {
                        for _ in 0..<4_000 { _ = try? RunFolder(folder, .resume) }
                        stop.store(true, ordering: .relaxed)
                    } else {
                        while !stop.load(ordering: .relaxed) {
                            if close(open("/dev/null", O_RDONLY)) != 0 { lost.add(1, ordering: .relaxed) }
                        }
                    }
                }
                #expect(lost.load(ordering: .relaxed) == 0)
                // The system may have opened a few of its own; 4,000 were not left open.
                #expect(lowestFree() < before + 100)
                withExtendedLifetime(first) {}
            }
        }
    }

    @Test("a process that dies leaves no lock behind")
    func lockDiesWithProcess() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: folder) }
        await #expect(processExitsWith: .signal(SIGKILL)) { [folder = folder as String] in
            let run = try RunFolder(folder, .new)
            withExtendedLifetime(run) { _ = kill(getpid(), SIGKILL) }
        }
        #expect(exists(folder + "/.lock"))
        _ = try RunFolder(folder, .resume)
    }

    @Test("a file in the place of the folder is an error")
    func file() throws {
        try withTemporaryFolder { folder in
            try write(folder + "/run")
            for opening in [RunFolder.Opening.new, .overwrite, .resume] {
                let error = try #require(throws: FileError.self) { _ = try RunFolder(folder + "/run", opening) }
                #expect(error.description.contains("is a file"))
            }
            #expect(throws: FileError.self) { _ = try RunFolder(folder + "/run/inside", .new) }
        }
    }
}

private func record(_ step: Int, loss: Double = 0.5, validation: Double? = nil) -> StepRecord {
    StepRecord(
        step: step, loss: loss, accuracy: 0.25, learningRate: 1e-3, gradientNorm: 2, samplesPerSecond: 100,
        seconds: 1.5,
        validationAccuracy: validation)
}

@Suite struct MetricsLogTests {
    private func lines(_ path: String) throws -> [String] {
        try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
    }

    @Test("one JSON object on a line for each record")
    func format() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/metrics.jsonl"
            var log = try MetricsLog(path: path, upTo: 0)
            #expect(try lines(path) == [])
            try log.append(record(10))
            try log.append(record(20, validation: 0.75))
            #expect(log.records == [record(10), record(20, validation: 0.75)])
            let found = try lines(path)
            #expect(found.count == 2)
            for (line, step) in zip(found, [10, 20]) {
                let object = try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
                #expect(object["step"] as? Int == step && object["loss"] as? Double == 0.5)
                #expect((object["validationAccuracy"] as? Double) == (step == 20 ? 0.75 : nil))
            }
        }
    }

    @Test("on resume, records after the checkpoint go, and so does a torn last line")
    func truncation() throws {
        try withTemporaryFolder { folder in
            let path = folder + "/metrics.jsonl"
            var log = try MetricsLog(path: path, upTo: 0)
            for step in [10, 20, 30, 40] { try log.append(record(step)) }
            let file = try #require(FileHandle(forWritingAtPath: path))
            try file.seekToEnd()
            try file.write(contentsOf: Data("{\"step\":50,\"lo".utf8))
            try file.close()
            var again = try MetricsLog(path: path, upTo: 20)
            #expect(again.records.map(\.step) == [10, 20])
            #expect(try lines(path).count == 2)
            try again.append(record(30, loss: 0.1))
            #expect(try MetricsLog(path: path, upTo: 100).records == [record(10), record(20), record(30, loss: 0.1)])
        }
    }

    @Test("a folder that is not there is an error")
    func missing() throws {
        #expect(throws: FileError.self) { _ = try MetricsLog(path: "/nowhere/at/all/metrics.jsonl", upTo: 0) }
    }
}

@Suite struct TrainingCurveTests {
    /// Counts the elements of a document, and keeps its texts.
    private final class Reader: NSObject, XMLParserDelegate {
        var elements: [String: Int] = [:]
        var points: [String] = []
        var text = ""

        func parser(
            _ parser: XMLParser, didStartElement name: String, namespaceURI: String?, qualifiedName: String?,
            attributes: [String: String] = [:]
        ) {
            elements[name, default: 0] += 1
            if let found = attributes["points"] { points.append(found) }
        }

        func parser(_ parser: XMLParser, foundCharacters string: String) { text += string }
    }

    private func parse(_ curve: TrainingCurve) throws -> Reader {
        let parser = XMLParser(data: Data(curve.svg.utf8))
        let reader = Reader()
        parser.delegate = reader
        try #require(parser.parse(), "\(String(describing: parser.parserError)): \(curve.svg)")
        return reader
    }

    private let records = (1...10).map { record($0 * 10, loss: 2 / Double($0), validation: $0 % 5 == 0 ? 0.5 : nil) }

    @Test("the picture is well-formed and shows the records")
    func wellFormed() throws {
        let found = try parse(TrainingCurve(title: "digits", records: records, testAccuracy: 0.98))
        #expect(found.elements["svg"] == 1 && found.elements["circle"] == 1)
        // Loss, accuracy and validation accuracy, with a point for each record.
        #expect(found.points.map { $0.split(separator: " ").count } == [10, 10, 2])
        #expect(found.text.contains("digits") && found.text.contains("98 %") && found.text.contains("100"))
    }

    @Test("titles of any text", arguments: ["a & b", "<b>", "]]>", "\"quoted\" 'title'", "Übung 数字 🦉", ""])
    func titles(_ title: String) throws {
        let found = try parse(TrainingCurve(title: title, records: records))
        #expect(title.isEmpty || found.text.contains(title))
        #expect(found.elements["circle"] == nil)
    }

    @Test("no record, one record, and losses of any size")
    func extremes() throws {
        _ = try parse(TrainingCurve(title: "none", records: []))
        _ = try parse(TrainingCurve(title: "one", records: [record(1)], testAccuracy: 1))
        for loss in [0, 1e-12, 150, 1e19, 1e30, 3e38] {
            _ = try parse(TrainingCurve(title: "loss", records: [record(1, loss: loss), record(2, loss: loss / 3)]))
        }
    }

    @Test("writing it is atomic, and an error names the place")
    func write() throws {
        try withTemporaryFolder { folder in
            let curve = TrainingCurve(title: "digits", records: records)
            try curve.write(to: folder + "/curve.svg")
            #expect(try String(contentsOfFile: folder + "/curve.svg", encoding: .utf8) == curve.svg)
            #expect(throws: FileError.self) { try curve.write(to: folder + "/none/curve.svg") }
        }
    }
}

@Suite struct ReportTests {
    @Test("a report has the keys that programs read, and comes back the same")
    func keys() throws {
        let evaluation = Evaluation(loss: 0.25, accuracy: 0.5, samples: 4, confusion: ConfusionMatrix(classes: 2))
        let report = TrainingReport(
            recipe: "digits", seed: 3, steps: 100, parameters: 42, test: evaluation, train: evaluation, validation: nil,
            trainingSeconds: 1.5, peakMemoryBytes: 1_000, threads: 2)
        let data = Data(encoded(report).utf8)
        let object = try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
        for key in [
            "recipe", "seed", "steps", "parameters", "testAccuracy", "trainAccuracy", "trainingSeconds",
            "peakMemoryBytes",
        ] {
            #expect(object[key] != nil, "\(key)")
        }
        #expect(object["testAccuracy"] as? Double == 0.5 && object["validationAccuracy"] == nil)
        let decoded = try JSONDecoder().decode(TrainingReport.self, from: data)
        #expect(encoded(decoded) == encoded(report))
        #expect(processPeakBytes() > 1 << 20)
    }
}
