import Foundation
import Fovea

/// A recipe made real: the data, the model, the optimizer and the settings that it describes.
struct Experiment {
    typealias Model = ResamplerClassifier
    typealias Task = ImageClassification<ResamplerClassifier, LabelledImageSet>

    let recipe: Recipe
    let digits: Digits
    /// What is trained on.
    let training: LabelledImageSet
    /// What is held out of training to choose settings by, if anything.
    let validation: LabelledImageSet?
    let options: ResamplerClassifier.Options

    /// Reads the data and checks the recipe's values against each other.
    init(_ recipe: Recipe) throws {
        self.recipe = recipe
        digits = try Digits(folder: try Experiment.dataFolder(recipe), maximum: recipe.integer("data.maximum"))
        let holdsOut = recipe.flag("data.holdOutValidation")
        var training = holdsOut ? digits.train : digits.train.joined(with: digits.validation)
        training.maxShift = recipe.integer("data.maxShift")
        self.training = training
        validation = holdsOut ? digits.validation : nil

        let (patch, width) = (recipe.integer("model.patchSize"), recipe.integer("model.width"))
        let size = digits.train.imageSize
        guard size.height % patch == 0, size.width % patch == 0 else {
            throw recipe.error(
                "model.patchSize", "patches of \(patch) pixels do not tile pictures of \(size.height) × \(size.width)")
        }
        let heads = recipe.integer("model.encoderHeads")
        guard width % heads == 0 else {
            throw recipe.error("model.width", "\(width) does not divide by model.encoderHeads, \(heads)")
        }
        guard recipe.integer("training.accumulation") <= recipe.integer("training.batchSize") else {
            throw recipe.error("training.accumulation", "more parts than training.batchSize has pictures")
        }
        guard recipe.integer("training.batchSize") <= training.count else {
            throw recipe.error(
                "training.batchSize",
                "\(recipe.integer("training.batchSize")) is more than the \(training.count) training pictures")
        }
        options = ResamplerClassifier.Options(
            imageSize: size, classes: digits.train.classes, patchSize: patch, width: width,
            encoderDepth: recipe.integer("model.encoderDepth"), encoderHeads: heads,
            dropout: recipe.number("model.dropout"), positionDeviation: recipe.number("model.positionDeviation"),
            resampler: .init(
                width: width, depth: recipe.integer("model.resamplerDepth"),
                heads: recipe.integer("model.resamplerHeads"), headWidth: recipe.integer("model.resamplerHeadWidth"),
                latents: recipe.integer("model.latents"),
                feedForwardMultiple: recipe.integer("model.feedForwardMultiple")))
        // Weights, gradients, two moments and the average, before any memory is asked for.
        let options = options
        let bytes = 5 * withoutMemory { Model(options, key: RandomKey(seed: 0)) }.parameterBytes
        guard bytes <= physicalMemory else {
            throw recipe.error(
                "model.width",
                "training this model would take \(bytes >> 20) MiB; this machine has \(physicalMemory >> 20) MiB")
        }
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

    private static func dataFolder(_ recipe: Recipe) throws -> String {
        if let folder = recipe.optionalText("data.folder") { return folder }
        guard recipe.text("data.name") == "digits" else {
            throw recipe.error("data.folder", "expected is the folder of the IDX files, since data.name is idx")
        }
        guard let folder = Digits.shippedFolder() else {
            throw recipe.error("data.folder", "Data/digits is not below the working directory; name the folder")
        }
        return folder
    }

    /// The key that all random numbers of the run come from.
    var key: RandomKey { RandomKey(seed: UInt64(recipe.integer("training.seed"))) }

    /// The model as it starts.
    var model: Model { Model(options, key: key.folding("model")) }

    /// The state before the first step.
    var initialState: TrainingState<Model> {
        let model = model
        return TrainingState(
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
            training: training, validation: validation, batchSize: recipe.integer("training.batchSize"),
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
