import FoveaTensor

/// Sets elements to zero at random in training, and does nothing otherwise.
///
/// Which elements depends on the run's seed, the step and this module's path: the same on any number of threads, and
/// the same again after a resume. A module that is called twice in one step drops the same elements both times.
public struct Dropout: Module {
    /// The probability that an element becomes zero.
    public let rate: Double
    private var stream = RandomStream()

    public init(_ rate: Double) {
        guard rate >= 0, rate < 1 else { trap("Dropout", "the rate must be in 0 ..< 1, not \(rate)") }
        self.rate = rate
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.randomStream("dropout", &stream)
    }

    /// What an op that drops on its own is told: the rate and this step's key; nil when nothing is dropped.
    package var draw: (rate: Double, key: RandomKey)? { stream.key.flatMap { rate > 0 ? (rate, $0) : nil } }

    /// x of any shape → the same shape.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        guard let draw else { return x }
        return x.droppingOut(draw.rate, key: draw.key)
    }
}
