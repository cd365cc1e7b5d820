import FoveaTensor

/// A layer from one tensor to one, over the last axis. Models that differ in their norm or their feed-forward alone hold
/// an `any UnaryLayer` there.
public protocol UnaryLayer: Module {
    /// x [..., C] → [..., D].
    func callAsFunction(_ x: Tensor) -> Tensor
}

extension Linear: UnaryLayer {}
extension MLP: UnaryLayer {}
extension GatedMLP: UnaryLayer {}

/// A norm over the last axis that ends in a weight for each feature, and a bias or none.
///
/// A linear layer behind it can take both on: norm(x)·Wᵀ = x̂·(W∘γ)ᵀ + W β, where x̂ is x normed alone. One x̂ then serves any
/// number of norms, and where x is a constant no gradient goes back through their projections: γ and β get theirs from the
/// gradient of W∘γ, which is made anyway.
public protocol AffineNorm: UnaryLayer {
    /// γ, [C].
    var weight: Tensor { get }
    /// β, [C], or nil.
    var bias: Tensor? { get }
    /// x [..., C] → x̂ of the same shape: the norm without its weight and bias.
    func normalized(_ x: Tensor) -> Tensor
}

extension AffineNorm {
    /// The layer that makes of x̂ what `layer` makes of this norm's result.
    public func folded(into layer: Linear) -> Linear {
        var folded = layer
        folded.weight = layer.weight * weight
        if let bias {
            let shift = (layer.weight * bias).sum(axes: [1])
            folded.bias = layer.bias.map { $0 + shift } ?? shift
        }
        return folded
    }
}

extension LayerNorm: AffineNorm {
    public func normalized(_ x: Tensor) -> Tensor { layerNorm(x, epsilon: epsilon) }
}

extension RMSNorm: AffineNorm {
    public var bias: Tensor? { nil }
    public func normalized(_ x: Tensor) -> Tensor { rmsNorm(x, epsilon: epsilon) }
}

/// Which norm a model has.
public enum Norm: Sendable, Equatable {
    /// Layer norm with weight and bias.
    case layer(epsilon: Double = 1e-5)
    /// RMS norm.
    case rms(epsilon: Double = 1e-6)

    /// The norm over C features.
    public func callAsFunction(_ width: Int) -> any AffineNorm {
        switch self {
        case .layer(let epsilon): LayerNorm(width, epsilon: epsilon)
        case .rms(let epsilon): RMSNorm(width, epsilon: epsilon)
        }
    }
}

/// Which feed-forward a model has; none of its layers has a bias.
public enum FeedForward: Sendable, Equatable {
    /// Two linear layers with a function between them.
    case plain(Activation)
    /// An MLP whose inner layer is gated through a function; SwiGLU with SiLU.
    case gated(Activation)

    /// The layers, [..., C] → [..., C].
    ///
    /// - Parameters:
    ///   - width: C.
    ///   - hidden: the width inside.
    ///   - initializer: how the weights start; as PyTorch's linear layers unless given.
    ///   - key: of the random numbers that the weights start with.
    public func callAsFunction(
        _ width: Int, hidden: Int, initializer: Initializer? = nil, key: RandomKey
    ) -> any UnaryLayer {
        switch self {
        case .plain(let activation):
            MLP(width, hidden: hidden, activation: activation, bias: false, initializer: initializer, key: key)
        case .gated(let activation):
            GatedMLP(width, hidden: hidden, activation: activation, initializer: initializer, key: key)
        }
    }
}
