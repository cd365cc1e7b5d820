import FoveaTensor

/// Two linear layers with a function between them: [..., C] → [..., hidden] → [..., D].
public struct MLP: Module {
    public var expand: Linear
    public var contract: Linear
    public let activation: Activation

    /// - Parameters:
    ///   - width: C of the input.
    ///   - hidden: the width between the layers.
    ///   - outputs: D; as wide as the input unless given.
    ///   - activation: the function between the layers.
    ///   - bias: whether both layers have biases.
    ///   - initializer: how the weights start; as PyTorch's linear layers unless given.
    ///   - key: of the random numbers that the weights start with.
    public init(
        _ width: Int, hidden: Int, outputs: Int? = nil, activation: Activation = .gelu, bias: Bool = true,
        initializer: Initializer? = nil, key: RandomKey
    ) {
        expand = Linear(width, hidden, bias: bias, initializer: initializer, key: key.folding("expand"))
        contract = Linear(
            hidden, outputs ?? width, bias: bias, initializer: initializer, key: key.folding("contract"))
        self.activation = activation
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("expand", &expand)
        visitor.module("contract", &contract)
    }

    /// x [..., C] → [..., D].
    public func callAsFunction(_ x: Tensor) -> Tensor { contract(activation(expand(x))) }
}

extension MLP {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "mlp", "two linear layers with a GELU between them",
        forms: [
            PublishedForm(
                WeightLayout<MLP>.native,
                keys: [
                    .size("width", "C", from: .axis(1, of: "expand.weight")),
                    .size("hidden", "the width inside", from: .axis(0, of: "expand.weight")),
                    .flag("bias", "whether the layers have biases", default: true, from: .presence(of: "expand.bias")),
                ],
                inputs: [.init("x", "[..., width]")], outputs: [.init("y", "[..., width]")],
                sample: ["width": 4, "hidden": 6], sampleInputs: { ["x": $0.uniform([2, 3, 4])] },
                make: {
                    MLP($0.int("width"), hidden: $0.int("hidden"), bias: $0.bool("bias"), key: $0.key)
                },
                run: { ["y": $0($1["x"])] })
        ])
}
