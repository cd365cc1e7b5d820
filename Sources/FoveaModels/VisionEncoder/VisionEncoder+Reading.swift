import FoveaCompression
import FoveaNN
import FoveaTensor

extension VisionEncoder {
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

    /// Pictures → what a compressor gets of them: the patches' tokens as they come out of a layer, without the class
    /// token; those that are left where reducers work on the way.
    ///
    /// Traps where `problem` says why.
    ///
    /// - Parameters:
    ///   - pictures: [B, channels, height, width].
    ///   - count: how many layers to go through; all but the last unless given, as vision-language models have it. Behind
    ///     all layers SigLIP norms the tokens.
    ///   - reducers: what takes tokens away between the layers. The class token stands for no picture and stays.
    ///   - tracked: whether to keep track of which patches go where.
    public func visualTokens(
        _ pictures: Tensor, through count: Int? = nil, reducers: [any LayerReducer] = [], tracked: Bool = false
    ) -> VisualTokens {
        if let problem = problem(with: pictures) { trap("VisionEncoder", problem, pictures) }
        let count = count ?? max(0, layers.count - 1)
        guard (0...layers.count).contains(count) else {
            trap("VisionEncoder", "\(count) layers are not among the \(layers.count)", pictures)
        }
        let patch = patches.patchSize
        let grid = VisualTokens.Grid(rows: pictures.shape[2] / patch, columns: pictures.shape[3] / patch)
        let embedded = patches(pictures)
        let (batch, length) = (embedded.shape[0], embedded.shape[1])
        let front = length - grid.count
        let isReduced = reducers.contains { reducer in (0..<count).contains { reducer.seat(inLayer: $0) != nil } }
        var tokens = LayerTokens(
            features: preNorm?(embedded) ?? embedded,
            pictures: Tensor((0..<length).map { $0 < front ? -1 : Int64(0) }).unsqueezed(0)
                .expanded(to: [batch, length]),
            origins: isReduced ? VisualTokens.Provenance.identity(batch: batch, patches: length).weights : nil)
        let countsSizes = reducers.contains(where: \.countsSizes)
        for (index, layer) in layers.prefix(count).enumerated() {
            tokens = layer.reading(tokens, layer: index, reducers: reducers, countsSizes: countsSizes)
        }
        if options.family == .siglip, count == layers.count { tokens.features = postNorm(tokens.features) }
        let features = tokens.features.sliced(axis: 1, front..<tokens.count)
        var seen = VisualTokens(
            patches: .zeros([batch, grid.count, 0], dtype: features.dtype), grid: grid, tracked: tracked)
        guard let origins = tokens.origins else { return seen.with(features: features) }
        // Of its place and size each token knows by what it is made of.
        seen = seen.mixed(
            features: features,
            by: origins.sliced(axis: 1, front..<tokens.count).sliced(axis: 2, front..<length).contiguous())
        if let mask = tokens.mask {
            let real = mask.sliced(axis: 1, front..<tokens.count).contiguous()
            seen.mask = real
            seen.sizes = select(real, seen.sizes, else: 0)
        }
        return seen
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
    func reading(
        _ tokens: LayerTokens, layer index: Int, reducers: [any LayerReducer], countsSizes: Bool
    ) -> LayerTokens {
        func attended(_ tokens: LayerTokens, _ taps: [AttentionTap]) -> (output: Tensor, attention: LayerAttention) {
            var mask = tokens.mask.map { $0.reshaped(to: [tokens.batch, 1, 1, tokens.count]) }
            if countsSizes {
                let added = tokens.sizes.cast(to: tokens.features.dtype).log()
                    .reshaped(to: [tokens.batch, 1, 1, tokens.count])
                mask = mask.map { select($0, added, else: -.infinity) } ?? added
            }
            let normed = attentionNorm(tokens.features)
            let context = self.attention.projected(normed)
            let (output, tapped) = self.attention(normed, to: context, mask: mask, taps: taps)
            return (output, LayerAttention(taps: tapped, keys: context.keys))
        }
        var tokens = SeatedReducers.before(tokens, reducers: reducers, layer: index) { attended($0, $1).attention }
        let seated = SeatedReducers(reducers, layer: index, for: tokens)
        let (output, attention) = attended(tokens, seated.taps)
        tokens.features = tokens.features + attentionDropout(output)
        tokens = seated.reduced(tokens, at: .afterAttention, attention: attention)
        tokens.features = tokens.features + mlpDropout(mlp(mlpNorm(tokens.features)))
        return seated.reduced(tokens, at: .afterLayer, attention: attention)
    }
}
