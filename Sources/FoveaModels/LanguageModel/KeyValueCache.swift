import FoveaCompression
import FoveaNN
import FoveaTensor

/// Which positions the tokens have that are left once some were taken away.
public enum PositionPolicy: String, Sendable, CaseIterable {
    /// 0, 1, 2, … in each layer: a token's position is how many the layer holds before it.
    case compact
    /// What they had in the whole text.
    case original
}

/// What later turns see of the visual tokens that were taken away in earlier ones.
public enum TurnPolicy: String, Sendable, CaseIterable {
    /// Nothing: what the first question kept is what there is.
    case frozen
    /// What their own question keeps: all tokens are kept aside in front of the first layer that takes some away, and are
    /// read again from there on. A turn with reducers gives what the whole text gives in one call.
    case readmit
}

/// What a language model keeps of a text while it goes on: for each layer the keys and values of the tokens that the
/// layer saw.
///
/// Layers may hold different numbers of tokens, and samples too: what a reducer took away before a layer, the layer does
/// not hold. Shorter samples are padded, behind or in between, and the padding is masked. A value: a copy is a fork of
/// the text, as beams need it.
public struct KeyValueCache: Sendable {
    /// What one layer holds.
    public struct Layer: Sendable {
        /// Keys, turned, and values, [B, G, M, d] each; nil while there is nothing.
        public internal(set) var context: MultiHeadAttention.Context?
        /// The positions that the keys are turned by, float64 [B, M].
        public internal(set) var positions = Tensor.zeros([0, 0], dtype: .float64)
        /// Where the tokens stood in the whole text, float64 [B, M].
        public internal(set) var places = Tensor.zeros([0, 0], dtype: .float64)
        /// How many patches each token stands for, float32 [B, M].
        public internal(set) var sizes = Tensor.zeros([0, 0])
        /// Which tokens are real, bool [B, M]; nil when all are.
        public internal(set) var mask: Tensor?

        /// M, padding included.
        public var count: Int { context?.keys.shape[2] ?? 0 }

        /// How many real tokens each sample has.
        public func counts(batch: Int) -> [Int] {
            guard let mask else { return Array(repeating: count, count: batch) }
            let flags: [Bool] = mask.scalars()
            return (0..<batch).map { flags[$0 * count..<($0 + 1) * count].count { $0 } }
        }
    }

    public internal(set) var layers: [Layer]
    /// How many real tokens each sample's text has had so far, those included that were taken away; empty while the text
    /// has not begun.
    public internal(set) var seen: [Int] = []
    public let policy: PositionPolicy
    /// Whether pictures are a prefix: their tokens stand in front of the text, all at position 0, and see one another in both
    /// directions; the text counts from 0 without them. So packed questions have it.
    public let picturesArePrefix: Bool
    /// What later turns see of the visual tokens that were taken away.
    public let turns: TurnPolicy
    /// Under `.readmit` all tokens so far as they go into the first layer that takes some away, and which layer that is.
    var aside: (layer: Int, tokens: LayerTokens)?
    /// How many visual tokens stood in front of each text; empty while it has not begun, and where pictures are no prefix.
    var prefix: [Int] = []
    /// Whether a reducer had sizes counted in attention: from then on they are.
    var countsSizes = false
    /// How fast the rotary angles grow.
    private let rotary: RotaryFrequencies

    /// The cache of a text that has not begun.
    ///
    /// - Parameters:
    ///   - model: whose text it is.
    ///   - policy: which positions tokens have once some were taken away; none does where pictures are a prefix.
    ///   - picturesArePrefix: whether the visual tokens of the first stretch see one another and stand at position 0.
    ///   - turns: what later turns see of the visual tokens that were taken away.
    public init(
        for model: LanguageModel, policy: PositionPolicy = .compact, picturesArePrefix: Bool = false,
        turns: TurnPolicy = .frozen
    ) {
        self.turns = turns
        layers = Array(repeating: Layer(), count: model.layers.count)
        self.policy = policy
        self.picturesArePrefix = picturesArePrefix
        rotary = model.options.rotary
    }

    /// Takes tokens out of a layer for good, as methods do that know only at the end which ones mattered (MustDrop).
    /// Under `.compact` the keys that remain are turned to their new positions.
    ///
    /// - Parameters:
    ///   - indices: int64 [B, K], ascending, of the M tokens that the layer holds; −1 behind the last of a sample that has
    ///     fewer.
    ///   - layer: from 0 on.
    public mutating func keep(_ indices: Tensor, inLayer layer: Int) {
        guard let context = layers[layer].context, indices.rank == 2, indices.shape[0] == context.keys.shape[0] else {
            trap("KeyValueCache", "indices [B, K] of the tokens of a layer are needed", indices)
        }
        func kept(_ x: Tensor) -> Tensor { x.transposed(1, 2).rowsOfSamples(indices).transposed(1, 2) }
        let real = indices .>= 0
        var held = layers[layer]
        held.mask = held.mask.map { $0.rowsOfSamples(indices) .& real } ?? real
        let old = held.positions.rowsOfSamples(indices)
        held.sizes = held.sizes.rowsOfSamples(indices)
        held.places = held.places.rowsOfSamples(indices)
        var keys = kept(context.keys)
        if policy == .compact, !picturesArePrefix {
            // Rotations add up: turning by the difference of two positions leads from one to the other.
            held.positions = LayerTokens(features: .zeros(indices.shape + [0]), mask: held.mask).ranks
            let angles = RotaryAngles(
                positions: (held.positions - old).unsqueezed(1), width: keys.shape[3], frequencies: rotary)
            keys = keys.rotaryEmbedded(angles)
        } else {
            held.positions = old
        }
        held.context = .init(keys: keys, values: kept(context.values))
        layers[layer] = held
    }

    /// The positions by which the next tokens are turned in a layer, float64 [B, T].
    ///
    /// - Parameters:
    ///   - tokens: the next ones; their positions count from the beginning of the text.
    ///   - layer: from 0 on.
    func places(of tokens: LayerTokens, inLayer layer: Int) -> Tensor {
        func column(_ counts: [Int]) -> Tensor { Tensor(counts.map(Double.init), shape: [tokens.batch, 1]) }
        if picturesArePrefix { return select(tokens.pictures .>= 0, 0, else: tokens.positions - column(prefix)) }
        return policy == .original
            ? tokens.positions : tokens.ranks + column(layers[layer].counts(batch: tokens.batch))
    }

    /// Takes out of a layer what did not come through all layers.
    ///
    /// - Parameters:
    ///   - left: what came out of the last layer of the tokens that were read last.
    ///   - starts: where these began in each sample's text; what stands before remains.
    ///   - layer: from 0 on.
    mutating func keep(_ left: LayerTokens, readFrom starts: [Int], inLayer layer: Int) {
        let held = layers[layer]
        let (width, places): (Int, [Double]) = (held.count, held.places.scalars())
        let isReal = held.mask?.scalars(as: Bool.self) ?? [Bool](repeating: true, count: places.count)
        let (survivors, real): ([Double], [[Bool]]) = (left.positions.scalars(), left.real)
        let lists = starts.enumerated().map { sample, start in
            let own = Set(real[sample].indices.filter { real[sample][$0] }.map { survivors[sample * left.count + $0] })
            return (0..<width).filter {
                let entry = sample * width + $0
                return isReal[entry] && (places[entry] < Double(start) || own.contains(places[entry]))
            }
        }
        let most = lists.map(\.count).max() ?? 0
        guard most < width || lists.contains(where: { $0.count < most }) else { return }
        keep(
            Tensor(
                lists.flatMap { list in
                    list.map(Int64.init) + [Int64](repeating: -1, count: most - list.count)
                }, shape: [lists.count, most]),
            inLayer: layer)
    }

    /// Adds tokens to those that are kept aside; where reducers decide anew, the layers from here on start anew too.
    ///
    /// - Parameters:
    ///   - tokens: on their way into a layer.
    ///   - layer: from 0 on.
    ///   - reducers: what takes tokens away in this call.
    /// - Returns: what the layer is to read: all that is kept aside where reducers decide anew.
    mutating func readmitting(
        _ tokens: LayerTokens, inLayer layer: Int, reducers: [any LayerReducer]
    ) -> LayerTokens {
        guard turns == .readmit else { return tokens }
        let isFirst = aside == nil && reducers.contains { $0.seat(inLayer: layer) != nil }
        guard isFirst || aside?.layer == layer else { return tokens }
        let all = aside?.tokens.followed(by: tokens) ?? tokens
        aside = (layer, all)
        guard !reducers.isEmpty else { return tokens }
        for index in layer..<layers.count { layers[index] = Layer() }
        return all
    }

    /// Bytes that keys and values take.
    public var byteCount: Int {
        layers.reduce(0) { sum, layer in
            guard let context = layer.context else { return sum }
            return sum + (context.keys.count + context.values.count) * context.keys.dtype.size
        }
    }
}

extension KeyValueCache.Layer {
    /// The same with the next tokens behind.
    ///
    /// - Parameters:
    ///   - next: their keys and values.
    ///   - positions: those that the keys are turned by, [B, T].
    ///   - tokens: what else is known of them.
    mutating func append(_ next: MultiHeadAttention.Context, positions: Tensor, of tokens: LayerTokens) {
        guard let context else {
            (self.context, self.positions, sizes, mask) = (next, positions, tokens.sizes, tokens.mask)
            places = tokens.positions
            return
        }
        if mask != nil || tokens.mask != nil {
            let real = { (shape: [Int]) in Tensor.full(shape, 1, dtype: .bool) }
            mask = concatenated(
                [mask ?? real([tokens.batch, count]), tokens.mask ?? real([tokens.batch, tokens.count])], axis: 1)
        }
        self.positions = concatenated([self.positions, positions], axis: 1)
        sizes = concatenated([sizes, tokens.sizes], axis: 1)
        places = concatenated([places, tokens.positions], axis: 1)
        self.context = context.followed(by: next)
    }
}
