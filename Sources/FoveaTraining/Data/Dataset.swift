import FoveaTensor

/// Samples that batches are made of.
public protocol Dataset<Batch>: Sendable {
    associatedtype Batch: Sendable

    /// How many samples there are.
    var count: Int { get }

    /// The samples at these indices as one batch.
    ///
    /// - Parameters:
    ///   - indices: which samples, in the batch's order; each in 0 ..< count.
    ///   - augmentation: the key of the random changes to the samples; nil for none. The same indices and key give the
    ///     same batch, on any thread.
    func batch(of indices: [Int], augmentation: RandomKey?) -> Batch
}

extension Dataset {
    /// All samples in order, in batches of up to `size`, unchanged: for evaluation.
    public func batches(of size: Int) -> some Sequence<Batch> {
        stride(from: 0, to: count, by: size).lazy.map { start in
            batch(of: Array(start..<Swift.min(start + size, count)), augmentation: nil)
        }
    }

    /// Shuffled batches of equal size without end: for training by hand.
    ///
    /// - Parameters:
    ///   - size: samples in each batch; all of them where the dataset has fewer.
    ///   - seed: of the order of the samples and of their augmentation.
    ///   - augmenting: whether samples are changed at random.
    public func batches(of size: Int, seed: UInt64, augmenting: Bool = false) -> some Sequence<Batch> {
        let order = BatchOrder(count: count, batchSize: size, key: RandomKey(seed: seed))
        return sequence(state: 0) { step -> Batch? in
            defer { step += 1 }
            return batch(of: order.indices(at: step), augmentation: augmenting ? order.augmentation(at: step) : nil)
        }
    }
}

/// Pictures with the class of each, or of each thing to read in it; or features that were computed of them, with classes
/// or with numbers to match.
public struct LabelledImages: Sendable {
    /// [B, channels, height, width], float32 in 0 … 1; or features [B, N, C].
    public let images: Tensor
    /// [B], or [B, K] where K things are to be read in each picture; int64. Or float32 [B, R, D], numbers to match.
    public let labels: Tensor

    /// Whether the answers are numbers to match and no classes.
    var asksForNumbers: Bool { labels.dtype.isFloatingPoint }

    public init(images: Tensor, labels: Tensor) {
        self.images = images
        self.labels = labels
    }
}

/// Which samples make up which batch: a function of the key and the step alone, so that a resumed run goes on exactly
/// where it was.
///
/// Every epoch is a new random order; what does not fill a batch at its end waits for the next order.
public struct BatchOrder: Sendable {
    /// Samples in the dataset.
    public let count: Int
    /// Samples in a batch; no more than there are.
    public let batchSize: Int
    private let key: RandomKey

    /// Traps when there is not one sample, or no batch size.
    public init(count: Int, batchSize: Int, key: RandomKey) {
        guard count > 0, batchSize > 0 else {
            trap("BatchOrder", "batches of \(batchSize) cannot be drawn from \(count) samples")
        }
        self.count = count
        self.batchSize = min(batchSize, count)
        self.key = key.folding("order")
    }

    /// Batches in one epoch.
    public var batchesPerEpoch: Int { count / batchSize }

    /// The samples of a step's batch.
    public func indices(at step: Int) -> [Int] {
        let (epoch, position) = step.quotientAndRemainder(dividingBy: batchesPerEpoch)
        let order = key.folding(UInt64(epoch)).permutation(of: count)
        return Array(order[position * batchSize..<(position + 1) * batchSize])
    }

    /// Part `part` of `parts` of the batch of a step.
    func batch<Batch>(
        of data: any Dataset<Batch>, at step: Int, part: Int, of parts: Int
    ) -> Batch {
        let indices = indices(at: step)
        let (first, last) = (indices.count * part / parts, indices.count * (part + 1) / parts)
        return data.batch(
            of: Array(indices[first..<last]), augmentation: augmentation(at: step).folding(UInt64(part)))
    }

    /// The key of a step's augmentation.
    public func augmentation(at step: Int) -> RandomKey { key.folding("augmentation").folding(UInt64(step)) }
}
