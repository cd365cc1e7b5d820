import FoveaTensor

/// What a part of a model wants of its own choices, besides what the task asks of the whole: training adds `weight` times
/// `value` to the task's loss.
public struct AuxiliaryLoss: Sendable {
    /// What logs and reports call it.
    public var name: String
    /// One number.
    public var value: Tensor
    public var weight: Double

    /// - Parameters:
    ///   - name: what logs and reports call it.
    ///   - value: one number.
    ///   - weight: how much of it is added.
    public init(_ name: String, _ value: Tensor, weight: Double) {
        self.name = name
        self.value = value
        self.weight = weight
    }
}
