import FoveaTensor

/// A layer from one tensor to one, over the last axis. Models that differ in their norm or their feed-forward alone hold
/// an `any UnaryLayer` there.
public protocol UnaryLayer: Module {
    /// x [..., C] → [..., D].
    func callAsFunction(_ x: Tensor) -> Tensor
}

extension Linear: UnaryLayer {}
extension LayerNorm: UnaryLayer {}
extension RMSNorm: UnaryLayer {}
extension MLP: UnaryLayer {}
extension GatedMLP: UnaryLayer {}

/// Which norm a model has.
public enum Norm: Sendable, Equatable {
    /// Layer norm with weight and bias.
    case layer(epsilon: Double = 1e-5)
    /// RMS norm.
    case rms(epsilon: Double = 1e-6)

    /// The norm over C features.
    public func callAsFunction(_ width: Int) -> any UnaryLayer {
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
