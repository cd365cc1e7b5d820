import FoveaTensor

/// One published form of a module: the configuration keys, input names and weight names of that class.
///
/// ```swift
/// PublishedForm(
///     WeightLayout<Projector>.llava,
///     keys: [.size("mm_hidden_size", "width C", from: .axis(1, of: "0.weight")), …],
///     inputs: [.init("x", "[B, N, mm_hidden_size]")], outputs: [.init("tokens", "[B, N, hidden_size]")],
///     sample: ["mm_hidden_size": 6, "hidden_size": 4], sampleInputs: { ["x": $0.uniform([2, 5, 6])] },
///     make: { Projector($0.int("mm_hidden_size"), $0.int("hidden_size"), key: $0.key) },
///     run: { ["tokens": $0($1["x"])] })
/// ```
public struct PublishedForm: Sendable {
    /// The layout's name on the command line, such as `open-flamingo`.
    public let layout: String
    public let keys: [ConfigurationKey]
    public let inputs: [TensorRole]
    public let outputs: [TensorRole]
    /// The key that says how wide the visual tokens are that come in; nil where none does, or none come in.
    public let widthKey: String?
    /// A configuration small enough to check every gradient of.
    public let sample: [String: ConfigurationValue]
    /// Inputs for that configuration, float64, with a batch axis in front.
    public let sampleInputs: @Sendable (inout SampleSource) -> NamedTensors
    private let makeInstance: @Sendable (Configuration, [TensorRole]) throws -> any ModuleInstance
    private let publishedNames: @Sendable (any Module) -> NamedTensors?
    private let load: @Sendable (any Module, NamedTensors, String) throws -> (any Module)?

    /// - Parameters:
    ///   - layout: how the weights are named.
    ///   - keys: the configuration keys that the class takes.
    ///   - inputs: the tensors that it takes, by their published names; checked before `run` sees them.
    ///   - outputs: the tensors that it returns, likewise.
    ///   - widthKey: the key that says how wide the visual tokens are that come in.
    ///   - sample: a configuration small enough to check every gradient of.
    ///   - sampleInputs: draws inputs for that configuration, float64.
    ///   - make: builds the module from a configuration; throws `ModuleInputError` where its values do not fit each
    ///     other.
    ///   - run: applies it to the inputs by name; throws `ModuleInputError` for what their shapes do not tell.
    public init<Model: Module>(
        _ layout: WeightLayout<Model>, keys: [ConfigurationKey], inputs: [TensorRole], outputs: [TensorRole],
        widthKey: String? = nil, sample: [String: ConfigurationValue],
        sampleInputs: @escaping @Sendable (inout SampleSource) -> NamedTensors,
        make: @escaping @Sendable (Configuration) throws -> Model,
        run: @escaping @Sendable (Model, ModuleInputs) throws -> NamedTensors
    ) {
        self.layout = layout.name
        self.keys = keys
        self.inputs = inputs
        self.outputs = outputs
        self.widthKey = widthKey
        self.sample = sample
        self.sampleInputs = sampleInputs
        makeInstance = { configuration, roles in
            Instance(
                model: try make(configuration).named(), configuration: configuration, roles: roles, layout: layout,
                run: run)
        }
        publishedNames = { module in (module as? Model).map { layout.published($0.parameters) } }
        load = { module, weights, source in
            guard var model = module as? Model else { return nil }
            try model.load(from: weights, source: source, layout: layout)
            return model
        }
    }

    /// A module of this form with fresh weights.
    ///
    /// - Parameters:
    ///   - configuration: the values of keys, by name.
    ///   - dtype: the type to compute in.
    ///   - key: of the random numbers that the weights start with.
    ///   - owner: where the configuration comes from, for errors.
    /// - Throws: `ModuleInputError` for unknown, missing and mistyped keys, and for sizes beyond the machine's memory.
    public func instance(
        _ configuration: [String: ConfigurationValue], dtype: DType = .float32, key: RandomKey = RandomKey(seed: 0),
        owner: String
    ) throws -> any ModuleInstance {
        let checked = try Configuration(configuration, keys: keys, weights: nil, key: key, owner: owner)
        // What a mistyped size would ask for is found out before any memory is.
        let bytes = try withoutMemory { try makeInstance(checked, inputs) }.module.parameterCount * dtype.size
        guard bytes <= physicalMemory else {
            throw ModuleInputError(
                "\(owner): the weights would take \(bytes >> 20) MiB; this machine has \(physicalMemory >> 20) MiB")
        }
        return try makeInstance(checked, inputs).cast(to: dtype)
    }

    /// A module of this form with given weights. Sizes that the configuration leaves out are those of the weights.
    ///
    /// - Parameters:
    ///   - configuration: the values of keys, by name.
    ///   - weights: tensors under their published names; a prefix that all of them have is found by itself.
    ///   - dtype: the type to compute in.
    ///   - owner: where the configuration comes from, for errors.
    ///   - source: where the weights come from, for errors.
    ///   - keepsMatrices: whether matrices of a storage type stay as they are; see `Module.load`.
    /// - Throws: `ModuleInputError` for a configuration that is wrong or that the weights contradict; `WeightsError` for
    ///   weights that do not fit.
    public func instance(
        _ configuration: [String: ConfigurationValue], weights: NamedTensors, dtype: DType = .float32, owner: String,
        source: String, keepsMatrices: Bool = false
    ) throws -> any ModuleInstance {
        let checked = try Configuration(
            configuration, keys: keys, weights: weights, key: RandomKey(seed: 0), owner: owner)
        // Fresh weights would only be thrown away: the module has shapes alone until it gets these.
        var instance = try withoutMemory { try makeInstance(checked, inputs).cast(to: dtype) }
        _ = try instance.load(weights, source: source, keepsMatrices: keepsMatrices)
        return instance
    }

    /// A module with weights under the names of this form, all of which must be there; nil where the module is of another
    /// type.
    ///
    /// - Throws: `WeightsError` for weights that do not fit.
    public func loaded(_ module: any Module, from weights: NamedTensors, source: String) throws -> (any Module)? {
        try load(module, weights, source)
    }

    /// A module's weights under the names of this form; nil where the module is of another type.
    public func weights(of module: any Module) -> NamedTensors? { publishedNames(module) }
}

/// The inputs of a module of the catalogue, checked against their roles.
public struct ModuleInputs: Sendable {
    private let tensors: NamedTensors
    /// What the module was built from, for what its parameters do not tell.
    public let configuration: Configuration

    init(_ tensors: NamedTensors, _ configuration: Configuration) {
        self.tensors = tensors
        self.configuration = configuration
    }

    /// The input of this name. Traps where the form does not require it.
    public subscript(name: String) -> Tensor {
        guard let tensor = tensors[name] else { trap("ModuleInputs", "the form declares no input \"\(name)\"") }
        return tensor
    }

    /// The input of this name, nil where the call leaves it out.
    public func optional(_ name: String) -> Tensor? { tensors[name] }
}
