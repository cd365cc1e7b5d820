import FoveaNN
import FoveaTensor

/// A method inside the layers of a language model: pictures reach the text there, and take no place in the sequence.
///
/// A value that knows the pictures of a batch of texts and keeps no state: what text sees of them follows from the
/// positions of its tokens. So the same value serves the whole text, its parts, and each token while decoding. Each of
/// the three seats of a layer does nothing unless a method takes it.
public protocol Injection: Sendable {
    /// Text on its way into a layer, [B, T, D] → [B, T, D].
    ///
    /// - Parameters:
    ///   - x: [B, T, D].
    ///   - layer: from 0 on.
    ///   - positions: of the tokens, [T] or [B, T].
    func entering(_ x: Tensor, layer: Int, positions: Tensor) -> Tensor

    /// What is added to a part of a layer, [B, T, D]; nil where nothing is.
    ///
    /// - Parameters:
    ///   - target: which part.
    ///   - x: what goes into it, [B, T, D].
    ///   - layer: from 0 on.
    func change(of target: GeneratedWeights.Target, for x: Tensor, layer: Int) -> Tensor?

    /// What the heads of a layer find: [B, H, T, d].
    ///
    /// - Parameters:
    ///   - queries: [B, H, T, d], turned.
    ///   - text: keys, turned, and values of the text, of what is cached in front of these tokens, too.
    ///   - mask: bool, broadcast to [B, H, T, M]; true where a token may look; nil for anywhere.
    ///   - isCausal: whether token n may look at keys 0 ... n alone.
    ///   - layer: from 0 on.
    ///   - positions: of the tokens, [T] or [B, T].
    ///   - attend: the layer's own attention from its queries to keys and values, with a mask and the causal order.
    func attended(
        queries: Tensor, text: MultiHeadAttention.Context, mask: Tensor?, isCausal: Bool, layer: Int,
        positions: Tensor, attend: (MultiHeadAttention.Context, _ mask: Tensor?, _ isCausal: Bool) -> Tensor
    ) -> Tensor
}

extension Injection {
    public func entering(_ x: Tensor, layer: Int, positions: Tensor) -> Tensor { x }

    public func change(of target: GeneratedWeights.Target, for x: Tensor, layer: Int) -> Tensor? { nil }

    public func attended(
        queries: Tensor, text: MultiHeadAttention.Context, mask: Tensor?, isCausal: Bool, layer: Int,
        positions: Tensor, attend: (MultiHeadAttention.Context, _ mask: Tensor?, _ isCausal: Bool) -> Tensor
    ) -> Tensor {
        attend(text, mask, isCausal)
    }
}
