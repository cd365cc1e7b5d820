import FoveaNN
import FoveaTensor

// MustDrop's stages beside the merging: key patches, filtering by two kinds of attention, and the cut of the cache.
// (Liu et al., "Multi-stage vision token dropping", 2024; `clip_encoder.py` and `modelling_sparse_llama.py` of
// liuting20/MustDrop.)

/// The patches that must not be dropped: the ⌈fraction · N⌉ that the class token attends to most in the encoder's last
/// layer. As a compressor it keeps all tokens and marks these.
public struct MustDropKeys: TokenReducer {
    /// Which share of the tokens.
    public let fraction: Double

    public init(fraction: Double = 0.08) {
        guard (0...1).contains(fraction) else {
            trap("MustDropKeys", "a share from 0 to 1, not \(fraction), is needed")
        }
        self.fraction = fraction
    }

    /// One sample → its key tokens, ascending.
    ///
    /// - Parameters:
    ///   - attention: of the class token, [H, N].
    ///   - valid: which of the N tokens there are.
    public func keys(attention: Tensor, valid: [Int]) -> [Int] {
        guard !valid.isEmpty else { return [] }
        let scores = withoutGradient { attention.mean(axes: [0]) }.doubles
        // A product that is whole but for rounding is meant to be whole.
        let wanted = Int((fraction * Double(valid.count) - 1e-9).rounded(.up))
        return Ranking.top(valid.map { scores[$0] }, min(max(wanted, 1), valid.count)).map { valid[$0] }
    }

    // Between encoder and decoder.

    public var importance: ImportanceSource? { .available }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        TokenReduction(keeping: Array(0..<sample.count))
    }

    public func count(of n: Int) -> Int? { n }

    /// All tokens, the key ones marked for what follows.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        let keys = withoutGradient {
            tokens.samples.map { sample, real in
                self.keys(attention: sample.importance(.available), valid: Array(0..<sample.count)).map { real[$0] }
            }
        }
        var marked = tokens
        marked.marks = .flags(keys, tokens.count)
        return marked
    }

    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "mustdrop-keys", "the patches that must not be dropped",
        forms: [
            PublishedForm(
                WeightLayout<MustDropKeys>("reference", []),
                keys: [.share("fraction", "the share of tokens that are key", default: 0.08)],
                inputs: [.init("cls_attention", "[B, H, N]"), .init("mask", "[B, N]", .mask)],
                outputs: [.init("keys", "[B, K]", .indices), .init("key_mask", "[B, N]", .mask)],
                sample: ["fraction": 0.3],
                sampleInputs: {
                    [
                        "cls_attention": $0.uniform([2, 2, 8], 0...0.3),
                        "mask": .full([2, 8], 1, dtype: .bool),
                    ]
                },
                make: { MustDropKeys(fraction: $0.double("fraction")) },
                run: { method, inputs in
                    let n = inputs["mask"].shape[1]
                    let keys = zip(inputs["cls_attention"].members, inputs["mask"].memberFlags).map {
                        attention, flags in
                        method.keys(attention: attention, valid: flags.indices.filter { flags[$0] })
                    }
                    return ["keys": .paddedIndices(keys), "key_mask": .flags(keys, n)]
                })
        ])
}

/// Drops a visual token that neither the text as a whole nor any single word of it attends to, unless it is key.
///
///     G_j = Σ_t Ā[t, j],  I_j = max_t Ā[t, j];    dropped where G_j < α Σ G  and  I_j < β
///
/// Published: α and β of 0.001 and 0.001 for 192 tokens on average, 0.0012 and 0.001 for 128, 0.011 and 0.01 for 64, at
/// layers 2, 6, 10 and 14. A target count ranks by max(G_j / (α Σ G), I_j / β) instead and meets the number.
public struct MustDropFilter: Module, AttentionCut {
    /// α.
    public let alpha: Double
    /// β.
    public let beta: Double
    /// How many tokens remain; nil to go by the thresholds. More key tokens than that all remain.
    public let targetCount: Int?
    /// In a decoder, the first layer that sees fewer.
    public let layer: Int

    /// - Parameters:
    ///   - alpha: α.
    ///   - beta: β.
    ///   - targetCount: how many tokens remain; nil to go by the thresholds.
    ///   - layer: in a decoder, the first layer that sees fewer, from 1 on; published are 3, 7, 11 and 15.
    public init(alpha: Double, beta: Double, targetCount: Int? = nil, layer: Int = 3) {
        guard layer >= 1 else { trap("MustDropFilter", "a layer from 1 on is needed, not \(layer)") }
        guard targetCount == nil || (alpha > 0 && beta > 0) else {
            trap("MustDropFilter", "a target count needs thresholds above 0, not \(alpha) and \(beta)")
        }
        self.alpha = alpha
        self.beta = beta
        self.targetCount = targetCount
        self.layer = layer
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample → the tokens that remain, ascending.
    ///
    /// - Parameters:
    ///   - attention: of the text's queries to the visual tokens, [H, M, N].
    ///   - isKey: which of the N tokens are key.
    public func kept(attention: Tensor, isKey: [Bool]) -> [Int] {
        let n = attention.shape[2]
        guard attention.shape[1] > 0 else { return Array(0..<n) }
        let (sums, peaks) = withoutGradient { () -> ([Double], [Double]) in
            let mean = attention.detached.mean(axes: [0])
            return (mean.sum(axes: [0]).doubles, mean.max(axes: [0]).doubles)
        }
        let total = sums.reduce(0, +)
        guard let targetCount else {
            return (0..<n).filter { isKey[$0] || !(sums[$0] < alpha * total && peaks[$0] < beta) }
        }
        let keys = (0..<n).filter { isKey[$0] }
        let others = (0..<n).filter { !isKey[$0] }
        let ranks = others.map { max(sums[$0] / (alpha * total), peaks[$0] / beta) }
        let wanted = max(0, min(max(targetCount, 1), n) - keys.count)
        return (keys + Ranking.top(ranks, wanted).map { others[$0] }).sorted()
    }

    // The seat in a decoder: marked tokens are key.

    public func rows(of tokens: LayerTokens) -> [[Int]] { tokens.question }

    public func reduction(_ x: Tensor, attention: Tensor, isMarked: [Bool]) -> TokenReduction {
        TokenReduction(keeping: kept(attention: attention, isKey: isMarked))
    }

    public func count(of n: Int) -> Int? { targetCount.map { min($0, n) } }

    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "mustdrop-filter", "drops visual tokens that neither the text nor a word of it attends to",
        forms: [
            PublishedForm(
                WeightLayout<MustDropFilter>("reference", []),
                keys: [
                    .number("alpha", "threshold of the share of all attention"),
                    .number("beta", "threshold of a single word's attention"),
                    .size("target_count", "how many tokens remain, or null for the thresholds", default: .null),
                ],
                inputs: [.init("attention", "[B, H, M, N]"), .init("key_mask", "[B, N]", .mask)],
                outputs: [.init("keep", "[B, N]", .mask)], sample: ["alpha": 0.1, "beta": 0.1],
                sampleInputs: {
                    [
                        "attention": $0.uniform([2, 2, 3, 8], 0...0.3),
                        "key_mask": ($0.uniform([2, 8]) .> 1.2),
                    ]
                },
                make: {
                    let (alpha, beta) = ($0.double("alpha"), $0.double("beta"))
                    let target = $0.optionalInt("target_count")
                    guard target == nil || (alpha > 0 && beta > 0) else {
                        throw $0.error("\"target_count\" needs \"alpha\" and \"beta\" above 0")
                    }
                    return MustDropFilter(alpha: alpha, beta: beta, targetCount: target)
                },
                run: { method, inputs in
                    let kept = zip(inputs["attention"].members, inputs["key_mask"].memberFlags).map {
                        method.kept(attention: $0, isKey: $1)
                    }
                    return ["keep": .flags(kept, inputs["key_mask"].shape[1])]
                })
        ])
}

/// MustDrop's output-aware cache: once a text with pictures has been read, the layers from one on hold of its visual tokens
/// those alone that came through all layers. `MustDropCache` says which these are for a text with one picture.
public struct OutputAwareCache: LayerReducer {
    /// The first layer whose cache is cut: published is the first that tokens are dropped behind.
    public let first: Int

    public init(from first: Int) { self.first = first }

    public func seat(inLayer layer: Int) -> LayerSeat? { nil }

    public func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens { tokens }

    public func cutsCache(ofLayer layer: Int) -> Bool { layer >= first }
}

/// Which entries of each layer's cache remain once prefill is over: of the visual tokens those that survived the last cut.
///
/// Layer l saw the tokens of stage s = #{cut layers < l}; in front of the first cut it keeps all entries.
public struct MustDropCache: Module {
    /// How many layers the decoder has.
    public let layers: Int
    /// The layers behind which tokens are cut, ascending, counted from 0.
    public let cutLayers: [Int]
    /// How many tokens stand before the picture, in it, and behind it.
    public let tokens: (system: Int, visual: Int, text: Int)

    /// - Parameters:
    ///   - layers: how many layers there are.
    ///   - cutLayers: behind which tokens are cut, ascending.
    ///   - system: how many tokens stand before the picture.
    ///   - visual: how many in it.
    ///   - text: how many behind it.
    public init(layers: Int, cutLayers: [Int], system: Int, visual: Int, text: Int) {
        guard zip(cutLayers, cutLayers.dropFirst()).allSatisfy({ $0 < $1 }),
            cutLayers.allSatisfy({ (0..<layers).contains($0) })
        else { trap("MustDropCache", "cuts \(cutLayers) must ascend and be of the \(layers) layers") }
        self.layers = layers
        self.cutLayers = cutLayers
        tokens = (system, visual, text)
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample: for each layer the entries of its cache that remain, ascending.
    ///
    /// - Parameter survivors: of each cut, ascending, counted among the visual tokens that entered it.
    public func entries(survivors: [[Int]]) -> [[Int]] {
        // The last survivors, in the numbering of each stage.
        var last = [survivors.last ?? Array(0..<tokens.visual)]
        for cut in survivors.indices.dropLast().reversed() { last.insert(last[0].map { survivors[cut][$0] }, at: 0) }
        let counts = [tokens.visual] + survivors.map(\.count)
        return (0..<layers).map { layer in
            let stage = cutLayers.count { $0 < layer }
            let visual = counts[stage]
            let isWhole = stage == survivors.count || layer < (cutLayers.first ?? layers)
            let kept = isWhole ? Array(0..<visual) : last[stage]
            return Array(0..<tokens.system) + kept.map { tokens.system + $0 }
                + (0..<tokens.text).map { tokens.system + visual + $0 }
        }
    }

    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "mustdrop-cache", "which entries of the cache remain for decoding",
        forms: [
            PublishedForm(
                WeightLayout<MustDropCache>("reference", []),
                keys: [
                    .size("layers", "how many layers the decoder has"),
                    .sizes("cut_layers", "the layers behind which tokens are cut, ascending", atLeast: 0),
                    .size("system_tokens", "tokens before the picture", atLeast: 0),
                    .size("visual_tokens", "tokens of the picture"),
                    .size("text_tokens", "tokens behind the picture", atLeast: 0),
                ],
                inputs: [.init("survivors", "[B, S, visual_tokens]", .indices)],
                outputs: [.init("indices", "[B, layers, L]", .indices)],
                sample: [
                    "layers": 5, "cut_layers": [1, 3], "system_tokens": 1, "visual_tokens": 5, "text_tokens": 2,
                ],
                sampleInputs: { _ in
                    let cuts: [Int64] = [0, 2, 3, -1, -1, 1, 2, -1, -1, -1, 1, 2, 3, 4, -1, 0, -1, -1, -1, -1]
                    return ["survivors": Tensor(cuts, shape: [2, 2, 5])]
                },
                make: {
                    let (layers, cuts) = ($0.int("layers"), $0.ints("cut_layers"))
                    guard zip(cuts, cuts.dropFirst()).allSatisfy({ $0 < $1 }), cuts.allSatisfy({ $0 < layers }) else {
                        throw $0.error("\"cut_layers\" \(cuts) must ascend and be below \(layers) layers")
                    }
                    return MustDropCache(
                        layers: layers, cutLayers: cuts, system: $0.int("system_tokens"),
                        visual: $0.int("visual_tokens"), text: $0.int("text_tokens"))
                },
                run: { method, inputs in
                    let lists = try inputs["survivors"].members.map { try method.survivors($0) }
                    let entries = lists.map(method.entries)
                    let flat = Tensor.paddedIndices(entries.flatMap { $0 })
                    return ["indices": flat.reshaped(to: [lists.count, method.layers, flat.shape[1]])]
                })
        ])

    /// The lists of one sample's cuts [S, N], checked: each counts among what the cut before left.
    private func survivors(_ x: Tensor) throws -> [[Int]] {
        guard x.shape[0] == cutLayers.count else {
            throw ModuleInputError("input survivors has \(x.shape[0]) cuts, \"cut_layers\" names \(cutLayers.count)")
        }
        var entering = tokens.visual
        return try x.members.map { line in
            let values: [Int64] = line.contiguous().scalars()
            let kept = values.prefix { $0 >= 0 }.map(Int.init)
            guard values.dropFirst(kept.count).allSatisfy({ $0 == -1 }),
                zip(kept, kept.dropFirst()).allSatisfy({ $0 < $1 }), kept.last ?? -1 < entering
            else {
                throw ModuleInputError(
                    "input survivors: a cut must be ascending indices below the \(entering) tokens that enter it, then -1"
                )
            }
            entering = kept.count
            return kept
        }
    }
}

extension Tensor {
    /// The lines of a bool [B, N].
    var memberFlags: [[Bool]] {
        let flags: [Bool] = contiguous().scalars()
        return (0..<shape[0]).map { Array(flags[$0 * shape[1]..<($0 + 1) * shape[1]]) }
    }

    /// [B, n], bool: true at each list's indices.
    static func flags(_ lists: [[Int]], _ n: Int) -> Tensor {
        var flags = [Bool](repeating: false, count: lists.count * n)
        for (sample, list) in lists.enumerated() {
            for index in list { flags[sample * n + index] = true }
        }
        return Tensor(flags, shape: [lists.count, n])
    }
}
