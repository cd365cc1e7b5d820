import FoveaCompression
import FoveaNN

/// What one layer takes on the way of a text with one picture, as layer and reducers state it.
public struct LayerCost: Sendable, Equatable {
    /// Tokens of the picture that its attention sees.
    public var visual: Int
    /// Tokens that it holds in its cache once the text has been read; 0 in an encoder.
    public var held = 0
    /// Of the layer itself.
    public var layer: Cost
    /// Of the reducers in it.
    public var reducers: Cost
}

/// What a layer multiplies for so many tokens.
private struct LayerParts {
    /// Of attention with its projections, and of the MLP.
    let attention, mlp: (_ tokens: Int) -> Cost
    let width, heads, keyHeads, headWidth: Int

    /// The layer, and how many tokens of the picture it leaves. Where a reducer does not know how many it leaves, all.
    ///
    /// - Parameters:
    ///   - index: the layer's, from 0 on.
    ///   - visual: tokens of the picture that go in.
    ///   - front: tokens before them.
    ///   - question: tokens behind them.
    ///   - reducers: all that there are.
    func cost(
        _ index: Int, visual: Int, front: Int, question: Int, reducers: [any LayerReducer]
    ) -> (cost: LayerCost, left: Int) {
        var (n, own) = (visual, Cost())
        func reduce(at seat: LayerSeat) {
            for reducer in reducers where reducer.seat(inLayer: index) == seat {
                own =
                    own
                    + reducer.cost(
                        LayerShape(
                            visual: n, question: question, count: front + n + question, width: width, heads: heads,
                            keyHeads: keyHeads, headWidth: headWidth), inLayer: index)
                n = reducer.count(of: n, inLayer: index) ?? n
            }
        }
        reduce(at: .beforeAttention)
        let seen = n
        let attended = attention(front + n + question)
        reduce(at: .afterAttention)
        let transformed = mlp(front + n + question)
        reduce(at: .afterLayer)
        return (LayerCost(visual: seen, layer: attended + transformed, reducers: own), n)
    }
}

extension LanguageModel {
    /// What reading a text with one picture takes in each layer. Of causal attention half is not left out.
    ///
    /// - Parameters:
    ///   - visual: tokens of the picture.
    ///   - front: tokens before it.
    ///   - question: tokens behind it.
    ///   - reducers: what takes tokens away between the layers.
    public func cost(
        ofReading visual: Int, before front: Int = 0, question: Int, reducers: [any LayerReducer] = []
    ) -> [LayerCost] {
        let (queries, keys) = (options.heads * options.headWidth, options.keyHeads * options.headWidth)
        let parts = LayerParts(
            attention: {
                .product($0, options.width, 2 * (queries + keys)) + .attention(queries: $0, keys: $0, width: queries)
            },
            mlp: { .product($0, options.width, 3 * options.hidden) }, width: options.width, heads: options.heads,
            keyHeads: options.keyHeads, headWidth: options.headWidth)
        var (costs, n): ([LayerCost], Int) = ([], visual)
        for index in layers.indices {
            var (cost, left) = parts.cost(index, visual: n, front: front, question: question, reducers: reducers)
            cost.held = front + cost.visual + question
            costs.append(cost)
            n = left
        }
        for index in layers.indices where reducers.contains(where: { $0.cutsCache(ofLayer: index) }) {
            costs[index].held = min(costs[index].held, front + n + question)
        }
        return costs
    }

    /// Bytes of keys and values of so many tokens in one layer, in the type that the model computes in.
    public func cacheBytes(of tokens: Int) -> Int {
        2 * tokens * options.keyHeads * options.headWidth * norm.weight.dtype.size
    }
}

extension Collection<TransformerBlock> {
    /// What encoding one picture takes in each of these layers, and how many of its tokens come out. Where a reducer does
    /// not know how many it leaves, all.
    ///
    /// - Parameters:
    ///   - visual: patches.
    ///   - front: tokens before them.
    ///   - reducers: what takes tokens away between the layers.
    func cost(
        ofEncoding visual: Int, behind front: Int, reducers: [any LayerReducer]
    ) -> (layers: [LayerCost], left: Int) {
        var n = visual
        let costs = enumerated().map { index, layer in
            let (width, inner) = (layer.attention.output.weight.shape[0], layer.attention.innerWidth)
            let (hidden, keyHeads) = (layer.mlp.expand.weight.shape[0], layer.attention.keyHeads)
            let headWidth = inner / layer.attention.heads
            let parts = LayerParts(
                attention: {
                    .product($0, width, 2 * (inner + keyHeads * headWidth))
                        + .attention(queries: $0, keys: $0, width: inner)
                },
                mlp: { .product($0, width, 2 * hidden) }, width: width, heads: layer.attention.heads,
                keyHeads: keyHeads, headWidth: headWidth)
            let (cost, left) = parts.cost(index, visual: n, front: front, question: 0, reducers: reducers)
            n = left
            return cost
        }
        return (costs, n)
    }
}
