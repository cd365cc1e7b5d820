import FoveaTensor

/// An MLP with a gate: y = W_down (act(W_gate x) ⊙ W_up x), [..., C] → [..., hidden] → [..., D]. With SiLU it is SwiGLU.
/// (Shazeer, "GLU variants improve transformer", 2020.)
public struct GatedMLP: Module {
    public var gate: Linear
    public var up: Linear
    public var down: Linear
    public let activation: Activation

    /// - Parameters:
    ///   - width: C of the input.
    ///   - hidden: the width inside.
    ///   - outputs: D; as wide as the input unless given.
    ///   - activation: the function of the gate.
    ///   - bias: whether the three layers have biases.
    ///   - initializer: how the weights start; as PyTorch's linear layers unless given.
    ///   - key: of the random numbers that the weights start with.
    public init(
        _ width: Int, hidden: Int, outputs: Int? = nil, activation: Activation = .silu, bias: Bool = false,
        initializer: Initializer? = nil, key: RandomKey
    ) {
        gate = Linear(width, hidden, bias: bias, initializer: initializer, key: key.folding("gate"))
        up = Linear(width, hidden, bias: bias, initializer: initializer, key: key.folding("up"))
        down = Linear(hidden, outputs ?? width, bias: bias, initializer: initializer, key: key.folding("down"))
        self.activation = activation
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("gate", &gate)
        visitor.module("up", &up)
        visitor.module("down", &down)
    }

    /// x [..., C] → [..., D].
    public func callAsFunction(_ x: Tensor) -> Tensor {
        let (gate, up) = (gate(x), up(x))
        return down(activation == .silu ? swiGLU(gate, up) : activation(gate) * up)
    }
}

extension GatedMLP {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "gated-mlp", "an MLP whose inner layer is gated by SiLU",
        forms: [
            PublishedForm(
                WeightLayout<GatedMLP>.native,
                keys: [
                    .size("width", "C", from: .axis(1, of: "gate.weight")),
                    .size("hidden", "the width inside", from: .axis(0, of: "gate.weight")),
                    .flag("bias", "whether the layers have biases", default: false, from: .presence(of: "gate.bias")),
                ],
                inputs: [.init("x", "[..., width]")], outputs: [.init("y", "[..., width]")],
                sample: ["width": 4, "hidden": 6], sampleInputs: { ["x": $0.uniform([2, 3, 4])] },
                make: {
                    GatedMLP($0.int("width"), hidden: $0.int("hidden"), bias: $0.bool("bias"), key: $0.key)
                },
                run: { ["y": $0($1["x"])] })
        ])
}
