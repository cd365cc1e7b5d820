import Fovea

/// What a task of questions about pictures holds.
struct QuestionListing: Encodable {
    struct QuestionKind: Encodable {
        let name: String
        let summary: String
        let perSample: Double
        let answers: [String]
        let chance: Double
    }
    struct Example: Encodable {
        let question: String
        let answer: String
    }
    let name: String
    let summary: String
    let pictureShape: [Int]
    let pictures: [Int]
    let words: Int
    let samples: [String: Int]
    let types: [QuestionKind]
    /// What is asked about the first training sample.
    let examples: [Example]

    init(_ task: any QuestionTask) {
        let set = QuestionSet("train", of: task)
        let shape = task.pictureShape
        let drawn = (0..<200).map { set.sample($0) }
        (name, summary, words) = (task.name, task.summary, set.vocabulary.count - 1)
        pictureShape = [shape.channels, shape.height, shape.width]
        pictures = [task.pictureCount.lowerBound, task.pictureCount.upperBound]
        samples = QuestionSet.counts
        types = task.types.enumerated().map { number, type in
            let asked = drawn.reduce(0) { $0 + $1.questions.count { $0.type == number } }
            return QuestionKind(
                name: type.name, summary: type.summary, perSample: Double(asked) / Double(drawn.count),
                answers: type.answers, chance: type.chance)
        }
        examples = drawn[0].questions.map { Example(question: $0.words.joined(separator: " "), answer: $0.answer) }
    }

    var text: String {
        let count = pictures[0] == pictures[1] ? "a picture" : "\(pictures[0]) to \(pictures[1]) pictures"
        let kind = pictureShape[0] == 1 ? "grey" : "coloured"
        var table = TextTable(["questions", "a sample", "answers", "chance", ""], right: [1, 2, 3])
        for type in types {
            table.add([
                type.name, type.perSample.fixed(1), "\(type.answers.count)", type.chance.percent, type.summary,
            ])
        }
        let parts = ["train", "validation", "test"].map { "\($0) \(samples[$0]!.grouped)" }.joined(separator: ", ")
        let examples = examples.map { "\($0.question) → \($0.answer)" }.joined(separator: "; ")
        let about = "\(words) words; about the first sample: \(examples)"
        return """
            \(name): \(summary)
            samples of \(count), \(kind), \(pictureShape[1]) × \(pictureShape[2])
            \(parts) (training draws new ones at each step)
            \(table.text)
            \(about.wrapped(to: 80).joined(separator: "\n"))
            """
    }
}

/// Samples of a task, side by side: a row for each where it has several pictures, else eight in a row.
struct QuestionSheet {
    /// [rows, columns, 3], uint8.
    let pixels: Tensor

    init(_ task: any QuestionTask) {
        let set = QuestionSet("train", of: task)
        let isSingle = task.pictureCount.upperBound == 1
        let rows = (0..<(isSingle ? 4 : 6)).map { row in
            isSingle ? (0..<8).map { set.sample(row * 8 + $0).pictures[0] } : set.sample(row).pictures
        }
        let shape = task.pictureShape
        let (gap, zoom) = (4, max(1, 96 / max(shape.height, shape.width)))
        let cell = (down: shape.height * zoom + gap, right: shape.width * zoom + gap)
        let (height, width) = (
            rows.count * cell.down + gap, (rows.map(\.count).max() ?? 0) * cell.right + gap
        )
        var pixels = [UInt8](repeating: 255, count: height * width * 3)
        for (row, pictures) in rows.enumerated() {
            for (column, picture) in pictures.enumerated() {
                for y in 0..<shape.height * zoom {
                    for x in 0..<shape.width * zoom {
                        let place = (gap + row * cell.down + y) * width + gap + column * cell.right + x
                        let source = y / zoom * shape.width + x / zoom
                        for channel in 0..<3 {
                            let plane = min(channel, shape.channels - 1) * shape.height * shape.width
                            pixels[place * 3 + channel] = picture.pixels[plane + source]
                        }
                    }
                }
            }
        }
        self.pixels = Tensor(pixels, shape: [height, width, 3])
    }
}
