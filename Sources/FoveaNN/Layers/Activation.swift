import FoveaTensor

/// The function inside an MLP.
public enum Activation: String, Sendable, CaseIterable, Codable {
    case gelu, relu, tanh, sigmoid, silu
    /// GELU in its tanh form.
    case geluTanh
    /// x · sigmoid(1.702 x), the GELU of CLIP. (Hendrycks and Gimpel, "Gaussian error linear units", 2016, §2.)
    case quickGelu

    /// The function, element by element.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        switch self {
        case .gelu: x.gelu()
        case .relu: x.relu()
        case .tanh: x.tanh()
        case .sigmoid: x.sigmoid()
        case .silu: x.silu()
        case .geluTanh: x.geluTanh()
        case .quickGelu: (x * 1.702).silu() * (1 / 1.702)
        }
    }

    /// The function that transformers' configurations call by this name.
    public init?(published name: String) {
        switch name {
        case "gelu": self = .gelu
        case "gelu_new", "gelu_pytorch_tanh": self = .geluTanh
        case "quick_gelu": self = .quickGelu
        case "relu": self = .relu
        case "sigmoid": self = .sigmoid
        case "silu", "swish": self = .silu
        case "tanh": self = .tanh
        default: return nil
        }
    }
}
