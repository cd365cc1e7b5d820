import FoveaNN
import FoveaTensor

/// The second Lightweight Downsample Projector of MobileVLM: an MLP, an average pooling to a fixed raster, and a
/// depthwise convolution added as a position.
///
/// (Chu et al., "MobileVLM V2", 2024, §3.2; `mobilevlm/model/vision_projector.py`.)
///
///     x ← W₂ GELU(W₁ x)
///     x ← adaptive average of rows × columns             12 × 12, whatever comes in
///     y = x + depthwise 3 × 3 of x
public struct LDPv2: Module {
    /// [C] → [D] → [D].
    public var mlp: MLP
    /// Adds to a token what its neighbours say.
    public var position: Convolution2D
    /// The raster that comes out.
    public let grid: VisualTokens.Grid

    /// - Parameters:
    ///   - width: C of the encoder's tokens.
    ///   - outputs: D.
    ///   - grid: the raster that comes out.
    ///   - key: of the random numbers that the weights start with.
    public init(
        _ width: Int, outputs: Int, grid: VisualTokens.Grid = .init(rows: 12, columns: 12), key: RandomKey
    ) {
        mlp = MLP(width, hidden: outputs, outputs: outputs, key: key.folding("mlp"))
        position = Convolution2D(
            outputs, outputs, kernel: 3, padding: 1, groups: outputs, key: key.folding("position"))
        self.grid = grid
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("mlp", &mlp)
        visitor.module("position", &position)
    }

    private func projected(_ x: Tensor, _ grid: VisualTokens.Grid) -> Tensor {
        let pooled = mlp(x).pictures(grid).adaptiveAveragePooled(to: self.grid.size)
        return (pooled + position(pooled)).tokens()
    }

    /// Tokens of a square x [B, n², C] → [B, rows · columns, D]. Traps for another width, and where there is no square.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        guard x.rank == 3, x.shape[2] == mlp.expand.weight.shape[1], x.shape[1] > 0,
            let grid = VisualTokens.Grid(squareOf: x.shape[1])
        else { trap("LDPv2", "tokens [B, N, \(mlp.expand.weight.shape[1])] of a square are needed", x) }
        return projected(x, grid)
    }
}

extension LDPv2: Compressor {
    /// A raster, square or not → the fixed raster, each token at the centre of what it is pooled of.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = problem(with: tokens.shape) { trap("LDPv2", problem, tokens.features) }
        tokens.requireAllReal("LDPv2")
        let from = tokens.grid!
        func means(_ n: Int, _ count: Int) -> Tensor {
            .rowWeights(n) { $0.adaptiveAveragePooled(to: Size2D(count, 1)) }
        }
        return tokens.resampled(
            features: projected(tokens.features, from), rows: means(from.rows, grid.rows),
            columns: means(from.columns, grid.columns))
    }

    public func problem(with input: TokenShape) -> String? {
        input.problem(width: mlp.expand.weight.shape[1]) ?? input.problemWithoutRaster()
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        TokenShape(grid: grid, width: mlp.contract.weight.shape[0])
    }

    public func cost(_ input: TokenShape) -> Cost {
        mlp.cost(rows: input.count) + position.cost(pixels: grid.count)
    }
}
