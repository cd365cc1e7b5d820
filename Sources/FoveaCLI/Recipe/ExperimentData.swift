import Fovea

/// The pictures of an experiment, part by part.
struct ExperimentData {
    /// What is trained on, with its augmentation.
    let training: any Dataset<LabelledImages>
    /// What is trained on, without augmentation, to evaluate on.
    let trainingAsIs: any Dataset<LabelledImages>
    /// What is held out of training to choose settings by; nil when it is trained on.
    let validation: (any Dataset<LabelledImages>)?
    /// Pixels down and across.
    let imageSize: (height: Int, width: Int)
    let classes: Int
    /// How many things are read in each picture; nil for one class of the whole.
    let readings: Int?
    private let parts: [String: any Dataset<LabelledImages>]

    /// The pictures of one part: train, validation or test.
    func part(_ name: String) -> any Dataset<LabelledImages> { parts[name]! }

    init(_ recipe: Recipe) throws {
        let digits = try Digits(folder: try ExperimentData.folder(recipe), maximum: recipe.integer("data.maximum"))
        let holdsOut = recipe.flag("data.holdOutValidation")
        let together = holdsOut ? digits.train : digits.train.joined(with: digits.validation)
        classes = digits.train.classes
        guard recipe.text("data.name") == "digit-scenes" else {
            var shifted = together
            shifted.maxShift = recipe.integer("data.maxShift")
            training = shifted
            trainingAsIs = together
            validation = holdsOut ? digits.validation : nil
            imageSize = digits.train.imageSize
            readings = nil
            parts = ["train": digits.train, "validation": digits.validation, "test": digits.test]
            return
        }
        let options = DigitScenes.Options(
            size: recipe.integer("data.sceneSize"), digits: recipe.integer("data.sceneDigits"),
            clutter: recipe.integer("data.sceneClutter"))
        let width = max(digits.train.imageSize.height, digits.train.imageSize.width)
        guard options.size >= options.digits * width else {
            throw recipe.error(
                "data.sceneSize",
                "\(options.digits) digits of \(width) pixels need at least \(options.digits * width), not \(options.size)"
            )
        }
        /// The scenes of a part are the same in every run; training draws new ones at each step.
        func scenes(_ digits: LabelledImageSet, _ count: Int, _ name: String) -> DigitScenes {
            DigitScenes(of: digits, count: count, options: options, key: RandomKey(seed: 0).folding(name))
        }
        let (train, held) = (scenes(together, 1000, "train"), scenes(digits.validation, 1000, "validation"))
        training = scenes(together, 8192, "train")
        trainingAsIs = train
        validation = holdsOut ? held : nil
        imageSize = (options.size, options.size)
        readings = options.digits
        parts = ["train": train, "validation": held, "test": scenes(digits.test, 2000, "test")]
    }

    private static func folder(_ recipe: Recipe) throws -> String {
        if let folder = recipe.optionalText("data.folder") { return folder }
        guard recipe.text("data.name") != "idx" else {
            throw recipe.error("data.folder", "expected is the folder of the IDX files, since data.name is idx")
        }
        guard let folder = Digits.shippedFolder() else {
            throw recipe.error("data.folder", "Data/digits is not below the working directory; name the folder")
        }
        return folder
    }
}
