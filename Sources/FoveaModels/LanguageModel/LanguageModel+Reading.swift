import FoveaCompression
import FoveaNN
import FoveaTensor

extension LanguageModel {
    /// The next tokens of a text go through all layers → what comes out of the last one, for the tokens that are left.
    /// `logits` makes logits of it.
    ///
    /// One call after the other, with one cache, gives what the whole text gives in one. Samples may differ in length:
    /// what the mask leaves out, before, between or behind, is neither seen nor counted. Reducers work where there are
    /// visual tokens, and one after the other where several sit in one place. With a cache that readmits they work in every
    /// turn they are given for, and what is left then is of the whole text. (Whoever marks words before the first layer,
    /// as SparseVLM does, marks those of the first turn alone.)
    ///
    /// Traps where the text would exceed the context, for another batch than the cache's, where a reducer changes the width or
    /// the batch, and where one works behind the last layer alone.
    ///
    /// - Parameters:
    ///   - tokens: of the text; their positions count from the first of them.
    ///   - cache: what stands before them; they are added.
    ///   - injection: what takes part in the layers.
    ///   - reducers: what takes tokens away between them.
    public func reading(
        _ tokens: LayerTokens, cache: inout KeyValueCache, injection: (any Injection)? = nil,
        reducers: [any LayerReducer] = []
    ) -> LayerTokens {
        if let problem = cache.problem(with: tokens, in: options) { trap("LanguageModel", problem, tokens.features) }
        SeatedReducers.check(reducers, depth: layers.count, in: "LanguageModel")
        let seen = cache.seen.isEmpty ? Array(repeating: 0, count: tokens.batch) : cache.seen
        if cache.picturesArePrefix, cache.seen.isEmpty { cache.prefix = tokens.visual.map(\.count) }
        var tokens = tokens
        tokens.positions = tokens.positions + Tensor(seen.map(Double.init), shape: [tokens.batch, 1])
        let reducers = tokens.visual.allSatisfy(\.isEmpty) && cache.aside == nil ? [] : reducers
        tokens = reducers.reduce(tokens) { $1.entering($0) }
        var context = SequenceContext(
            of: tokens.features, positions: tokens.positions, mask: nil, isCausal: true, injection: injection,
            options: options)
        var turned: [Double] = tokens.positions.scalars()
        let countsSizes = reducers.contains(where: \.countsSizes) || cache.countsSizes
        cache.countsSizes = countsSizes
        let counts = tokens.counts

        for (index, layer) in layers.enumerated() {
            context.layer = index
            tokens = cache.readmitting(tokens, inLayer: index, reducers: reducers)
            /// Where the tokens stand and what they see, in this layer.
            func place(_ tokens: LayerTokens) -> Tensor {
                let places = cache.places(of: tokens, inLayer: index)
                let values: [Double] = places.scalars()
                if values != turned {
                    context.angles = options.angles(of: places.unsqueezed(1))
                    turned = values
                }
                context.positions = tokens.positions
                (context.mask, context.isCausal) = cache.layers[index].visibility(
                    of: tokens, countsSizes: countsSizes, picturesArePrefix: cache.picturesArePrefix)
                return places
            }
            if let injection {
                tokens.features = injection.entering(tokens.features, layer: index, positions: tokens.positions)
            }
            tokens = SeatedReducers.before(tokens, reducers: reducers, layer: index) { given, taps in
                _ = place(given)
                return layer.scoring(given.features, in: context, taps: taps, behind: cache.layers[index].context)
            }
            let places = place(tokens)
            let seated = SeatedReducers(reducers, layer: index, for: tokens)
            let (attended, attention) = layer.attending(tokens.features, in: context, taps: seated.taps) { own in
                cache.layers[index].append(own, positions: places, of: tokens)
                return cache.layers[index].context!
            }
            tokens.features = attended
            tokens = seated.reduced(tokens, at: .afterAttention, attention: attention)
            tokens.features = layer.transforming(tokens.features, in: context)
            tokens = seated.reduced(tokens, at: .afterLayer, attention: attention)
        }
        for index in layers.indices where reducers.contains(where: { $0.cutsCache(ofLayer: index) }) {
            cache.keep(tokens, readFrom: cache.aside == nil ? seen : seen.map { _ in 0 }, inLayer: index)
        }
        cache.seen = zip(seen, counts).map { $0 + $1 }
        return tokens
    }
}

extension KeyValueCache {
    /// Why these tokens cannot come next, in a few words; nil when they can.
    ///
    /// - Parameters:
    ///   - tokens: the next ones.
    ///   - more: how many are to follow behind them.
    ///   - options: of the model.
    public func problem(
        with tokens: LayerTokens, adding more: Int = 0, in options: LanguageModel.Options
    ) -> String? {
        guard seen.isEmpty || seen.count == tokens.batch else {
            return "the cache is of \(seen.count) texts, the tokens of \(tokens.batch)"
        }
        let counts = tokens.counts
        for sample in counts.indices {
            let here = (seen.isEmpty ? 0 : seen[sample]) + counts[sample]
            let length = here.addingReportingOverflow(more).overflow ? .max : here + more
            if length > options.contextLength {
                return "sample \(sample) would have \(length) tokens; the context holds \(options.contextLength)"
            }
        }
        return nil
    }
}

extension KeyValueCache.Layer {
    /// What the next tokens may see: of what the layer holds, and of themselves.
    ///
    /// - Parameters:
    ///   - tokens: the next ones.
    ///   - countsSizes: whether the logarithm of sizes is added to the scores.
    ///   - picturesArePrefix: whether visual tokens of the first stretch see one another in both directions.
    /// - Returns: a mask broadcast to [B, H, T, M + T], nil for everything; and whether the causal order holds besides.
    func visibility(
        of tokens: LayerTokens, countsSizes: Bool, picturesArePrefix: Bool
    ) -> (mask: Tensor?, isCausal: Bool) {
        let (past, next, batch) = (count, tokens.count, tokens.batch)
        var mask: Tensor?
        if self.mask != nil || tokens.mask != nil {
            let parts = [(self.mask, past), (tokens.mask, next)].map { mask, count in
                mask ?? .full([batch, count], 1, dtype: .bool)
            }
            mask = concatenated(parts, axis: 1).reshaped(to: [batch, 1, 1, past + next])
        }
        let seesBothWays = picturesArePrefix && past == 0
        if seesBothWays {
            let visual = tokens.pictures .>= 0
            let places = Tensor.arange(next, dtype: .int64)
            let order = (visual.unsqueezed(1) .& visual.unsqueezed(2)) .| (places .<= places.unsqueezed(1))
            mask = mask.map { $0 .& order.unsqueezed(1) } ?? order.unsqueezed(1)
        }
        if past > 0, next > 1 {
            let order =
                Tensor.arange(past + next, dtype: .float64)
                .<= (Tensor.arange(next, dtype: .float64).unsqueezed(1) + Double(past))
            mask = mask.map { $0 .& order } ?? order
        }
        if countsSizes {
            let all = past > 0 ? concatenated([sizes, tokens.sizes], axis: 1) : tokens.sizes
            let added = all.cast(to: tokens.features.dtype).log().reshaped(to: [batch, 1, 1, past + next])
            mask = mask.map { select($0, added, else: -.infinity) } ?? added
        }
        return (mask, past == 0 && !seesBothWays)
    }
}
