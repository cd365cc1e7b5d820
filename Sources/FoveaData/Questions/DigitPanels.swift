import FoveaTensor

/// From two to eight pictures with one digit each, at a random place: which shows a digit, what one shows, whether two
/// show the same. Pieces of other digits stand around as distractors.
///
/// From three pictures on, two of them show the same digit and the rest one each of their own; of two pictures, half the
/// pairs are equal, and it is not asked which one shows it.
public struct DigitPanels: QuestionTask {
    private let bank: DigitBank
    private let side = 24
    private let clutter = 4

    public let name = "panels"
    public let summary = "from two to eight pictures with a digit each, among pieces of others"
    public var pictureShape: (channels: Int, height: Int, width: Int) { (1, side, side) }
    public let pictureCount = 2...8

    /// - Parameter bank: what is shown; digits of 8 to 20 pixels. Traps on larger ones.
    public init(bank: DigitBank) {
        guard max(bank.height, bank.width) <= 20 else { trap("DigitPanels", "digits do not fit into 24 × 24 pixels") }
        self.bank = bank
    }

    private static let pictureNames = (1...8).map { "picture-\($0)" }

    /// The first picture is right for one of n, and n is even from 3 to 8; 2 comes in half as often.
    private static let whichChance: Double = {
        var share = 0.5 / 2
        for count in 3...8 { share += 1 / Double(count) }
        return share / 6.5
    }()

    public let types: [QuestionType] = [
        QuestionType(
            name: "which", summary: "which picture shows a digit", answers: pictureNames, chance: whichChance),
        QuestionType(name: "shows", summary: "which digit a picture shows", answers: DigitBank.names, chance: 0.1),
        QuestionType(
            name: "same", summary: "whether two pictures show the same digit", answers: ["no", "yes"], chance: 0.5),
    ]

    public var questionWords: [String] { types.map(\.name) + DigitPanels.pictureNames + DigitBank.names }

    public func sample(_ key: RandomKey) -> PictureQuestions {
        var random = RandomSequence(key)
        let count = random.integer(in: pictureCount)
        let hasTwins = count > 2 || random.coin()
        let digits = random.shuffled(Array(0..<10))
        let shown = random.shuffled((0..<count).map { digits[hasTwins && $0 == 1 ? 0 : $0] })
        let pictures = shown.map { panel($0, &random) }

        func evidence(_ pictures: [Int]) -> [ObjectReference] {
            pictures.map { ObjectReference(picture: $0, object: 1) }
        }
        func names(_ pictures: [Int]) -> [String] { pictures.map { DigitPanels.pictureNames[$0] } }
        var questions: [Question] = []
        let single = shown.indices.filter { index in shown.count { $0 == shown[index] } == 1 }
        for _ in 0..<2 where !single.isEmpty {
            let picture = random.element(of: single)
            questions.append(
                Question(
                    type: 0, words: ["which", "\(shown[picture])"], answer: names([picture])[0],
                    evidence: evidence([picture])))
        }
        for _ in 0..<2 {
            let picture = random.integer(below: count)
            questions.append(
                Question(
                    type: 1, words: ["shows"] + names([picture]), answer: "\(shown[picture])",
                    evidence: evidence([picture])))
        }
        for _ in 0..<2 {
            // Of two pictures the pair itself is as often equal as not.
            let isSame = count == 2 ? hasTwins : random.coin()
            let pairs = shown.indices.flatMap { a in
                shown.indices.filter { a != $0 && (shown[a] == shown[$0]) == isSame }.map { [a, $0] }
            }
            let pair = random.element(of: pairs)
            questions.append(
                Question(
                    type: 2, words: ["same"] + names(pair), answer: isSame ? "yes" : "no", evidence: evidence(pair)))
        }
        return PictureQuestions(pictures: pictures, questions: questions)
    }

    /// A picture with one digit, and quarters of others where they do not touch it.
    private func panel(_ digit: Int, _ random: inout RandomSequence) -> Picture {
        var picture = Picture(height: side, width: side)
        let (height, width) = (bank.height, bank.width)
        let (row, column) = (random.integer(below: side - height + 1), random.integer(below: side - width + 1))
        let (pieceHeight, pieceWidth) = (height / 2, width / 2)
        for _ in 0..<clutter {
            let piece = bank.glyph(random.integer(below: 10), &random)
            let (top, left) = (
                random.integer(below: side - pieceHeight + 1), random.integer(below: side - pieceWidth + 1)
            )
            let (down, right) = (
                random.integer(below: height - pieceHeight + 1), random.integer(below: width - pieceWidth + 1)
            )
            let touches =
                top <= row + height && row <= top + pieceHeight && left <= column + width
                && column <= left + pieceWidth
            guard !touches else { continue }
            for y in 0..<pieceHeight {
                for x in 0..<pieceWidth {
                    picture.paint(top + y, left + x, [piece.grey[(down + y) * width + right + x]], object: 0)
                }
            }
        }
        picture.paint(bank.glyph(digit, &random), row: row, column: column, object: 1)
        return picture
    }
}
