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

    /// What those of one seat leave of the tokens, one after the other: each sees of the attention what concerns the tokens that the
    /// ones before it left. Traps where batch or width change.
    func reduced(_ tokens: LayerTokens, at seat: LayerSeat, attention: LayerAttention) -> LayerTokens {
        var tokens = tokens
        let seen = attention.keys.shape[2]
        if seat == .afterAttention {
            tokens.rows =
                reducers.count < 2 ? nil : Tensor.arange(seen, dtype: .int64).expanded(to: [tokens.batch, seen])
        }
        for (reducer, range) in zip(reducers, ranges) where reducer.seat(inLayer: layer) == seat {
            let own = LayerAttention(
                taps: Array(attention.taps[range]), queries: attention.queries, keys: attention.keys)
            tokens = reducer.checked(tokens, inLayer: layer, attention: own.of(tokens.rows, asked: Array(taps[range])))
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

extension LayerAttention {
    /// Of some of the tokens that attention saw, int64 [B, T]; all of them where nil.
    fileprivate func of(_ rows: Tensor?, asked: [AttentionTap]) -> LayerAttention {
        guard let rows, rows.shape[0] > 0 else { return self }
        func taken(_ x: Tensor, _ axis: Int) -> Tensor {
            stacked((0..<x.shape[0]).map { x[$0].selecting(axis: axis, rows[$0]) }, axis: 0)
        }
        return LayerAttention(
            taps: zip(taps, asked).map { tap, asked in
                // A column for each token, and a row for each where all were asked for.
                let columns = taken(tap, -1)
                let isOfAll = asked.singleRows(batch: keys.shape[0])?.shape.last == keys.shape[2]
                return isOfAll ? taken(columns, -2) : columns
            }, queries: queries.map { taken($0, 1) }, keys: taken(keys, 1))
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
