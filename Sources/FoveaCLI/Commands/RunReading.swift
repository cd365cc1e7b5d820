import Foundation
import Fovea

/// A run, or one of its checkpoints, opened for reading.
struct SavedRun<Opened: RunnableExperiment> {
    let experiment: Opened
    /// The model to evaluate: the average of the weights where the run has one.
    let model: Opened.Task.Model
    /// How many steps the model was trained for; nil for a finished run's model.
    let step: Int?

    /// - Parameters:
    ///   - path: where the run is.
    ///   - experiment: what its recipe describes.
    init(_ path: RunPath, of experiment: Opened) throws {
        self.experiment = experiment
        let (folder, run) = (path.folder, path.run)
        if !path.isCheckpoint, FileManager.default.fileExists(atPath: run + "/model.safetensors") {
            var model = experiment.model
            try model.load(from: run + "/model.safetensors")
            (self.model, step) = (model, nil)
            return
        }
        var state = experiment.initialState
        let store = CheckpointStore(run: run)
        if path.isCheckpoint {
            guard let step = folder.split(separator: "-").last.flatMap({ Int($0) }), store.steps.contains(step) else {
                throw FileError(path: path.given, problem: "is not a checkpoint; expected a folder step-<number>")
            }
            try store.restore(step, into: &state)
        } else {
            var problem: String?
            guard store.restoreForReading(&state, passedOver: { problem = problem ?? "\($0)" }) else {
                throw FileError(
                    path: path.given,
                    problem: problem.map { "has no checkpoint that can be used: \($0)" } ?? "has no checkpoint yet")
            }
        }
        (model, step) = (state.result, state.step)
    }
}

/// Where a run, or one of its checkpoints, is.
struct RunPath {
    /// As it was given.
    let given: String
    let folder: String
    let run: String
    let isCheckpoint: Bool
    let recipe: Recipe

    /// - Parameter path: a run's folder, or a folder below its `checkpoints`.
    init(_ path: String) throws {
        given = path
        var folder = path
        while folder.count > 1, folder.hasSuffix("/") { folder.removeLast() }
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: folder, isDirectory: &isDirectory) else {
            throw FileError(path: path, problem: "there is no such run or checkpoint")
        }
        guard isDirectory.boolValue else {
            throw FileError(path: path, problem: "is not a folder; a run or a checkpoint is needed")
        }
        let parent = parentFolder(of: folder)
        // A run may be in a folder of that name.
        isCheckpoint =
            parent.split(separator: "/").last == "checkpoints"
            && !FileManager.default.fileExists(atPath: folder + "/recipe.yaml")
        self.folder = folder
        run = isCheckpoint ? parentFolder(of: parent) : folder
        let recipePath = run + "/recipe.yaml"
        guard FileManager.default.fileExists(atPath: recipePath) else {
            throw FileError(path: path, problem: "is not a run: it has no recipe.yaml")
        }
        recipe = try Recipe(reading: recipePath)
    }
}
