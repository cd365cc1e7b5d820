import FoveaTensor

/// How a parameter starts.
public enum Initializer: Sendable, Equatable {
    case zeros
    case ones
    /// Normal with mean 0.
    case normal(deviation: Double)
    /// Evenly spread over ±bound.
    case uniform(bound: Double)

    /// Evenly spread over ±1/√inputs: what PyTorch's linear layers and their biases start with (Kaiming-uniform with
    /// a = √5).
    public static func torchLinear(inputs: Int) -> Initializer {
        .uniform(bound: 1 / Double(max(1, inputs)).squareRoot())
    }

    /// Evenly spread over ±√(6 / (inputs + outputs)). (Glorot and Bengio, 2010.)
    public static func xavierUniform(inputs: Int, outputs: Int) -> Initializer {
        .uniform(bound: (6 / Double(max(1, inputs + outputs))).squareRoot())
    }

    /// A tensor of this kind; the numbers depend on the key alone.
    public func callAsFunction(_ shape: [Int], key: RandomKey, dtype: DType = .float32) -> Tensor {
        switch self {
        case .zeros: .zeros(shape, dtype: dtype)
        case .ones: .ones(shape, dtype: dtype)
        case .normal(let deviation): .normal(shape, deviation: deviation, key: key, dtype: dtype)
        case .uniform(let bound): .uniform(shape, in: -bound...bound, key: key, dtype: dtype)
        }
    }
}
