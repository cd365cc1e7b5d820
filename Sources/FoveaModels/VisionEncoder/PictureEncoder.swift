import FoveaCompression
import FoveaNN
import FoveaTensor

/// What looks at the pictures of a vision-language model: pictures in, a token for each patch out.
public protocol PictureEncoder: Module {
    /// The shape of the tokens of a picture of the size that the encoder was made for.
    var tokenShape: TokenShape { get }

    /// The layers that the tokens go through.
    var blocks: [TransformerBlock] { get }

    /// How many tokens, such as a class token, stand in front of the patches in these layers.
    var tokensInFront: Int { get }

    /// What making the patches of one picture takes, before the layers.
    var frontCost: Cost { get }

    /// Why these pictures cannot be seen, in a few words; nil when they can.
    func problem(with pictures: Tensor) -> String?

    /// Pictures → the patches' tokens, as a compressor takes them; those that are left where reducers work on the way.
    ///
    /// Traps where `problem` says why.
    ///
    /// - Parameters:
    ///   - pictures: [B, channels, height, width].
    ///   - reducers: what takes tokens away between the layers.
    ///   - tracked: whether to keep track of which patches go where.
    ///   - signals: whether to hand out what the attention of the last of the layers says of the tokens.
    func visualTokens(
        _ pictures: Tensor, reducers: [any LayerReducer], tracked: Bool, signals: Bool
    ) -> VisualTokens
}

extension PictureEncoder {
    /// The same without signals unless asked for, and without reducers unless given.
    public func visualTokens(
        _ pictures: Tensor, reducers: [any LayerReducer] = [], tracked: Bool = false
    ) -> VisualTokens {
        visualTokens(pictures, reducers: reducers, tracked: tracked, signals: false)
    }
}

extension Collection<TransformerBlock> {
    /// Embedded patches [B, F + N, C] through these layers → the patches' tokens. The F tokens in front, such as a class
    /// token, stand for no picture: they stay while others are taken away, and are left out in the end.
    ///
    /// - Parameters:
    ///   - embedded: what goes into the first layer.
    ///   - grid: the raster of the N patches.
    ///   - reducers: what takes tokens away between the layers.
    ///   - tracked: whether to keep track of which patches go where.
    ///   - signals: whether to hand out what the attention of the last layer says of the tokens.
    ///   - norm: of what comes out.
    func visualTokens(
        of embedded: Tensor, grid: VisualTokens.Grid, reducers: [any LayerReducer], tracked: Bool, signals: Bool,
        norm: (Tensor) -> Tensor
    ) -> VisualTokens {
        let (batch, length) = (embedded.shape[0], embedded.shape[1])
        let front = length - grid.count
        /// Without the tokens in front, along an axis.
        func patches(_ x: Tensor, _ axis: Int) -> Tensor {
            front == 0 ? x : x.sliced(axis: axis, front..<x.shape[axis])
        }
        guard reducers.contains(where: { reducer in (0..<count).contains { reducer.seat(inLayer: $0) != nil } }) else {
            var x = embedded
            var found: (taps: [Tensor], keys: Tensor)?
            for (index, layer) in enumerated() {
                let isAsked = signals && index == count - 1
                let (output, taps, keys) = layer(x, taps: isAsked && front > 0 ? [.rows([0], heads: .each)] : [])
                x = output
                if isAsked { found = (taps, keys) }
            }
            var tokens = VisualTokens(patches: patches(norm(x), 1), grid: grid, tracked: tracked)
            tokens.signals = found.map { found in
                withoutGradient {
                    EncoderSignals(
                        classAttention: found.taps.first.map { patches($0.squeezed(2), 2).contiguous() },
                        keys: patches(found.keys.detached.mean(axes: [1]), 1).contiguous())
                }
            }
            return tokens
        }
        var tokens = LayerTokens(
            features: embedded,
            pictures: Tensor((0..<length).map { $0 < front ? -1 : Int64(0) }).unsqueezed(0)
                .expanded(to: [batch, length]),
            origins: VisualTokens.Provenance.identity(batch: batch, patches: length).weights)
        let countsSizes = reducers.contains(where: \.countsSizes)
        var found: EncoderSignals?
        for (index, layer) in enumerated() {
            let isAsked = signals && index == count - 1
            let read = layer.reading(
                tokens, layer: index, reducers: reducers, countsSizes: countsSizes,
                more: isAsked && front > 0 ? [.rows([0], heads: .each)] : [])
            // Of the tokens that the last layer saw; whoever takes some away behind its attention asks for others. Not by how many are
            // left: that may differ from picture to picture.
            if isAsked, !reducers.contains(where: { $0.seat(inLayer: index).map { $0 != .beforeAttention } ?? false }) {
                found = withoutGradient {
                    EncoderSignals(
                        classAttention: read.more.first.map { patches($0.squeezed(2), 2).contiguous() },
                        keys: patches(read.keys.detached.mean(axes: [1]), 1).contiguous())
                }
            }
            tokens = read.tokens
        }
        let features = patches(norm(tokens.features), 1)
        // Of its place and size each token knows by what it is made of.
        var seen = VisualTokens(
            patches: .zeros([batch, grid.count, 0], dtype: features.dtype), grid: grid, tracked: tracked
        ).mixed(features: features, by: patches(patches(tokens.origins!, 1), 2).contiguous())
        if let mask = tokens.mask {
            let real = patches(mask, 1).contiguous()
            seen.mask = real
            seen.sizes = select(real, seen.sizes, else: 0)
        }
        seen.signals = found
        return seen
    }
}
