import FoveaIO
import FoveaNN
import FoveaTensor

/// How long and how often.
public struct TrainingSettings: Sendable {
    /// Steps of the whole run.
    public var steps: Int
    /// Parts that a batch is cut in, one after the other, to save memory.
    public var accumulation = 1
    /// The largest norm of the gradients; nil for no clipping.
    public var clipNorm: Double?
    /// Steps between checkpoints.
    public var checkpointEvery = 500
    /// How many checkpoints stay.
    public var keepCheckpoints = 2
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
    /// A record went to the log.
    case logged(StepRecord)
    /// A checkpoint is safe in this folder.
    case checkpointed(step: Int, path: String)
}

/// How a run came to its end.
public enum TrainingOutcome: Sendable, Equatable {
    case finished
    /// `shouldStop` said so; a checkpoint of this step is safe.
    case stopped(step: Int)
}

/// A loss or a gradient that is not a number, or infinite.
public struct NotFiniteError: Error, Sendable, CustomStringConvertible {
    public let step: Int
    public let quantity: String
    public let value: Double

    public var description: String {
        "step \(step): the \(quantity) is \(value); a lower training.learningRate or training.clipNorm may help"
    }
}

/// Trains a task's model in a run folder, with checkpoints that it can go on from.
public struct Trainer<Task: TrainingTask>: Sendable {
    public let task: Task
    public let settings: TrainingSettings
    private let folder: RunFolder
    private let key: RandomKey

    /// - Parameters:
    ///   - task: what is trained, on what, and how it is judged.
    ///   - settings: how long and how often.
    ///   - folder: where the log and the checkpoints go.
    ///   - key: the key of the random numbers that modules draw in training.
    public init(task: Task, settings: TrainingSettings, folder: RunFolder, key: RandomKey) {
        self.task = task
        self.settings = settings
        self.folder = folder
        self.key = key.folding("modules")
    }

    /// Trains from where the state is to the last step.
    ///
    /// - Parameters:
    ///   - state: a fresh state, or one that a checkpoint was restored into; it is the run's state afterwards.
    ///   - shouldStop: asked after each step; true saves a checkpoint and returns.
    ///   - observe: told of everything that happens.
    /// - Throws: `FileError` when the log or a checkpoint cannot be written, `NotFiniteError` when training blew up.
    public func run(
        _ state: inout TrainingState<Task.Model>, shouldStop: () -> Bool = { false },
        observe: (TrainingEvent) -> Void = { _ in }
    ) throws -> TrainingOutcome {
        let store = CheckpointStore(run: folder.path, keepLast: settings.keepCheckpoints)
        var log = try MetricsLog(path: folder.file("metrics.jsonl"), upTo: state.step)
        let clock = ContinuousClock()
        observe(.started(step: state.step))
        guard state.step < settings.steps else { return .finished }
        let (task, parts) = (task, max(1, min(settings.accumulation, task.batchSize)))
        let make: @Sendable (Int) -> Task.Batch = { task.batch(at: $0 / parts, part: $0 % parts, of: parts) }
        let prefetcher =
            settings.prefetch > 0
            ? Prefetcher(depth: settings.prefetch, steps: state.step * parts..<settings.steps * parts, make: make) : nil

        var windowStart = clock.now
        while state.step < settings.steps {
            let started = clock.now
            let rate = state.optimizer.learningRate
            let result = try backward(state.model, state.step, parts) { prefetcher?.next() ?? make($0) }
            state.optimizer.update(&state.model, along: result.gradients)
            state.average?.update(towards: state.model)
            state.step += 1
            state.seconds += seconds(since: started, clock)
            state.peakBytes = max(state.peakBytes, processPeakBytes())
            state.window.add(loss: result.loss, right: result.right, samples: result.samples)
            let accuracy = Double(result.right) / Double(max(1, result.samples))
            observe(.stepped(step: state.step, loss: result.loss, accuracy: accuracy))

            let isLast = state.step == settings.steps
            if state.step % settings.logEvery == 0 || isLast {
                let validates = state.step % settings.validateEvery == 0 || isLast
                let window = state.window
                let record = StepRecord(
                    step: state.step, loss: window.loss / Double(window.steps),
                    accuracy: Double(window.right) / Double(max(1, window.samples)), learningRate: rate,
                    gradientNorm: result.norm,
                    samplesPerSecond: Double(window.steps * task.batchSize)
                        / max(1e-9, seconds(since: windowStart, clock)),
                    seconds: state.seconds,
                    validationAccuracy: validates ? task.validate(state.result)?.accuracy : nil)
                try log.append(record)
                observe(.logged(record))
                state.window = LossWindow()
                windowStart = clock.now
            }
            let stops = !isLast && shouldStop()
            if state.step % settings.checkpointEvery == 0 || isLast || stops {
                observe(.checkpointed(step: state.step, path: try store.save(state)))
            }
            if stops { return .stopped(step: state.step) }
        }
        return .finished
    }

    private struct StepResult {
        /// Clipped where the settings say so.
        var gradients: Gradients
        /// Before clipping.
        var norm = 0.0
        var loss = 0.0
        var right = 0
        var samples = 0
    }

    /// The gradients of one step's batch, part by part.
    ///
    /// - Parameter batch: the part of this number, counted over the whole run.
    private func backward(
        _ model: Task.Model, _ step: Int, _ parts: Int, batch: (Int) -> Task.Batch
    ) throws -> StepResult {
        var result = StepResult(gradients: Gradients([:]))
        for part in 0..<parts {
            let batch = batch(step * parts + part)
            let (loss, gradients, counts) = valueAndGradient(
                of: model, where: settings.trained(at: step), randomness: key.folding(UInt64(step)).folding(UInt64(part))
            ) { model -> (Tensor, (right: Int, samples: Int)) in
                let outcome = task.loss(model, batch)
                return (outcome.loss, (outcome.right, outcome.samples))
            }
            // Parts may differ by a sample: each counts by its size, however many answers a sample has.
            let size = task.batchSize * (part + 1) / parts - task.batchSize * part / parts
            let share = Double(size) / Double(task.batchSize)
            result.loss += loss.item() * share
            result.right += counts.right
            result.samples += counts.samples
            result.gradients += parts == 1 ? gradients : gradients.scaled(by: share)
        }
        result.norm = result.gradients.norm
        for (quantity, value) in [("loss", result.loss), ("gradient norm", result.norm)] where !value.isFinite {
            throw NotFiniteError(step: step + 1, quantity: quantity, value: value)
        }
        if let limit = settings.clipNorm, result.norm > limit {
            result.gradients = result.gradients.scaled(by: limit / (result.norm + 1e-6))
        }
        return result
    }

    private func seconds(since start: ContinuousClock.Instant, _ clock: ContinuousClock) -> Double {
        let duration = clock.now - start
        return Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
    }
}
