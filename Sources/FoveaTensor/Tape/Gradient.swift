/// The value of a scalar function and its gradient with respect to each argument.
///
/// An argument that the value does not depend on has a gradient of zeros. Differentiating a gradient again traps:
/// second order is out of scope.
///
/// - Parameters:
///   - function: returns a tensor of one element; it may throw.
///   - arguments: float32 or float64 tensors.
public func valueAndGradient(
    of function: ([Tensor]) throws -> Tensor, at arguments: [Tensor]
) rethrows -> (value: Tensor, gradients: [Tensor]) {
    try Tape.valueAndGradient(of: function, at: arguments, "valueAndGradient(of:at:)")
}

/// The gradient of ⟨value, cotangent⟩ with respect to each argument, where the value is a function's: the vector-Jacobian
/// products, without the cost of the inner product. The value itself is let go before the way back begins, as inside a
/// larger function, so that its memory can serve the gradients.
///
/// As with `valueAndGradient(of:at:)` an argument that the value does not depend on has a gradient of zeros.
///
/// - Parameters:
///   - function: returns a float tensor of any shape; it may throw.
///   - arguments: float32 or float64 tensors.
///   - cotangent: of the value's shape and type; traps otherwise.
public func vectorJacobianProduct(
    of function: ([Tensor]) throws -> Tensor, at arguments: [Tensor], cotangent: Tensor
) rethrows -> [Tensor] {
    try Tape.differentiate(at: arguments, "vectorJacobianProduct") { tape, leaves in
        let value = try function(leaves)
        guard cotangent.shape == value.shape, cotangent.dtype == value.dtype else {
            trap("vectorJacobianProduct", "the cotangent must be of the value's shape and type", value, cotangent)
        }
        return tape.gradients(of: consume value, along: cotangent.detached, for: leaves)
    }
}

extension Tape {
    fileprivate static func valueAndGradient(
        of function: ([Tensor]) throws -> Tensor, at arguments: [Tensor], _ caller: String
    ) rethrows -> (value: Tensor, gradients: [Tensor]) {
        var found: Tensor?
        let gradients = try differentiate(at: arguments, caller) { tape, leaves in
            let value = try function(leaves)
            value.requireScalar(caller)
            found = value.detached
            return tape.gradients(of: value, along: .full(value.shape, 1, dtype: value.dtype), for: leaves)
        }
        return (found!, gradients)
    }

    /// Runs `body` with a new tape and the arguments traced on it; its gradients, zeros where there are none.
    fileprivate static func differentiate(
        at arguments: [Tensor], _ caller: String, _ body: (Tape, _ leaves: [Tensor]) throws -> [Tensor?]
    ) rethrows -> [Tensor] {
        refuseTraced(arguments, caller)
        return try record { tape in
            let leaves = arguments.map { argument -> Tensor in
                argument.requireDifferentiableType(caller)
                return tape.leaf(argument)
            }
            return zip(try body(tape, leaves), arguments).map { $0 ?? .zeros($1.shape, dtype: $1.dtype) }
        }
    }
}

/// The gradient of a scalar function with respect to its argument, of the argument's shape.
public func gradient(of function: (Tensor) throws -> Tensor, at x: Tensor) rethrows -> Tensor {
    try Tape.valueAndGradient(of: { try function($0[0]) }, at: [x], "gradient(of:at:)").gradients[0]
}

/// Runs `body` without recording: its results are constants to any gradient.
public func withoutGradient<Result>(_ body: () throws -> Result) rethrows -> Result {
    try Tape.paused(body)
}

/// Runs `body`, keeping only its result, and runs it again when its gradient is needed.
///
/// Saves the memory of everything in between at the price of one more forward pass. Gradients, also of traced tensors
/// that `body` captures, have the same bits as without it. `body` must compute the same result each time it is called.
public func checkpointed(_ body: @escaping () -> Tensor) -> Tensor {
    guard let tape = ThreadState.recordingTape else { return body() }
    let output = Tape.paused(body)
    return tape.recorded(output, .recomputed(body))
}

extension Tensor {
    package func requireScalar(_ caller: String) {
        if count != 1 { trap(caller, "the value must be one number; sum() or mean() reduces it", self) }
    }
}
