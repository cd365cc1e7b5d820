import ArgumentParser
import Fovea

/// `fovea data`: what a dataset holds, and how it looks.
struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Describe a dataset and draw samples of it.",
        discussion: """
            digits: handwritten digits, one a picture. digit-scenes: larger pictures made of them, with digits at random \
            places among clutter; for each quarter the answer is its digit, or none. The others are pictures with questions: \
            digits in a grid, shapes in relation (Sort-of-CLEVR), a tiny glyph, several pictures, clips. Recipes call them \
            data.name.
            """)

    @Argument(help: "The dataset: \((DatasetListing.names + QuestionTasks.names).joined(separator: ", ")).")
    var name: String

    @Option(help: "A folder of IDX files named as in Data/digits.")
    var folder: String?

    @Option(parsing: .unconditional, help: "The grey value that counts as 1.")
    var maximum = 16

    @Option(help: "A PNG file to draw samples in: digits with a row for each class, scenes in rows.")
    var preview: String?

    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let names = DatasetListing.names + QuestionTasks.names
        guard names.contains(name) else {
            throw CommandError("there is no dataset \(name); known are \(names.joined(separator: ", "))")
        }
        guard (1...255).contains(maximum) else {
            throw CommandError("--maximum \(maximum): expected is a number from 1 to 255")
        }
        if QuestionTasks.names.contains(name), !QuestionTasks.withDigits.contains(name) {
            try Destinations.check(["--preview": preview])
            return try describe(QuestionTasks.task(name, digits: nil)!)
        }
        guard let source = folder ?? Digits.shippedFolder() else {
            throw CommandError("Data/digits is not below the working directory; name it with --folder")
        }
        try Destinations.check(["--preview": preview], inputs: Digits.files(in: source))
        let digits = try Digits(folder: source, maximum: maximum)
        if QuestionTasks.names.contains(name) { return try describeQuestions(digits.train, source) }
        if name == "digit-scenes" {
            let (height, width) = digits.train.imageSize
            if let problem = DigitScenes.Options().problem(digitHeight: height, digitWidth: width) {
                throw CommandError("\(source): \(problem)")
            }
        }
        let listing = DatasetListing(name, of: digits)
        if json { printJSON(listing) } else { print(listing.text(source)) }
        if let preview {
            try writePNG(ContactSheet(name, of: digits).pixels, to: preview)
            if !json { print("samples drawn in \(preview)") }
        }
    }

    private func describeQuestions(_ digits: LabelledImageSet, _ source: String) throws {
        if let problem = QuestionTasks.problem(name, with: digits) { throw CommandError("\(source): \(problem)") }
        try describe(QuestionTasks.task(name, digits: digits)!)
    }

    private func describe(_ task: any QuestionTask) throws {
        let listing = QuestionListing(task)
        if json { printJSON(listing) } else { print(listing.text) }
        if let preview {
            try writePNG(QuestionSheet(task).pixels, to: preview)
            if !json { print("samples drawn in \(preview)") }
        }
    }
}

/// What a dataset holds.
private struct DatasetListing: Encodable {
    static let names = ["digits", "digit-scenes"]

    struct Part: Encodable {
        let name: String
        let samples: Int
        let perClass: [Int]
    }
    let name: String
    let imageSize: [Int]
    let classes: Int
    /// How many things are read in a picture.
    let readings: Int
    let parts: [Part]

    init(_ name: String, of digits: Digits) {
        self.name = name
        let sets = [("train", digits.train), ("validation", digits.validation), ("test", digits.test)]
        func parts(_ classes: Int, _ labels: (String, LabelledImageSet) -> [Int], _ readings: Int) -> [Part] {
            sets.map { name, set in
                let labels = labels(name, set)
                return Part(
                    name: name, samples: labels.count / readings,
                    perClass: (0..<classes).map { label in labels.count { $0 == label } })
            }
        }
        guard name == "digit-scenes" else {
            let size = digits.train.imageSize
            (imageSize, classes, readings) = ([size.height, size.width], digits.train.classes, 1)
            self.parts = parts(classes, { $1.labels }, 1)
            return
        }
        let scenes = DigitScenes.part("train", of: digits.train)
        (imageSize, classes) = ([scenes.options.size, scenes.options.size], scenes.classes)
        readings = scenes.options.readings
        self.parts = parts(
            classes,
            { name, set in
                let scenes = DigitScenes.part(name, of: set)
                return scenes.batches(of: 256).flatMap { $0.labels.scalars(as: Int64.self).map(Int.init) }
            }, readings)
    }

    func text(_ source: String) -> String {
        let answers = readings == 1 ? "" : ", \(readings) answers each"
        let title =
            "\(name): pictures of \(imageSize[0]) × \(imageSize[1])\(answers), \(classes) classes, from \(source)"
        let names = (0..<classes).map { readings > 1 && $0 == classes - 1 ? "none" : "\($0)" }
        var table = TextTable(["part", "samples"] + names, right: Set(1...classes + 1))
        for part in parts { table.add([part.name, "\(part.samples)"] + part.perClass.map(String.init)) }
        return title + "\n" + table.text
    }
}

/// Samples of a training part, dark on light, side by side.
private struct ContactSheet {
    /// [rows, columns], uint8.
    let pixels: Tensor

    /// The first sixteen digits of each class, or thirty-two scenes.
    init(_ name: String, of digits: Digits) {
        guard name == "digit-scenes" else {
            let set = digits.train
            let samples = (0..<set.classes).map { label in
                Array(set.labels.indices.filter { set.labels[$0] == label }.prefix(16))
            }
            self.init(of: set, rows: samples, across: 16, zoom: 5)
            return
        }
        let scenes = DigitScenes.part("train", of: digits.train)
        self.init(of: scenes, rows: (0..<4).map { Array($0 * 8..<$0 * 8 + 8) }, across: 8, zoom: 3)
    }

    private init(of set: some Dataset<LabelledImages>, rows: [[Int]], across: Int, zoom: Int) {
        let gap = 4
        let images = set.batch(of: rows.flatMap(\.self), augmentation: nil).images
        let (height, width) = (images.shape[2], images.shape[3])
        let cell = (down: height * zoom + gap, right: width * zoom + gap)
        let (down, right) = (rows.count * cell.down + gap, across * cell.right + gap)
        let values: [Float] = images.scalars()
        var pixels = [UInt8](repeating: 255, count: down * right)
        var picture = 0
        for (row, samples) in rows.enumerated() {
            for column in samples.indices {
                for y in 0..<height * zoom {
                    for x in 0..<width * zoom {
                        let grey = values[(picture * height + y / zoom) * width + x / zoom]
                        pixels[(gap + row * cell.down + y) * right + gap + column * cell.right + x] =
                            UInt8(255 - (grey * 255).rounded())
                    }
                }
                picture += 1
            }
        }
        self.pixels = Tensor(pixels, shape: [down, right])
    }
}
