import Fovea

/// What the commands need of a recipe made real, whatever is trained on whatever data.
protocol RunnableExperiment {
    associatedtype Task: TrainingTask

    var recipe: Recipe { get }
    /// The model as it starts.
    var model: Task.Model { get }
    /// The same with the weights that `model.initializeFrom` names.
    func startingModel() throws -> Task.Model
    /// The model's compressor.
    func compressor(of model: Task.Model) -> any Compressor
    /// What the compressor gets of one picture.
    var tokens: TokenShape { get }
    var task: Task { get }
    /// What it is trained on, in a few words.
    var trainingData: String { get }
    /// Whether the validation part is held out of training.
    var holdsOut: Bool { get }

    /// How a model does on a part: train, validation or test; and on each type of question, where there are such.
    func evaluation(of model: Task.Model, on part: String) -> Evaluation
    /// How a model does on what it was trained on, without augmentation.
    func trainingEvaluation(of model: Task.Model) -> Evaluation
    /// How it answers under reducers, a score for each of them and each budget.
    func scores(of model: Task.Model, on part: String, under reduction: ReducerArguments) throws -> [ReducedScore]
    /// Writes what a run needs besides its weights.
    func saveCompanions(to folder: RunFolder) throws
}

extension RunnableExperiment {
    func scores(of model: Task.Model, on part: String, under reduction: ReducerArguments) throws -> [ReducedScore] {
        throw CommandError(
            "--reducer: this run classifies pictures; reducers are tried on runs that answer questions about pictures")
    }
    func saveCompanions(to folder: RunFolder) throws {}

    /// The key that all random numbers of the run come from.
    var key: RandomKey { recipe.key }

    var settings: TrainingSettings { recipe.settings }

    /// The state before the first step, with fresh weights: what a checkpoint is restored into.
    var initialState: TrainingState<Task.Model> { state(of: model) }

    /// The state before the first step, with the weights that `model.initializeFrom` names.
    func startingState() throws -> TrainingState<Task.Model> { state(of: try startingModel()) }

    private func state(of model: Task.Model) -> TrainingState<Task.Model> {
        TrainingState(
            model: model, optimizer: recipe.optimizer,
            average: recipe.optionalNumber("training.averageDecay").map { MovingAverage(of: model, decay: $0) })
    }

    /// The multiply-adds of the forward pass of one sample, counted while it runs.
    func multiplyAdds(of model: Task.Model) -> Int {
        let before = MatrixProduct.multiplyAdds
        withoutGradient { _ = task.loss(model, task.batch(at: 0, part: 0, of: task.batchSize)) }
        return MatrixProduct.multiplyAdds - before
    }

    /// Refuses batches that the training samples do not fill.
    func checkBatch(samples: Int) throws {
        guard recipe.integer("training.accumulation") <= recipe.integer("training.batchSize") else {
            throw recipe.error("training.accumulation", "more parts than training.batchSize has pictures")
        }
        guard recipe.integer("training.batchSize") <= samples else {
            throw recipe.error(
                "training.batchSize",
                "\(recipe.integer("training.batchSize")) is more than the \(samples) training pictures")
        }
    }

    /// A pattern that matches nothing is a misspelt one; freezing everything trains nothing.
    func checkTrainedPaths() throws {
        let parameters = model.parameters
        for list in ["training.freeze", "training.firstStage"] {
            for pattern in recipe.list(list)
            where !parameters.contains(where: { ParameterFilter.path(pattern)($0.key, $0.value) }) {
                throw recipe.error(list, "no parameter has a path like \"\(pattern)\"; --dry-run lists them")
            }
        }
        for step in [0, settings.steps - 1] {
            let trained = settings.trained(at: step)
            guard parameters.contains(where: { trained($0.key, $0.value) }) else {
                throw recipe.error("training.freeze", "every parameter is frozen; at least one must be trained")
            }
        }
    }
}

extension Recipe {
    /// What the recipe describes.
    func experiment() throws -> any RunnableExperiment {
        if QuestionTasks.names.contains(text("data.name")) { return try QuestionExperiment(self) }
        return try Experiment(self)
    }

    /// The key that all random numbers of the run come from.
    var key: RandomKey { RandomKey(seed: UInt64(integer("training.seed"))) }

    /// The optimizer with its schedule.
    var optimizer: any Optimizer {
        let (peak, warmup) = (number("training.learningRate"), integer("training.warmup"))
        let (total, floor) = (integer("training.steps"), number("training.floor"))
        let schedule: Schedule =
            switch text("training.schedule") {
            case "linear": .warmupLinear(peak: peak, warmup: warmup, total: total, floor: floor)
            case "constant": .constant(peak, warmup: warmup)
            default: .warmupCosine(peak: peak, warmup: warmup, total: total, floor: floor)
            }
        let (decay, momentum) = (number("training.weightDecay"), number("training.momentum"))
        let (beta1, beta2) = (number("training.beta1"), number("training.beta2"))
        return switch text("training.optimizer") {
        case "sgd": SGD(learningRate: schedule, momentum: momentum, weightDecay: decay)
        case "muon":
            Muon(learningRate: schedule, momentum: momentum, beta1: beta1, beta2: beta2, weightDecay: decay)
        default: AdamW(learningRate: schedule, beta1: beta1, beta2: beta2, weightDecay: decay)
        }
    }

    /// How long and how often.
    var settings: TrainingSettings {
        var settings = TrainingSettings(steps: integer("training.steps"))
        settings.accumulation = integer("training.accumulation")
        settings.recomputesLayers = flag("training.recompute")
        settings.clipNorm = optionalNumber("training.clipNorm")
        settings.checkpointEvery = integer("training.checkpointEvery")
        settings.keepCheckpoints = integer("training.keepCheckpoints")
        settings.keepBest = integer("training.keepBest")
        settings.onNonFinite = text("training.onNonFinite") == "skip" ? .skip : .stop
        settings.spikeDeviations = optionalNumber("training.spikeDeviations")
        settings.logEvery = integer("training.logEvery")
        settings.validateEvery = integer("training.validateEvery")
        settings.prefetch = integer("training.prefetch")
        settings.trained = list("training.freeze").reduce(.all) { $0 && !.path($1) }
        let first = list("training.firstStage")
        if !first.isEmpty {
            let filter = first.dropFirst().reduce(ParameterFilter.path(first[0])) { $0 || .path($1) }
            settings.firstStage = (integer("training.firstStageSteps"), filter)
        }
        return settings
    }
}
