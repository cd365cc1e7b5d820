import FoveaTensor

/// Digits in a grid, without gaps: which one is where, how often one occurs, whether a line's sum is even, whether two
/// are the same.
///
/// Every grid holds one digit m times, another m − 1 times, … one once, and as many single ones as then fit; so that all
/// counts from 0 to m can be asked for equally often, and two equal digits are always found.
public struct DigitGrid: QuestionTask {
    /// g, rows and columns.
    public let side: Int
    private let bank: DigitBank
    /// How often each of the digits that occur does; longest first.
    private let multiplicities: [Int]

    public let name = "digit-grid"
    public var summary: String { "digits in \(side) rows of \(side)" }
    public var pictureShape: (channels: Int, height: Int, width: Int) { (1, side * bank.height, side * bank.width) }
    public let pictureCount = 1...1

    /// - Parameters:
    ///   - side: g, from 2 to 4. Traps otherwise.
    ///   - bank: what is shown.
    public init(side: Int = 3, bank: DigitBank) {
        guard (2...4).contains(side) else { trap("DigitGrid", "grids have from 2 to 4 rows, not \(side)") }
        self.side = side
        self.bank = bank
        var largest = 1
        while (largest + 1) * (largest + 2) / 2 <= side * side { largest += 1 }
        let rest = side * side - largest * (largest + 1) / 2
        multiplicities = (1...largest).reversed() + Array(repeating: 1, count: rest)
    }

    private var largestCount: Int { multiplicities[0] }

    public var types: [QuestionType] {
        [
            QuestionType(
                name: "digit", summary: "which digit is at row r, column c", answers: DigitBank.names, chance: 0.1),
            QuestionType(
                name: "count", summary: "how many of a digit there are", answers: (0...largestCount).map { "\($0)" },
                chance: 1 / Double(largestCount + 1)),
            QuestionType(
                name: "parity", summary: "whether the sum of a row or a column is even or odd",
                answers: ["even", "odd"], chance: 0.5),
            QuestionType(
                name: "same", summary: "whether two places hold the same digit", answers: ["no", "yes"], chance: 0.5),
        ]
    }

    public var questionWords: [String] {
        types.map(\.name) + (1...side).flatMap { ["row-\($0)", "column-\($0)"] } + DigitBank.names
    }

    public func sample(_ key: RandomKey) -> PictureQuestions {
        var random = RandomSequence(key)
        let digits = random.shuffled(Array(0..<10))
        let cells = random.shuffled(zip(digits, multiplicities).flatMap { Array(repeating: $0, count: $1) })
        let shape = pictureShape
        var picture = Picture(height: shape.height, width: shape.width)
        for (cell, digit) in cells.enumerated() {
            picture.paint(
                bank.glyph(digit, &random), row: cell / side * bank.height, column: cell % side * bank.width,
                object: UInt8(cell + 1))
        }
        var questions = cells.indices.map { cell in
            Question(type: 0, words: ["digit"] + place(cell), answer: "\(cells[cell])", evidence: evidence([cell]))
        }
        for _ in 0..<2 {
            let count = random.integer(in: 0...largestCount)
            let digit = random.element(of: (0..<10).filter { digit in cells.count { $0 == digit } == count })
            questions.append(
                Question(
                    type: 1, words: ["count", "\(digit)"], answer: "\(count)",
                    evidence: evidence(cells.indices.filter { cells[$0] == digit })))
        }
        questions += (0..<2).map { _ in parity(of: cells, &random) }
        for _ in 0..<2 {
            let isSame = random.coin()
            let pairs = cells.indices.flatMap { a in
                cells.indices.filter { a != $0 && (cells[a] == cells[$0]) == isSame }.map { [a, $0] }
            }
            let pair = random.element(of: pairs)
            questions.append(
                Question(
                    type: 3, words: ["same"] + pair.flatMap(place), answer: isSame ? "yes" : "no",
                    evidence: evidence(pair)))
        }
        return PictureQuestions(pictures: [picture], questions: questions)
    }

    /// A line whose sum is even as often as odd, as far as the grid has both.
    private func parity(of cells: [Int], _ random: inout RandomSequence) -> Question {
        let lines =
            (0..<side).map { row in (["row-\(row + 1)"], (0..<side).map { row * side + $0 }) }
            + (0..<side).map { column in (["column-\(column + 1)"], (0..<side).map { $0 * side + column }) }
        func isOdd(_ line: ([String], [Int])) -> Bool { line.1.reduce(0) { $0 + cells[$1] } % 2 == 1 }
        let wanted = random.coin()
        let fitting = lines.filter { isOdd($0) == wanted }
        let line = random.element(of: fitting.isEmpty ? lines : fitting)
        return Question(
            type: 2, words: ["parity"] + line.0, answer: isOdd(line) ? "odd" : "even", evidence: evidence(line.1))
    }

    private func place(_ cell: Int) -> [String] { ["row-\(cell / side + 1)", "column-\(cell % side + 1)"] }

    private func evidence(_ cells: [Int]) -> [ObjectReference] {
        cells.map { ObjectReference(picture: 0, object: UInt8($0 + 1)) }
    }
}
