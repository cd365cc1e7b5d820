import Fovea

/// Pictures to classify, and a classifier around a compressor.
struct Experiment: RunnableExperiment {
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
        guard recipe.integer("training.keepBest") == 0 || data.validation != nil else {
            throw recipe.error(
                "training.keepBest", "nothing is held out to tell which are best; set data.holdOutValidation: true")
        }
        guard recipe.optionalText("injection.module") == nil else {
            throw recipe.error(
                "injection.module",
                "there is no language model to put pictures into; tasks with questions are \(QuestionTasks.names.joined(separator: ", "))"
            )
        }
        for key in ["sampler.keep", "sampler.layer", "sampler.leastShare"] where recipe.isGiven(key) {
            throw recipe.error(
                key,
                "there is no question to sample by; tasks with questions are \(QuestionTasks.names.joined(separator: ", "))"
            )
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
        try checkBatch(samples: data.training.count)
        try checkTrainedPaths()
    }

    func compressor(of model: Model) -> any Compressor { model.compressor.base }

    var holdsOut: Bool { data.validation != nil }

    func startingModel() throws -> Model { try recipe.initialized(model) }

    var trainingData: String {
        let samples =
            switch data.content {
            case .pictures(let height, let width): "pictures of \(height) × \(width)"
            case .features(let shape): "samples of \(shape.count) features of width \(shape.width)"
            }
        return "\(data.training.count.grouped) \(samples)"
    }

    var task: Task {
        ImageClassification(
            training: data.training, validation: data.validation, batchSize: recipe.integer("training.batchSize"),
            labelSmoothing: recipe.number("training.labelSmoothing"), key: key.folding("data"))
    }

    func trainingEvaluation(of model: Model) -> Evaluation { evaluate(model, on: data.trainingAsIs) }

    func evaluation(of model: Model, on part: String) -> Evaluation { evaluate(model, on: data.part(part)) }
}
