import FoveaTensor

/// One glyph of 3 × 3 pixels on a texture of 96 × 96: which, and in which quarter.
///
/// What is asked about takes a thousandth of the picture: pooling and downsampling lose it.
public struct TinyGlyphs: QuestionTask {
    public let name = "tiny"
    public let summary = "one glyph of 3 × 3 pixels on a texture"
    public let pictureShape = (channels: 1, height: 96, width: 96)
    public let pictureCount = 1...1

    /// Row by row; every glyph has five pixels, so that brightness does not tell them apart.
    private static let glyphs: [(name: String, rows: [String])] = [
        ("plus", [".#.", "###", ".#."]), ("cross", ["#.#", ".#.", "#.#"]), ("tee", ["###", ".#.", ".#."]),
        ("cup", ["#.#", "#.#", ".#."]), ("corner", ["#..", "#..", "###"]), ("hook", ["###", "..#", "..#"]),
        ("zed", ["##.", ".#.", ".##"]), ("stool", [".#.", ".#.", "###"]),
    ]
    private static let quarters = ["upper-left", "upper-right", "lower-left", "lower-right"]
    /// Pixels between the numbers that the texture runs through.
    private static let grain = 6

    public init() {}

    public let types: [QuestionType] = [
        QuestionType(name: "glyph", summary: "which glyph it is", answers: glyphs.map(\.name), chance: 0.125),
        QuestionType(name: "quarter", summary: "in which quarter it is", answers: quarters, chance: 0.25),
    ]

    public var questionWords: [String] { types.map(\.name) }

    public func sample(_ key: RandomKey) -> PictureQuestions {
        var random = RandomSequence(key)
        var picture = Picture(height: 96, width: 96)
        paintTexture(in: &picture, &random)
        let (quarter, glyph) = (random.integer(below: 4), random.integer(below: TinyGlyphs.glyphs.count))
        let (row, column) = (
            quarter / 2 * 48 + random.integer(below: 48 - 2), quarter % 2 * 48 + random.integer(below: 48 - 2)
        )
        for (down, line) in TinyGlyphs.glyphs[glyph].rows.enumerated() {
            for (right, mark) in line.enumerated() {
                // The whole box is the object: what is not there tells glyphs apart too.
                let value = picture.pixels[(row + down) * 96 + column + right]
                picture.paint(row + down, column + right, [mark == "#" ? 255 : value], object: 1)
            }
        }
        let evidence = [ObjectReference(picture: 0, object: 1)]
        return PictureQuestions(
            pictures: [picture],
            questions: [
                Question(type: 0, words: ["glyph"], answer: TinyGlyphs.glyphs[glyph].name, evidence: evidence),
                Question(type: 1, words: ["quarter"], answer: TinyGlyphs.quarters[quarter], evidence: evidence),
            ])
    }

    /// Random numbers on a lattice, straight lines between them, and a little noise on every pixel.
    private func paintTexture(in picture: inout Picture, _ random: inout RandomSequence) {
        let grain = TinyGlyphs.grain
        let across = 96 / grain + 1
        let lattice = (0..<across * across).map { _ in random.integer(below: 128) }
        for row in 0..<96 {
            for column in 0..<96 {
                let corner = row / grain * across + column / grain
                let (down, right) = (row % grain, column % grain)
                let upper = lattice[corner] * (grain - right) + lattice[corner + 1] * right
                let lower = lattice[corner + across] * (grain - right) + lattice[corner + across + 1] * right
                let between = (upper * (grain - down) + lower * down) / (grain * grain)
                picture.paint(row, column, [UInt8(between + random.integer(below: 48))], object: 0)
            }
        }
    }
}
