import ArgumentParser
import Fovea

/// `fovea data`: what a dataset holds, and how it looks.
struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Describe a dataset and draw samples of it.")

    @Argument(help: "The dataset: digits.")
    var name: String

    @Option(help: "A folder of IDX files named as in Data/digits.")
    var folder: String?

    @Option(help: "The grey value that counts as 1.")
    var maximum = 16

    @Option(help: "A PNG file to draw samples in: a row for each class.")
    var preview: String?

    @Flag(help: "Print JSON.")
    var json = false

    private struct Part: Encodable {
        let name: String
        let samples: Int
        let perClass: [Int]
    }
    private struct Listing: Encodable {
        let name: String
        let imageSize: [Int]
        let classes: Int
        let parts: [Part]
    }

    func run() throws {
        guard name == "digits" else { throw CommandError("there is no dataset \(name); known are digits") }
        guard (1...255).contains(maximum) else {
            throw CommandError("--maximum \(maximum): expected is a number from 1 to 255")
        }
        guard let source = folder ?? Digits.shippedFolder() else {
            throw CommandError("Data/digits is not below the working directory; name it with --folder")
        }
        let digits = try Digits(folder: source, maximum: maximum)
        let classes = digits.train.classes
        let parts = [("train", digits.train), ("validation", digits.validation), ("test", digits.test)].map {
            name, set in
            Part(
                name: name, samples: set.count,
                perClass: (0..<classes).map { label in set.labels.count { $0 == label } })
        }
        let size = digits.train.imageSize
        if json {
            printJSON(Listing(name: name, imageSize: [size.height, size.width], classes: classes, parts: parts))
        } else {
            print("\(name): pictures of \(size.height) × \(size.width), \(classes) classes, in \(source)")
            var table = TextTable(["part", "samples"] + (0..<classes).map(String.init), right: Set(1...classes + 1))
            for part in parts { table.add([part.name, "\(part.samples)"] + part.perClass.map(String.init)) }
            print(table.text)
        }
        if let preview {
            try writePNG(contactSheet(digits.train, classes), to: preview)
            if !json { print("samples drawn in \(preview)") }
        }
    }

    /// The first sixteen pictures of each class, dark on light, each pixel drawn 5 × 5.
    private func contactSheet(_ set: LabelledImageSet, _ classes: Int) -> Tensor {
        let (zoom, gap, across) = (5, 4, 16)
        let (height, width) = set.imageSize
        let cell = (down: height * zoom + gap, right: width * zoom + gap)
        let (rows, columns) = (classes * cell.down + gap, across * cell.right + gap)
        var pixels = [UInt8](repeating: 255, count: rows * columns)
        for label in 0..<classes {
            let samples = set.labels.indices.filter { set.labels[$0] == label }.prefix(across)
            for (position, sample) in samples.enumerated() {
                let image: [UInt8] = set.image(sample).scalars()
                for y in 0..<height * zoom {
                    for x in 0..<width * zoom {
                        let grey = Int(image[y / zoom * width + x / zoom]) * 255 / set.maximum
                        pixels[(gap + label * cell.down + y) * columns + gap + position * cell.right + x] = UInt8(
                            255 - grey)
                    }
                }
            }
        }
        return Tensor(pixels, shape: [rows, columns])
    }
}
