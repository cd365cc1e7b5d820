import FoveaTensor

/// From 8 to 16 frames in which three different digits come in one after another and move on, a pixel a frame: in which
/// direction one moves, which of two came first, which came first of all.
///
/// Paths do not cross: the boxes that the digits sweep are disjoint.
public struct DigitClips: QuestionTask {
    private let bank: DigitBank
    private let side = 40
    private static let digitCount = 3

    public let name = "clips"
    public let summary = "from 8 to 16 frames of three digits that come in and move"
    public var pictureShape: (channels: Int, height: Int, width: Int) { (1, side, side) }
    public let pictureCount = 8...16

    /// - Parameter bank: what is shown. Traps on digits of more than 10 pixels.
    public init(bank: DigitBank) {
        guard max(bank.height, bank.width) <= 10 else { trap("DigitClips", "digits do not fit into 40 × 40 pixels") }
        self.bank = bank
    }

    private static let directions: [(name: String, down: Int, right: Int)] = [
        ("up", -1, 0), ("down", 1, 0), ("left", 0, -1), ("right", 0, 1),
    ]

    public let types: [QuestionType] = [
        QuestionType(
            name: "direction", summary: "where a digit moves", answers: directions.map(\.name), chance: 0.25),
        QuestionType(
            name: "before", summary: "whether one digit came in before another", answers: ["no", "yes"], chance: 0.5),
        QuestionType(name: "first", summary: "which digit came in first", answers: DigitBank.names, chance: 0.1),
    ]

    public var questionWords: [String] { types.map(\.name) + DigitBank.names }

    /// A digit on its way.
    private struct Mover {
        var digit: Int
        /// The frame in which it comes in.
        var start: Int
        var row: Int
        var column: Int
        var direction: Int
        /// Frames that it moves on after the first.
        var length: Int

        /// The rows and columns that its corner goes through.
        var sweep: (rows: ClosedRange<Int>, columns: ClosedRange<Int>) {
            let (_, down, right) = DigitClips.directions[direction]
            let (endRow, endColumn) = (row + down * length, column + right * length)
            return (min(row, endRow)...max(row, endRow), min(column, endColumn)...max(column, endColumn))
        }
    }

    public func sample(_ key: RandomKey) -> PictureQuestions {
        var random = RandomSequence(key)
        let frames = random.integer(in: pictureCount)
        let movers = movers(frames, &random)
        let glyphs = movers.map { bank.glyph($0.digit, &random) }
        var pictures = Array(repeating: Picture(height: side, width: side), count: frames)
        for (index, mover) in movers.enumerated() {
            let (_, down, right) = DigitClips.directions[mover.direction]
            for frame in mover.start..<frames {
                let moved = frame - mover.start
                pictures[frame].paint(
                    glyphs[index], row: mover.row + down * moved, column: mover.column + right * moved,
                    object: UInt8(index + 1))
            }
        }
        func evidence(_ indices: [Int]) -> [ObjectReference] {
            indices.flatMap { index in
                (movers[index].start..<frames).map { ObjectReference(picture: $0, object: UInt8(index + 1)) }
            }
        }
        var questions = movers.indices.map { index in
            Question(
                type: 0, words: ["direction", "\(movers[index].digit)"],
                answer: DigitClips.directions[movers[index].direction].name, evidence: evidence([index]))
        }
        for _ in 0..<2 {
            let pair = Array(random.shuffled(Array(movers.indices)).prefix(2))
            questions.append(
                Question(
                    type: 1, words: ["before"] + pair.map { "\(movers[$0].digit)" },
                    answer: movers[pair[0]].start < movers[pair[1]].start ? "yes" : "no", evidence: evidence(pair)))
        }
        let first = movers.indices.min { movers[$0].start < movers[$1].start }!
        questions.append(
            Question(type: 2, words: ["first"], answer: "\(movers[first].digit)", evidence: evidence([first])))
        return PictureQuestions(pictures: pictures, questions: questions)
    }

    /// Digits that come in in different frames, the last with three frames left to move, on paths that keep apart.
    private func movers(_ frames: Int, _ random: inout RandomSequence) -> [Mover] {
        let digits = random.shuffled(Array(0..<10))
        let starts = random.shuffled(Array(0..<frames - 3))
        while true {
            let movers = (0..<DigitClips.digitCount).map { mover(digits[$0], start: starts[$0], frames, &random) }
            let isApart = movers.indices.allSatisfy { a in
                movers.indices.prefix(a).allSatisfy { isDisjoint(movers[a], movers[$0]) }
            }
            if isApart { return movers }
        }
    }

    private func mover(_ digit: Int, start: Int, _ frames: Int, _ random: inout RandomSequence) -> Mover {
        let direction = random.integer(below: 4)
        let (_, down, right) = DigitClips.directions[direction]
        let length = frames - 1 - start
        /// Where the corner may start so that the digit stays inside.
        func place(_ step: Int, _ size: Int, _ random: inout RandomSequence) -> Int {
            let room = side - size - abs(step) * length
            return random.integer(in: 0...room) + (step < 0 ? length : 0)
        }
        return Mover(
            digit: digit, start: start, row: place(down, bank.height, &random),
            column: place(right, bank.width, &random), direction: direction, length: length)
    }

    private func isDisjoint(_ a: Mover, _ b: Mover) -> Bool {
        func overlaps(_ a: ClosedRange<Int>, _ b: ClosedRange<Int>, _ size: Int) -> Bool {
            a.lowerBound < b.upperBound + size && b.lowerBound < a.upperBound + size
        }
        let (first, second) = (a.sweep, b.sweep)
        return !overlaps(first.rows, second.rows, bank.height) || !overlaps(first.columns, second.columns, bank.width)
    }
}
