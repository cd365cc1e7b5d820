import FoveaNN
import FoveaTensor

/// The patch merger of Qwen2-VL: each block of m × m patches becomes one token of the language model.
///
/// (Wang et al., "Qwen2-VL", 2024, §2.1; `transformers/models/qwen2_vl/modeling_qwen2_vl.py` and
/// `qwen2_5_vl/modeling_qwen2_5_vl.py`.)
///
///     x ← norm(x)                          of each patch: layer norm (Qwen2-VL) or RMS norm (Qwen2.5-VL)
///     z ← the m² patches of a block, one after the other      top left, top right, …, bottom right
///     y = W₂ GELU(W₁ z)
///
/// The published encoder has its patches in block-major order (see `BlockOrder`), so that its merger joins consecutive
/// rows and pictures of any sizes can be packed. On `VisualTokens`, in raster order, blocks are cut out of the grid.
public struct PatchMerger: Module {
    /// The norm of Qwen2-VL; nil in the other form.
    public var layerNorm: LayerNorm?
    /// The norm of Qwen2.5-VL; nil in the other form.
    public var rmsNorm: RMSNorm?
    /// [m²·C] → [m²·C] → [D].
    public var mlp: MLP
    /// m, patches along a block's side.
    public let mergeSize: Int

    /// Which norm stands in front.
    public enum Norm: Sendable {
        /// Qwen2-VL.
        case layer
        /// Qwen2.5-VL.
        case rms
    }

    /// - Parameters:
    ///   - width: C of the patches.
    ///   - outputs: D of the tokens.
    ///   - mergeSize: m, patches along a block's side.
    ///   - norm: which norm stands in front.
    ///   - key: of the random numbers that the weights start with.
    public init(_ width: Int, outputs: Int, mergeSize: Int = 2, norm: Norm = .layer, key: RandomKey) {
        switch norm {
        case .layer: layerNorm = LayerNorm(width, epsilon: 1e-6)
        case .rms: rmsNorm = RMSNorm(width, epsilon: 1e-6)
        }
        let inner = width * mergeSize * mergeSize
        mlp = MLP(inner, hidden: inner, outputs: outputs, key: key.folding("mlp"))
        self.mergeSize = mergeSize
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("layerNorm", &layerNorm)
        visitor.module("rmsNorm", &rmsNorm)
        visitor.module("mlp", &mlp)
    }

    private var width: Int { mlp.expand.weight.shape[1] / (mergeSize * mergeSize) }

    private func normed(_ x: Tensor) -> Tensor { layerNorm?(x) ?? rmsNorm?(x) ?? x }

    /// Patches x [P, C] of any pictures and frames, packed in block-major order → tokens [P / m², D]; raster order on
    /// each picture's merged grid. Traps for another width, and where m² does not divide P.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        let rows = mergeSize * mergeSize
        guard x.rank == 2, x.shape[1] == width, x.shape[0] % rows == 0 else {
            trap("PatchMerger", "patches [P, \(width)] with P in multiples of \(rows) are needed", x)
        }
        return mlp(normed(x).reshaped(to: [x.shape[0] / rows, rows * width]))
    }
}

extension PatchMerger: Compressor {
    /// Patches of a raster → a token for each block, at the block's centre.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = problem(with: tokens.shape) { trap("PatchMerger", problem, tokens.features) }
        let grid = tokens.grid!
        let merged = mlp(spaceToDepth(normed(tokens.raster), by: mergeSize))
        return tokens.resampled(
            features: merged.flattened(from: 1, to: 2), rows: .blockMeans(grid.rows, of: mergeSize),
            columns: .blockMeans(grid.columns, of: mergeSize))
    }

    public func problem(with input: TokenShape) -> String? {
        input.problem(width: width) ?? input.problem(blocks: mergeSize)
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        input.merged(by: mergeSize, width: mlp.contract.weight.shape[0])
    }

    public func cost(_ input: TokenShape) -> Cost { mlp.cost(rows: outputShape(input).count) }
}

extension WeightLayout where Model == PatchMerger {
    /// The names of `PatchMerger` in transformers' Qwen2-VL; hub files have `visual.merger.` in front.
    public static var qwen2VL: Self { named("qwen2-vl", norm: "layerNorm") }

    /// The names of `Qwen2_5_VLPatchMerger`: the same, without a bias of the norm.
    public static var qwen25VL: Self { named("qwen2.5-vl", norm: "rmsNorm") }

    private static func named(_ name: String, norm: String) -> Self {
        WeightLayout(
            name,
            [
                .rename("\(norm).weight", "ln_q.weight"), .rename("\(norm).bias", "ln_q.bias"),
                .rename("mlp.expand.weight", "mlp.0.weight"), .rename("mlp.expand.bias", "mlp.0.bias"),
                .rename("mlp.contract.weight", "mlp.2.weight"), .rename("mlp.contract.bias", "mlp.2.bias"),
            ])
    }
}

extension PatchMerger {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "patch-merger", "blocks of patches become one token each",
        forms: [form(.qwen2VL, norm: .layer), form(.qwen25VL, norm: .rms)])

    private static func form(_ layout: WeightLayout<PatchMerger>, norm: Norm) -> PublishedForm {
        PublishedForm(
            layout,
            keys: [
                .size("dim", "width D of the tokens", from: .axis(0, of: "mlp.2.weight")),
                .size("context_dim", "width C of the patches", from: .axis(0, of: "ln_q.weight")),
                .size("spatial_merge_size", "patches along a block's side, m", default: 2),
            ],
            inputs: [.init("x", "[M*spatial_merge_size*spatial_merge_size, context_dim]")],
            outputs: [.init("tokens", "[M, dim]")],
            widthKey: "context_dim", sample: ["dim": 3, "context_dim": 4, "spatial_merge_size": 2],
            sampleInputs: { ["x": $0.uniform([8, 4])] },
            make: {
                let (width, side) = ($0.int("context_dim"), $0.int("spatial_merge_size"))
                guard side <= 1 << 10, width * side * side <= 1 << 20 else {
                    throw $0.error(
                        "blocks of \(side) × \(side) patches (\"spatial_merge_size\") of width \(width) have more than \(1 << 20) numbers"
                    )
                }
                return PatchMerger(width, outputs: $0.int("dim"), mergeSize: side, norm: norm, key: $0.key)
            },
            run: { ["tokens": $0($1["x"])] })
    }
}
