import FoveaCompression
import FoveaNN
import FoveaTensor

extension VisionEncoder: PictureEncoder {
    /// Why these pictures cannot be seen, in a few words; nil when they can. Any height and width from one patch on will do:
    /// positions are interpolated, and pixels at the right and bottom edge that fill no patch are left out.
    public func problem(with pictures: Tensor) -> String? {
        let patch = patches.patchSize
        guard pictures.rank == 4, pictures.shape[1] == options.channels else {
            return "pictures \(pictures.shape) are not [B, \(options.channels), height, width]"
        }
        guard pictures.shape[2] >= patch, pictures.shape[3] >= patch else {
            return "pictures of \(pictures.shape[2]) × \(pictures.shape[3]) pixels hold no patch of \(patch) × \(patch)"
        }
        return nil
    }

    /// Pictures → what a compressor gets of them: the patches' tokens as they come out of layer `visualLayers`, without the
    /// class token; those that are left where reducers work on the way. Behind all layers SigLIP norms them.
    ///
    /// Traps where `problem` says why.
    ///
    /// - Parameters:
    ///   - pictures: [B, channels, height, width].
    ///   - reducers: what takes tokens away between the layers. The class token stands for no picture and stays.
    ///   - tracked: whether to keep track of which patches go where.
    ///   - signals: whether to hand out the class token's attention, where there is one, and the keys of the last of the
    ///     layers; nothing where tokens are taken away behind that layer's attention.
    public func visualTokens(
        _ pictures: Tensor, reducers: [any LayerReducer], tracked: Bool, signals: Bool
    ) -> VisualTokens {
        if let problem = problem(with: pictures) { trap("VisionEncoder", problem, pictures) }
        guard (0...layers.count).contains(visualLayers) else {
            trap("VisionEncoder", "\(visualLayers) layers are not among the \(layers.count)", pictures)
        }
        let patch = patches.patchSize
        let embedded = patches(pictures)
        let isNormed = options.family == .siglip && visualLayers == layers.count
        return layers.prefix(visualLayers).visualTokens(
            of: preNorm?(embedded) ?? embedded,
            grid: .init(rows: pictures.shape[2] / patch, columns: pictures.shape[3] / patch), reducers: reducers,
            tracked: tracked, signals: signals, norm: { isNormed ? postNorm($0) : $0 })
    }

    public var blocks: [TransformerBlock] { Array(layers.prefix(visualLayers)) }

    public var tokensInFront: Int { options.family == .clip ? 1 : 0 }

    public var frontCost: Cost {
        .product(tokenShape.count, options.channels * options.patchSize * options.patchSize, options.width)
    }

    public var tokenShape: TokenShape {
        let side = options.imageSize / options.patchSize
        return TokenShape(grid: .init(rows: side, columns: side), width: options.width)
    }
}

extension TransformerBlock {
    /// Tokens through one layer of an encoder, with what reducers do in it.
    ///
    /// - Parameters:
    ///   - tokens: on their way into the layer.
    ///   - index: the layer's, from 0 on.
    ///   - reducers: all of the encoder.
    ///   - countsSizes: whether the logarithm of sizes is added to the scores of attention.
    ///   - more: what attention is to hand out besides.
    /// - Returns: what is left; and of the tokens that attention saw what it handed out besides, and their keys.
    func reading(
        _ tokens: LayerTokens, layer index: Int, reducers: [any LayerReducer], countsSizes: Bool,
        more: [AttentionTap] = []
    ) -> (tokens: LayerTokens, more: [Tensor], keys: Tensor) {
        func attended(_ tokens: LayerTokens, _ taps: [AttentionTap]) -> (output: Tensor, attention: LayerAttention) {
            var mask = tokens.mask.map { $0.reshaped(to: [tokens.batch, 1, 1, tokens.count]) }
            if countsSizes {
                let added = tokens.sizes.cast(to: tokens.features.dtype).log()
                    .reshaped(to: [tokens.batch, 1, 1, tokens.count])
                mask = mask.map { select($0, added, else: -.infinity) } ?? added
            }
            let normed = attentionNorm(tokens.features)
            let (queries, context) = (self.attention.queries(normed), self.attention.projected(normed))
            let (output, tapped) = self.attention(queries: queries, to: context, mask: mask, taps: taps)
            return (output, LayerAttention(taps: tapped, queries: queries, keys: context.keys))
        }
        var tokens = SeatedReducers.before(tokens, reducers: reducers, layer: index) { attended($0, $1).attention }
        let seated = SeatedReducers(reducers, layer: index, for: tokens)
        let (output, all) = attended(tokens, seated.taps + more)
        let attention = LayerAttention(
            taps: Array(all.taps.prefix(seated.taps.count)), queries: all.queries, keys: all.keys)
        tokens.features = tokens.features + attentionDropout(output)
        tokens = seated.reduced(tokens, at: .afterAttention, attention: attention)
        tokens.features = tokens.features + mlpDropout(mlp(mlpNorm(tokens.features)))
        tokens = seated.reduced(tokens, at: .afterLayer, attention: attention)
        return (tokens, Array(all.taps.dropFirst(seated.taps.count)), all.keys)
    }
}
