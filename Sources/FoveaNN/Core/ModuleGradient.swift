import CKernels
import FoveaTensor
import OrderedCollections

/// The gradients of a module's parameters, by path, in the order of `visit`.
public struct Gradients: Sendable {
    /// The gradient of each parameter that was traced; zeros where the value does not depend on it.
    public private(set) var tensors: OrderedDictionary<String, Tensor>

    /// Gradients by the paths of their parameters.
    public init(_ tensors: OrderedDictionary<String, Tensor>) { self.tensors = tensors }

    /// The gradient of the parameter at `path`, nil when that was not traced.
    public subscript(path: String) -> Tensor? { tensors[path] }

    /// √ Σ g² over all elements of all gradients, added up in double precision.
    public var norm: Double {
        tensors.values.reduce(0.0) { $0 + $1.sumOfSquares() }.squareRoot()
    }

    /// The gradients times a factor.
    public func scaled(by factor: Double) -> Gradients {
        withoutGradient { Gradients(tensors.mapValues { $0 * factor }) }
    }

    /// The gradients as they are, or scaled down so that their norm is `limit`.
    ///
    /// The factor is limit / (norm + 10⁻⁶), as in PyTorch. A norm that is not finite leaves them as they are, for the
    /// loop to notice.
    public func clipped(toNorm limit: Double) -> Gradients {
        let norm = norm
        guard norm > limit, norm.isFinite else { return self }
        return scaled(by: limit / (norm + 1e-6))
    }

    /// Adds the gradients of another part of the batch, in place where possible.
    public static func += (a: inout Gradients, b: Gradients) {
        for (path, gradient) in b.tensors {
            if a.tensors[path] == nil {
                a.tensors[path] = gradient
            } else {
                a.tensors[path]! += gradient
            }
        }
    }
}

extension Tensor {
    /// Σ x², added up in double precision in chunks that depend on the length alone.
    package func sumOfSquares() -> Double {
        let dense = contiguous()
        let chunk = 65_536
        let chunks = (count + chunk - 1) / chunk
        let loop = pick(Kernels.table.pointee.sum_of_squares, dtype)
        var parts = [Double](repeating: 0, count: chunks)
        let size = dtype.size
        dense.read { source in
            parts.withUnsafeMutableBufferPointer { parts in
                nonisolated(unsafe) let parts = parts
                parallelFor(count, grain: chunk) { range in
                    parts[range.lowerBound / chunk] = loop(source + range.lowerBound * size, range.count)
                }
            }
        }
        return parts.reduce(0, +)
    }
}

/// The value of a loss, its gradient with respect to a model's parameters, and whatever else the closure returns.
///
/// The closure gets a traced copy of the model; the model itself is not touched.
///
/// ```swift
/// let (loss, gradients) = valueAndGradient(of: model) { crossEntropy($0(images), labels) }
/// ```
///
/// - Parameters:
///   - model: the module whose parameters the gradient is taken for.
///   - filter: the parameters to trace; the others are frozen.
///   - randomness: the key of this step's random numbers; without it, dropout and its like are off.
///   - loss: returns one number, and an auxiliary result such as the logits.
public func valueAndGradient<Model: Module, Auxiliary>(
    of model: Model, where filter: ParameterFilter = .all, randomness: RandomKey? = nil,
    _ loss: (Model) throws -> (Tensor, Auxiliary)
) rethrows -> (value: Tensor, gradients: Gradients, auxiliary: Auxiliary) {
    try Tape.record { tape in
        var paths: [String] = []
        var leaves: [Tensor] = []
        let (value, auxiliary) = try loss(
            model.traced(on: tape, where: filter, randomness: randomness) { path, leaf in
                paths.append(path)
                leaves.append(leaf)
            })
        value.requireScalar("valueAndGradient")
        let found = tape.gradients(of: value, along: .full(value.shape, 1, dtype: value.dtype), for: leaves)
        var gradients = OrderedDictionary<String, Tensor>(minimumCapacity: paths.count)
        for (index, path) in paths.enumerated() {
            let gradient = found[index] ?? .zeros(leaves[index].shape, dtype: leaves[index].dtype)
            guard gradients.updateValue(gradient, forKey: path) == nil else {
                trap("valueAndGradient", "two parameters of \(Model.self) have the path \(path)", leaves[index])
            }
        }
        return (value.detached, Gradients(gradients), auxiliary)
    }
}

/// The value of a loss and its gradient with respect to a model's parameters.
public func valueAndGradient<Model: Module>(
    of model: Model, where filter: ParameterFilter = .all, randomness: RandomKey? = nil,
    _ loss: (Model) throws -> Tensor
) rethrows -> (value: Tensor, gradients: Gradients) {
    let result = try valueAndGradient(of: model, where: filter, randomness: randomness) { (try loss($0), ()) }
    return (result.value, result.gradients)
}
