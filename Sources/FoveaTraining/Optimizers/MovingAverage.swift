import CKernels
import FoveaNN
import FoveaTensor

/// An exponential moving average of a model's weights: average ← d · average + (1 − d) · model after each step.
///
/// Early on the decay is lower, min(decay, (1 + t) / (10 + t)) after t updates, so that the random start is forgotten.
/// The average is a model like any other: evaluate it, save it.
public struct MovingAverage<Model: Module>: Sendable {
    /// The averaged model.
    public private(set) var model: Model
    /// d.
    public let decay: Double
    /// How many updates there have been.
    public private(set) var updates: Int

    public init(of model: Model, decay: Double, updates: Int = 0) {
        self.model = model
        self.decay = decay
        self.updates = updates
    }

    /// Moves the average towards the model.
    public mutating func update(towards current: Model) {
        let decay = min(decay, Double(1 + updates) / Double(10 + updates))
        updates += 1
        let targets = current.parameters
        model.forEachParameter { path, average in
            guard let target = targets[path], average.dtype.isDifferentiable else { return }
            average.makeUnique()
            let dense = target.contiguous()
            let size = average.dtype.size
            let loop = pick(Kernels.table.pointee.blend, average.dtype)
            average.write { y in
                dense.read { x in
                    parallelFor(dense.count, grain: 32_768) { range in
                        loop(x + range.lowerBound * size, y + range.lowerBound * size, range.count, decay, 1 - decay)
                    }
                }
            }
        }
    }
}
