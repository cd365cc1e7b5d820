import FoveaTensor

/// y = x·Wᵀ + b: [..., C] → [..., D].
public struct Linear: Module {
    /// [D, C], a row for each output.
    public var weight: Tensor
    /// [D], or nil.
    public var bias: Tensor?

    /// Starts as PyTorch's linear layer does, evenly spread over ±1/√C, unless `initializer` says otherwise (a bias then
    /// starts at zero).
    public init(_ inputs: Int, _ outputs: Int, bias: Bool = true, initializer: Initializer? = nil, key: RandomKey) {
        let start = initializer ?? .torchLinear(inputs: inputs)
        weight = start([outputs, inputs], key: key.folding("weight"))
        if bias {
            self.bias = (initializer == nil ? start : .zeros)([outputs], key: key.folding("bias"))
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("weight", &weight)
        visitor.parameter("bias", &bias)
    }

    /// x [..., C] → [..., D].
    public func callAsFunction(_ x: Tensor) -> Tensor { linear(x, weight: weight, bias: bias) }
}

extension Linear {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "linear", "x·Wᵀ + b",
        forms: [
            PublishedForm(
                WeightLayout<Linear>.native,
                keys: [
                    .size("inputs", "C", from: .axis(1, of: "weight")),
                    .size("outputs", "D", from: .axis(0, of: "weight")),
                    .flag("bias", "whether there is a bias", default: true, from: .presence(of: "bias")),
                ],
                inputs: [.init("x", "[..., inputs]")], outputs: [.init("y", "[..., outputs]")],
                sample: ["inputs": 4, "outputs": 3], sampleInputs: { ["x": $0.uniform([2, 3, 4])] },
                make: { Linear($0.int("inputs"), $0.int("outputs"), bias: $0.bool("bias"), key: $0.key) },
                run: { ["y": $0($1["x"])] })
        ])
}
