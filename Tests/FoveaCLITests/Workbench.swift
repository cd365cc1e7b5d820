import Foundation
import Testing

/// A temporary folder with what the commands of one test need; it goes when the test ends.
final class Workbench {
    let path: String

    init() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-cli-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        path = folder.path
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The project's own folder.
    static let project = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent().path

    /// The full path of something in the folder.
    func file(_ name: String) -> String { path + "/" + name }

    func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: file(name)) }

    func data(_ name: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: file(name))) }

    func text(_ name: String) throws -> String { String(decoding: try data(name), as: UTF8.self) }

    func write(_ text: String, to name: String) throws { try write(Data(text.utf8), to: name) }

    func write(_ data: Data, to name: String) throws {
        let url = URL(fileURLWithPath: file(name))
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try data.write(to: url)
    }

    /// Runs `fovea`, which must succeed and complain of nothing, and returns what it printed.
    @discardableResult
    func prints(_ arguments: [String], sourceLocation: SourceLocation = #_sourceLocation) throws -> String {
        let outcome = try Command.run(arguments, in: path)
        try #require(outcome.exitCode == 0, "\(outcome.summary)", sourceLocation: sourceLocation)
        #expect(outcome.errors.isEmpty, sourceLocation: sourceLocation)
        return outcome.output
    }

    /// Runs `fovea`, which must fail as every failure should: with the exit code, one line on standard error that
    /// mentions all of `mentions`, nothing on standard output, and every file and folder as it was.
    func refuses(
        _ arguments: [String], exitCode: Int32 = 1, mentions: [String],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let before = try snapshot()
        let outcome = try Command.run(arguments, in: path)
        #expect(outcome.exitCode == exitCode, "\(outcome.summary)", sourceLocation: sourceLocation)
        #expect(
            outcome.errors.hasPrefix("fovea: error: ") && outcome.errors.hasSuffix("\n")
                && outcome.errors.filter(\.isNewline).count == 1,
            "not one line: \(outcome.errors)", sourceLocation: sourceLocation)
        for mention in mentions {
            #expect(
                outcome.errors.contains(mention), "no \"\(mention)\" in \(outcome.errors)",
                sourceLocation: sourceLocation)
        }
        #expect(outcome.output.isEmpty, sourceLocation: sourceLocation)
        let changes = try snapshot().changes(since: before)
        #expect(changes.isEmpty, "these are not as they were", sourceLocation: sourceLocation)
    }

    /// Every file and folder below with its bytes and the moment of its last change.
    func snapshot(_ name: String = "") throws -> Snapshot {
        let root = name.isEmpty ? path : file(name)
        var snapshot = Snapshot()
        for entry in try FileManager.default.subpathsOfDirectory(atPath: root) {
            let attributes = try FileManager.default.attributesOfItem(atPath: root + "/" + entry)
            // What changed in a folder, its entries tell; its own time moves for temporary files too.
            let isFolder = attributes[.type] as? FileAttributeType == .typeDirectory
            snapshot.entries[entry] =
                isFolder
                ? .init(content: nil, modified: nil)
                : .init(
                    content: try Data(contentsOf: URL(fileURLWithPath: root + "/" + entry)),
                    modified: attributes[.modificationDate] as? Date)
        }
        return snapshot
    }
}

/// What was in a folder at one moment.
struct Snapshot {
    struct Entry: Equatable {
        let content: Data?
        let modified: Date?
    }
    var entries: [String: Entry] = [:]

    /// The names of what is new, gone or different.
    func changes(since earlier: Snapshot) -> [String] {
        Set(entries.keys).union(earlier.entries.keys).filter { entries[$0] != earlier.entries[$0] }.sorted()
    }
}

// MARK: Small recipes and data

extension Workbench {
    /// A recipe whose run takes a fraction of a second. `changes` go over its values, `group.key: value`; nil takes a
    /// key out.
    static func tinyRecipe(_ changes: [String: String?] = [:]) -> String {
        var values: [(key: String, value: String)] = [
            ("data.folder", "digits"), ("model.patchSize", "4"), ("model.width", "8"), ("model.encoderDepth", "1"),
            ("model.encoderHeads", "2"), ("compressor.num_latents", "2"), ("compressor.depth", "1"),
            ("compressor.heads", "2"), ("compressor.dim_head", "4"), ("training.steps", "20"),
            ("training.batchSize", "16"), ("training.warmup", "2"), ("training.logEvery", "5"),
            ("training.checkpointEvery", "5"),
        ]
        for (key, value) in changes.sorted(by: { $0.key < $1.key }) {
            values.removeAll { $0.key == key }
            if let value { values.append((key, value)) }
        }
        var text = ""
        for group in ["data", "model", "compressor", "training", "output"] {
            let own = values.filter { $0.key.hasPrefix(group + ".") }
            guard !own.isEmpty else { continue }
            text += "\(group):\n"
            for (key, value) in own { text += "  \(key.dropFirst(group.count + 1)): \(value)\n" }
        }
        return text
    }

    /// Writes `tiny.yaml`, and the data that it names.
    func prepare(_ changes: [String: String?] = [:]) throws {
        try write(Workbench.tinyRecipe(changes), to: "tiny.yaml")
        if !exists("digits") { try writeDigits(to: "digits") }
    }

    /// A small dataset in IDX: pictures of 8 × 8 pixels in four classes that a model can tell apart.
    func writeDigits(to folder: String) throws {
        for (part, count) in [("train", 60), ("validation", 12), ("test", 20)] {
            try write(
                Workbench.idx([count, 8, 8], (0..<count).flatMap(Workbench.picture)),
                to: "\(folder)/\(part)-images-idx3-ubyte")
            try write(
                Workbench.idx([count], (0..<count).map { UInt8($0 % 4) }), to: "\(folder)/\(part)-labels-idx1-ubyte")
        }
    }

    private static func picture(_ index: Int) -> [UInt8] {
        (0..<64).map { pixel in
            let (row, column) = (pixel / 8, pixel % 8)
            let isInked = index % 4 == (row / 4) * 2 + column / 4
            return UInt8(isInked ? 10 + (index + pixel) % 7 : (index * 31 + pixel * 17) % 5)
        }
    }

    /// The bytes of an IDX file of unsigned bytes.
    static func idx(_ shape: [Int], _ bytes: [UInt8]) -> Data {
        var data = Data([0, 0, 8, UInt8(shape.count)])
        for length in shape { withUnsafeBytes(of: UInt32(length).bigEndian) { data.append(contentsOf: $0) } }
        return data + Data(bytes)
    }
}

// MARK: Looking into a run

/// One line of `metrics.jsonl`.
struct Metric: Decodable, Equatable {
    let step: Int
    let loss: Double
    let accuracy: Double
    let learningRate: Double
    let gradientNorm: Double
}

/// What a program reads of `report.json`.
struct Report: Decodable {
    let recipe: String
    let seed: Int
    let steps: Int
    let parameters: Int
    let testAccuracy: Double
    let trainAccuracy: Double
    let trainingSeconds: Double
    let peakMemoryBytes: Int
}

extension Workbench {
    /// Every line of a run's log; a line that is not whole fails the test.
    func metrics(_ run: String) throws -> [Metric] {
        try text(run + "/metrics.jsonl").split(separator: "\n").map {
            try JSONDecoder().decode(Metric.self, from: Data($0.utf8))
        }
    }

    /// The steps in a run's log as a kill left it: its last line may be cut short.
    func loggedSteps(_ run: String) -> [Int] {
        ((try? text(run + "/metrics.jsonl")) ?? "").split(separator: "\n").compactMap {
            try? JSONDecoder().decode(Metric.self, from: Data($0.utf8)).step
        }
    }

    func report(_ run: String) throws -> Report {
        try JSONDecoder().decode(Report.self, from: try data(run + "/report.json"))
    }

    /// The steps that a run has checkpoints of, in order.
    func checkpoints(_ run: String) -> [Int] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: file(run + "/checkpoints"))) ?? []
        return names.compactMap { $0.hasPrefix("step-") ? Int($0.dropFirst(5)) : nil }.sorted()
    }

    /// The folder of a run's newest checkpoint.
    func newestCheckpoint(_ run: String) throws -> String {
        let folder = run + "/checkpoints"
        let names = try FileManager.default.contentsOfDirectory(atPath: file(folder)).filter { $0.hasPrefix("step-") }
        return folder + "/" + (try #require(names.max()))
    }

    /// Expects that two runs came to the same bits: the model, the last checkpoint and every logged value.
    func expectSameRun(_ run: String, _ reference: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        #expect(
            try data(run + "/model.safetensors") == data(reference + "/model.safetensors"),
            "another model", sourceLocation: sourceLocation)
        let (own, other) = (try newestCheckpoint(run), try newestCheckpoint(reference))
        let files = try FileManager.default.contentsOfDirectory(atPath: file(other)).sorted()
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: file(own)).sorted() == files,
            sourceLocation: sourceLocation)
        for name in files where name.hasSuffix(".safetensors") {
            #expect(
                try data(own + "/" + name) == data(other + "/" + name), "another \(name)",
                sourceLocation: sourceLocation)
        }
        #expect(try metrics(run) == metrics(reference), sourceLocation: sourceLocation)
    }
}
