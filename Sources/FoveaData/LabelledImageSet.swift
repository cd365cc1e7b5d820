import Foundation
import FoveaIO
import FoveaTensor
import FoveaTraining

/// Pictures with a class each, from a pair of IDX files, as MNIST and its like come.
public struct LabelledImageSet: Dataset {
    /// Grey values [N, height × width], uint8.
    private let pixels: [UInt8]
    /// The class of each picture.
    public let labels: [Int]
    /// Pixels down and across.
    public let imageSize: (height: Int, width: Int)
    /// The grey value that counts as 1.
    public let maximum: Int
    /// The largest random shift in pixels that augmentation makes.
    public var maxShift = 0

    /// Reads images [N, height, width] and labels [N], both of bytes; plain or gzip.
    ///
    /// - Throws: `FileError` for files that are not of that form, for different counts, and for none at all.
    public init(images: String, labels: String, maximum: Int) throws(FileError) {
        let imageTensor = try readIDX(images)
        let labelTensor = try readIDX(labels)
        guard imageTensor.dtype == .uint8, imageTensor.rank == 3 else {
            throw FileError(
                path: images,
                problem: "holds \(imageTensor.dtype) \(imageTensor.shape); expected are bytes [count, height, width]")
        }
        guard labelTensor.dtype == .uint8, labelTensor.rank == 1 else {
            throw FileError(
                path: labels, problem: "holds \(labelTensor.dtype) \(labelTensor.shape); expected are bytes [count]")
        }
        guard labelTensor.count == imageTensor.shape[0] else {
            throw FileError(
                path: labels,
                problem: "has \(labelTensor.count) labels, but \(images) has \(imageTensor.shape[0]) images")
        }
        guard imageTensor.count > 0 else { throw FileError(path: images, problem: "holds no pictures") }
        pixels = imageTensor.scalars()
        self.labels = labelTensor.scalars(as: UInt8.self).map(Int.init)
        imageSize = (imageTensor.shape[1], imageTensor.shape[2])
        self.maximum = maximum
        if let brightest = pixels.max(), Int(brightest) > maximum {
            throw FileError(path: images, problem: "has a pixel of \(brightest), above the maximum of \(maximum)")
        }
    }

    private init(joining parts: [LabelledImageSet]) {
        pixels = parts.flatMap(\.pixels)
        labels = parts.flatMap(\.labels)
        imageSize = parts[0].imageSize
        maximum = parts[0].maximum
        maxShift = parts[0].maxShift
    }

    /// These samples and then the others'; both must have pictures of one size and maximum.
    public func joined(with other: LabelledImageSet) -> LabelledImageSet {
        guard imageSize == other.imageSize, maximum == other.maximum else {
            trap("joined(with:)", "the pictures are \(imageSize) and \(other.imageSize) pixels large")
        }
        return LabelledImageSet(joining: [self, other])
    }

    public var count: Int { labels.count }

    /// One more than the largest label.
    public var classes: Int { (labels.max() ?? -1) + 1 }

    /// One picture's pixels, [height, width], uint8.
    public func image(_ index: Int) -> Tensor {
        let size = imageSize.height * imageSize.width
        return Tensor(Array(pixels[index * size..<(index + 1) * size]), shape: [imageSize.height, imageSize.width])
    }

    /// One grey value.
    func pixel(_ index: Int, _ row: Int, _ column: Int) -> UInt8 {
        pixels[(index * imageSize.height + row) * imageSize.width + column]
    }

    /// Pictures as [B, 1, height, width], 0 … 1. Augmentation shifts each by up to `maxShift` pixels either way; what
    /// comes in at the edge is 0.
    public func batch(of indices: [Int], augmentation: RandomKey?) -> LabelledImages {
        let (height, width) = imageSize
        let size = height * width
        let scale = 1 / Float(maximum)
        var values = [Float](repeating: 0, count: indices.count * size)
        for (position, index) in indices.enumerated() {
            var (down, right) = (0, 0)
            if let augmentation, maxShift > 0 {
                down = augmentation.integer(below: 2 * maxShift + 1, at: 2 * position) - maxShift
                right = augmentation.integer(below: 2 * maxShift + 1, at: 2 * position + 1) - maxShift
            }
            for row in max(0, down)..<max(max(0, down), min(height, height + down)) {
                for column in max(0, right)..<max(max(0, right), min(width, width + right)) {
                    values[position * size + row * width + column] =
                        Float(pixels[index * size + (row - down) * width + column - right]) * scale
                }
            }
        }
        return LabelledImages(
            images: Tensor(values, shape: [indices.count, 1, height, width]),
            labels: Tensor(indices.map { Int64(labels[$0]) }))
    }
}
