import Fovea

/// Pictures with questions, and a small vision-language model around a compressor that answers them.
struct QuestionExperiment: RunnableExperiment {
    typealias Model = VisionLanguageModel<CompactEncoder, AnyCompressor>
    typealias Task = VisualQuestions<Model>

    let recipe: Recipe
    let model: Model
    let tokens: TokenShape
    private let parts: [String: QuestionSet]

    /// Reads the digits where the task shows some, and checks the recipe's values against each other.
    init(_ recipe: Recipe) throws {
        self.recipe = recipe
        parts = try QuestionExperiment.parts(recipe)
        guard let training = parts["train"] else { throw recipe.error("data.name", "there is nothing to train on") }
        let (patch, width) = (recipe.integer("model.patchSize"), recipe.integer("model.width"))
        let shape = training.task.pictureShape
        guard shape.height % patch == 0, shape.width % patch == 0 else {
            throw recipe.error(
                "model.patchSize", "patches of \(patch) pixels do not tile pictures of \(shape.height) × \(shape.width)"
            )
        }
        let stem = recipe.integer("model.stemChannels")
        guard stem == 0 || patch > 1 && patch & (patch - 1) == 0 else {
            throw recipe.error("model.stemChannels", "a stem halves: it cannot make patches of \(patch) pixels")
        }
        let (heads, decoderHeads) = (recipe.integer("model.encoderHeads"), recipe.integer("model.decoderHeads"))
        guard width % 4 == 0, width % heads == 0 else {
            throw recipe.error("model.width", "\(width) does not divide by 4 and by model.encoderHeads, \(heads)")
        }
        guard width % decoderHeads == 0 else {
            throw recipe.error("model.decoderHeads", "\(decoderHeads) heads do not divide model.width, \(width)")
        }
        if let problem = SelfAttention.problem(
            width, heads: decoderHeads, keyHeads: decoderHeads, headWidth: width / decoderHeads)
        {
            throw recipe.error("model.decoderHeads", problem)
        }
        let options = CompactEncoder.Options(
            channels: shape.channels, imageSize: (shape.height, shape.width), patchSize: patch, stemChannels: stem,
            width: width, depth: recipe.integer("model.encoderDepth"), heads: heads,
            dropout: recipe.number("model.dropout"))
        let decoder = LanguageModel.Options(
            vocabulary: training.vocabulary.count, width: width, hidden: 2 * width,
            depth: recipe.integer("model.decoderDepth"), heads: decoderHeads, deviation: 0.06)
        let pictures = training.task.pictureCount.upperBound
        let tokens = options.tokenShape
        self.tokens = tokens
        let start = recipe.key.folding("model")
        func made() throws -> Model {
            let compressor = try recipe.compressor(
                for: tokens, mayVary: recipe.optionalText("injection.module") == nil,
                key: start.folding("compressor"))
            let decoder = LanguageModel(decoder, key: start.folding("decoder"))
            let injector = try recipe.injector(
                of: compressor.outputShape(tokens), into: decoder, pictures: pictures, key: start.folding("injection"))
            return Model(
                encoder: CompactEncoder(options, key: start), compressor: compressor, decoder: decoder,
                injector: injector, sampler: try recipe.sampler(of: compressor.outputShape(tokens), in: decoder),
                projects: injector == nil ? true : nil, pictures: pictures, key: start)
        }
        // Weights, gradients, two moments and the average, before any memory is asked for.
        let bytes = 5 * (try withoutMemory(made)).parameterBytes
        guard bytes <= physicalMemory else {
            throw recipe.error(
                "model.width",
                "training this model would take \(bytes >> 20) MiB; this machine has \(physicalMemory >> 20) MiB")
        }
        model = try made()
        try checkBatch(samples: training.count)
        try checkTrainedPaths()
    }

    func startingModel() throws -> Model { try recipe.initialized(whole: model) }

    private static func parts(_ recipe: Recipe) throws -> [String: QuestionSet] {
        let name = recipe.text("data.name")
        var sources: [String: LabelledImageSet?] = ["train": nil, "validation": nil, "test": nil]
        if QuestionTasks.withDigits.contains(name) {
            let digits = try Digits(
                folder: try ExperimentData.folder(recipe), maximum: recipe.integer("data.maximum"))
            let together =
                recipe.flag("data.holdOutValidation") ? digits.train : digits.train.joined(with: digits.validation)
            sources = ["train": together, "validation": digits.validation, "test": digits.test]
        }
        let asked = recipe.list("data.questions")
        return try Dictionary(
            uniqueKeysWithValues: sources.map { part, digits in
                if let digits, let problem = QuestionTasks.problem(name, with: digits) {
                    throw recipe.error("data.folder", problem)
                }
                guard let task = QuestionTasks.task(name, digits: digits) else {
                    throw recipe.error("data.name", "there is no task \(name)")
                }
                let types = task.types.map(\.name)
                if let stray = asked.first(where: { !types.contains($0) }) {
                    throw recipe.error(
                        "data.questions",
                        "\(name) asks nothing of type \"\(stray)\"; known are \(types.joined(separator: ", "))")
                }
                var set = QuestionSet(part, of: task, types: asked.isEmpty ? nil : asked)
                set.isBlank = recipe.flag("data.blank")
                return (part, set)
            })
    }

    private func part(_ name: String) -> QuestionSet { parts[name]! }

    var holdsOut: Bool { recipe.flag("data.holdOutValidation") }

    func compressor(of model: Model) -> any Compressor { model.compressor.base }

    var task: Task {
        Task(
            training: part("train"), validation: holdsOut ? part("validation") : nil,
            batchSize: recipe.integer("training.batchSize"),
            labelSmoothing: recipe.number("training.labelSmoothing"), key: key.folding("data"))
    }

    var trainingData: String {
        let shape = part("train").task.pictureShape
        return "new samples of \(recipe.text("data.name")), pictures of \(shape.height) × \(shape.width)"
    }

    func evaluation(of model: Model, on part: String) -> Evaluation {
        let set = self.part(part)
        return evaluate(model, on: set, types: set.task.types.map(\.name))
    }

    func trainingEvaluation(of model: Model) -> Evaluation { evaluate(model, on: part("train").first(500)) }

    func scores(of model: Model, on part: String, under reduction: ReducerArguments) throws -> [ReducedScore] {
        guard model.injector == nil else {
            throw CommandError("--reducer: an injection puts the pictures into the layers; no token stands in the text")
        }
        let trials = try reduction.trials(in: ReducedEvaluation.place(in: model))
        let set = self.part(part)
        let evaluation = try ReducedEvaluation(
            model, on: reduction.samples.map(set.first) ?? set, patchSize: recipe.integer("model.patchSize"))
        let scores = try trials.compactMap { trial in
            do {
                return try evaluation.score(trial)
            } catch let problem as LanguageModelError {
                try trial.leaveOut(problem)
                return nil
            }
        }
        guard !scores.isEmpty else { throw CommandError("--reducer: none of them fits this model") }
        return scores
    }

    func saveCompanions(to folder: RunFolder) throws {
        try part("train").vocabulary.save(to: folder.file("vocabulary.json"))
    }
}
