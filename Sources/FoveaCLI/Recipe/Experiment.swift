import Fovea

/// Pictures to classify, and a classifier around a compressor.
struct Experiment: RunnableExperiment {
    typealias Model = CompressorClassifier<AnyCompressor>
    typealias Task = ImageClassification<Model>

    let recipe: Recipe
    let data: ExperimentData
    let options: Model.Options
    /// The model as it starts.
    let model: Model

    /// Reads the data and checks the recipe's values against each other.
    init(_ recipe: Recipe) throws {
        self.recipe = recipe
        data = try ExperimentData(recipe)
        let (patch, width) = (recipe.integer("model.patchSize"), recipe.integer("model.width"))
        let size = data.imageSize
        guard size.height % patch == 0, size.width % patch == 0 else {
            throw recipe.error(
                "model.patchSize", "patches of \(patch) pixels do not tile pictures of \(size.height) × \(size.width)")
        }
        let stem = recipe.integer("model.stemChannels")
        guard stem == 0 || patch > 1 && patch & (patch - 1) == 0 else {
            throw recipe.error("model.stemChannels", "a stem halves: it cannot make patches of \(patch) pixels")
        }
        let heads = recipe.integer("model.encoderHeads")
        guard width % heads == 0 else {
            throw recipe.error("model.width", "\(width) does not divide by model.encoderHeads, \(heads)")
        }
        guard recipe.integer("training.keepBest") == 0 || data.validation != nil else {
            throw recipe.error(
                "training.keepBest", "nothing is held out to tell which are best; set data.holdOutValidation: true")
        }
        let options = Model.Options(
            imageSize: size, classes: data.classes, readings: data.readings, patchSize: patch, stemChannels: stem,
            width: width, encoderDepth: recipe.integer("model.encoderDepth"), encoderHeads: heads,
            dropout: recipe.number("model.dropout"), positionDeviation: recipe.number("model.positionDeviation"))
        self.options = options
        let start = recipe.key.folding("model")
        func made() throws -> Model {
            let compressor = try recipe.compressor(for: options.tokens, key: start.folding("compressor"))
            return Model(options, compressor: compressor, key: start)
        }
        // Weights, gradients, two moments and the average, before any memory is asked for.
        let bytes = 5 * (try withoutMemory(made)).parameterBytes
        guard bytes <= physicalMemory else {
            throw recipe.error(
                "model.width",
                "training this model would take \(bytes >> 20) MiB; this machine has \(physicalMemory >> 20) MiB")
        }
        model = try made()
        try checkBatch(samples: data.training.count)
        try checkTrainedPaths()
    }

    func compressor(of model: Model) -> any Compressor { model.compressor.base }

    var tokens: TokenShape { options.tokens }

    var holdsOut: Bool { data.validation != nil }

    var trainingData: String {
        "\(data.training.count.grouped) pictures of \(data.imageSize.height) × \(data.imageSize.width)"
    }

    var task: Task {
        ImageClassification(
            training: data.training, validation: data.validation, batchSize: recipe.integer("training.batchSize"),
            labelSmoothing: recipe.number("training.labelSmoothing"), key: key.folding("data"))
    }

    func trainingEvaluation(of model: Model) -> Evaluation { evaluate(model, on: data.trainingAsIs) }

    func evaluation(of model: Model, on part: String) -> Evaluation { evaluate(model, on: data.part(part)) }
}
