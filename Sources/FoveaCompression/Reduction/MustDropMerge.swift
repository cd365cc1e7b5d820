import FoveaNN
import FoveaTensor

/// MustDrop's first stage: windows of patches that look alike become one token each, in the encoder.
///
/// (Liu et al., "Multi-stage vision token dropping: towards efficient multimodal large language model", 2024;
/// `llava/model/multimodal_encoder/local_merge.py` of liuting20/MustDrop, after the first layer of the encoder.)
///
///     s_W = mean of cos(x_a, x_b) over pairs a ≠ b of the w × w window W;   merged where s_W ≥ threshold
///
/// The mean stands where the window's centre is. What no whole window covers, at the right and at the lower edge, remains.
/// The published code merges as many windows in every picture of a batch as the one with the fewest, and puts merged
/// tokens in front; here each picture goes by itself, and stays in raster order unless `mergedFirst` says otherwise.
public struct MustDropMerge: TokenReducer {
    /// w.
    public let window: Int
    /// The similarity from which a window is merged.
    public let threshold: Double
    /// Whether merged tokens come first, the most alike in front, as the published code has it; raster order otherwise.
    public let mergedFirst: Bool
    /// Instead of a threshold: the most similar windows are merged until at most so many tokens are left. Exact where
    /// w² − 1 divides what is too many, and never below what all windows merged leave.
    public let keep: Int?

    /// - Parameters:
    ///   - window: w, from 2 on.
    ///   - threshold: the similarity from which a window is merged.
    ///   - keep: how many tokens are left at most, instead.
    ///   - mergedFirst: whether merged tokens come first, as the published code has it.
    public init(window: Int = 3, threshold: Double = 0.8, keep: Int? = nil, mergedFirst: Bool = false) {
        guard window >= 2, keep ?? 1 >= 1 else { trap("MustDropMerge", "a window from 2 on, not \(window), is needed") }
        self.window = window
        self.threshold = threshold
        self.keep = keep
        self.mergedFirst = mergedFirst
    }

    /// The patches of each whole window, in raster order.
    private func windows(_ grid: VisualTokens.Grid) -> [[Int]] {
        (0..<grid.rows / window).flatMap { down in
            (0..<grid.columns / window).map { across in
                (0..<window * window).map {
                    (down * window + $0 / window) * grid.columns + across * window + $0 % window
                }
            }
        }
    }

    /// s of each window, for patches x [H · W, C].
    private func similarity(_ x: Tensor, _ windows: [[Int]]) -> [Double] {
        let area = window * window
        let products = withoutGradient {
            let unit = x.detached.unitRows().selecting(axis: 0, .indices(windows.flatMap { $0 }))
                .reshaped(to: [windows.count, area, x.shape[1]])
            return matmul(unit, unit.transposed(1, 2))
        }.doubles
        return windows.indices.map { window in
            var sum = 0.0
            for pair in 0..<area * area where pair / area != pair % area {
                sum += products[window * area * area + pair]
            }
            return sum / Double(area * (area - 1))
        }
    }

    /// One sample's patches x [H · W, C].
    public func reduction(_ x: Tensor, grid: VisualTokens.Grid) -> TokenReduction {
        let windows = self.windows(grid)
        let (n, area) = (grid.count, window * window)
        guard !windows.isEmpty else { return TokenReduction(keeping: Array(0..<n)) }
        let similarity = similarity(x, windows)
        let merged =
            keep.map { Ranking.top(similarity, (max(0, n - $0) + area - 2) / (area - 1)) }
            ?? similarity.indices.filter { similarity[$0] >= threshold }
        guard !merged.isEmpty else { return TokenReduction(keeping: Array(0..<n)) }
        // The patch in the middle stands for its window.
        let middle = window / 2 * window + window / 2
        var absorbed: [Int: Int] = [:]
        for index in merged {
            for (place, patch) in windows[index].enumerated() where place != middle {
                absorbed[patch] = windows[index][middle]
            }
        }
        var kept = (0..<n).filter { absorbed[$0] == nil }
        if mergedFirst {
            let order = Ranking.order(merged.map { similarity[$0] }).map { windows[merged[$0]][middle] }
            let isMerged = Set(order)
            kept = order + kept.filter { !isMerged.contains($0) }
        }
        var place = [Int](repeating: -1, count: n)
        for (index, token) in kept.enumerated() { place[token] = index }
        let sources = absorbed.keys.sorted()
        return .means(
            kept: kept, merges: sources.map { .init(source: $0, place: place[absorbed[$0]!]) },
            weights: .ones([sources.count], dtype: x.dtype), own: .ones([kept.count], dtype: x.dtype))
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        guard let grid = sample.grid else { trap("MustDropMerge", "the tokens form no raster", sample.features) }
        return reduction(sample.features, grid: grid)
    }

    public func refusal(of input: TokenShape) -> String? { input.problemWithoutRaster() }

    public func count(of n: Int) -> Int? { nil }

    /// The cosines within windows; what is merged depends on the picture.
    public func cost(_ input: TokenShape) -> Cost {
        guard let grid = input.grid else { return Cost() }
        let cells = min(window, grid.rows) * min(window, grid.columns)
        return windows(grid).count * .product(cells, input.width, cells)
    }
}

/// The windows of `MustDropMerge` behind a layer of an encoder that sees all patches of one picture.
public struct MustDropMergeLayer: LayerReducer {
    /// What is merged.
    public let method: MustDropMerge
    /// The raster of the patches.
    public let grid: VisualTokens.Grid
    /// Behind which layer, counted from 0; published is the first.
    public let layer: Int

    /// - Parameters:
    ///   - method: what is merged.
    ///   - grid: the raster of the patches.
    ///   - layer: behind which layer, counted from 0.
    public init(_ method: MustDropMerge = MustDropMerge(), grid: VisualTokens.Grid, layer: Int = 0) {
        self.method = method
        self.grid = grid
        self.layer = layer
    }

    public func seat(inLayer layer: Int) -> LayerSeat? { layer == self.layer ? .afterLayer : nil }

    public func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        tokens.reduced(
            pictures: zip(tokens.visualByPicture, tokens.features.detached.members).map { pictures, features in
                pictures.map { picture in
                    guard picture.places.count == grid.count else {
                        trap("MustDropMergeLayer", "all patches of a raster of \(grid) are needed", tokens.features)
                    }
                    return method.reduction(features.selecting(axis: 0, .indices(picture.places)), grid: grid)
                }
            })
    }

    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        seat(inLayer: layer) == nil ? Cost() : method.cost(TokenShape(grid: grid, width: shape.width))
    }
}

extension MustDropMerge {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "mustdrop-merge", "windows of patches that look alike become one token each",
        forms: [
            PublishedForm(
                WeightLayout<MustDropMerge>("reference", []),
                keys: [
                    .knownGrid, .size("window", "patches along a window's side", default: 3, atLeast: 2),
                    .number("threshold", "the similarity from which a window is merged", default: 0.8),
                    .size(
                        "keep", "merge until at most so many tokens are left, or null for the threshold",
                        default: .null),
                    .flag("merged_first", "whether merged tokens come first, as published", default: false),
                ],
                inputs: [.init("x", "[B, N, C]")],
                outputs: [
                    .init("tokens", "[B, L, C]"), .init("mask", "[B, L]", .mask),
                    .init("positions", "[B, L]", .indices), .init("size", "[B, L]"),
                ],
                // Everything is merged: as many tokens in every picture.
                sample: ["grid": [5, 4], "window": 2, "threshold": -1],
                sampleInputs: { ["x": $0.uniform([2, 20, 3])] },
                make: {
                    MustDropMerge(
                        window: $0.int("window"), threshold: $0.double("threshold"), keep: $0.optionalInt("keep"),
                        mergedFirst: $0.bool("merged_first"))
                },
                run: { method, inputs in
                    let (x, grid) = try inputs.raster("x")
                    let reductions = x.members.map { method.reduction($0, grid: grid) }
                    return [
                        "tokens": x.reduced(by: reductions), "mask": reductions.mask,
                        "positions": reductions.keptIndices,
                        "size": reductions.totals(.ones([x.shape[0], grid.count], dtype: x.dtype)),
                    ]
                })
        ])
}
