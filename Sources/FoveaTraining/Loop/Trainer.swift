import FoveaIO
import FoveaNN
import FoveaTensor

/// Trains a task's model in a run folder, with checkpoints that it can go on from.
public struct Trainer<Task: TrainingTask>: Sendable {
    public let task: Task
    public let settings: TrainingSettings
    private let folder: RunFolder
    let key: RandomKey

    /// Steps in a row that may be skipped; after that, there is nothing to hope for.
    private static var skipLimit: Int { 100 }

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
    /// A checkpoint or a record that cannot be written does not end the run: `observe` is told, the last good checkpoint
    /// stays, and the next one is tried when it is due. Only the last one must be written.
    ///
    /// - Parameters:
    ///   - state: a fresh state, or one that a checkpoint was restored into; it is the run's state afterwards.
    ///   - shouldStop: asked after each step; true saves a checkpoint and returns.
    ///   - observe: told of everything that happens.
    /// - Throws: `FileError` when the log cannot be begun, or it or the last checkpoint cannot be written;
    ///   `NotFiniteError` when training blew up.
    public func run(
        _ state: inout TrainingState<Task.Model>, shouldStop: () -> Bool = { false },
        observe: (TrainingEvent) -> Void = { _ in }
    ) throws -> TrainingOutcome {
        let store = CheckpointStore(
            run: folder.path, keepLast: settings.keepCheckpoints, keepBest: settings.keepBest)
        var log = try MetricsLog(path: folder.file("metrics.jsonl"), upTo: state.step)
        let clock = ContinuousClock()
        observe(.started(step: state.step))
        guard state.step < settings.steps else { return .finished }
        let (task, parts) = (task, parts)
        let make: @Sendable (Int) -> Task.Batch = { task.batch(at: $0 / parts, part: $0 % parts, of: parts) }
        let prefetcher =
            settings.prefetch > 0
            ? Prefetcher(depth: settings.prefetch, steps: state.step * parts..<settings.steps * parts, make: make) : nil

        // A window that a resumed run goes on with was begun by another process, whose time is not known here.
        var (windowStart, windowSteps) = (clock.now, 0)
        var norm = 0.0
        var skippedInRow = 0
        while state.step < settings.steps {
            let started = clock.now
            let rate = state.optimizer.learningRate
            switch result(state.model, state.step, batch: { prefetcher?.next() ?? make($0) }) {
            case .success(let result):
                state.optimizer.update(&state.model, along: result.gradients)
                state.average?.update(towards: state.model)
                state.step += 1
                windowSteps += 1
                state.window.add(
                    loss: result.loss, right: result.right, samples: result.samples, auxiliary: result.auxiliary)
                norm = result.norm
                skippedInRow = 0
                let accuracy = Double(result.right) / Double(max(1, result.samples))
                observe(.stepped(step: state.step, loss: result.loss, accuracy: accuracy))
                noteSpikes(of: result, &state, observe)
            case .failure(let error):
                guard settings.onNonFinite == .skip, skippedInRow < Self.skipLimit else { throw error }
                state.step += 1
                state.skippedSteps += 1
                skippedInRow += 1
                state.window.add(note: "\(error.summary); skipped")
                observe(.skipped(error))
            }
            state.seconds += (clock.now - started).seconds
            state.peakBytes = max(state.peakBytes, processPeakBytes())

            let isLast = state.step == settings.steps
            let stops = !isLast && shouldStop()
            var evaluation: Evaluation?
            // Where every step of a window was left out its notes go into the next record, or into a last one that has
            // the loss of the record before.
            let last = isLast && !state.window.notes.isEmpty ? log.records.last : nil
            if state.step % settings.logEvery == 0 || isLast, state.window.steps > 0 || last != nil {
                if state.step % settings.validateEvery == 0 || isLast { evaluation = task.validate(state.result) }
                let record = record(
                    state, rate, norm, evaluation,
                    Double(windowSteps * task.batchSize) / max(1e-9, (clock.now - windowStart).seconds),
                    after: last)
                do {
                    try log.append(record)
                } catch {
                    observe(.writeFailed(step: state.step, error))
                }
                observe(.logged(record))
                state.window = LossWindow()
                (windowStart, windowSteps) = (clock.now, 0)
            }
            if state.step % settings.checkpointEvery == 0 || isLast || stops {
                if settings.keepBest > 0, evaluation == nil { evaluation = task.validate(state.result) }
                do {
                    try folder.requireHeld()
                    let path = try store.save(state, score: evaluation.map { ValidationScore($0) })
                    observe(.checkpointed(step: state.step, path: path))
                    if !log.isWritten { try log.write() }
                } catch {
                    guard !isLast, !stops else { throw error }
                    observe(.writeFailed(step: state.step, error))
                }
            }
            if stops { return .stopped(step: state.step) }
        }
        return .finished
    }

    private func record(
        _ state: TrainingState<Task.Model>, _ rate: Double, _ norm: Double, _ evaluation: Evaluation?,
        _ samplesPerSecond: Double, after last: StepRecord?
    ) -> StepRecord {
        let window = state.window
        let mean = (window.loss / Double(max(1, window.steps)), Double(window.right) / Double(max(1, window.samples)))
        let (loss, accuracy) = window.steps > 0 ? mean : (last?.loss ?? 0, last?.accuracy ?? 0)
        return StepRecord(
            step: state.step, loss: loss, accuracy: accuracy, learningRate: rate, gradientNorm: norm,
            samplesPerSecond: samplesPerSecond, seconds: state.seconds,
            validationAccuracy: evaluation?.accuracy, auxiliaryLosses: window.auxiliaryMeans,
            notes: window.notes.isEmpty ? nil : window.notes)
    }

    private func noteSpikes(
        of result: StepResult, _ state: inout TrainingState<Task.Model>, _ observe: (TrainingEvent) -> Void
    ) {
        guard let limit = settings.spikeDeviations else { return }
        for (quantity, value) in [("loss", result.loss), ("gradient norm", result.norm)] {
            guard let usual = state.usual.add(value, of: quantity, limit: limit) else { continue }
            state.window.add(note: "step \(state.step): the \(quantity) is \(value), and usually about \(usual)")
            observe(.spiked(step: state.step, quantity: quantity, value: value, usual: usual))
        }
    }
}
