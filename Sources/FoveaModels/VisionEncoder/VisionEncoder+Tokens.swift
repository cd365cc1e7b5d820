import FoveaCompression
import FoveaNN
import FoveaTensor

extension VisionEncoder {
    /// Pictures [B, channels, height, width] as what a compressor takes: the patches that come out of a layer, and what that
    /// layer's attention says of them. Without the class token; where there is none, its attention is missing.
    ///
    /// - Parameters:
    ///   - pictures: [B, channels, height, width].
    ///   - layer: which layer's result, counted from 0; the one before the last unless given, as LLaVA has it, or the
    ///     only one.
    ///   - tracked: whether to keep track of which patches go where.
    public func visualTokens(_ pictures: Tensor, layer: Int? = nil, tracked: Bool = false) -> VisualTokens {
        let layer = layer ?? max(0, layers.count - 2)
        guard layers.indices.contains(layer) else {
            trap("VisionEncoder", "layer \(layer) is not among the \(layers.count)", pictures)
        }
        let isBehindClass = options.family == .clip
        let states = hiddenStates(pictures, through: layer)
        let (features, taps, keys) = layers[layer](
            states[layer], taps: isBehindClass ? [.rows([0], heads: .each)] : [])
        /// Without the class token, along an axis.
        func patches(_ x: Tensor, _ axis: Int) -> Tensor {
            isBehindClass ? x.sliced(axis: axis, 1..<x.shape[axis]) : x
        }
        var tokens = VisualTokens(
            patches: patches(features, 1),
            grid: .init(
                rows: pictures.shape[2] / options.patchSize, columns: pictures.shape[3] / options.patchSize),
            tracked: tracked)
        tokens.signals = withoutGradient {
            EncoderSignals(
                classAttention: taps.first.map { patches($0.squeezed(2), 2).contiguous() },
                keys: patches(keys.detached.mean(axes: [1]), 1).contiguous())
        }
        return tokens
    }
}
