import FoveaNN
import FoveaTensor

/// Downsampling of the raster of patches to another one: each cell is the mean of the patches that it touches.
///
///     y_ij = mean of x_rc over  ⌊i H / h⌋ ≤ r < ⌈(i + 1) H / h⌉,  ⌊j W / w⌋ ≤ c < ⌈(j + 1) W / w⌉
///
/// The baseline that comparisons of reducers should show: "VTC-Bench" (2025) finds it ahead of many methods.
public struct Downsample: Compressor {
    /// h and w; may exceed the raster's.
    public let target: VisualTokens.Grid

    public init(to target: VisualTokens.Grid) {
        guard target.rows >= 1, target.columns >= 1 else { trap("Downsample", "a raster of \(target) has no tokens") }
        self.target = target
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// x [B, H · W, C] → [B, h · w, C].
    public func pooled(_ x: Tensor, grid: VisualTokens.Grid) -> Tensor {
        x.pictures(grid).adaptiveAveragePooled(to: target.size).tokens()
    }

    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = problem(with: tokens.shape) { trap("Downsample", problem, tokens.features) }
        let grid = tokens.grid!
        return tokens.resampled(
            features: pooled(tokens.features, grid: grid),
            rows: .rowWeights(grid.rows) { $0.adaptiveAveragePooled(to: Size2D(target.rows, 1)) },
            columns: .rowWeights(grid.columns) { $0.adaptiveAveragePooled(to: Size2D(target.columns, 1)) })
    }

    public func problem(with input: TokenShape) -> String? { input.problemWithoutRaster() }

    public func outputShape(_ input: TokenShape) -> TokenShape { TokenShape(grid: target, width: input.width) }

    /// No products.
    public func cost(_ input: TokenShape) -> Cost { Cost() }
}

extension Downsample {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "downsample", "means of the cells of a smaller raster",
        forms: [
            PublishedForm(
                WeightLayout<Downsample>("reference", []),
                keys: [
                    .knownGrid,
                    .sizes("target", "rows and columns of the tokens", count: 2),
                ],
                inputs: [.init("x", "[B, N, C]")], outputs: [.init("tokens", "[B, R, C]")],
                sample: ["grid": [3, 5], "target": [2, 2]], sampleInputs: { ["x": $0.uniform([2, 15, 3])] },
                make: {
                    let sides = $0.ints("target")
                    return Downsample(to: .init(rows: sides[0], columns: sides[1]))
                },
                run: { method, inputs in
                    let (x, grid) = try inputs.raster("x")
                    return ["tokens": method.pooled(x, grid: grid)]
                })
        ])
}
