import FoveaNN
import FoveaTensor

/// ToMe: pairs of similar tokens become one.
///
/// (Bolya et al., "Token merging: your ViT but faster", 2023, §3; `tome/merge.py` of facebookresearch/ToMe.)
///
/// Tokens are split alternately, a: 0, 2, 4, …, b: 1, 3, 5, …. Each of a draws an edge to its most similar of b, by the
/// cosine of keys; the r tokens with the strongest edges are merged into the other end,
///
///     x_b ← (s_b x_b + Σ s_a x_a) / (s_b + Σ s_a)        s: patches that a token stands for
///
/// and what comes out is a without these, then b. One step halves the tokens at most; a smaller budget takes several.
/// Attention that follows should add log s to the logits of a key: `sizes` says s.
public struct ToMe: TokenReducer {
    /// How many tokens one step merges away.
    public let r: Int
    /// Whether the first token is a class token that must remain.
    public let protectsClass: Bool
    /// Whether the second is a distillation token that must remain.
    public let protectsDistillation: Bool
    /// The budget as a compressor: so many steps as it takes; nil for one step of r.
    public let keep: Int?

    /// - Parameters:
    ///   - r: how many tokens one step merges away.
    ///   - protectsClass: whether the first token must remain.
    ///   - protectsDistillation: whether the second must remain.
    ///   - keep: the budget as a compressor; nil for one step of r.
    public init(r: Int = 0, protectsClass: Bool = false, protectsDistillation: Bool = false, keep: Int? = nil) {
        guard r >= 0, keep ?? 1 >= 1 else { trap("ToMe", "r = \(r) and a budget of \(keep ?? 1) make no sense") }
        self.r = r
        self.protectsClass = protectsClass
        self.protectsDistillation = protectsDistillation
        self.keep = keep
    }

    /// How many of n tokens one step merges away.
    func removed(of n: Int) -> Int { max(0, min(r, (n - guarded) / 2)) }

    /// How many tokens must remain.
    private var guarded: Int { (protectsClass ? 1 : 0) + (protectsDistillation ? 1 : 0) }

    /// One step on one sample.
    ///
    /// - Parameters:
    ///   - metric: what similarity is measured on, [N, d].
    ///   - sizes: patches behind each token, [N]; gradients flow through the mixture.
    public func reduction(metric: Tensor, sizes: Tensor) -> TokenReduction {
        let n = metric.shape[0]
        let r = removed(of: n)
        guard r > 0 else { return TokenReduction(keeping: Array(0..<n)) }
        let (a, b) = (Array(stride(from: 0, to: n, by: 2)), Array(stride(from: 1, to: n, by: 2)))
        let similarity = cosines(
            metric.selecting(axis: 0, .indices(a)), metric.selecting(axis: 0, .indices(b)))
        var partners: [Int] = []
        var scores: [Double] = []
        for row in a.indices {
            var line = similarity[row * b.count..<(row + 1) * b.count]
            if protectsDistillation { line[line.startIndex] = -.infinity }
            let best = Ranking.first(line)
            partners.append(best)
            scores.append(line[line.startIndex + best])
        }
        // Not even where others are as far from everything, such as NaN: there are enough of them.
        let first = protectsClass ? 1 : 0
        let sources = Ranking.top(Array(scores.dropFirst(first)), r).map { $0 + first }
        let isSource = Set(sources)
        let remaining = a.indices.filter { !isSource.contains($0) }.map { a[$0] }
        let kept = remaining + b
        return .means(
            kept: kept,
            merges: sources.map { .init(source: a[$0], place: remaining.count + partners[$0]) },
            weights: sizes.selecting(axis: 0, .indices(sources.map { a[$0] })),
            own: sizes.selecting(axis: 0, .indices(kept)))
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        reduction(metric: sample.keys, sizes: sample.sizes.cast(to: sample.features.dtype)).ordered()
    }

    /// Steps until the budget is met, in the order of the places in the picture.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        guard let keep else { return tokens.reduced(by: reductions(of: tokens)) }
        var tokens = tokens
        while true {
            // Each sample merges what it has too many, half of its tokens at most.
            let steps = tokens.samples.map { sample, real in
                ToMe(
                    r: max(0, sample.count - keep), protectsClass: protectsClass,
                    protectsDistillation: protectsDistillation
                ).reduction(of: sample).renumbered { real[$0] }
            }
            let reduced = tokens.reduced(by: steps)
            if zip(steps, tokens.realTokens).allSatisfy({ $0.kept.count == $1.count }) { return tokens }
            tokens = reduced
        }
    }

    public func count(of n: Int) -> Int? { keep.map { min(max($0, guarded + 1), n) } ?? n - removed(of: n) }

    /// The products of keys with keys and the mixtures, step by step.
    public func cost(_ input: TokenShape) -> Cost {
        var (n, cost) = (input.count, Cost())
        let last = count(of: n)!
        while n > last {
            let r = min((n - guarded) / 2, n - last)
            cost =
                cost + .product((n + 1) / 2, input.width, n / 2)
                + TokenReduction.cost(of: r, into: n - r, width: input.width)
            n -= r
        }
        return cost
    }
}

/// ToMe between attention and MLP of some layers: one step of the schedule in each, by the keys' means over the heads, and
/// sizes counted in attention from then on.
public struct ToMeLayers: LayerReducer {
    /// How many visual tokens each layer merges away.
    public let schedule: ReductionSchedule

    public init(_ schedule: ReductionSchedule) { self.schedule = schedule }

    public var countsSizes: Bool { true }

    public func seat(inLayer layer: Int) -> LayerSeat? {
        schedule.removes(inLayer: layer) ? .afterAttention : nil
    }

    public func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let metric = withoutGradient { attention.keys.detached.mean(axes: [1]) }.members
        return tokens.reduced(
            pictures: zip(zip(metric, tokens.sizes.members), tokens.visualByPicture).map { sample, pictures in
                pictures.map { picture in
                    let own = Tensor.indices(picture.places)
                    let step = ToMe(r: schedule.removed(of: picture.places.count, inLayer: layer))
                    return step.reduction(
                        metric: sample.0.selecting(axis: 0, own),
                        sizes: sample.1.selecting(axis: 0, own).cast(to: sample.0.dtype)
                    ).ordered()
                }
            })
    }

    public func count(of n: Int, inLayer layer: Int) -> Int? {
        n - ToMe(r: schedule.removed(of: n, inLayer: layer)).removed(of: n)
    }

    /// The products of half of the keys, the means over the heads, with the other half, and the mixtures.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        let n = shape.visual
        let removed = n - count(of: n, inLayer: layer)!
        guard removed > 0 else { return Cost() }
        return .product((n + 1) / 2, shape.headWidth, n / 2)
            + TokenReduction.cost(of: removed, into: shape.count - removed, width: shape.width)
    }
}

extension ToMe {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "tome", "merges the most similar pairs of tokens",
        forms: [
            PublishedForm(
                WeightLayout<ToMe>("reference", []),
                keys: [
                    .size("r", "how many tokens one step merges away", default: 0, atLeast: 0),
                    .flag("protect_cls", "whether the first token remains", default: false),
                    .flag("protect_distill", "whether the second token remains", default: false),
                    .keep(default: .null),
                ],
                inputs: [.init("x", "[B, N, C]"), .init("metric", "[B, N, d]"), .init("size", "[B, N]")],
                outputs: [.init("tokens", "[B, R, C]"), .init("size_out", "[B, R]")],
                sample: ["r": 3, "protect_cls": true],
                sampleInputs: {
                    [
                        "x": $0.uniform([2, 8, 3]), "metric": $0.uniform([2, 8, 4]),
                        "size": $0.uniform([2, 8], 1...3),
                    ]
                },
                make: {
                    ToMe(
                        r: $0.int("r"), protectsClass: $0.bool("protect_cls"),
                        protectsDistillation: $0.bool("protect_distill"), keep: $0.optionalInt("keep"))
                },
                run: { tome, inputs in
                    guard tome.keep == nil else {
                        throw ModuleInputError("keep: a metric is that of one step, of r tokens; leave keep out")
                    }
                    let x = try inputs.filled("x")
                    guard inputs["size"].cast(to: .float64).scalars(as: Double.self).allSatisfy({ $0 > 0 }) else {
                        throw ModuleInputError("input size: a token stands for more than 0 patches")
                    }
                    let steps = zip(inputs["metric"].members, inputs["size"].members).map {
                        tome.reduction(metric: $0, sizes: $1)
                    }
                    return ["tokens": x.reduced(by: steps), "size_out": steps.totals(inputs["size"])]
                })
        ])
}
