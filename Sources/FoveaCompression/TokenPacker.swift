import FoveaNN
import FoveaTensor

/// TokenPacker: coarse tokens look at the fine ones of their own region.
///
/// (Li et al., "TokenPacker: Efficient visual projector for multimodal LLM", 2024, §3.2;
/// `llava/model/multimodal_projector/builder.py`.)
///
/// From tokens x of one layer of the encoder and x_m of several layers, both a raster of G × G, with s times fewer rows
/// and columns, G / s:
///
///     q = LN(W_q bilinear(x))                            one for each region of s × s
///     k = LN(W₂ GELU(W₁ x_m));   v likewise              of all tokens
///     z = W_o attention(q, k, v of its region)           in several heads
///     y = W₄ GELU(W₃ z)
public struct TokenPacker: Module {
    /// [C] → [E], without bias.
    public var query: Linear
    /// [C_m] → [E] → [E].
    public var key: MLP
    /// [C_m] → [E] → [E].
    public var value: MLP
    public var queryNorm: LayerNorm
    public var keyNorm: LayerNorm
    public var valueNorm: LayerNorm
    public var attention: MultiHeadAttention
    /// [E] → [D] → [D].
    public var mlp: MLP
    /// s, tokens along a region's side.
    public let scale: Int

    /// - Parameters:
    ///   - width: C of one layer's tokens.
    ///   - levelsWidth: C_m of several layers' tokens.
    ///   - inner: E.
    ///   - outputs: D.
    ///   - heads: of the attention. Traps unless they divide E.
    ///   - scale: s, tokens along a region's side.
    ///   - key randomKey: of the random numbers that the weights start with, N(0, 0.02²); biases start at zero.
    public init(
        _ width: Int = 1024, levelsWidth: Int = 4096, inner: Int = 1024, outputs: Int = 4096, heads: Int = 8,
        scale: Int = 2, key randomKey: RandomKey
    ) {
        query = Linear(width, inner, bias: false, key: randomKey)
        key = MLP(levelsWidth, hidden: inner, outputs: inner, key: randomKey)
        value = MLP(levelsWidth, hidden: inner, outputs: inner, key: randomKey)
        queryNorm = LayerNorm(inner, epsilon: 1e-6)
        keyNorm = LayerNorm(inner, epsilon: 1e-6)
        valueNorm = LayerNorm(inner, epsilon: 1e-6)
        attention = MultiHeadAttention(inner, heads: heads, key: randomKey)
        mlp = MLP(inner, hidden: outputs, outputs: outputs, key: randomKey)
        self.scale = scale
        // Queries, keys and values of the attention are one matrix in the published code, which starts it as such.
        let fused = Initializer.xavierUniform(inputs: inner, outputs: 3 * inner)
        forEachParameter { path, tensor in
            if path.hasSuffix("bias") {
                tensor = .zeros(tensor.shape)
            } else if tensor.rank == 2 {
                let isFused = path.hasPrefix("attention.") && !path.hasPrefix("attention.output.")
                let start = isFused ? fused : .normal(deviation: 0.02)
                tensor = start(tensor.shape, key: randomKey.folding(path))
            }
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("query", &query)
        visitor.module("key", &key)
        visitor.module("value", &value)
        visitor.module("queryNorm", &queryNorm)
        visitor.module("keyNorm", &keyNorm)
        visitor.module("valueNorm", &valueNorm)
        visitor.module("attention", &attention)
        visitor.module("mlp", &mlp)
    }

    private var width: Int { query.weight.shape[1] }
    private var levelsWidth: Int { key.expand.weight.shape[1] }

    /// Tokens x [B, G², C] of one layer and `levels` [B, G², C_m] of several → [B, (G / s)², D]; rows and columns may
    /// differ where `grid` says so. Traps for other widths, and where regions of s × s do not tile the raster.
    ///
    /// - Parameters:
    ///   - x: tokens of one layer.
    ///   - levels: the same tokens of several layers, side by side.
    ///   - grid: rows and columns of the raster.
    public func callAsFunction(_ x: Tensor, levels: Tensor, grid: VisualTokens.Grid) -> Tensor {
        packed(x, levels, grid, taps: []).features
    }

    /// The tokens, and what each region's attention hands out.
    private func packed(
        _ x: Tensor, _ levels: Tensor, _ grid: VisualTokens.Grid, taps: [AttentionTap]
    ) -> (features: Tensor, taps: [Tensor]) {
        let shape = TokenShape(grid: grid, width: levelsWidth)
        guard x.rank == 3, levels.rank == 3, x.shape == [levels.shape[0], grid.count, width],
            levels.shape[1...] == [grid.count, levelsWidth], shape.problem(blocks: scale) == nil
        else {
            trap(
                "TokenPacker",
                shape.problem(blocks: scale)
                    ?? "tokens [B, \(grid.count), \(width)] and levels [B, \(grid.count), \(levelsWidth)] are needed",
                x, levels)
        }
        let (batch, inner) = (x.shape[0], query.weight.shape[0])
        let regions = grid.count / (scale * scale)
        let coarse = x.pictures(grid).interpolatedBilinear(to: Size2D(grid.rows / scale, grid.columns / scale)).tokens()
        func byRegion(_ tokens: Tensor) -> Tensor {
            spaceToDepth(tokens.reshaped(to: [batch, grid.rows, grid.columns, inner]), by: scale)
                .reshaped(to: [batch * regions, scale * scale, inner])
        }
        let queries = queryNorm(query(coarse)).reshaped(to: [batch * regions, 1, inner])
        let keys = byRegion(keyNorm(key(levels)))
        let values = byRegion(valueNorm(value(levels)))
        let (attended, tapped) = attention(queries, context: keys, values: values, taps: taps)
        return (mlp(attended.reshaped(to: [batch, regions, inner])), tapped)
    }
}

extension TokenPacker: Compressor {
    /// Tokens [B, N, C_m] of several layers, of which the last C features are those of the layer that the queries are made
    /// of, as the published encoder gives them → a token for each region, at its centre. Provenance is the attention,
    /// averaged over the heads.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = problem(with: tokens.shape) { trap("TokenPacker", problem, tokens.features) }
        let grid = tokens.grid!
        let levels = tokens.features
        let (features, attended) = packed(
            levels.sliced(axis: 2, levelsWidth - width..<levelsWidth), levels, grid,
            taps: tokens.provenance == nil ? [] : [.rows([0])])
        var packed = tokens.resampled(
            features: features, rows: .blockMeans(grid.rows, of: scale),
            columns: .blockMeans(grid.columns, of: scale))
        if let provenance = tokens.provenance {
            packed.provenance = provenance.mixed(by: scattered(attended[0], grid, batch: tokens.batch))
        }
        return packed
    }

    /// Weights of each region's tokens [B · g², 1, s²] as weights of all tokens, [B, g², N].
    private func scattered(_ weights: Tensor, _ grid: VisualTokens.Grid, batch: Int) -> Tensor {
        let (regions, rows) = (grid.count / (scale * scale), scale * scale)
        // Where the tokens of the regions stand in the raster, one region after the other.
        let order = BlockOrder.blockMajor(grid, mergedBy: scale)
        var places = [Float](repeating: 0, count: rows * grid.count * regions)
        for (place, token) in order.enumerated() {
            places[(place / rows * rows + place % rows) * grid.count + token] = 1
        }
        let spread = Tensor(places, shape: [regions, rows, grid.count])
        return matmul(
            weights.cast(to: .float32).reshaped(to: [batch, regions, 1, rows]), spread
        ).reshaped(to: [batch, regions, grid.count])
    }

    public func problem(with input: TokenShape) -> String? {
        guard levelsWidth >= width else {
            return "the queries take the last \(width) features, but tokens have \(levelsWidth)"
        }
        return input.problem(width: levelsWidth) ?? input.problem(blocks: scale)
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        input.merged(by: scale, width: mlp.contract.weight.shape[0])
    }

    public func cost(_ input: TokenShape) -> Cost {
        let (regions, inner) = (outputShape(input).count, query.weight.shape[0])
        return query.cost(rows: regions) + key.cost(rows: input.count) + value.cost(rows: input.count)
            + 2 * attention.query.cost(rows: regions) + 2 * attention.key.cost(rows: input.count)
            + regions * .attention(queries: 1, keys: scale * scale, width: inner) + mlp.cost(rows: regions)
    }
}
