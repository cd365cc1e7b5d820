import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor
import OrderedCollections

/// The checkpoints of a run: folders `checkpoints/step-<n>`, each complete or absent.
///
/// A checkpoint is written under another name, flushed, and renamed when it is whole; then older ones go. Whenever the
/// process dies, the newest complete one is still there. Its manifest has a checksum of every tensor and of itself, and
/// what does not match is not taken.
public struct CheckpointStore: Sendable {
    private let run: String
    /// How many of the newest to keep.
    public let keepLast: Int
    /// How many of the best on the validation samples to keep besides.
    public let keepBest: Int

    private static let partialPrefix = ".partial-"
    private static let removedPrefix = ".removed-"

    /// - Parameters:
    ///   - run: the run's folder, which must exist to save.
    ///   - keepLast: how many of the newest to keep, at least one.
    ///   - keepBest: how many of the best on the validation samples to keep besides.
    public init(run: String, keepLast: Int = 2, keepBest: Int = 0) {
        self.run = run
        self.keepLast = max(1, keepLast)
        self.keepBest = max(0, keepBest)
    }

    private var folder: String { run + "/checkpoints" }

    /// The folder of a step's checkpoint.
    public func path(_ step: Int) -> String {
        let digits = String(step)
        return folder + "/step-" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }

    /// The steps that there are complete checkpoints of, newest first.
    public var steps: [Int] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        // Under the very name that it would have: `step-7`, which somebody put there, is none.
        return names.compactMap { name in
            (name.hasPrefix("step-") ? Int(name.dropFirst(5)) : nil).flatMap {
                path($0) == folder + "/" + name ? $0 : nil
            }
        }.sorted(by: >)
    }

    /// The steps whose checkpoints tell how they do on the validation samples, best first; of equals the newest.
    public var best: [(step: Int, score: ValidationScore)] {
        steps.compactMap { step in
            (try? CheckpointManifest(of: path(step), step: step))?.score.map { (step, $0) }
        }.sorted { ($1.score, $1.step) < ($0.score, $0.step) }
    }

    /// Writes a checkpoint and removes those that are no longer kept, and those of later steps.
    ///
    /// - Parameters:
    ///   - state: what to save.
    ///   - score: how its model does on the validation samples, where that is known.
    /// - Returns: its folder.
    /// - Throws: `FileError`; the earlier checkpoints are then as they were. Traps when the optimizer counts more updates than
    ///   the state counts steps: `state.step` is to be raised by one at each.
    @discardableResult
    public func save<Model: Module>(
        _ state: TrainingState<Model>, score: ValidationScore? = nil
    ) throws(FileError) -> String {
        guard (0...state.step).contains(state.optimizer.step) else {
            trap(
                "CheckpointStore",
                "the optimizer counts \(state.optimizer.step) updates and the state \(state.step) steps: raise state.step by one "
                    + "with each update")
        }
        let final = path(state.step)
        let partial = folder + "/" + CheckpointStore.partialPrefix + String(state.step)
        if try makeFolder(folder) { try syncDirectory(run) }
        try remove(partial)
        do throws(FileError) {
            try write(state, score, to: partial)
            // One that is there already was passed over as unusable when the run went on.
            try discard(final)
            let code = Disk.rename(partial, to: final)
            guard code == 0 else { throw .system(final, "the checkpoint cannot be put in place", code: code) }
        } catch {
            // What it takes up may be what the disk lacks. If this fails too, the first reason is the one to tell.
            try? remove(partial)
            throw error
        }
        try syncDirectory(folder)
        try prune(after: state.step)
        return final
    }

    private func write<Model: Module>(
        _ state: TrainingState<Model>, _ score: ValidationScore?, to partial: String
    ) throws(FileError) {
        try makeFolder(partial)
        var manifest = CheckpointManifest(state, score: score)
        func write(_ name: String, _ tensors: OrderedDictionary<String, Tensor>) throws(FileError) {
            let path = partial + "/" + name
            try writeSafetensors(tensors, to: path)
            manifest.add(tensors, in: name, bytes: try SafetensorsFile(reading: path).byteCount)
        }
        try write("model.safetensors", state.model.parameters)
        try write("optimizer.safetensors", state.optimizer.state)
        if let average = state.average { try write("average.safetensors", average.model.parameters) }
        // Flushes the folder too, as each of the others did.
        try writeTextAtomically(manifest.text, to: partial + "/" + CheckpointManifest.fileName)
    }

    private func prune(after step: Int) throws(FileError) {
        // Unusable ones of later steps must not count among those that are kept.
        for passed in steps where passed > step { try discard(path(passed)) }
        let kept = Set(steps.prefix(keepLast) + (keepBest > 0 ? best.prefix(keepBest).map(\.step) : []))
        for old in steps where !kept.contains(old) { try discard(path(old)) }
    }

    /// Takes the newest usable checkpoint.
    ///
    /// Leftovers of a write or a removal that was cut short are removed. A checkpoint that does not hold together is
    /// passed over for the one before it.
    ///
    /// - Parameters:
    ///   - state: a fresh state of the same recipe.
    ///   - passedOver: told what is wrong with each checkpoint that is not taken. Training anew over checkpoints that are
    ///     sound, but of another model, removes them.
    /// - Returns: false when there is no usable checkpoint; the state is then as it was.
    public func restore<Model: Module>(
        _ state: inout TrainingState<Model>, passedOver: (any Error) -> Void
    ) throws(FileError) -> Bool {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        for name in names
        where name.hasPrefix(CheckpointStore.partialPrefix) || name.hasPrefix(CheckpointStore.removedPrefix) {
            try remove(folder + "/" + name)
        }
        return restoreForReading(&state, passedOver: passedOver)
    }

    /// Takes the newest usable checkpoint without touching the folder, which another process may be writing to.
    ///
    /// - Parameters:
    ///   - state: a fresh state of the same recipe.
    ///   - passedOver: told what is wrong with each checkpoint that is not taken.
    /// - Returns: false when there is no usable checkpoint; the state is then as it was.
    public func restoreForReading<Model: Module>(
        _ state: inout TrainingState<Model>, passedOver: (any Error) -> Void
    ) -> Bool {
        for step in steps {
            do {
                try restore(step, into: &state)
                return true
            } catch {
                passedOver(error)
            }
        }
        return false
    }

    /// Takes the checkpoint of one step.
    ///
    /// - Throws: `FileError` or another error that says what is wrong with it; the state is then as it was.
    public func restore<Model: Module>(_ step: Int, into state: inout TrainingState<Model>) throws {
        let path = path(step)
        let manifest = try CheckpointManifest(of: path, step: step)
        var candidate = state
        try candidate.model.load(
            from: try manifest.verified("model.safetensors", in: path), source: path + "/model.safetensors")
        let saved = try manifest.verified("optimizer.safetensors", in: path)
        let parameters = candidate.model.parameters
        for (name, tensor) in saved {
            // Names are a kind and the parameter's path: `moment1.encoder.norm.weight`.
            guard let dot = name.firstIndex(of: "."),
                let parameter = parameters[String(name[name.index(after: dot)...])]
            else { continue }
            guard tensor.shape == parameter.shape, tensor.dtype == parameter.dtype else {
                throw FileError(path: path, problem: "\(name) is \(tensor.dtype) \(tensor.shape), unlike its parameter")
            }
        }
        try candidate.optimizer.restore(step: manifest.optimizerStep, state: saved)
        if let average = candidate.average, let updates = manifest.averageUpdates {
            var model = average.model
            try model.load(
                from: try manifest.verified("average.safetensors", in: path), source: path + "/average.safetensors")
            candidate.average = MovingAverage(of: model, decay: average.decay, updates: updates)
        }
        candidate.step = step
        candidate.skippedSteps = manifest.skippedSteps
        candidate.seconds = manifest.seconds
        candidate.peakBytes = manifest.peakBytes
        candidate.window = manifest.window
        candidate.usual = manifest.usual
        state = candidate
    }

    // MARK: Folders

    /// Makes a folder where there is none, in one that is there: a run's folder that somebody removed stays removed.
    ///
    /// - Returns: whether it was missing.
    @discardableResult
    private func makeFolder(_ path: String) throws(FileError) -> Bool {
        let code = Disk.makeFolder(path)
        var isFolder: ObjCBool = false
        if code == EEXIST, FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
            return false
        }
        guard code == 0 else { throw .system(path, "the folder cannot be made", code: code) }
        return true
    }

    /// Takes a checkpoint away: in one step out of sight, then for good, so that none is ever half there.
    private func discard(_ path: String) throws(FileError) {
        guard FileManager.default.fileExists(atPath: path) else { return }
        let name = path.split(separator: "/").last.map(String.init) ?? ""
        let hidden = folder + "/" + CheckpointStore.removedPrefix + name
        try remove(hidden)
        let code = Disk.rename(path, to: hidden)
        guard code == 0 else { throw .system(path, "the old checkpoint cannot be removed", code: code) }
        try remove(hidden)
    }

    private func remove(_ path: String) throws(FileError) {
        guard FileManager.default.fileExists(atPath: path) else { return }
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            throw FileError(path: path, problem: "cannot be removed (\(systemReason(error)))")
        }
    }
}

/// The version that checkpoints and `fovea --version` tell.
public let foveaVersion = "0.1.0"
