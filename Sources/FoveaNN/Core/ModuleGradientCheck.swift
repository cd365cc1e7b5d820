import FoveaTensor

/// Compares the gradients for a module's parameters, and for what it is given, with finite differences, in float64.
///
/// ```swift
/// let check = checkGradients(of: reader, at: [tokens]) { reader, inputs in reader(inputs[0]) }
/// precondition(check.passed, check.message)
/// ```
///
/// Parameters and float32 inputs are brought to float64; integers and masks stay constants. What is drawn in training, as by
/// dropout, is off. For a large module each comparison is along random directions: see `checkGradients(of:at:)` of tensors.
///
/// - Parameters:
///   - module: what is checked; it stays as it is.
///   - inputs: what the closure gets besides.
///   - names: what the report calls the inputs; parameters have their paths.
///   - tolerance: the largest error that passes.
///   - seed: of directions and cotangents.
///   - run: from the module and the inputs to a tensor of any shape; deterministic.
public func checkGradients<Model: Module>(
    of module: Model, at inputs: [Tensor], named names: [String] = [], tolerance: Double = 1e-6, seed: UInt64 = 0,
    _ run: (Model, [Tensor]) throws -> Tensor
) rethrows -> GradientCheck {
    let wide = module.cast(to: .float64)
    let parameters = wide.parameters
    let inputs = inputs.map { $0.dtype == .float32 ? $0.cast(to: .float64) : $0 }
    return try checkGradients(
        of: { arguments in
            try run(wide.replacingParameters(arguments), Array(arguments.dropFirst(parameters.count)))
        }, at: parameters.values.elements + inputs,
        named: parameters.keys.elements
            + inputs.indices.map { names.indices.contains($0) ? names[$0] : "input \($0)" },
        name: "\(Model.self)", tolerance: tolerance, seed: seed)
}

extension Module {
    /// The same module with the first so many of the tensors as its parameters, in the order of `visit`.
    func replacingParameters(_ tensors: [Tensor]) -> Self {
        var (copy, rest) = (self, tensors[...])
        copy.forEachParameter { _, parameter in parameter = rest.removeFirst() }
        return copy
    }
}
