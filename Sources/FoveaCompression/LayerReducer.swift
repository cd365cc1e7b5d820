import FoveaTensor

/// A method that takes tokens away, or merges them, between two layers of a language model or an encoder.
///
/// For each layer it says where in it it works and what it needs to know of the attention there; then it gets the tokens
/// and returns those that remain. `LayerTokens` makes them: `keeping(visual:)` for what is picked, `mixed(by:)` for what
/// is merged. The model brings masks, positions and caches in line with what is left. Only stretches with visual tokens
/// are shown to it; decoding is not. A seat behind attention serves ToMe, one before it what scores with the layer that
/// sees fewer tokens (PyramidDrop), one behind the layer the others.
public protocol LayerReducer: Sendable {
    /// Where it works in this layer, counted from 0; nil for not at all.
    func seat(inLayer layer: Int) -> LayerSeat?

    /// What the attention of this layer is to hand out. Its rows are the tokens', its columns too: keys that were cached
    /// before are left out of what `reduced` gets.
    func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap]

    /// What remains of the tokens; text and what stands for no picture stays.
    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens

    /// The tokens as they go into the first layer, with what there is to mark of them; as they are unless it says more.
    func entering(_ tokens: LayerTokens) -> LayerTokens

    /// Whether a token that stands for s patches counts s-fold in attention: log s is added to its scores. (Bolya et al.,
    /// "Token merging", 2023, §3.)
    var countsSizes: Bool { get }

    /// Whether a layer's cache is to hold, once the tokens have been read, only what came through all layers.
    func cutsCache(ofLayer layer: Int) -> Bool

    /// How many of a picture's n tokens it leaves in this layer; nil where that depends on the picture.
    func count(of n: Int, inLayer layer: Int) -> Int?

    /// What its choice and its mixtures take in this layer, for a text with one picture.
    func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost
}

extension LayerReducer {
    public func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] { [] }

    public func entering(_ tokens: LayerTokens) -> LayerTokens { tokens }

    public var countsSizes: Bool { false }

    public func cutsCache(ofLayer layer: Int) -> Bool { false }

    public func count(of n: Int, inLayer layer: Int) -> Int? { seat(inLayer: layer) == nil ? n : nil }

    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost { Cost() }
}

/// What goes into a layer of one text with one picture, by which a reducer states what it takes there.
public struct LayerShape: Sendable, Equatable {
    /// N, of the picture.
    public var visual: Int
    /// M, tokens behind the picture.
    public var question: Int
    /// T, all tokens.
    public var count: Int
    /// D.
    public var width: Int
    /// H.
    public var heads: Int
    /// G, heads of the keys.
    public var keyHeads: Int
    /// d.
    public var headWidth: Int

    /// - Parameters:
    ///   - visual: N, of the picture.
    ///   - question: M, tokens behind the picture.
    ///   - count: T, all tokens.
    ///   - width: D.
    ///   - heads: H.
    ///   - keyHeads: G.
    ///   - headWidth: d.
    public init(
        visual: Int, question: Int, count: Int, width: Int, heads: Int, keyHeads: Int, headWidth: Int
    ) {
        self.visual = visual
        self.question = question
        self.count = count
        self.width = width
        self.heads = heads
        self.keyHeads = keyHeads
        self.headWidth = headWidth
    }

    /// H · d.
    var queryWidth: Int { heads * headWidth }
    /// G · d.
    var keyWidth: Int { keyHeads * headWidth }
}

/// Where in a layer tokens are reduced.
public enum LayerSeat: Sendable {
    /// Before the layer, by the rows of its own attention to all tokens that taps name. The layer sees what remains.
    case beforeAttention
    /// Between attention and MLP.
    case afterAttention
    /// Behind the layer.
    case afterLayer
}

/// What the attention of a layer hands out to a reducer.
public struct LayerAttention: Sendable {
    /// A tensor for each tap, a column for each of the T tokens.
    public let taps: [Tensor]
    /// Of the tokens, [B, H, T, d], as attention uses them; nil before the layer, where there are only those of the taps.
    public let queries: Tensor?
    /// Of the tokens, [B, G, T, d], as attention uses them.
    public let keys: Tensor

    /// - Parameters:
    ///   - taps: a tensor for each, a column for each of the T tokens.
    ///   - queries: [B, H, T, d]; nil where there are none.
    ///   - keys: [B, G, T, d].
    public init(taps: [Tensor], queries: Tensor?, keys: Tensor) {
        self.taps = taps
        self.queries = queries
        self.keys = keys
    }
}

/// Tokens on their way through the layers of a model, and what is known of each.
public struct LayerTokens: Sendable {
    /// [B, T, D].
    public var features: Tensor
    /// Where each stood in the text, or among the tokens of the encoder, before any was taken away: float64 [B, T].
    public var positions: Tensor
    /// Which picture of its sample each belongs to, int64 [B, T]; −1 for text and what is never taken away.
    public var pictures: Tensor
    /// How many patches each stands for, float32 [B, T]; 1 for text.
    public var sizes: Tensor
    /// Which are real, bool [B, T]; nil when all are.
    public var mask: Tensor?
    /// Which count more to reducers, bool [B, T]: visual tokens that must remain (MustDrop), words that decide
    /// (SparseVLM); nil when none do.
    public var marks: Tensor?
    /// Which tokens each is made of, of those that there were at first: float32 [B, T, first]; nil unless tracked.
    public var origins: Tensor?
    /// Which of the tokens that the layer's attention saw each stands for, int64 [B, T]; nil where each is the one at its own place.
    package var rows: Tensor?

    /// - Parameters:
    ///   - features: [B, T, D].
    ///   - positions: [B, T]; unless given how many real tokens stand before each.
    ///   - pictures: int64 [B, T]; −1 unless given.
    ///   - sizes: [B, T]; 1 unless given.
    ///   - mask: bool [B, T]; all real unless given.
    ///   - marks: bool [B, T]; none marked unless given.
    ///   - origins: which tokens each is made of, [B, T, first]; not tracked unless given.
    public init(
        features: Tensor, positions: Tensor? = nil, pictures: Tensor? = nil, sizes: Tensor? = nil, mask: Tensor? = nil,
        marks: Tensor? = nil, origins: Tensor? = nil
    ) {
        guard features.rank == 3 else { trap("LayerTokens", "features [B, T, D] are needed", features) }
        let shape = Array(features.shape.prefix(2))
        for tensor in [positions, pictures, sizes, mask, marks].compactMap({ $0 }) where tensor.shape != shape {
            trap("LayerTokens", "[B, T] is needed beside the features", tensor, features)
        }
        self.features = features
        self.positions = (positions ?? LayerTokens.ranks(shape, mask)).cast(to: .float64)
        self.pictures = pictures ?? .full(shape, -1, dtype: .int64)
        self.sizes = (sizes ?? .ones([1, 1]).expanded(to: shape)).cast(to: .float32)
        self.mask = mask
        self.marks = marks
        self.origins = origins
    }

    /// B.
    public var batch: Int { features.shape[0] }
    /// T.
    public var count: Int { features.shape[1] }

    /// How many real tokens each sample has.
    public var counts: [Int] { real.map { $0.count { $0 } } }

    /// Which tokens are real, for each sample.
    public var real: [[Bool]] {
        guard let mask else { return Array(repeating: Array(repeating: true, count: count), count: batch) }
        let flags: [Bool] = mask.scalars()
        return (0..<batch).map { Array(flags[$0 * count..<($0 + 1) * count]) }
    }

    /// How many real tokens stand before each, float64 [B, T].
    public var ranks: Tensor { LayerTokens.ranks([batch, count], mask) }

    private static func ranks(_ shape: [Int], _ mask: Tensor?) -> Tensor {
        guard let mask else { return Tensor.arange(shape[1], dtype: .float64).expanded(to: shape) }
        let flags: [Bool] = mask.scalars()
        var ranks = [Double](repeating: 0, count: flags.count)
        for sample in 0..<shape[0] {
            var next = 0.0
            for place in sample * shape[1]..<(sample + 1) * shape[1] where flags[place] {
                ranks[place] = next
                next += 1
            }
        }
        return Tensor(ranks, shape: shape)
    }

    /// The places of each sample's real visual tokens, ascending.
    public var visual: [[Int]] {
        let numbers: [Int64] = pictures.scalars()
        return real.enumerated().map { sample, real in
            (0..<count).filter { real[$0] && numbers[sample * count + $0] >= 0 }
        }
    }

    /// These tokens, and others of the same samples behind them. What they are made of is not kept.
    package func followed(by next: LayerTokens) -> LayerTokens {
        func joined(_ a: Tensor, _ b: Tensor) -> Tensor { concatenated([a, b], axis: 1) }
        /// Flags where one of both has some.
        func flags(_ a: Tensor?, _ b: Tensor?, else value: Double) -> Tensor? {
            guard a != nil || b != nil else { return nil }
            return joined(
                a ?? .full([batch, count], value, dtype: .bool), b ?? .full([batch, next.count], value, dtype: .bool))
        }
        return LayerTokens(
            features: joined(features, next.features), positions: joined(positions, next.positions),
            pictures: joined(pictures, next.pictures), sizes: joined(sizes, next.sizes),
            mask: flags(mask, next.mask, else: 1), marks: flags(marks, next.marks, else: 0))
    }

    /// Some of these tokens.
    ///
    /// - Parameter indices: int64 [B, K], ascending; −1 behind the last of a sample that has fewer.
    public func keeping(_ indices: Tensor) -> LayerTokens {
        guard indices.rank == 2, indices.shape[0] == batch else {
            trap("LayerTokens", "indices [B, K] are needed", indices, features)
        }
        let places: [Int64] = indices.scalars()
        let isRagged = places.contains { $0 < 0 }
        let own = mask?.rowsOfSamples(indices)
        var kept = LayerTokens(
            features: features.rowsOfSamples(indices), positions: positions.rowsOfSamples(indices),
            pictures: pictures.rowsOfSamples(indices), sizes: sizes.rowsOfSamples(indices),
            mask: isRagged ? (own.map { $0 .& (indices .>= 0) } ?? (indices .>= 0)) : own,
            marks: marks?.rowsOfSamples(indices), origins: origins?.rowsOfSamples(indices))
        kept.rows = rows?.rowsOfSamples(indices)
        return kept
    }

    /// Some of the visual tokens, and all others.
    ///
    /// - Parameter kept: for each sample the places of the visual tokens that remain.
    public func keeping(visual kept: [[Int]]) -> LayerTokens {
        let lists = zip(zip(real, visual), kept).map { sample, kept in
            let gone = Set(sample.1).subtracting(kept)
            return (0..<count).filter { sample.0[$0] && !gone.contains($0) }
        }
        let width = lists.map(\.count).max() ?? 0
        let padded = lists.flatMap { list in
            list.map(Int64.init) + [Int64](repeating: -1, count: width - list.count)
        }
        return keeping(Tensor(padded, shape: [lists.count, width]))
    }

    /// Fewer tokens, each a mixture of these: positions become means weighted by the patches behind them, sizes add up,
    /// and a token belongs to the picture that most of it is of.
    ///
    /// - Parameters:
    ///   - weights: [B, K, T], how much of each token goes where; not negative.
    ///   - mask: which of the new tokens are real, bool [B, K]; nil when all are.
    public func mixed(by weights: Tensor, mask: Tensor? = nil) -> LayerTokens {
        guard weights.rank == 3, weights.shape[0] == batch, weights.shape[2] == count else {
            trap("LayerTokens", "weights [B, K, T] are needed", weights, features)
        }
        return withoutGradient {
            let weights = weights.cast(to: .float64)
            let sizes = self.sizes.cast(to: .float64)
            let shares = weights * sizes.unsqueezed(1)
            let smallest = Tensor([1e-12], shape: [1, 1])
            let given = maximum(weights.sum(axes: [-2], keepingAxes: true), smallest)
            let most = weights.argmax(axis: -1)
            var mixed = LayerTokens(
                features: .zeros([batch, weights.shape[1], 0]),
                positions: matmul(shares, positions.unsqueezed(-1)).squeezed(-1)
                    / maximum(shares.sum(axes: [-1]), smallest),
                pictures: pictures.gathered(axis: 1, most),
                sizes: matmul(weights / given, sizes.unsqueezed(-1)).squeezed(-1), mask: mask,
                marks: marks.map { matmul(weights, $0.cast(to: .float64).unsqueezed(-1)).squeezed(-1) .> 0 },
                origins: origins.map { matmul(weights.cast(to: $0.dtype), $0) })
            mixed.rows = rows?.gathered(axis: 1, most)
            return mixed
        }.with(features: matmul(weights.cast(to: features.dtype), features))
    }

    /// The same tokens with other features [B, T, D'].
    public func with(features: Tensor) -> LayerTokens {
        var copy = self
        copy.features = features
        return copy
    }
}

extension Tensor {
    /// Rows by index, for each sample its own: [B, N, ...] and int64 [B, K] → [B, K, ...]. Where an index is −1, any row.
    package func rowsOfSamples(_ indices: Tensor) -> Tensor {
        let (batch, count) = (shape[0], shape[1])
        let width = indices.shape[1]
        var flat: [Int64] = indices.scalars()
        guard flat.allSatisfy({ $0 < count }) else {
            trap("keeping", "indices below \(count), or −1, are needed", indices, self)
        }
        for place in flat.indices { flat[place] = Swift.max(0, flat[place]) + Int64(place / width * count) }
        let tail = Array(shape.dropFirst(2))
        return reshaped(to: [batch * count] + tail).selecting(axis: 0, Tensor(flat))
            .reshaped(to: [batch, width] + tail)
    }
}
