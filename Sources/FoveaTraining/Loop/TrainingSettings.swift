import FoveaIO
import FoveaNN

/// How long and how often.
public struct TrainingSettings: Sendable {
    /// Steps of the whole run.
    public var steps: Int
    /// Parts that a batch is cut in, one after the other, to save memory.
    public var accumulation = 1
    /// Whether layers are computed a second time for their gradients, to save memory; see `recomputingLayers`.
    public var recomputesLayers = false
    /// The largest norm of the gradients; nil for no clipping.
    public var clipNorm: Double?
    /// What to do with a step whose loss or gradient norm is NaN or infinite.
    public var onNonFinite = NonFinitePolicy.stop
    /// Whether to look at every value of every step, and take one that is not finite for a failed step.
    public var detectsAnomalies = false
    /// Standard deviations above the usual that make a loss or a gradient norm a spike; nil not to look for any.
    public var spikeDeviations: Double?
    /// Steps between checkpoints.
    public var checkpointEvery = 500
    /// How many of the newest checkpoints stay.
    public var keepCheckpoints = 2
    /// How many of the checkpoints that are best on the validation samples stay besides.
    public var keepBest = 0
    /// Steps between records in `metrics.jsonl`.
    public var logEvery = 20
    /// Steps between evaluations on the validation samples.
    public var validateEvery = 200
    /// Batches that are made ahead on another thread; 0 makes each when it is needed.
    public var prefetch = 2
    /// Which parameters are trained.
    public var trained = ParameterFilter.all
    /// Which of them alone are trained for how many steps at first; nil for a single stage.
    public var firstStage: (steps: Int, trained: ParameterFilter)?

    public init(steps: Int) { self.steps = steps }

    /// Which parameters a step trains, steps counted from 0.
    public func trained(at step: Int) -> ParameterFilter {
        guard let firstStage, step < firstStage.steps else { return trained }
        return trained && firstStage.trained
    }
}

/// What a run tells while it goes on.
public enum TrainingEvent: Sendable {
    /// The run starts at this step.
    case started(step: Int)
    /// One more step is done; loss and accuracy are of this step's batch.
    case stepped(step: Int, loss: Double, accuracy: Double)
    /// A step was left out.
    case skipped(NotFiniteError)
    /// The loss or the gradient norm of a step is far above what it has been.
    case spiked(step: Int, quantity: String, value: Double, usual: Double)
    /// A record went to the log.
    case logged(StepRecord)
    /// A checkpoint is safe in this folder.
    case checkpointed(step: Int, path: String)
    /// The log or a checkpoint could not be written. The run goes on, and tries again when the next one is due.
    case writeFailed(step: Int, FileError)
}

/// How a run came to its end.
public enum TrainingOutcome: Sendable, Equatable {
    case finished
    /// `shouldStop` said so; a checkpoint of this step is safe.
    case stopped(step: Int)
}
