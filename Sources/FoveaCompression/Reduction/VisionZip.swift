import FoveaNN
import FoveaTensor

/// VisionZip: the patches that the class token attends to remain, the others are merged into a few.
///
/// (Yang et al., "VisionZip: longer is better but not necessary in vision language models", 2024, §3;
/// `visionzip/clip_encoder.py` of dvlab-research/VisionZip.)
///
///     dominant   = the class token, and the patches of highest Σ_heads attention of the class token
///     targets    = every s-th of the rest R, s = ⌊|R| / contextual⌋
///     contextual = x_target + mean of the tokens of R whose keys are most similar to the target's
///
/// Target and mean are added, not averaged, as the published code does.
public struct VisionZip: TokenReducer {
    /// D: how many tokens remain as they are, the class token among them.
    public let dominant: Int
    /// How many the rest is merged into.
    public let contextual: Int
    public let importance: ImportanceSource?

    /// - Parameters:
    ///   - dominant: D, the class token among them. As a compressor, where there is none, D patches.
    ///   - contextual: how many tokens the rest is merged into.
    ///   - importance: where a compressor's attention comes from.
    public init(dominant: Int, contextual: Int, importance: ImportanceSource = .available) {
        guard dominant + contextual >= 1, contextual >= 0, dominant >= 0 else {
            trap("VisionZip", "\(dominant) dominant and \(contextual) contextual tokens make no budget")
        }
        self.dominant = dominant
        self.contextual = contextual
        self.importance = importance
    }

    /// The published split of a budget: 54 + 10 of 64.
    public init(budget: Int, importance: ImportanceSource = .available) {
        let contextual = (budget * 10 + 32) / 64
        self.init(dominant: budget - contextual, contextual: contextual, importance: importance)
    }

    /// One sample's patches.
    ///
    /// - Parameters:
    ///   - keys: [N, d].
    ///   - attention: of the class token, [H, N].
    ///   - dominant: how many patches remain as they are.
    func reduction(keys: Tensor, attention: Tensor, dominant: Int) -> TokenReduction {
        let n = keys.shape[0]
        guard dominant + contextual < n else { return TokenReduction(keeping: Array(0..<n)) }
        let kept = Ranking.top(withoutGradient { attention.sum(axes: [0]) }.doubles, dominant)
        guard contextual > 0 else { return TokenReduction(keeping: kept) }
        let isKept = Set(kept)
        let rest = (0..<n).filter { !isKept.contains($0) }
        let step = max(1, rest.count / contextual)
        let targets = stride(from: 0, to: rest.count, by: step).prefix(contextual).map { rest[$0] }
        let isTarget = Set(targets)
        let others = rest.filter { !isTarget.contains($0) }
        let similarity = cosines(
            keys.selecting(axis: 0, .indices(others)), keys.selecting(axis: 0, .indices(targets)))
        let nearest = others.indices.map {
            Ranking.first(similarity[$0 * targets.count..<($0 + 1) * targets.count])
        }
        var members = [Int](repeating: 0, count: targets.count)
        for target in nearest { members[target] += 1 }
        return TokenReduction(
            kept: kept + targets,
            merges: zip(others, nearest).map { .init(source: $0, place: kept.count + $1) },
            weights: Tensor(nearest.map { 1 / Double(members[$0]) }, shape: [others.count]))
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        reduction(keys: sample.keys, attention: sample.importance(importance!), dominant: dominant)
    }

    public func count(of n: Int) -> Int? { min(n, dominant + contextual) }

    /// At most: the proxy of importance, the products of the keys of the rest with those of the targets, and the mixture.
    public func cost(_ input: TokenShape) -> Cost {
        let others = input.count - dominant - contextual
        guard others > 0 else { return Cost() }
        let proxy = Cost.product(input.count, input.width, 1)
        guard contextual > 0 else { return proxy }
        return proxy + .product(others, input.width, contextual)
            + TokenReduction.cost(of: others, into: dominant + contextual, width: input.width)
    }
}

extension VisionZip {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "visionzip", "keeps what the class token attends to and merges the rest into a few",
        forms: [
            PublishedForm(
                WeightLayout<VisionZip>("reference", []),
                keys: [
                    .size("dominant", "how many tokens remain, the class token among them"),
                    .size("contextual", "how many the rest is merged into", atLeast: 0), .importance,
                ],
                inputs: [
                    .init("cls_attention", "[B, H, N]"), .init("x", "[B, N+1, C]"), .init("keys", "[B, N+1, d]"),
                ],
                outputs: [.init("tokens", "[B, L, C]")], sample: ["dominant": 3, "contextual": 2],
                sampleInputs: {
                    [
                        "x": $0.uniform([2, 10, 3]), "cls_attention": $0.uniform([2, 2, 9], 0...0.3),
                        "keys": $0.uniform([2, 10, 4]),
                    ]
                },
                make: {
                    VisionZip(
                        dominant: $0.int("dominant"), contextual: $0.int("contextual"), importance: $0.importance)
                },
                run: { method, inputs in
                    let x = inputs["x"]
                    let n = x.shape[1] - 1
                    let reductions = zip(inputs["keys"].members, inputs["cls_attention"].members).map {
                        keys, attention in
                        let patches = method.reduction(
                            keys: keys.sliced(axis: 0, 1..<1 + n), attention: attention,
                            dominant: min(method.dominant, 1 + n) - 1)
                        return patches.behindClassToken()
                    }
                    return ["tokens": x.reduced(by: reductions)]
                })
        ])
}

extension TokenReduction {
    /// The same of tokens that a class token stands before, which remains.
    func behindClassToken() -> TokenReduction {
        var copy = renumbered { $0 + 1 }
        copy.kept.insert(0, at: 0)
        copy.merges = copy.merges.map { Merge(source: $0.source, place: $0.place + 1) }
        return copy
    }
}
