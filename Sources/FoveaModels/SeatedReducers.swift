import FoveaCompression
import FoveaTensor

/// The reducers that work in one layer, with what each asked attention for.
struct SeatedReducers {
    let layer: Int
    private let reducers: [any LayerReducer]
    private var ranges: [Range<Int>] = []
    /// What attention is to hand out for all of them.
    private(set) var taps: [AttentionTap] = []

    /// Those that sit behind attention or behind the layer.
    init(_ reducers: [any LayerReducer], layer: Int, for tokens: LayerTokens) {
        self.layer = layer
        self.reducers = reducers.filter { [.afterAttention, .afterLayer].contains($0.seat(inLayer: layer)) }
        for reducer in self.reducers {
            let first = taps.count
            taps += reducer.taps(inLayer: layer, for: tokens)
            ranges.append(first..<taps.count)
        }
    }

    /// Traps where one of the reducers works behind the last of so many layers alone: it would do nothing, and look as if it
    /// cost nothing.
    static func check(_ reducers: [any LayerReducer], depth: Int, in model: String) {
        for reducer in reducers where (0..<depth).allSatisfy({ reducer.seat(inLayer: $0) == nil }) {
            guard let layer = (depth..<depth + 256).first(where: { reducer.seat(inLayer: $0) != nil }) else { continue }
            trap(model, "\(type(of: reducer)) works in layer \(layer) alone, counted from 0; there are \(depth)")
        }
    }

    /// What those of one seat leave of the tokens. Traps where batch or width change.
    func reduced(_ tokens: LayerTokens, at seat: LayerSeat, attention: LayerAttention) -> LayerTokens {
        var tokens = tokens
        for (reducer, range) in zip(reducers, ranges) where reducer.seat(inLayer: layer) == seat {
            tokens = reducer.checked(
                tokens, inLayer: layer,
                attention: LayerAttention(
                    taps: Array(attention.taps[range]), queries: attention.queries, keys: attention.keys))
        }
        return tokens
    }

    /// What those leave that sit before the layer, one after the other: each sees the attention to what the one before it
    /// left.
    ///
    /// - Parameters:
    ///   - tokens: on their way into the layer.
    ///   - reducers: all of the model.
    ///   - layer: from 0 on.
    ///   - attention: of the layer to such tokens.
    static func before(
        _ tokens: LayerTokens, reducers: [any LayerReducer], layer: Int,
        attention: (LayerTokens, [AttentionTap]) -> LayerAttention
    ) -> LayerTokens {
        reducers.filter { $0.seat(inLayer: layer) == .beforeAttention }.reduce(tokens) { tokens, reducer in
            let found = withoutGradient { attention(tokens, reducer.taps(inLayer: layer, for: tokens)) }
            return reducer.checked(tokens, inLayer: layer, attention: found)
        }
    }
}

extension LayerReducer {
    fileprivate func checked(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let reduced = reduced(tokens, inLayer: layer, attention: attention)
        guard reduced.batch == tokens.batch, reduced.features.shape[2] == tokens.features.shape[2] else {
            trap("LayerReducer", "a reducer keeps batch and width", reduced.features, tokens.features)
        }
        return reduced
    }
}
