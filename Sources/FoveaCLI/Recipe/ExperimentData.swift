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
        guard recipe.text("data.name") == "digit-scenes" else {
            var shifted = together
            shifted.maxShift = recipe.integer("data.maxShift")
            training = shifted
            trainingAsIs = together
            validation = holdsOut ? digits.validation : nil
            (imageSize, classes, readings) = (digits.train.imageSize, digits.train.classes, nil)
            parts = ["train": digits.train, "validation": digits.validation, "test": digits.test]
            return
        }
        let options = DigitScenes.Options(
            size: recipe.integer("data.sceneSize"), cells: recipe.integer("data.sceneCells"),
            digits: recipe.integer("data.sceneDigits"), clutter: recipe.integer("data.sceneClutter"))
        let (height, width) = digits.train.imageSize
        if let problem = options.problem(digitHeight: height, digitWidth: width) {
            throw recipe.error("data.sceneSize", problem)
        }
        let scenes = DigitScenes.part("train", of: together, options: options)
        let held = DigitScenes.part("validation", of: digits.validation, options: options)
        (training, trainingAsIs, validation) = (scenes, scenes.first(1000), holdsOut ? held : nil)
        (imageSize, classes, readings) = ((options.size, options.size), scenes.classes, options.readings)
        parts = [
            "train": scenes.first(1000), "validation": held,
            "test": DigitScenes.part("test", of: digits.test, options: options),
        ]
    }

    static func folder(_ recipe: Recipe) throws -> String {
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
