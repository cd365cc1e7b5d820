import FoveaNN
import FoveaTensor

/// What training takes of memory, measured on a step of few samples.
///
/// The pool of buffers keeps what it was once given, so that its size after two steps is what a run of any length takes
/// of it. What grows with the samples is drawn as a line through two sizes of a batch.
public struct MemoryEstimate: Sendable, Equatable {
    /// Weights, gradients, the optimizer's state, the average, and whatever else does not depend on the batch.
    public var fixedBytes: Int
    /// What one more sample in a part of a batch adds.
    public var bytesPerSample: Int

    /// What a part of a batch of so many samples takes.
    public func bytes(samples: Int) -> Int { fixedBytes + samples * bytesPerSample }

    /// How many samples a part of a batch may have.
    public func samples(within limit: Int) -> Int { max(0, (limit - fixedBytes) / max(1, bytesPerSample)) }

    /// Measures a task's step. The state stays as it is.
    ///
    /// - Parameters:
    ///   - task: what is trained.
    ///   - settings: how; a step in parts and a clipped one hold more gradients, one that computes layers twice
    ///     less of what is between.
    ///   - state: the state before the first step.
    public init<Task: TrainingTask>(
        of task: Task, _ settings: TrainingSettings, _ state: TrainingState<Task.Model>
    ) {
        func footprint(_ parts: Int) -> Int {
            StoragePool.trim()
            let before = StoragePool.statistics.liveBytes
            var state = state
            let batch = task.batch(at: 0, part: 0, of: parts)
            for _ in 0..<2 {
                let (_, gradients, _) = valueAndGradient(
                    of: state.model, where: settings.trained, randomness: RandomKey(seed: 0)
                ) { model in
                    (recomputingLayers(settings.recomputesLayers) { task.loss(model, batch).loss }, ())
                }
                state.optimizer.update(&state.model, along: gradients)
                state.average?.update(towards: state.model)
            }
            let pool = StoragePool.statistics
            return pool.liveBytes + pool.cachedBytes - before
        }
        // Parts of one sample, and of about four.
        let batchSize = task.batchSize
        let fewer = max(1, batchSize / 4)
        let (few, more) = (1, batchSize / fewer)
        let (small, large) = (footprint(batchSize), footprint(fewer))
        bytesPerSample = more > few ? max(0, (large - small) / (more - few)) : 0
        let copies = (settings.accumulation > 1 ? 2 : 0) + (settings.clipNorm == nil ? 0 : 1)
        fixedBytes = max(0, small - few * bytesPerSample) + copies * state.model.parameterBytes
    }
}
