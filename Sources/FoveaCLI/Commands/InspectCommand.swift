import ArgumentParser
import Foundation
import Fovea

/// `fovea inspect`: what is in a file or a run.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show what is inside a safetensors or IDX file, or a run.")

    @Argument(help: "A file, or a run's folder.")
    var path: String

    @Flag(help: "Print JSON.")
    var json = false

    private struct Listing: Encodable {
        struct Entry: Encodable {
            let name: String
            let dtype: String
            let shape: [Int]
        }
        var path: String
        var format: String
        var tensors: [Entry]
        var metadata: [String: String]
        var elements: Int
        var bytes: Int
    }

    func run() throws {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
            throw FileError(path: path, problem: "there is no such file or run")
        }
        if isDirectory.boolValue {
            try inspectRun()
        } else if try startsLikeIDX() {
            try inspectIDX()
        } else {
            try inspectSafetensors()
        }
    }

    /// IDX files start with two zero bytes and a type, gzip ones with gzip's magic; a safetensors file starts with the
    /// length of its header, whose bytes beyond the fourth are zero.
    private func startsLikeIDX() throws -> Bool {
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw FileError(path: path, problem: "the file cannot be read; check its permissions")
        }
        defer { try? handle.close() }
        let start = [UInt8]((try? handle.read(upToCount: 9)) ?? Data())
        if start.starts(with: [0x1F, 0x8B]) { return true }
        return start.count >= 4 && start[0] == 0 && start[1] == 0 && start[2] >= 8
            && !(start.count == 9 && start[8] == UInt8(ascii: "{"))
    }

    private func inspectIDX() throws {
        let header = try idxHeader(path)
        let size = header.count * header.dtype.size
        show(
            Listing(
                path: path, format: header.isCompressed ? "IDX (gzip)" : "IDX",
                tensors: [.init(name: "data", dtype: header.dtypeName, shape: header.shape)], metadata: [:],
                elements: header.count, bytes: size))
    }

    private func inspectSafetensors() throws {
        let file = try SafetensorsFile(reading: path)
        let entries = file.entries.values.map { Listing.Entry(name: $0.name, dtype: $0.dtypeName, shape: $0.shape) }
        show(
            Listing(
                path: path, format: "safetensors", tensors: entries.sorted { $0.name < $1.name },
                metadata: Dictionary(uniqueKeysWithValues: file.metadata.map { ($0.key, $0.value) }),
                elements: file.entries.values.reduce(0) { $0 + $1.count },
                bytes: file.entries.values.reduce(0) { $0 + $1.byteCount }))
    }

    private func show(_ listing: Listing) {
        guard !json else {
            printJSON(listing)
            return
        }
        print("\(listing.path): \(listing.format)")
        var table = TextTable(["  tensor", "dtype", "shape"])
        for entry in listing.tensors { table.add(["  " + entry.name, entry.dtype, "\(entry.shape)"]) }
        print(table.text)
        for (key, value) in listing.metadata.sorted(by: { $0.key < $1.key }) { print("  metadata \(key): \(value)") }
        let noun = listing.tensors.count == 1 ? "tensor" : "tensors"
        print("\(listing.tensors.count) \(noun), \(listing.elements.grouped) elements, \(listing.bytes.grouped) bytes")
    }

    private struct RunListing: Encodable {
        var path: String
        var format = "run"
        var recipe: String
        var checkpoints: [Int]
        var parameters: Int
        var report: TrainingReport?
    }

    private func inspectRun() throws {
        let recipePath = path + "/recipe.yaml"
        guard FileManager.default.fileExists(atPath: recipePath) else {
            throw FileError(path: path, problem: "is not a run: it has no recipe.yaml")
        }
        let recipe = try Recipe(reading: recipePath)
        let model = try Experiment(recipe).model
        let report = FileManager.default.contents(atPath: path + "/report.json")
            .flatMap { try? JSONDecoder().decode(TrainingReport.self, from: $0) }
        let listing = RunListing(
            path: path, recipe: report?.recipe ?? recipe.name, checkpoints: CheckpointStore(run: path).steps,
            parameters: model.parameterCount, report: report)
        guard !json else {
            printJSON(listing)
            return
        }
        print("\(path): a run of \(listing.recipe), \(recipe.integer("training.steps").grouped) steps")
        print("  checkpoints at steps \(listing.checkpoints.map(String.init).joined(separator: ", "))")
        if let report {
            print("  finished: \(report.headline), \(report.trainingSeconds.fixed(1)) s")
        } else {
            print("  not finished")
        }
        print("")
        print(model.summary())
    }
}
