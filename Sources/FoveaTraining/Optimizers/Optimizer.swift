import FoveaNN
import FoveaTensor
import OrderedCollections

/// Moves a model's parameters along their gradients.
public protocol Optimizer: Sendable {
    /// How many updates there have been.
    var step: Int { get }
    /// What the next update would use as its learning rate.
    var learningRate: Double { get }
    /// Everything the next update depends on besides the model and the options, by name: for checkpoints.
    var state: OrderedDictionary<String, Tensor> { get }

    /// One step. Parameters without a gradient stay as they are, and a gradient without its parameter traps; storage that nobody else refers to is updated in place.
    mutating func update<Model: Module>(_ model: inout Model, along gradients: Gradients)

    /// Takes the step and the state of an earlier optimizer of the same kind and options.
    ///
    /// - Throws: `OptimizerStateError` for tensors that this kind does not have.
    mutating func restore(step: Int, state: OrderedDictionary<String, Tensor>) throws(OptimizerStateError)
}

/// A saved state that is not one of this optimizer.
public struct OptimizerStateError: Error, Sendable, CustomStringConvertible {
    public let description: String
}

/// Parameters that share a decay and a factor on the learning rate.
public struct ParameterGroup: Sendable {
    /// Which parameters; the first group that takes a parameter has it.
    public var filter: ParameterFilter
    /// The decay of these parameters.
    public var weightDecay: Double
    /// What the scheduled rate is multiplied by.
    public var rateFactor: Double

    public init(_ filter: ParameterFilter, weightDecay: Double, rateFactor: Double = 1) {
        self.filter = filter
        self.weightDecay = weightDecay
        self.rateFactor = rateFactor
    }

    /// The usual two groups: matrices decay; norms, biases, latents and learned positions do not.
    public static func decayingMatrices(_ weightDecay: Double) -> [ParameterGroup] {
        let spared =
            ParameterFilter.path("**.latents") || .path("**.positions") || .path("**.frameEmbeddings")
            || .path("**.mediaEmbeddings")
        return [
            ParameterGroup(.rank(atLeast: 2) && !spared, weightDecay: weightDecay),
            ParameterGroup(.all, weightDecay: 0),
        ]
    }
}

extension Tensor {
    /// Makes the memory of this tensor its own, so that it can be updated in place.
    mutating func makeUnique() {
        guard !isReusable() else { return }
        let label = label
        self = copy()
        self.label = label
    }
}

/// Traps when restored state is not of the parameter's shape and type: the loops would write past its end.
func requireFit(_ path: String, _ parameter: Tensor, _ state: Tensor) {
    guard state.shape == parameter.shape, state.dtype == parameter.dtype else {
        trap("update", "the optimizer's state of \(path) does not fit the parameter", state, parameter)
    }
}

/// Takes the tensors named `prefix` + path out of a saved state.
func statePart(
    _ state: OrderedDictionary<String, Tensor>, _ prefix: String
) -> [String: Tensor] {
    var part: [String: Tensor] = [:]
    for (name, tensor) in state where name.hasPrefix(prefix) { part[String(name.dropFirst(prefix.count))] = tensor }
    return part
}

/// Walks the parameters that have a gradient, with the group that each belongs to.
func forEachUpdate<Model: Module>(
    _ model: inout Model, _ gradients: Gradients, _ groups: [ParameterGroup],
    _ body: (String, inout Tensor, Tensor, ParameterGroup) -> Void
) {
    var taken = 0
    var place = 0
    model.forEachParameter { path, parameter in
        guard let index = gradients.tensors.index(of: path, at: &place) else { return }
        let gradient = gradients.tensors.values[index]
        taken += 1
        guard gradient.shape == parameter.shape, gradient.dtype == parameter.dtype else {
            trap("update", "the gradient of \(path) does not fit the parameter", gradient, parameter)
        }
        guard let group = groups.first(where: { $0.filter(path, parameter) }) else { return }
        parameter.makeUnique()
        body(path, &parameter, gradient.contiguous(), group)
    }
    guard taken == gradients.tensors.count else {
        let known = Set(model.parameters.keys)
        let strays = gradients.tensors.keys.filter { !known.contains($0) }
        trap(
            "update",
            "gradients of \(strays.joined(separator: ", ")), which \(Model.self) does not have: of another model?")
    }
}
