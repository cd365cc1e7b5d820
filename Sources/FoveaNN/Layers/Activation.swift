import FoveaTensor

/// The function inside an MLP.
public enum Activation: String, Sendable, CaseIterable, Codable {
    case gelu, relu, tanh, sigmoid, silu
    /// GELU in its tanh form.
    case geluTanh
    /// x · sigmoid(1.702 x), the GELU of CLIP. (Hendrycks and Gimpel, "Gaussian error linear units", 2016, §2.)
    case quickGelu
    /// max(x, 0)². (So et al., "Primer", 2021.)
    case squaredRelu
    /// min(max(x + 3, 0), 6) / 6, a sigmoid of three straight pieces. (Howard et al., "Searching for MobileNetV3", 2019,
    /// §5.2.)
    case hardSigmoid
    /// x · hardSigmoid(x), from the same place.
    case hardSwish

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
        case .squaredRelu: x.squaredRelu()
        case .hardSigmoid: (x + 3).clamped(min: 0, max: 6) * (1.0 / 6)
        case .hardSwish: x * Activation.hardSigmoid(x)
        }
    }

    /// The functions by the names that transformers' configurations use.
    private static let published: KeyValuePairs<String, Activation> = [
        "gelu": .gelu, "gelu_new": .geluTanh, "gelu_pytorch_tanh": .geluTanh, "quick_gelu": .quickGelu, "relu": .relu,
        "relu2": .squaredRelu, "sigmoid": .sigmoid, "silu": .silu, "swish": .silu, "tanh": .tanh,
    ]

    /// The names that transformers' configurations use.
    public static var publishedNames: [String] { published.map(\.key) }

    /// The function that transformers' configurations call by this name.
    public init?(published name: String) {
        guard let activation = Activation.published.first(where: { $0.key == name })?.value else { return nil }
        self = activation
    }
}
