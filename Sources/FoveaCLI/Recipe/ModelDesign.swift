import Fovea

/// What the groups `model` and `compressor` of a recipe say, checked against the data.
struct ModelDesign {
    /// What the compressor gets of one sample.
    let tokens: TokenShape
    private let recipe: Recipe
    private let data: ExperimentData
    /// Of the front, where pictures come in.
    private let options: Experiment.Model.Options?

    init(_ recipe: Recipe, _ data: ExperimentData) throws {
        self.recipe = recipe
        self.data = data
        switch data.content {
        case .pictures(let height, let width):
            let options = try ModelDesign.options(recipe, data.question, (height, width))
            (self.options, tokens) = (options, options.tokens)
        case .features(let shape): (options, tokens) = (nil, shape)
        }
    }

    private static func options(
        _ recipe: Recipe, _ question: ExperimentData.Question, _ size: (height: Int, width: Int)
    ) throws -> Experiment.Model.Options {
        let (patch, width) = (recipe.integer("model.patchSize"), recipe.integer("model.width"))
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
        guard case .classes(let classes, let readings) = question else {
            throw recipe.error("data.name", "pictures ask for classes")
        }
        return Experiment.Model.Options(
            imageSize: size, classes: classes, readings: readings, patchSize: patch, stemChannels: stem, width: width,
            encoderDepth: recipe.integer("model.encoderDepth"), encoderHeads: heads,
            dropout: recipe.number("model.dropout"), positionDeviation: recipe.number("model.positionDeviation"))
    }

    /// The model with fresh weights.
    func model() throws -> Experiment.Model {
        let start = recipe.key.folding("model")
        let compressor = try recipe.compressor(for: tokens, key: start.folding("compressor"))
        if let options { return Experiment.Model(options, compressor: compressor, key: start) }
        switch data.question {
        case .classes(let classes, let readings):
            return Experiment.Model(
                features: tokens, classes: classes, readings: readings, compressor: compressor, key: start)
        case .tokens(let wanted):
            let given = compressor.outputShape(tokens)
            guard given.count == wanted.count, given.width == wanted.width else {
                throw recipe.error(
                    "compressor.module",
                    "gives \(given.count) tokens of width \(given.width), but the targets are \(wanted.count) of width \(wanted.width)"
                )
            }
            return Experiment.Model(features: tokens, classes: nil, compressor: compressor, key: start)
        }
    }
}
