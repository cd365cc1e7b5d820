import Foundation
import FoveaIO
import FoveaNN
import FoveaTensor
import OrderedCollections

/// Everything that a run needs to go on as if it had never stopped.
///
/// Random numbers and the order of the data are functions of the seed and the step, so that the step is the random
/// state and the data cursor in one.
public struct TrainingState<Model: Module>: Sendable {
    public var model: Model
    public var optimizer: any Optimizer
    public var average: MovingAverage<Model>?
    /// How many steps are done.
    public var step = 0
    /// Seconds spent in training so far, over all sessions.
    public var seconds = 0.0
    /// The largest memory in use so far.
    public var peakBytes = 0
    /// What the next record in the log will average over.
    var window = LossWindow()

    public init(model: Model, optimizer: any Optimizer, average: MovingAverage<Model>? = nil) {
        self.model = model
        self.optimizer = optimizer
        self.average = average
    }

    /// The model to evaluate and export: the average where there is one.
    public var result: Model { average?.model ?? model }
}

/// What has been added up since the last record in the log.
struct LossWindow: Sendable, Codable {
    private(set) var steps = 0
    private(set) var loss = 0.0
    private(set) var right = 0
    private(set) var samples = 0

    mutating func add(loss: Double, right: Int, samples: Int) {
        steps += 1
        self.loss += loss
        self.right += right
        self.samples += samples
    }
}

/// The checkpoints of a run: folders `checkpoints/step-<n>`, each complete or absent.
///
/// A checkpoint is written under another name, flushed, and renamed when it is whole; then older ones go. Whenever the
/// process dies, the newest complete one is still there.
public struct CheckpointStore: Sendable {
    private let folder: String
    /// How many to keep.
    public let keepLast: Int

    /// What `state.json` holds.
    private struct Manifest: Codable {
        var formatVersion: Int
        var fovea: String
        var step: Int
        var seconds: Double
        var peakBytes: Int
        var optimizerStep: Int
        var averageUpdates: Int?
        var window: LossWindow
        /// Sizes of the other files, in bytes.
        var files: [String: Int]
    }

    private static let formatVersion = 1
    private static let partialPrefix = ".partial-"

    public init(run: String, keepLast: Int = 2) {
        folder = run + "/checkpoints"
        self.keepLast = max(1, keepLast)
    }

    private func path(_ step: Int) -> String {
        let digits = String(step)
        return folder + "/step-" + String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }

    /// The steps that there are complete checkpoints of, newest first.
    public var steps: [Int] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.compactMap { $0.hasPrefix("step-") ? Int($0.dropFirst(5)) : nil }.sorted(by: >)
    }

    /// Writes a checkpoint and removes those that are no longer kept, and those of later steps.
    ///
    /// - Returns: its folder.
    /// - Throws: `FileError`; the earlier checkpoints are then as they were.
    @discardableResult
    public func save<Model: Module>(_ state: TrainingState<Model>) throws(FileError) -> String {
        let final = path(state.step)
        let partial = folder + "/" + CheckpointStore.partialPrefix + String(state.step)
        try makeFolder(folder)
        try remove(partial)
        try makeFolder(partial)
        var files: [String: Int] = [:]
        func write(_ name: String, _ tensors: OrderedDictionary<String, Tensor>) throws(FileError) {
            try writeSafetensors(tensors, to: partial + "/" + name)
            files[name] = fileSize(partial + "/" + name)
        }
        try write("model.safetensors", state.model.parameters)
        try write("optimizer.safetensors", state.optimizer.state)
        if let average = state.average { try write("average.safetensors", average.model.parameters) }
        let manifest = Manifest(
            formatVersion: CheckpointStore.formatVersion, fovea: foveaVersion, step: state.step, seconds: state.seconds,
            peakBytes: state.peakBytes, optimizerStep: state.optimizer.step, averageUpdates: state.average?.updates,
            window: state.window, files: files)
        try writeTextAtomically(encoded(manifest), to: partial + "/state.json")
        // One that is there already was passed over as unusable when the run went on.
        try remove(final)
        guard rename(partial, final) == 0 else {
            throw FileError(
                path: final, problem: "the checkpoint cannot be put in place (\(String(cString: strerror(errno))))")
        }
        try syncDirectory(folder)
        // Unusable ones of later steps must not count among those that are kept.
        for passed in steps where passed > state.step { try remove(path(passed)) }
        for old in steps.dropFirst(keepLast) { try remove(path(old)) }
        return final
    }

    /// Takes the newest usable checkpoint.
    ///
    /// Leftovers of a write that was cut short are removed. A checkpoint that does not hold together is passed over for
    /// the one before it.
    ///
    /// - Parameter state: a fresh state of the same recipe.
    /// - Returns: false when there is no usable checkpoint; the state is then as it was.
    public func restore<Model: Module>(_ state: inout TrainingState<Model>) throws(FileError) -> Bool {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        for name in names where name.hasPrefix(CheckpointStore.partialPrefix) { try remove(folder + "/" + name) }
        return restoreForReading(&state)
    }

    /// Takes the newest usable checkpoint without touching the folder, which another process may be writing to.
    public func restoreForReading<Model: Module>(_ state: inout TrainingState<Model>) -> Bool {
        for step in steps {
            var candidate = state
            do {
                try load(path(step), into: &candidate)
                state = candidate
                return true
            } catch {
                continue
            }
        }
        return false
    }

    private func load<Model: Module>(_ path: String, into state: inout TrainingState<Model>) throws {
        let text = try Data(contentsOf: URL(fileURLWithPath: path + "/state.json"))
        let manifest = try JSONDecoder().decode(Manifest.self, from: text)
        guard manifest.formatVersion == CheckpointStore.formatVersion else {
            throw FileError(
                path: path,
                problem: "the checkpoint has format \(manifest.formatVersion), not \(CheckpointStore.formatVersion)")
        }
        for (name, size) in manifest.files where fileSize(path + "/" + name) != size {
            throw FileError(path: path + "/" + name, problem: "the file is not \(size) bytes long")
        }
        try state.model.load(from: path + "/model.safetensors")
        let saved = try SafetensorsFile(reading: path + "/optimizer.safetensors").tensors()
        let parameters = state.model.parameters
        for (name, tensor) in saved {
            // Names are a kind and the parameter's path: `moment1.encoder.norm.weight`.
            guard let dot = name.firstIndex(of: "."),
                let parameter = parameters[String(name[name.index(after: dot)...])]
            else { continue }
            guard tensor.shape == parameter.shape, tensor.dtype == parameter.dtype else {
                throw FileError(path: path, problem: "\(name) is \(tensor.dtype) \(tensor.shape), unlike its parameter")
            }
        }
        try state.optimizer.restore(step: manifest.optimizerStep, state: saved)
        if let average = state.average, let updates = manifest.averageUpdates {
            var model = average.model
            try model.load(from: path + "/average.safetensors")
            state.average = MovingAverage(of: model, decay: average.decay, updates: updates)
        }
        state.step = manifest.step
        state.seconds = manifest.seconds
        state.peakBytes = manifest.peakBytes
        state.window = manifest.window
    }

    private func makeFolder(_ path: String) throws(FileError) {
        if let reason = makeFolders(path) {
            throw FileError(path: path, problem: "the folder cannot be made (\(reason))")
        }
    }

    private func remove(_ path: String) throws(FileError) {
        guard FileManager.default.fileExists(atPath: path) else { return }
        do {
            try FileManager.default.removeItem(atPath: path)
        } catch {
            throw FileError(path: path, problem: "cannot be removed (\(systemReason(error)))")
        }
    }

    private func fileSize(_ path: String) -> Int? {
        (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? NSNumber)?.intValue
    }
}

/// The version that checkpoints and `fovea --version` tell.
public let foveaVersion = "0.1.0"

/// JSON with sorted keys, for files that people compare.
package func encoded(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    // Every type given here encodes; the fallback keeps a failure visible in the file.
    return (try? encoder.encode(value)).map { String(decoding: $0, as: UTF8.self) + "\n" } ?? "null\n"
}
