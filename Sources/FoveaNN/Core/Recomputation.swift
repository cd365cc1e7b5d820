import FoveaTensor

/// Runs `body`; if asked, layers of encoders keep nothing in it of what lies between their input and their output, and
/// compute it again for their gradients.
///
/// Saves most of the memory of training at the price of one more forward pass through these layers. Results and gradients
/// have the same bits either way.
///
/// - Parameters:
///   - isOn: whether they do.
///   - body: what is computed.
public func recomputingLayers<Result>(_ isOn: Bool = true, _ body: () throws -> Result) rethrows -> Result {
    try Recomputation.$isOn.withValue(isOn, operation: body)
}

private enum Recomputation {
    @TaskLocal static var isOn = false
}

/// A layer that is computed again for its gradient where that was asked for; a function of what it captures alone.
func recomputable(_ layer: @escaping () -> Tensor) -> Tensor {
    Recomputation.isOn ? checkpointed(layer) : layer()
}
