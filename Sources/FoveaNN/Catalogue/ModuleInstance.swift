import FoveaTensor

/// A module of the catalogue that has been built, whatever its type.
public protocol ModuleInstance: Sendable {
    /// The module itself.
    var module: any Module { get }
    /// The values that it was built from.
    var configuration: Configuration { get }
    /// The weights under the names that they were loaded by.
    var weights: NamedTensors { get }
    /// The same with its parameters in another type.
    func cast(to dtype: DType) -> Self
    /// Takes weights under their published names; throws `WeightsError`. Matrices of a storage type stay so if asked.
    mutating func load(_ weights: NamedTensors, source: String, keepsMatrices: Bool) throws -> LoadReport
    /// The outputs by name; throws `ModuleInputError` for inputs that do not fit.
    func outputs(_ inputs: NamedTensors) throws -> NamedTensors
    /// The gradient of Σ⟨output, cotangent⟩ for every floating-point input and every weight, under their own names;
    /// zeros for what has no influence.
    func gradients(_ inputs: NamedTensors, cotangents: NamedTensors) throws -> NamedTensors
    /// Compares the gradients for every parameter and every floating-point input with finite differences; nil where no
    /// output has a gradient.
    func checkGradients(_ inputs: NamedTensors, name: String, seed: UInt64) throws -> GradientCheck?
}

extension ModuleInstance {
    /// Takes weights under their published names, cast to the module's types; throws `WeightsError`.
    public mutating func load(_ weights: NamedTensors, source: String) throws -> LoadReport {
        try load(weights, source: source, keepsMatrices: false)
    }
}

struct Instance<Model: Module>: ModuleInstance {
    var model: Model
    let configuration: Configuration
    let roles: [TensorRole]
    let layout: WeightLayout<Model>
    let run: @Sendable (Model, ModuleInputs) throws -> NamedTensors
    /// What stood in front of every name in the file that the weights came from.
    private var prefix = ""

    init(
        model: Model, configuration: Configuration, roles: [TensorRole], layout: WeightLayout<Model>,
        run: @escaping @Sendable (Model, ModuleInputs) throws -> NamedTensors
    ) {
        self.model = model
        self.configuration = configuration
        self.roles = roles
        self.layout = layout
        self.run = run
    }

    var module: any Module { model }
    var weights: NamedTensors { published(model.parameters) }

    func cast(to dtype: DType) -> Self {
        var copy = self
        copy.model = model.cast(to: dtype).named()
        return copy
    }

    mutating func load(_ weights: NamedTensors, source: String, keepsMatrices: Bool) throws -> LoadReport {
        let report = try model.load(from: weights, source: source, layout: layout, keepsMatrices: keepsMatrices)
        prefix = report.prefix
        return report
    }

    func outputs(_ inputs: NamedTensors) throws -> NamedTensors { try run(model, try checked(converted(inputs))) }

    func gradients(_ inputs: NamedTensors, cotangents: NamedTensors) throws -> NamedTensors {
        let inputs = converted(inputs)
        _ = try checked(inputs)
        let parameters = model.parameters
        let active = inputs.filter { $0.value.dtype.isDifferentiable }
        let found = try valueAndGradient(
            of: { try objective($0, inputs, cotangents) }, at: parameters.values.elements + active.values.elements
        ).gradients
        var native: NamedTensors = [:]
        for (path, gradient) in zip(parameters.keys, found) { native[path] = gradient }
        var gradients = published(native)
        for (name, gradient) in zip(active.keys, found.dropFirst(parameters.count)) { gradients[name] = gradient }
        return gradients
    }

    func checkGradients(_ inputs: NamedTensors, name: String, seed: UInt64) throws -> GradientCheck? {
        guard try outputs(inputs).values.contains(where: { $0.dtype.isDifferentiable }) else { return nil }
        let parameters = model.parameters
        let active = inputs.filter { $0.value.dtype.isDifferentiable }
        // One output after the other flattened: a single function for the finite differences.
        return try FoveaTensor.checkGradients(
            of: { arguments in
                let outputs = try self.run(
                    model.replacingParameters(arguments), ModuleInputs(named(inputs, arguments), configuration))
                return concatenated(
                    outputs.values.filter { $0.dtype.isDifferentiable }.map { $0.flattened() }, axis: 0)
            }, at: parameters.values.elements + active.values.elements,
            named: parameters.keys.elements + active.keys.elements, name: name, seed: seed)
    }

    private func published(_ tensors: NamedTensors) -> NamedTensors {
        var published: NamedTensors = [:]
        for (name, tensor) in layout.published(tensors) { published[prefix + name] = tensor }
        return published
    }

    /// The inputs with masks and indices in the types that are computed with: tokenizers give masks of 0 and 1.
    private func converted(_ inputs: NamedTensors) -> NamedTensors {
        var inputs = inputs
        for role in roles {
            guard let tensor = inputs[role.name], !tensor.dtype.isFloatingPoint else { continue }
            switch role.kind {
            case .mask where tensor.cast(to: .int64).scalars(as: Int64.self).allSatisfy { 0...1 ~= $0 }:
                inputs[role.name] = tensor.cast(to: .bool)
            case .indices: inputs[role.name] = tensor.cast(to: .int64)
            default: break
            }
        }
        return inputs
    }

    /// The inputs, when they are those of the roles, in type and shape.
    private func checked(_ inputs: NamedTensors) throws(ModuleInputError) -> ModuleInputs {
        let known = roles.map(\.name)
        if let unknown = inputs.keys.first(where: { !known.contains($0) }) {
            throw ModuleInputError("unknown input \"\(unknown)\"; expected are \(known)")
        }
        var shapes = ShapeCheck(configuration)
        for role in roles {
            if let tensor = inputs[role.name] {
                try shapes.check(tensor, role)
            } else if !role.isOptional {
                throw ModuleInputError("the inputs lack \"\(role.name)\"; they have \(inputs.keys.elements)")
            }
        }
        return ModuleInputs(inputs, configuration)
    }

    private func objective(
        _ arguments: [Tensor], _ inputs: NamedTensors, _ cotangents: NamedTensors
    ) throws -> Tensor {
        let outputs = try run(
            model.replacingParameters(arguments), ModuleInputs(named(inputs, arguments), configuration))
        var sum: Tensor?
        for (name, output) in outputs {
            guard let cotangent = cotangents[name] else { continue }
            guard output.dtype.isDifferentiable else {
                throw ModuleInputError("cotangent.\(name) is given, but the output \(name) is \(output.dtype)")
            }
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
