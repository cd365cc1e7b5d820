import Foundation
import Fovea

/// A recipe made real: the data, the model, the optimizer and the settings that it describes.
struct Experiment {
    typealias Model = CompressorClassifier<AnyCompressor>
    typealias Task = ImageClassification<Model>

    let recipe: Recipe
    let data: ExperimentData
    /// What the compressor gets of one sample.
    let tokens: TokenShape
    /// The model with fresh weights.
    let model: Model

    /// Reads the data and checks the recipe's values against each other.
    init(_ recipe: Recipe) throws {
        self.recipe = recipe
        data = try ExperimentData(recipe)
        guard recipe.integer("training.accumulation") <= recipe.integer("training.batchSize") else {
            throw recipe.error("training.accumulation", "more parts than training.batchSize has pictures")
        }
        guard recipe.integer("training.batchSize") <= data.training.count else {
            throw recipe.error(
                "training.batchSize",
                "\(recipe.integer("training.batchSize")) is more than the \(data.training.count) training pictures")
        }
        let design = try ModelDesign(recipe, data)
        tokens = design.tokens
        // Weights, gradients, two moments and the average, before any memory is asked for.
        let bytes = 5 * (try withoutMemory(design.model)).parameterBytes
        guard bytes <= physicalMemory else {
            throw recipe.error(
                "model.width",
                "training this model would take \(bytes >> 20) MiB; this machine has \(physicalMemory >> 20) MiB")
        }
        model = try design.model()
        try checkFrozenPaths()
    }

    /// A pattern that freezes nothing is a misspelt one; freezing everything trains nothing.
    private func checkFrozenPaths() throws {
        let patterns = recipe.list("training.freeze")
        guard !patterns.isEmpty else { return }
        let parameters = model.parameters
        for pattern in patterns where !parameters.contains(where: { ParameterFilter.path(pattern)($0.key, $0.value) }) {
            throw recipe.error("training.freeze", "no parameter has a path like \"\(pattern)\"; --dry-run lists them")
        }
        let trained = settings.trained
        guard parameters.contains(where: { trained($0.key, $0.value) }) else {
            throw recipe.error("training.freeze", "every parameter is frozen; at least one must be trained")
        }
    }

    /// The key that all random numbers of the run come from.
    var key: RandomKey { recipe.key }

    /// The state before the first step, with fresh weights: what a checkpoint is restored into.
    var initialState: TrainingState<Model> { state(of: model) }

    /// The state before the first step, with the weights that `model.initializeFrom` names.
    func startingState() throws -> TrainingState<Model> { state(of: try recipe.initialized(model)) }

    private func state(of model: Model) -> TrainingState<Model> {
        TrainingState(
            model: model, optimizer: optimizer,
            average: recipe.optionalNumber("training.averageDecay").map { MovingAverage(of: model, decay: $0) })
    }

    private var optimizer: any Optimizer {
        let (peak, warmup) = (recipe.number("training.learningRate"), recipe.integer("training.warmup"))
        let total = recipe.integer("training.steps")
        let schedule: Schedule =
            switch recipe.text("training.schedule") {
            case "linear": .warmupLinear(peak: peak, warmup: warmup, total: total)
            case "constant": .constant(peak, warmup: warmup)
            default: .warmupCosine(peak: peak, warmup: warmup, total: total)
            }
        let decay = recipe.number("training.weightDecay")
        guard recipe.text("training.optimizer") == "sgd" else {
            return AdamW(
                learningRate: schedule, beta1: recipe.number("training.beta1"), beta2: recipe.number("training.beta2"),
                weightDecay: decay)
        }
        return SGD(learningRate: schedule, momentum: recipe.number("training.momentum"), weightDecay: decay)
    }

    var task: Task {
        ImageClassification(
            training: data.training, validation: data.validation, batchSize: recipe.integer("training.batchSize"),
            labelSmoothing: recipe.number("training.labelSmoothing"), key: key.folding("data"))
    }

    var settings: TrainingSettings {
        var settings = TrainingSettings(steps: recipe.integer("training.steps"))
        settings.accumulation = recipe.integer("training.accumulation")
        settings.clipNorm = recipe.optionalNumber("training.clipNorm")
        settings.checkpointEvery = recipe.integer("training.checkpointEvery")
        settings.keepCheckpoints = recipe.integer("training.keepCheckpoints")
        settings.logEvery = recipe.integer("training.logEvery")
        settings.validateEvery = recipe.integer("training.validateEvery")
        settings.prefetch = recipe.integer("training.prefetch")
        settings.trained = recipe.list("training.freeze").reduce(.all) { $0 && !.path($1) }
        return settings
    }
}

extension Recipe {
    /// The key that all random numbers of the run come from.
    var key: RandomKey { RandomKey(seed: UInt64(integer("training.seed"))) }
}
