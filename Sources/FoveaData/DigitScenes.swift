import FoveaTensor
import FoveaTraining

/// Larger pictures with several digits at random places among clutter; the task is to say what is where.
///
/// A picture is cut into cells, four quarters unless told otherwise. Some cells, drawn anew for each picture, hold one
/// digit each, anywhere inside; the others hold none. For every cell in reading order the answer is the class of its
/// digit, or one class more for none. Clutter is made of pieces of other digits, a quarter of one each, anywhere but on
/// the digits: no single patch tells a digit from rubbish.
///
/// Scenes are drawn as they are asked for, from a set of digits: the same index, key and sizes give the same scene on
/// any machine, and a scene shows only digits of its set.
public struct DigitScenes: Dataset {
    /// Where the digits come from.
    public let digits: LabelledImageSet
    /// How many scenes there are.
    public private(set) var count: Int
    /// Sizes of a scene.
    public let options: Options
    private let key: RandomKey

    /// Sizes of a scene.
    public struct Options: Sendable, Equatable {
        /// Pixels along a side of the picture.
        public var size: Int
        /// Cells along a side, a divisor of the size.
        public var cells: Int
        /// K, digits in a picture, at most one a cell.
        public var digits: Int
        /// Pieces of clutter in a picture.
        public var clutter: Int

        public init(size: Int = 32, cells: Int = 2, digits: Int = 3, clutter: Int = 4) {
            self.size = size
            self.cells = cells
            self.digits = digits
            self.clutter = clutter
        }

        /// K' = cells², how many answers a picture has.
        public var readings: Int { cells * cells }

        /// Why scenes of these sizes cannot be drawn with digits of a size, in a few words; nil when they can.
        public func problem(digitHeight: Int, digitWidth: Int) -> String? {
            let side = max(digitHeight, digitWidth)
            guard cells > 0, clutter >= 0, size % cells == 0 else {
                return "\(size) pixels do not divide into \(cells) cells a side"
            }
            guard size / cells >= side else {
                return "cells of \(size / cells) pixels are too small for digits of \(digitHeight) × \(digitWidth)"
            }
            return (1...readings).contains(digits)
                ? nil : "\(readings) cells hold from 1 to \(readings) digits, not \(digits)"
        }
    }

    /// - Parameters:
    ///   - digits: where the digits come from.
    ///   - count: how many scenes there are.
    ///   - options: sizes of a scene. Traps where `problem` has something to say.
    ///   - key: of what is drawn.
    public init(of digits: LabelledImageSet, count: Int, options: Options = Options(), key: RandomKey) {
        let (height, width) = digits.imageSize
        if let problem = options.problem(digitHeight: height, digitWidth: width) { trap("DigitScenes", problem) }
        self.digits = digits
        self.count = count
        self.options = options
        self.key = key
    }

    /// The scenes of one part of a dataset, the same in every run.
    ///
    /// - Parameters:
    ///   - part: train, validation or test: 8,192 scenes to train on (new ones at each step, with augmentation), 1,000 to
    ///     choose settings by, 2,000 to report.
    ///   - digits: the digits of that part.
    ///   - options: sizes of a scene.
    public static func part(
        _ part: String, of digits: LabelledImageSet, options: Options = Options()
    ) -> DigitScenes {
        let counts = ["train": 8192, "validation": 1000, "test": 2000]
        guard let count = counts[part] else { trap("DigitScenes", "there is no part \(part)") }
        return DigitScenes(of: digits, count: count, options: options, key: RandomKey(seed: 0).folding(part))
    }

    /// The first so many of the scenes.
    public func first(_ count: Int) -> DigitScenes {
        var part = self
        part.count = min(count, self.count)
        return part
    }

    /// How many classes an answer may have: those of the digits, and none.
    public var classes: Int { digits.classes + 1 }

    /// Scenes as [B, 1, size, size], 0 … 1, with labels [B, cells²] in reading order. With augmentation they are other
    /// scenes each time.
    public func batch(of indices: [Int], augmentation: RandomKey?) -> LabelledImages {
        let size = options.size
        var pixels = [Float](repeating: 0, count: indices.count * size * size)
        var labels: [Int64] = []
        labels.reserveCapacity(indices.count * options.readings)
        for (position, index) in indices.enumerated() {
            var scene = Scene(options, key: (augmentation ?? key).folding(UInt64(index)))
            labels += scene.draw(digits, into: &pixels, at: position * size * size)
        }
        return LabelledImages(
            images: Tensor(pixels, shape: [indices.count, 1, size, size]),
            labels: Tensor(labels, shape: [indices.count, options.readings]))
    }
}

/// One scene while it is drawn.
private struct Scene {
    let options: DigitScenes.Options
    let key: RandomKey
    private var drawn = 0
    private var taken: [Box] = []

    /// Part of a picture.
    private struct Box {
        var row: Int
        var column: Int
        var height: Int
        var width: Int

        func overlaps(_ other: Box) -> Bool {
            row < other.row + other.height && other.row < row + height && column < other.column + other.width
                && other.column < column + width
        }
    }

    /// How often a piece of clutter looks for a free place before it is left out.
    private static let attempts = 16

    init(_ options: DigitScenes.Options, key: RandomKey) {
        self.options = options
        self.key = key
    }

    private mutating func number(below bound: Int) -> Int {
        drawn += 1
        return key.integer(below: bound, at: drawn)
    }

    /// Draws the scene and returns the class of each cell.
    mutating func draw(_ digits: LabelledImageSet, into pixels: inout [Float], at start: Int) -> [Int64] {
        let (height, width) = digits.imageSize
        let side = options.size / options.cells
        var labels = [Int64](repeating: Int64(digits.classes), count: options.readings)
        for cell in key.folding("cells").permutation(of: options.readings).prefix(options.digits) {
            let sample = number(below: digits.count)
            let place = Box(
                row: cell / options.cells * side + number(below: side - height + 1),
                column: cell % options.cells * side + number(below: side - width + 1), height: height, width: width)
            paint(digits, sample, from: (0, 0), at: place, &pixels, start)
            labels[cell] = Int64(digits.labels[sample])
        }
        for _ in 0..<options.clutter {
            var place = Box(row: 0, column: 0, height: (height + 1) / 2, width: (width + 1) / 2)
            for _ in 0..<Scene.attempts {
                place.row = number(below: options.size - place.height + 1)
                place.column = number(below: options.size - place.width + 1)
                guard !taken.contains(where: place.overlaps) else { continue }
                let corner = (number(below: height - place.height + 1), number(below: width - place.width + 1))
                paint(digits, number(below: digits.count), from: corner, at: place, &pixels, start)
                break
            }
        }
        return labels
    }

    /// Paints a part of a digit, as large as the place, and keeps the place.
    private mutating func paint(
        _ digits: LabelledImageSet, _ sample: Int, from corner: (row: Int, column: Int), at place: Box,
        _ pixels: inout [Float], _ start: Int
    ) {
        taken.append(place)
        let scale = 1 / Float(digits.maximum)
        for y in 0..<place.height {
            for x in 0..<place.width {
                let grey = digits.pixel(sample, corner.row + y, corner.column + x)
                pixels[start + (place.row + y) * options.size + place.column + x] = Float(grey) * scale
            }
        }
    }
}
