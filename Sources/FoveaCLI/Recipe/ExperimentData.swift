import Foundation
import Fovea

/// The samples of an experiment, part by part.
struct ExperimentData {
    /// What a sample is.
    enum Content {
        /// Pictures of so many pixels.
        case pictures(height: Int, width: Int)
        /// Features of this shape.
        case features(TokenShape)
    }

    /// What is asked of a sample.
    enum Question {
        /// K classes, one of so many each; nil for one class of the whole.
        case classes(Int, readings: Int?)
        /// Tokens of this shape, to be matched.
        case tokens(TokenShape)
    }

    /// What is trained on, with its augmentation.
    let training: any Dataset<LabelledImages>
    /// What is held out of training to choose settings by; nil when it is trained on.
    let validation: (any Dataset<LabelledImages>)?
    let content: Content
    let question: Question
    /// What is trained on, without augmentation, to evaluate on.
    let trainingAsIs: any Dataset<LabelledImages>
    private let parts: [String: any Dataset<LabelledImages>]

    /// The samples of one part: train, validation or test.
    func part(_ name: String) -> any Dataset<LabelledImages> { parts[name]! }

    init(_ recipe: Recipe) throws {
        switch recipe.text("data.name") {
        case "features": try self.init(featuresOf: recipe)
        case "digit-scenes": try self.init(scenesOf: recipe)
        default: try self.init(digitsOf: recipe)
        }
    }

    private init(digitsOf recipe: Recipe) throws {
        let digits = try ExperimentData.digits(recipe)
        let holdsOut = recipe.flag("data.holdOutValidation")
        trainingAsIs = holdsOut ? digits.train : digits.train.joined(with: digits.validation)
        var shifted = holdsOut ? digits.train : digits.train.joined(with: digits.validation)
        shifted.maxShift = recipe.integer("data.maxShift")
        training = shifted
        validation = holdsOut ? digits.validation : nil
        let (height, width) = digits.train.imageSize
        content = .pictures(height: height, width: width)
        question = .classes(digits.train.classes, readings: nil)
        parts = ["train": digits.train, "validation": digits.validation, "test": digits.test]
    }

    private init(scenesOf recipe: Recipe) throws {
        let digits = try ExperimentData.digits(recipe)
        let holdsOut = recipe.flag("data.holdOutValidation")
        let options = DigitScenes.Options(
            size: recipe.integer("data.sceneSize"), cells: recipe.integer("data.sceneCells"),
            digits: recipe.integer("data.sceneDigits"), clutter: recipe.integer("data.sceneClutter"))
        let (height, width) = digits.train.imageSize
        if let problem = options.problem(digitHeight: height, digitWidth: width) {
            throw recipe.error("data.sceneSize", problem)
        }
        let together = holdsOut ? digits.train : digits.train.joined(with: digits.validation)
        let scenes = DigitScenes.part("train", of: together, options: options)
        let held = DigitScenes.part("validation", of: digits.validation, options: options)
        (training, trainingAsIs, validation) = (scenes, scenes.first(1000), holdsOut ? held : nil)
        content = .pictures(height: options.size, width: options.size)
        question = .classes(scenes.classes, readings: options.readings)
        parts = [
            "train": scenes.first(1000), "validation": held,
            "test": DigitScenes.part("test", of: digits.test, options: options),
        ]
    }

    /// Features of three parts that must go together. The validation part is never trained on: it is there to choose
    /// settings by, and reported where it is held out.
    private init(featuresOf recipe: Recipe) throws {
        guard let folder = recipe.optionalText("data.folder") else {
            throw recipe.error(
                "data.folder",
                "expected is the folder of the features, since data.name is features: see docs/features.md")
        }
        let train = try FeatureSet(folder: folder, part: "train")
        let validation = try FeatureSet(folder: folder, part: "validation")
        let test = try FeatureSet(folder: folder, part: "test")
        for other in [validation, test] {
            if let problem = train.problem(with: other) { throw FileError(path: other.path, problem: problem) }
        }
        (training, trainingAsIs) = (train, train)
        self.validation = recipe.flag("data.holdOutValidation") ? validation : nil
        content = .features(try ExperimentData.shape(train.features, rows: recipe.integer("data.gridRows"), recipe))
        let answers = train.answers
        question =
            train.isMatching
            ? .tokens(TokenShape(count: answers.shape[1], width: answers.shape[2]))
            : .classes(train.classes, readings: train.readings)
        parts = ["train": train, "validation": validation, "test": test]
    }

    /// The shape of one sample of features [S, N, C], and the raster that they form.
    private static func shape(_ features: Tensor, rows: Int, _ recipe: Recipe) throws -> TokenShape {
        let (count, width) = (features.shape[1], features.shape[2])
        guard rows > 0 else {
            let side = Int(Double(count).squareRoot().rounded())
            return side * side == count
                ? TokenShape(grid: .init(rows: side, columns: side), width: width)
                : TokenShape(count: count, width: width)
        }
        guard count % rows == 0 else {
            throw recipe.error("data.gridRows", "\(count) tokens do not form \(rows) rows")
        }
        return TokenShape(grid: .init(rows: rows, columns: count / rows), width: width)
    }

    private static func digits(_ recipe: Recipe) throws -> Digits {
        try Digits(folder: try folder(recipe), maximum: recipe.integer("data.maximum"))
    }

    static func folder(_ recipe: Recipe) throws -> String {
        if let folder = recipe.optionalText("data.folder") { return folder }
        guard recipe.text("data.name") != "idx" else {
            throw recipe.error("data.folder", "expected is the folder of the IDX files, since data.name is idx")
        }
        // A run may be looked at from anywhere.
        guard let folder = Digits.shippedFolder(near: [FileManager.default.currentDirectoryPath, recipe.folder]) else {
            throw recipe.error(
                "data.folder", "there is no Data/digits above the working directory or the recipe; name the folder")
        }
        return folder
    }
}
