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
    ///   - key: of the random numbers that the weights start with.
    public init(
        _ width: Int, hidden: Int, outputs: Int? = nil, activation: Activation = .gelu, bias: Bool = true,
        key: RandomKey
    ) {
        expand = Linear(width, hidden, bias: bias, key: key.folding("expand"))
        contract = Linear(hidden, outputs ?? width, bias: bias, key: key.folding("contract"))
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
                    .init("width", "C"), .init("hidden", "the width inside"),
                    .init("bias", "whether the layers have biases", default: .bool(true)),
                ],
                inputs: [.init("x", "[..., C]")], outputs: [.init("y", "[..., C]")],
                sampleConfiguration: ["width": .int(4), "hidden": .int(6)],
                sampleInputs: { ["x": $0.uniform([2, 3, 4])] },
                make: {
                    MLP(
                        try $0.int("width"), hidden: try $0.int("hidden"), bias: try $0.bool("bias"),
                        key: RandomKey(seed: 0))
                },
                run: { ["y": $0(try $1.tensor("x", "[..., C]", lastAxis: $0.expand.weight.shape[1]))] })
        ])
}
