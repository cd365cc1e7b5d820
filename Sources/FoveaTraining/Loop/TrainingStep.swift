import FoveaNN
import FoveaTensor

/// What one step's batch says.
struct StepResult {
    /// Clipped where the settings say so.
    var gradients = Gradients([:])
    /// Before clipping.
    var norm = 0.0
    var loss = 0.0
    var right = 0
    var samples = 0
    /// What was added to the loss, before it was weighed.
    var auxiliary: [String: Double] = [:]
    /// The first value that is not finite, where they were looked at.
    var anomaly: Anomaly?
}

extension Trainer {
    /// The parts that a step's batch is cut in.
    var parts: Int { max(1, min(settings.accumulation, task.batchSize)) }

    /// The gradients of one step's batch, or what is wrong with it.
    ///
    /// - Parameters:
    ///   - model: the model before the step.
    ///   - step: how many steps are done.
    ///   - batch: the part of this number, counted over the whole run.
    func result(
        _ model: Task.Model, _ step: Int, batch: (Int) -> Task.Batch
    ) -> Result<StepResult, NotFiniteError> {
        var result =
            settings.detectsAnomalies ? watched(model, step, batch: batch) : summed(model, step, batch: batch)
        let wrong = [("loss", result.loss), ("gradient norm", result.norm)].first { !$0.1.isFinite }
        guard wrong == nil, result.anomaly == nil else {
            return .failure(error(wrong ?? ("", .nan), result.anomaly, model, step))
        }
        if let limit = settings.clipNorm, result.norm > limit {
            result.gradients = result.gradients.scaled(by: limit / (result.norm + 1e-6))
        }
        return .success(result)
    }

    /// Loss and gradients, part by part.
    private func summed(_ model: Task.Model, _ step: Int, batch: (Int) -> Task.Batch) -> StepResult {
        var result = StepResult()
        for part in 0..<parts {
            let batch = batch(step * parts + part)
            let randomness = key.folding(UInt64(step)).folding(UInt64(part))
            let (loss, gradients, counts) = valueAndGradient(
                of: model, where: settings.trained(at: step), randomness: randomness
            ) { model -> (Tensor, TaskLoss) in
                let outcome = recomputingLayers(settings.recomputesLayers) { task.loss(model, batch) }
                return (outcome.loss, outcome)
            }
            // Parts may differ by a sample: each counts by its size, however many answers a sample has.
            let size = task.batchSize * (part + 1) / parts - task.batchSize * part / parts
            let share = Double(size) / Double(task.batchSize)
            result.loss += loss.item() * share
            result.right += counts.right
            result.samples += counts.samples
            for (name, value) in counts.auxiliary { result.auxiliary[name, default: 0] += value * share }
            result.gradients += parts == 1 ? gradients : gradients.scaled(by: share)
        }
        result.norm = result.gradients.norm
        return result
    }

    private func watched(_ model: Task.Model, _ step: Int, batch: (Int) -> Task.Batch) -> StepResult {
        var (result, anomaly) = detectingAnomalies { summed(model, step, batch: batch) }
        result.anomaly = anomaly
        return result
    }

    /// Computes a failed step once more, to see where it went wrong: healthy steps pay nothing for it.
    private func error(
        _ wrong: (quantity: String, value: Double), _ anomaly: Anomaly?, _ model: Task.Model, _ step: Int
    ) -> NotFiniteError {
        let origin =
            anomaly
            ?? watched(model, step) { task.batch(at: $0 / parts, part: $0 % parts, of: parts) }.anomaly
        return NotFiniteError(
            step: step + 1, quantity: wrong.quantity, value: wrong.value, samples: task.samples(at: step),
            origin: origin)
    }
}
