import FoveaTensor
import FoveaTraining

/// Larger pictures with several digits at random places among clutter; the task is to read them from left to right.
///
/// Scenes are drawn as they are asked for, from a set of digits: the same index, key and sizes give the same scene on
/// any machine. Digits do not overlap, and neighbours in reading order are at least `columnGap` columns apart. Clutter
/// is made of pieces of other digits, a quarter of one each, so that no single patch tells a digit from rubbish.
public struct DigitScenes: Dataset {
    /// Where the digits come from.
    public let digits: LabelledImageSet
    /// How many scenes there are.
    public let count: Int
    /// Sizes of a scene.
    public let options: Options
    private let key: RandomKey

    /// Sizes of a scene.
    public struct Options: Sendable, Equatable {
        /// Pixels along a side of the picture.
        public var size: Int
        /// K, digits in a picture.
        public var digits: Int
        /// Pieces of clutter in a picture.
        public var clutter: Int
        /// Columns from one digit to the next at least.
        public var columnGap: Int

        public init(size: Int = 32, digits: Int = 3, clutter: Int = 4, columnGap: Int = 3) {
            self.size = size
            self.digits = digits
            self.clutter = clutter
            self.columnGap = columnGap
        }
    }

    /// - Parameters:
    ///   - digits: where the digits come from.
    ///   - count: how many scenes there are.
    ///   - options: sizes of a scene; the picture must be wide enough for the digits side by side.
    ///   - key: of what is drawn.
    public init(of digits: LabelledImageSet, count: Int, options: Options = Options(), key: RandomKey) {
        let (height, width) = digits.imageSize
        guard options.digits > 0, options.clutter >= 0, options.columnGap >= 1, options.size >= height,
            options.size >= options.digits * width
        else {
            trap(
                "DigitScenes",
                "\(options.digits) digits of \(height) × \(width) pixels need more than \(options.size) pixels")
        }
        self.digits = digits
        self.count = count
        self.options = options
        self.key = key
    }

    /// How many classes a digit may have.
    public var classes: Int { digits.classes }

    /// Scenes as [B, 1, size, size], 0 … 1, with labels [B, K] from left to right. With augmentation they are other
    /// scenes each time.
    public func batch(of indices: [Int], augmentation: RandomKey?) -> LabelledImages {
        let size = options.size
        var pixels = [Float](repeating: 0, count: indices.count * size * size)
        var labels: [Int64] = []
        labels.reserveCapacity(indices.count * options.digits)
        for (position, index) in indices.enumerated() {
            var scene = Scene(options, key: (augmentation ?? key).folding(UInt64(index)))
            labels += scene.draw(digits, into: &pixels, at: position * size * size)
        }
        return LabelledImages(
            images: Tensor(pixels, shape: [indices.count, 1, size, size]),
            labels: Tensor(labels, shape: [indices.count, options.digits]))
    }
}

/// One scene while it is drawn.
private struct Scene {
    let options: DigitScenes.Options
    let key: RandomKey
    private var drawn = 0
    private var taken: [(row: Int, column: Int, height: Int, width: Int)] = []

    init(_ options: DigitScenes.Options, key: RandomKey) {
        self.options = options
        self.key = key
    }

    private mutating func number(below bound: Int) -> Int {
        drawn += 1
        return key.integer(below: bound, at: drawn)
    }

    /// Draws the scene and returns its digits from left to right.
    mutating func draw(_ digits: LabelledImageSet, into pixels: inout [Float], at start: Int) -> [Int64] {
        let (height, width) = digits.imageSize
        var labels: [Int64] = []
        for place in places(height, width) {
            let sample = number(below: digits.count)
            paint(digits, sample, (0, 0, height, width), &pixels, start, place.row, place.column)
            labels.append(Int64(digits.labels[sample]))
        }
        let piece = (height: height / 2, width: width / 2)
        for _ in 0..<options.clutter {
            for _ in 0..<16 {
                let row = number(below: options.size - piece.height + 1)
                let column = number(below: options.size - piece.width + 1)
                guard !overlaps(row, column, piece.height, piece.width) else { continue }
                let corner = (number(below: height - piece.height + 1), number(below: width - piece.width + 1))
                paint(
                    digits, number(below: digits.count), (corner.0, corner.1, piece.height, piece.width), &pixels,
                    start, row, column)
                break
            }
        }
        return labels
    }

    /// Where the digits go, from left to right. Columns may be closer than a digit is wide; rows then keep the digits
    /// apart.
    private mutating func places(_ height: Int, _ width: Int) -> [(row: Int, column: Int)] {
        for _ in 0..<64 {
            taken = []
            var places: [(row: Int, column: Int)] = []
            for column in digitColumns(width) {
                for _ in 0..<16 {
                    let row = number(below: options.size - height + 1)
                    guard !overlaps(row, column, height, width) else { continue }
                    taken.append((row, column, height, width))
                    places.append((row, column))
                    break
                }
            }
            if places.count == options.digits { return places }
        }
        // Too crowded for chance: side by side.
        return (0..<options.digits).map { (number(below: options.size - height + 1), $0 * width) }
    }

    /// Left edges from left to right, at least `columnGap` apart.
    private mutating func digitColumns(_ width: Int) -> [Int] {
        // Spreads the free columns over the gaps: k sorted numbers, each moved on by the gaps before it.
        let free = options.size - width - (options.digits - 1) * options.columnGap
        let offsets = (0..<options.digits).map { _ in number(below: max(1, free + 1)) }.sorted()
        return offsets.enumerated().map { $1 + $0 * options.columnGap }
    }

    private func overlaps(_ row: Int, _ column: Int, _ height: Int, _ width: Int) -> Bool {
        taken.contains {
            row < $0.row + $0.height && $0.row < row + height && column < $0.column + $0.width
                && $0.column < column + width
        }
    }

    /// Paints a part of a digit with its corner at a place.
    private mutating func paint(
        _ digits: LabelledImageSet, _ sample: Int, _ part: (row: Int, column: Int, height: Int, width: Int),
        _ pixels: inout [Float], _ start: Int, _ row: Int, _ column: Int
    ) {
        taken.append((row, column, part.height, part.width))
        let scale = 1 / Float(digits.maximum)
        for y in 0..<part.height {
            for x in 0..<part.width {
                let grey = Float(digits.pixel(sample, part.row + y, part.column + x)) * scale
                let place = start + (row + y) * options.size + column + x
                pixels[place] = max(pixels[place], grey)
            }
        }
    }
}
