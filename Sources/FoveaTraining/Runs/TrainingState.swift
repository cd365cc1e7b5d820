import FoveaNN

/// Everything that a run needs to go on as if it had never stopped.
///
/// Random numbers and the order of the data are functions of the seed and the step, so that the step is the random
/// state and the data cursor in one.
public struct TrainingState<Model: Module>: Sendable {
    public var model: Model
    public var optimizer: any Optimizer
    public var average: MovingAverage<Model>?
    /// How many steps are done, skipped ones among them.
    public var step = 0
    /// How many of them were skipped because their loss or gradient was not finite.
    public var skippedSteps = 0
    /// Seconds spent in training so far, over all sessions.
    public var seconds = 0.0
    /// The largest memory in use so far.
    public var peakBytes = 0
    /// What the next record in the log will average over.
    var window = LossWindow()
    /// What loss and gradient norm are usually like.
    var usual = SpikeDetector()

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
    /// Of what was added to the loss; nil where nothing was.
    private(set) var auxiliary: [String: Double]?
    /// What was out of the ordinary.
    private(set) var notes: [String] = []

    mutating func add(loss: Double, right: Int, samples: Int, auxiliary: [String: Double] = [:]) {
        steps += 1
        if !auxiliary.isEmpty { self.auxiliary = (self.auxiliary ?? [:]).merging(auxiliary, uniquingKeysWith: +) }
        self.loss += loss
        self.right += right
        self.samples += samples
    }

    mutating func add(note: String) { notes.append(note) }

    /// The means of what was added to the loss.
    var auxiliaryMeans: [String: Double]? { auxiliary?.mapValues { $0 / Double(max(1, steps)) } }

    /// Whether the sums may be added to without overflow.
    var isPlausible: Bool { [steps, right, samples].allSatisfy { (0...CheckpointManifest.largestCount).contains($0) } }
}
