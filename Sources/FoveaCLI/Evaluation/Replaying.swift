import Fovea

// What a reducer takes for itself: reading with it, less reading where as many tokens go and nobody decides which.

extension [any LayerReducer] {
    /// Reducers that leave as many tokens as these left when `read` was last done with what it is given, and take the first
    /// ones for it.
    func replayed(_ read: ([any LayerReducer]) throws -> Void) rethrows -> [any LayerReducer] {
        let recorders = map { RecordingReducer($0) }
        try read(recorders)
        return recorders.map { ReplayingReducer(base: $0.base, left: $0.left.withLock { $0 }) }
    }
}

/// A reducer that notes how many visual tokens of each sample it leaves in each layer.
private final class RecordingReducer: LayerReducer {
    let base: any LayerReducer
    let left = Lock<[Int: [Int]]>([:])

    init(_ base: any LayerReducer) { self.base = base }

    var countsSizes: Bool { base.countsSizes }

    func seat(inLayer layer: Int) -> LayerSeat? { base.seat(inLayer: layer) }

    func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] { base.taps(inLayer: layer, for: tokens) }

    func entering(_ tokens: LayerTokens) -> LayerTokens { base.entering(tokens) }

    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let reduced = base.reduced(tokens, inLayer: layer, attention: attention)
        left.withLock { $0[layer] = reduced.visual.map(\.count) }
        return reduced
    }

    func cutsCache(ofLayer layer: Int) -> Bool { base.cutsCache(ofLayer: layer) }
}

/// Leaves the first visual tokens of each sample, in the layers where another reducer works and as many as that left.
private struct ReplayingReducer: LayerReducer {
    let base: any LayerReducer
    /// Of each layer and sample.
    let left: [Int: [Int]]

    /// In front of a layer the layer's keys are made for whoever decides there, and again for those that are left. Who decides
    /// nothing takes tokens away behind the layer before.
    func seat(inLayer layer: Int) -> LayerSeat? {
        guard !decidesInFront(ofLayer: layer + 1) else { return .afterLayer }
        return layer > 0 && decidesInFront(ofLayer: layer) ? nil : base.seat(inLayer: layer)
    }

    private func decidesInFront(ofLayer layer: Int) -> Bool { base.seat(inLayer: layer) == .beforeAttention }

    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        guard let left = left[decidesInFront(ofLayer: layer + 1) ? layer + 1 : layer] else { return tokens }
        return tokens.keeping(visual: zip(tokens.visual, left).map { Array($0.prefix($1)) })
    }

    func cutsCache(ofLayer layer: Int) -> Bool { base.cutsCache(ofLayer: layer) }
}
