import FoveaTensor
import OrderedCollections

/// Tensors by the names that a published class gives them.
public typealias NamedTensors = OrderedDictionary<String, Tensor>

/// A module of the catalogue, with the published forms that it comes in.
///
/// `fovea apply`, `fovea modules` and `fovea gradcheck` walk one list of these. Each module's file declares its own.
public struct ModuleEntry: Sendable {
    /// The name on the command line, such as `perceiver-resampler`.
    public let name: String
    /// What it does, in one line.
    public let summary: String
    /// Its published forms.
    public let forms: [PublishedForm]

    public init(_ name: String, _ summary: String, forms: [PublishedForm]) {
        self.name = name
        self.summary = summary
        self.forms = forms
    }
}

/// A tensor that a module takes or returns.
public struct TensorRole: Sendable {
    public let name: String
    /// The symbolic shape, such as `[B, N, C]`.
    public let shape: String

    public init(_ name: String, _ shape: String) {
        self.name = name
        self.shape = shape
    }
}

/// One published form of a module: the configuration keys, input names and weight names of that class.
public struct PublishedForm: Sendable {
    /// The layout's name on the command line, such as `open-flamingo`.
    public let layout: String
    public let keys: [ConfigurationKey]
    public let inputs: [TensorRole]
    public let outputs: [TensorRole]
    /// A configuration small enough to check every gradient of.
    public let sampleConfiguration: [String: ConfigurationValue]
    /// Inputs for that configuration, float64.
    public let sampleInputs: @Sendable (inout SampleSource) -> NamedTensors
    private let makeInstance: @Sendable (Configuration, DType) throws -> any ModuleInstance

    /// - Parameters:
    ///   - layout: how the weights are named.
    ///   - keys: the configuration keys that the class takes.
    ///   - inputs: the tensors that it takes, by their published names.
    ///   - outputs: the tensors that it returns, likewise.
    ///   - sampleConfiguration: a configuration small enough to check every gradient of.
    ///   - sampleInputs: draws inputs for that configuration, float64.
    ///   - make: builds the module from a configuration; throws `ModuleInputError`.
    ///   - run: applies it to the inputs by name; throws `ModuleInputError` for shapes that do not fit.
    public init<Model: Module>(
        _ layout: WeightLayout<Model>, keys: [ConfigurationKey], inputs: [TensorRole], outputs: [TensorRole],
        sampleConfiguration: [String: ConfigurationValue],
        sampleInputs: @escaping @Sendable (inout SampleSource) -> NamedTensors,
        make: @escaping @Sendable (Configuration) throws -> Model,
        run: @escaping @Sendable (Model, NamedTensors) throws -> NamedTensors
    ) {
        self.layout = layout.name
        self.keys = keys
        self.inputs = inputs
        self.outputs = outputs
        self.sampleConfiguration = sampleConfiguration
        self.sampleInputs = sampleInputs
        makeInstance = { configuration, dtype in
            Instance(model: try make(configuration).cast(to: dtype).named(), layout: layout, run: run)
        }
    }

    /// A module of this form with fresh weights.
    ///
    /// - Throws: `ModuleInputError` for unknown, missing and mistyped keys, and for sizes beyond the machine's memory.
    public func instance(
        _ configuration: [String: ConfigurationValue], dtype: DType = .float32, owner: String
    ) throws -> any ModuleInstance {
        let checked = try Configuration(configuration, keys: keys, owner: owner)
        // What a mistyped size would ask for is found out before any memory is.
        let bytes = try withoutMemory { try makeInstance(checked, dtype).module.parameterBytes }
        guard bytes <= physicalMemory else {
            throw ModuleInputError(
                "\(owner): the weights would take \(bytes >> 20) MiB; this machine has \(physicalMemory >> 20) MiB")
        }
        return try makeInstance(checked, dtype)
    }

    /// Checks that the inputs have the names that this form takes.
    public func checkInputs(_ inputs: NamedTensors, owner: String) throws(ModuleInputError) {
        let known = self.inputs.map(\.name)
        for name in known where inputs[name] == nil {
            throw ModuleInputError("\(owner): the inputs lack \"\(name)\"; they have \(inputs.keys.elements)")
        }
        for name in inputs.keys where !known.contains(name) {
            throw ModuleInputError("\(owner): unknown input \"\(name)\"; expected are \(known)")
        }
    }
}

/// A module of the catalogue that has been built, whatever its type.
public protocol ModuleInstance: Sendable {
    /// The module itself.
    var module: any Module { get }
    /// The weights under their published names.
    var weights: NamedTensors { get }
    /// Takes weights under their published names; throws `WeightsError`.
    mutating func load(_ weights: NamedTensors, source: String) throws -> LoadReport
    /// The outputs by name.
    func outputs(_ inputs: NamedTensors) throws -> NamedTensors
    /// The gradient of Σ⟨output, cotangent⟩ for every floating-point input and every weight, under their own names;
    /// zeros for what has no influence.
    func gradients(_ inputs: NamedTensors, cotangents: NamedTensors) throws -> NamedTensors
    /// Compares the gradients for every parameter and every floating-point input with finite differences.
    func checkGradients(_ inputs: NamedTensors, name: String, seed: UInt64) throws -> GradientCheck
}

private struct Instance<Model: Module>: ModuleInstance {
    var model: Model
    let layout: WeightLayout<Model>
    let run: @Sendable (Model, NamedTensors) throws -> NamedTensors

    var module: any Module { model }
    var weights: NamedTensors { layout.published(model.parameters) }

    mutating func load(_ weights: NamedTensors, source: String) throws -> LoadReport {
        try model.load(from: weights, source: source, layout: layout)
    }

    func outputs(_ inputs: NamedTensors) throws -> NamedTensors { try run(model, inputs) }

    func gradients(_ inputs: NamedTensors, cotangents: NamedTensors) throws -> NamedTensors {
        let parameters = model.parameters
        let active = inputs.filter { $0.value.dtype.isDifferentiable }
        let found = try valueAndGradient(
            of: { try objective($0, inputs, cotangents) }, at: parameters.values.elements + active.values.elements
        ).gradients
        var native: NamedTensors = [:]
        for (path, gradient) in zip(parameters.keys, found) { native[path] = gradient }
        var gradients = layout.published(native)
        for (name, gradient) in zip(active.keys, found.dropFirst(parameters.count)) { gradients[name] = gradient }
        return gradients
    }

    func checkGradients(_ inputs: NamedTensors, name: String, seed: UInt64) throws -> GradientCheck {
        let parameters = model.parameters
        let active = inputs.filter { $0.value.dtype.isDifferentiable }
        // One output after the other flattened: a single function for the finite differences.
        return try FoveaTensor.checkGradients(
            of: { arguments in
                let outputs = try self.run(bound(arguments), named(inputs, arguments))
                return concatenated(
                    outputs.values.filter { $0.dtype.isDifferentiable }.map { $0.flattened() }, axis: 0)
            }, at: parameters.values.elements + active.values.elements,
            named: parameters.keys.elements + active.keys.elements, name: name, fullCheckLimit: 64, seed: seed)
    }

    private func objective(
        _ arguments: [Tensor], _ inputs: NamedTensors, _ cotangents: NamedTensors
    ) throws -> Tensor {
        let outputs = try run(bound(arguments), named(inputs, arguments))
        var sum: Tensor?
        for (name, output) in outputs {
            guard let cotangent = cotangents[name] else { continue }
            guard cotangent.shape == output.shape else {
                throw ModuleInputError(
                    "cotangent.\(name) is \(cotangent.shape), but the output \(name) is \(output.shape)")
            }
            let term = (output * cotangent.cast(to: output.dtype)).sum()
            sum = sum.map { $0 + term } ?? term
        }
        guard let sum else {
            throw ModuleInputError(
                "gradients need a tensor \"cotangent.<output>\" among the inputs, for one of \(outputs.keys.elements)")
        }
        return sum
    }

    /// The model with these tensors as its parameters.
    private func bound(_ arguments: [Tensor]) -> Model {
        var model = model
        var next = 0
        model.forEachParameter { _, parameter in
            parameter = arguments[next]
            next += 1
        }
        return model
    }

    /// The inputs with the tensors behind the parameters in place of the differentiable ones.
    private func named(_ inputs: NamedTensors, _ arguments: [Tensor]) -> NamedTensors {
        var named = inputs
        var next = model.parameters.count
        for (name, tensor) in inputs where tensor.dtype.isDifferentiable {
            named[name] = arguments[next]
            next += 1
        }
        return named
    }
}

extension OrderedDictionary where Key == String, Value == Tensor {
    /// The input of this name, checked.
    ///
    /// - Parameters:
    ///   - name: the input's published name.
    ///   - shape: the symbolic shape, for the error.
    ///   - rank: how many axes it must have; nil for any number.
    ///   - lastAxis: how long its last axis must be; nil for any length.
    /// - Throws: `ModuleInputError` where it is missing or not floating-point, or the rank or the last axis is another.
    public func tensor(
        _ name: String, _ shape: String, rank: Int? = nil, lastAxis: Int? = nil
    ) throws(ModuleInputError) -> Tensor {
        guard let tensor = self[name] else { throw ModuleInputError("the inputs lack \"\(name)\" \(shape)") }
        guard tensor.dtype.isDifferentiable else {
            throw ModuleInputError("input \(name) is \(tensor.dtype); float32 or float64 is needed")
        }
        guard rank == nil || tensor.rank == rank!, lastAxis == nil || tensor.shape.last == lastAxis! else {
            throw ModuleInputError(
                "input \(name) is \(tensor.shape); expected is \(shape)"
                    + (lastAxis.map { " with \($0) on the last axis" } ?? ""))
        }
        return tensor
    }
}
