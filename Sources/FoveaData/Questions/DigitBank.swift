import FoveaTensor

/// Digits by their class, to draw pictures from.
public struct DigitBank: Sendable {
    private let digits: LabelledImageSet
    private let samples: [[Int]]

    /// One digit's grey values, 0 … 255.
    struct Glyph {
        let height: Int
        let width: Int
        let grey: [UInt8]
    }

    /// Digits of ten classes. Traps where `problem(with:)` has something to say.
    public init(_ digits: LabelledImageSet) {
        if let problem = DigitBank.problem(with: digits) { trap("DigitBank", problem) }
        self.digits = digits
        samples = (0..<10).map { digit in digits.labels.indices.filter { digits.labels[$0] == digit } }
    }

    /// Why questions cannot be asked about these digits, in a few words; nil when they can.
    public static func problem(with digits: LabelledImageSet) -> String? {
        guard digits.classes == 10 else { return "digits of the ten classes 0 to 9 are needed, not \(digits.classes)" }
        let missing = (0..<10).filter { !digits.labels.contains($0) }
        return missing.isEmpty ? nil : "there is no digit \(missing[0])"
    }

    var height: Int { digits.imageSize.height }
    var width: Int { digits.imageSize.width }

    /// The names of the classes.
    static let names = (0..<10).map(String.init)

    /// A digit of a class.
    func glyph(_ digit: Int, _ random: inout RandomSequence) -> Glyph {
        let sample = random.element(of: samples[digit])
        let grey = (0..<height).flatMap { row in
            (0..<width).map { UInt8(Int(digits.pixel(sample, row, $0)) * 255 / digits.maximum) }
        }
        return Glyph(height: height, width: width, grey: grey)
    }
}
