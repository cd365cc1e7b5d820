import Foundation
import FoveaNN
import FoveaTensor
import FoveaTraining
import OrderedCollections
import Testing

extension Tensor {
    /// The elements in row-major order, whatever their type.
    var doubles: [Double] { cast(to: .float64).scalars() }
}

/// The largest absolute difference; infinite where the lengths differ or a number is NaN.
func difference(_ a: [Double], _ b: [Double]) -> Double {
    guard a.count == b.count else { return .infinity }
    return zip(a, b).reduce(0) { largest, pair in
        let distance = abs(pair.0 - pair.1)
        return distance.isNaN ? .infinity : max(largest, distance)
    }
}

/// Tensors' bytes by name: equal only for equal bits.
func bits(_ tensors: OrderedDictionary<String, Tensor>) -> [String: [UInt8]] {
    var bits: [String: [UInt8]] = [:]
    for (name, tensor) in tensors { bits[name] = tensor.bytes() }
    return bits
}

/// A folder that is gone after `body`.
func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder.path)
}

func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

func names(_ folder: String) -> Set<String> {
    Set((try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? [])
}

/// The top of the repository.
let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().path

/// Noise of three classes, [1, 4, 4], each brighter in a row of its own.
struct TinyPictures: Dataset {
    let count: Int
    var seed: UInt64 = 0
    /// Noise that augmentation adds.
    var jitter = 0.2

    func batch(of indices: [Int], augmentation: RandomKey?) -> LabelledImages {
        var (values, labels): ([Float], [Int64]) = ([], [])
        for (position, index) in indices.enumerated() {
            let key = RandomKey(seed: seed).folding(UInt64(index))
            for pixel in 0..<16 {
                var value = 0.5 * key.uniform(at: pixel) + (pixel / 4 == index % 3 ? 0.5 : 0)
                if let augmentation { value += jitter * augmentation.uniform(at: position * 16 + pixel) }
                values.append(Float(value))
            }
            labels.append(Int64(index % 3))
        }
        return LabelledImages(images: Tensor(values, shape: [indices.count, 1, 4, 4]), labels: Tensor(labels))
    }
}

/// A classifier small enough to train in a test, with every kind of parameter and with dropout.
struct TinyReader: ImageClassifier {
    var patches: PatchEmbedding
    var norm: LayerNorm
    var dropout: Dropout
    var head: Linear

    init(dropout rate: Double = 0.1, seed: UInt64 = 0) {
        let key = RandomKey(seed: seed)
        patches = PatchEmbedding(imageSize: (4, 4), patchSize: 2, channels: 1, width: 6, key: key.folding("patches"))
        norm = LayerNorm(6)
        dropout = Dropout(rate)
        head = Linear(24, 3, key: key.folding("head"))
    }

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("patches", &patches)
        visitor.module("norm", &norm)
        visitor.module("dropout", &dropout)
        visitor.module("head", &head)
    }

    func callAsFunction(_ images: Tensor) -> Tensor {
        head(dropout(norm(patches(images)).gelu()).flattened(from: 1))
    }
}

typealias TinyTask = ImageClassification<TinyReader>

func tinyTask(batchSize: Int = 8) -> TinyTask {
    TinyTask(
        training: TinyPictures(count: 30), validation: TinyPictures(count: 9, seed: 1), batchSize: batchSize,
        labelSmoothing: 0.1, key: RandomKey(seed: 6))
}

/// A fresh state of the tiny run, with AdamW and an average.
func tinyState(dropout: Double = 0.1, total: Int = 30) -> TrainingState<TinyReader> {
    let model = TinyReader(dropout: dropout)
    return TrainingState(
        model: model, optimizer: AdamW(learningRate: .warmupCosine(peak: 0.02, warmup: 3, total: total)),
        average: MovingAverage(of: model, decay: 0.9))
}

func tinySettings(_ steps: Int) -> TrainingSettings {
    var settings = TrainingSettings(steps: steps)
    settings.clipNorm = 1
    settings.checkpointEvery = 10
    settings.logEvery = 4
    settings.validateEvery = 8
    return settings
}

/// Trains the tiny run in a folder, from its newest checkpoint where there is one.
@discardableResult
func trainTiny(
    _ folder: String, _ settings: TrainingSettings, dropout: Double = 0.1, opening: RunFolder.Opening = .overwrite,
    stopAt: Int? = nil, observe: (TrainingEvent) -> Void = { _ in }
) throws -> (outcome: TrainingOutcome, state: TrainingState<TinyReader>) {
    var state = tinyState(dropout: dropout)
    let run = try RunFolder(folder, opening)
    _ = try CheckpointStore(run: folder, keepLast: settings.keepCheckpoints).restore(&state) { _ in }
    let trainer = Trainer(task: tinyTask(), settings: settings, folder: run, key: RandomKey(seed: 9))
    var done = state.step
    let outcome = try trainer.run(
        &state,
        shouldStop: {
            done += 1
            return done == stopAt
        }, observe: observe)
    return (outcome, state)
}

/// Everything of a state that must come out the same, to the bit.
struct StateBits: Equatable {
    let step: Int
    let optimizerStep: Int
    let model: [String: [UInt8]]
    let optimizer: [String: [UInt8]]
    let average: [String: [UInt8]]
    let averageUpdates: Int?

    init<Model: Module>(_ state: TrainingState<Model>) {
        step = state.step
        optimizerStep = state.optimizer.step
        model = bits(state.model.parameters)
        optimizer = bits(state.optimizer.state)
        average = state.average.map { bits($0.model.parameters) } ?? [:]
        averageUpdates = state.average?.updates
    }
}
