import FoveaTensor

/// Six objects, squares and discs of one colour each, on 75 × 75 pixels: Sort-of-CLEVR.
/// (Santoro et al., "A simple neural network module for relational reasoning", 2017, §3.2; radius and colours as in
/// `kimhc6028/relational-networks`.)
///
/// Three questions are about one object: its shape, whether it is on the left, whether it is in the upper half. Three
/// relate it to the others: the shape of the nearest, of the furthest, and how many have its shape. All 36 are asked of
/// every picture. The most frequent shape of the other five is right for the nearest and the furthest with 11/16:
/// counting alone gets that far.
///
/// Unlike there, the background is black, so that a patch with nothing on it is zero; objects keep a pixel between them, none stands on the middle lines, and nearest and furthest are never
/// tied, so that each question has one answer.
public struct ShapeScenes: QuestionTask {
    public let name = "scenes"
    public let summary = "six coloured squares and discs, alone and in relation (Sort-of-CLEVR)"
    public let pictureShape = (channels: 3, height: 75, width: 75)
    public let pictureCount = 1...1

    private static let radius = 5
    private static let colours: [(name: String, value: [UInt8])] = [
        ("red", [255, 0, 0]), ("green", [0, 255, 0]), ("blue", [0, 0, 255]), ("orange", [255, 156, 0]),
        ("grey", [128, 128, 128]), ("yellow", [255, 255, 0]),
    ]

    public init() {}

    public let types: [QuestionType] = [
        QuestionType(name: "shape", summary: "square or disc", answers: ["square", "disc"], chance: 0.5),
        QuestionType(name: "left", summary: "whether in the left half", answers: ["no", "yes"], chance: 0.5),
        QuestionType(name: "upper", summary: "whether in the upper half", answers: ["no", "yes"], chance: 0.5),
        QuestionType(
            name: "nearest", summary: "the shape of the object nearest to it", answers: ["square", "disc"], chance: 0.5
        ),
        QuestionType(
            name: "furthest", summary: "the shape of the object furthest from it", answers: ["square", "disc"],
            chance: 0.5),
        QuestionType(
            name: "count", summary: "how many objects have its shape", answers: (1...6).map { "\($0)" },
            chance: 0.3125),
    ]

    public var questionWords: [String] { types.map(\.name) + ShapeScenes.colours.map(\.name) }

    /// An object of a scene, in the order of the colours.
    private struct Object {
        var row: Int
        var column: Int
        var isDisc: Bool

        func squaredDistance(to other: Object) -> Int {
            let (down, right) = (row - other.row, column - other.column)
            return down * down + right * right
        }
    }

    public func sample(_ key: RandomKey) -> PictureQuestions {
        var random = RandomSequence(key)
        var objects = arrangement(&random)
        while !hasOneAnswer(objects) { objects = arrangement(&random) }
        var picture = Picture(height: 75, width: 75, background: [0, 0, 0])
        for (index, object) in objects.enumerated() { draw(object, index, in: &picture) }
        return PictureQuestions(pictures: [picture], questions: questions(about: objects))
    }

    /// Six objects that keep apart; starts over where the next finds no place.
    private func arrangement(_ random: inout RandomSequence) -> [Object] {
        let (radius, size) = (ShapeScenes.radius, pictureShape.height)
        var objects: [Object] = []
        while objects.count < ShapeScenes.colours.count {
            let object = Object(
                row: random.integer(in: radius...size - 1 - radius),
                column: random.integer(in: radius...size - 1 - radius), isDisc: random.coin())
            let isFree =
                object.row != size / 2 && object.column != size / 2
                && objects.allSatisfy {
                    max(abs($0.row - object.row), abs($0.column - object.column)) > 2 * radius + 1
                }
            if isFree { objects.append(object) }
        }
        return objects
    }

    /// The other objects, nearest first.
    private func others(of index: Int, in objects: [Object]) -> [Int] {
        objects.indices.filter { $0 != index }.sorted {
            (objects[index].squaredDistance(to: objects[$0]), $0) < (
                objects[index].squaredDistance(to: objects[$1]), $1
            )
        }
    }

    private func hasOneAnswer(_ objects: [Object]) -> Bool {
        objects.indices.allSatisfy { index in
            let distances = others(of: index, in: objects).map { objects[index].squaredDistance(to: objects[$0]) }
            return distances[0] < distances[1] && distances[3] < distances[4]
        }
    }

    private func draw(_ object: Object, _ index: Int, in picture: inout Picture) {
        let radius = ShapeScenes.radius
        for down in -radius...radius {
            for right in -radius...radius
            // Half a pixel more than the radius, squared and rounded down: a rounder disc.
            where !object.isDisc || down * down + right * right <= radius * radius + radius {
                picture.paint(
                    object.row + down, object.column + right, ShapeScenes.colours[index].value,
                    object: UInt8(index + 1))
            }
        }
    }

    private func questions(about objects: [Object]) -> [Question] {
        func shape(_ index: Int) -> String { objects[index].isDisc ? "disc" : "square" }
        func yes(_ fact: Bool) -> String { fact ? "yes" : "no" }
        let half = pictureShape.height / 2
        return objects.indices.flatMap { index in
            let others = others(of: index, in: objects)
            let all = Array(objects.indices)
            let answers: [(answer: String, evidence: [Int])] = [
                (shape(index), [index]),
                (yes(objects[index].column < half), [index]),
                (yes(objects[index].row < half), [index]),
                (shape(others[0]), [index, others[0]]),
                (shape(others[4]), [index, others[4]]),
                ("\(objects.count { $0.isDisc == objects[index].isDisc })", all),
            ]
            return answers.enumerated().map { type, fact in
                Question(
                    type: type, words: [types[type].name, ShapeScenes.colours[index].name], answer: fact.answer,
                    evidence: fact.evidence.map { ObjectReference(picture: 0, object: UInt8($0 + 1)) })
            }
        }
    }
}
