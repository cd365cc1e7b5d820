import ArgumentParser
import Foundation
import Fovea

/// `fovea inspect`: what is in a file or a run.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show what is inside a file of tensors, a folder of weights, or a run.",
        discussion: "Files may be safetensors, an index of several, npy, npz, IDX, CIFAR binary (.bin) or PNG.")

    @Argument(help: "A file, or the folder of weights or of a run.")
    var path: String

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
            throw FileError(path: path, problem: "there is no such file or run")
        }
        if isDirectory.boolValue {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
            if names.contains("recipe.yaml") { return try inspectRun() }
            guard names.contains(where: { $0.contains(".safetensors") }) else {
                throw FileError(
                    path: path, problem: "is neither a run (no recipe.yaml) nor weights (no *.safetensors)")
            }
        }
        let listing = try FileListing(of: path, isFolder: isDirectory.boolValue)
        if json { printJSON(listing) } else { print(listing.text()) }
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
        let recipe = try Recipe(reading: path + "/recipe.yaml")
        let model: any Module = try recipe.experiment().model
        let report = FileManager.default.contents(atPath: path + "/report.json")
            .flatMap { try? decoded(TrainingReport.self, from: $0) }
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
            let line = "finished: \(report.headline), \(report.trainingSeconds.fixed(1)) s"
            for part in line.wrapped(to: 78) { print("  " + part) }
        } else {
            print("  not finished")
        }
        print("")
        print(model.summary())
    }
}
