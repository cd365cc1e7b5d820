import FoveaTensor

/// A picture with its ground truth: which pixel belongs to which object.
///
/// Drawn with whole numbers alone, so that every machine draws the same.
public struct Picture: Sendable, Equatable {
    public let channels: Int
    public let height: Int
    public let width: Int
    /// [channels, height, width], row-major.
    public private(set) var pixels: [UInt8]
    /// [height, width]: the number of the object that a pixel shows, 0 for none.
    public private(set) var objects: [UInt8]

    /// A picture of one colour without objects.
    ///
    /// - Parameters:
    ///   - height: pixels down.
    ///   - width: pixels across.
    ///   - background: the value of each channel.
    init(height: Int, width: Int, background: [UInt8] = [0]) {
        channels = background.count
        self.height = height
        self.width = width
        pixels = background.flatMap { [UInt8](repeating: $0, count: height * width) }
        objects = [UInt8](repeating: 0, count: height * width)
    }

    /// Paints one pixel, which must be inside.
    ///
    /// - Parameters:
    ///   - row: from the top.
    ///   - column: from the left.
    ///   - colour: a value for each channel.
    ///   - object: the object that it shows; 0 for what is none.
    mutating func paint(_ row: Int, _ column: Int, _ colour: [UInt8], object: UInt8) {
        let place = row * width + column
        for (channel, value) in colour.enumerated() { pixels[channel * height * width + place] = value }
        objects[place] = object
    }

    /// Paints a digit, all of its box being the object.
    mutating func paint(_ digit: DigitBank.Glyph, row: Int, column: Int, object: UInt8) {
        for y in 0..<digit.height {
            for x in 0..<digit.width {
                paint(row + y, column + x, [digit.grey[y * digit.width + x]], object: object)
            }
        }
    }

    /// Which patches of a picture show an object, in raster order.
    ///
    /// - Parameters:
    ///   - object: its number.
    ///   - patchSize: pixels along a patch's side; what fills no patch at the right and the bottom is left out.
    public func patches(showing object: UInt8, patchSize: Int) -> [Bool] {
        let (rows, columns) = (height / patchSize, width / patchSize)
        var shown = [Bool](repeating: false, count: rows * columns)
        for row in 0..<rows * patchSize {
            for column in 0..<columns * patchSize where objects[row * width + column] == object {
                shown[row / patchSize * columns + column / patchSize] = true
            }
        }
        return shown
    }
}
