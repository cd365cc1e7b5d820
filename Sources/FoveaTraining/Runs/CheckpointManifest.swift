import Foundation
import FoveaIO
import FoveaTensor
import OrderedCollections

/// How a model did on the validation samples.
public struct ValidationScore: Sendable, Codable, Comparable {
    public var accuracy: Double
    public var loss: Double

    public init(accuracy: Double, loss: Double) {
        self.accuracy = accuracy
        self.loss = loss
    }

    init(_ evaluation: Evaluation) { self.init(accuracy: evaluation.accuracy, loss: evaluation.loss) }

    /// The better one has more right answers, and among equals the smaller loss.
    public static func < (a: ValidationScore, b: ValidationScore) -> Bool {
        // A loss that is NaN is worse than any.
        func order(_ score: ValidationScore) -> (Double, Double) {
            (score.accuracy, score.loss.isNaN ? -.infinity : -score.loss)
        }
        return order(a) < order(b)
    }
}

/// What `state.json` of a checkpoint holds: whatever are not tensors, and checksums of those that are.
struct CheckpointManifest: Codable {
    static let formatVersion = 2
    static let fileName = "state.json"
    /// More than any run counts to; two of them add without overflow.
    static let largestCount = 1 << 60

    /// One of the other files.
    struct File: Codable {
        var bytes: Int
        /// The CRC-32 of each tensor's elements.
        var tensors: [String: UInt32]
    }

    var formatVersion = CheckpointManifest.formatVersion
    var fovea = foveaVersion
    var step: Int
    var skippedSteps: Int
    var seconds: Double
    var peakBytes: Int
    var optimizerStep: Int
    var averageUpdates: Int?
    var window: LossWindow
    var usual: SpikeDetector
    /// How the model does on the validation samples, where that was asked.
    var score: ValidationScore?
    var files: [String: File] = [:]
    /// The CRC-32 of this manifest without this number.
    var checksum: UInt32?

    init<Model>(_ state: TrainingState<Model>, score: ValidationScore?) {
        step = state.step
        skippedSteps = state.skippedSteps
        seconds = state.seconds
        peakBytes = state.peakBytes
        optimizerStep = state.optimizer.step
        averageUpdates = state.average?.updates
        window = state.window
        usual = state.usual
        self.score = score
    }

    /// Notes what a file will hold.
    mutating func add(_ tensors: OrderedDictionary<String, Tensor>, in name: String, bytes: Int) {
        files[name] = File(
            bytes: bytes, tensors: Dictionary(uniqueKeysWithValues: tensors.map { ($0.key, $0.value.checksum) }))
    }

    /// The manifest as it goes to its file, with its checksum.
    var text: String {
        var sealed = self
        sealed.checksum = ownChecksum
        return encoded(sealed)
    }

    private var ownChecksum: UInt32 {
        var bare = self
        bare.checksum = nil
        return Array(encoded(bare).utf8).withUnsafeBytes { FoveaIO.checksum($0) }
    }

    private struct Version: Decodable { var formatVersion: Int }

    /// Reads the manifest of a checkpoint.
    ///
    /// - Parameters:
    ///   - folder: the checkpoint's folder.
    ///   - step: the step that the folder is of.
    init(of folder: String, step: Int) throws(FileError) {
        let path = folder + "/" + CheckpointManifest.fileName
        let file = try MappedFile(path)
        defer { withExtendedLifetime(file) {} }
        guard let version = try? decoded(Version.self, from: file.bytes) else {
            throw FileError(path: path, problem: "is not the JSON of a checkpoint")
        }
        guard version.formatVersion == CheckpointManifest.formatVersion else {
            throw FileError(
                path: path,
                problem: "the checkpoint has format \(version.formatVersion), not \(CheckpointManifest.formatVersion)")
        }
        do {
            self = try decoded(CheckpointManifest.self, from: file.bytes)
        } catch {
            throw FileError(path: path, problem: "lacks a member of a checkpoint's state, or has one of another type")
        }
        guard checksum == ownChecksum else { throw FileError(path: path, problem: "does not match its checksum") }
        guard self.step == step else {
            throw FileError(path: path, problem: "is of step \(self.step), unlike its folder")
        }
        let counts = [optimizerStep, averageUpdates ?? 0, skippedSteps]
        guard (0...CheckpointManifest.largestCount).contains(step), window.isPlausible,
            counts.allSatisfy({ (0...step).contains($0) })
        else { throw FileError(path: path, problem: "counts more, or less, than a run can") }
    }

    /// One of the checkpoint's files, every tensor as it was when it was written.
    ///
    /// - Throws: `FileError` when the file is damaged, or is another one.
    func verified(_ name: String, in folder: String) throws(FileError) -> OrderedDictionary<String, Tensor> {
        let path = folder + "/" + name
        guard let expected = files[name] else {
            throw FileError(path: path, problem: "is not among the files of the checkpoint")
        }
        let file = try SafetensorsFile(reading: path)
        guard file.byteCount == expected.bytes else {
            throw FileError(path: path, problem: "is \(file.byteCount) bytes long, not \(expected.bytes)")
        }
        let tensors = try file.tensors()
        guard Set(tensors.keys) == Set(expected.tensors.keys) else {
            throw FileError(path: path, problem: "does not hold the tensors that the checkpoint was written with")
        }
        for (tensor, checksum) in expected.tensors where tensors[tensor]!.checksum != checksum {
            throw FileError(path: path, problem: "the tensor \(tensor) does not match its checksum")
        }
        return tensors
    }
}
