import FoveaNN
import FoveaTensor

/// The first Lightweight Downsample Projector of MobileVLM: an MLP, then two depthwise residual blocks, of which the
/// second halves rows and columns.
///
/// (Chu et al., "MobileVLM", 2023, §3.3; `mobilevlm/model/vision_projector.py`, whose blocks are torchvision's
/// `InvertedResidual` with an expansion of one.)
///
///     x ← W₂ GELU(W₁ x)
///     z = hardSwish(LN(depthwise 3 × 3 of x));   z = squeeze-excitation(z), gated by hardSigmoid
///     x ← x + LN(W z)                            the first block
///     x ← LN(W z)                                the second, whose depthwise convolution has stride 2
public struct LDP: Module {
    /// [C] → [D] → [D].
    public var mlp: MLP
    public var blocks: [Block]

    /// A depthwise residual block.
    public struct Block: Module {
        public var depthwise: Convolution2D
        public var depthwiseNorm: LayerNorm2D
        public var scale: SqueezeExcitation
        public var project: Convolution2D
        public var projectNorm: LayerNorm2D

        init(_ width: Int, stride: Int, key: RandomKey) {
            depthwise = Convolution2D(
                width, width, kernel: 3, stride: Size2D(stride), padding: 1, groups: width, bias: false,
                key: key.folding("depthwise"))
            depthwiseNorm = LayerNorm2D(width)
            scale = SqueezeExcitation(
                width, squeezed: Block.squeezed(width), gate: .hardSigmoid, key: key.folding("scale"))
            project = Convolution2D(width, width, kernel: 1, bias: false, key: key.folding("project"))
            projectNorm = LayerNorm2D(width)
        }

        public mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.module("depthwise", &depthwise)
            visitor.module("depthwiseNorm", &depthwiseNorm)
            visitor.module("scale", &scale)
            visitor.module("project", &project)
            visitor.module("projectNorm", &projectNorm)
        }

        /// A quarter, to the next multiple of eight; to the one below only where that takes less than a tenth.
        private static func squeezed(_ width: Int) -> Int {
            let quarter = width / 4
            let near = max(8, (quarter + 4) / 8 * 8)
            return Double(near) < 0.9 * Double(quarter) ? near + 8 : near
        }

        func callAsFunction(_ x: Tensor) -> Tensor {
            let y = projectNorm(project(scale(Activation.hardSwish(depthwiseNorm(depthwise(x))))))
            return depthwise.stride == 1 ? x + y : y
        }

        /// What one picture takes whose result has this many pixels.
        func cost(pixels: Int) -> Cost { depthwise.cost(pixels: pixels) + scale.cost + project.cost(pixels: pixels) }
    }

    /// - Parameters:
    ///   - width: C of the encoder's tokens.
    ///   - outputs: D.
    ///   - key: of the random numbers that the weights start with.
    public init(_ width: Int, outputs: Int, key: RandomKey) {
        mlp = MLP(width, hidden: outputs, outputs: outputs, key: key.folding("mlp"))
        blocks = [1, 2].map { Block(outputs, stride: $0, key: key.folding("blocks").folding(UInt64($0))) }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("mlp", &mlp)
        // Counted from one: in the published row something without weights stands in front.
        for index in blocks.indices { visitor.module("blocks.\(index + 1)", &blocks[index]) }
    }

    private func projected(_ x: Tensor, _ grid: VisualTokens.Grid) -> Tensor {
        blocks.reduce(mlp(x).pictures(grid)) { x, block in block(x) }.tokens()
    }

    /// Tokens of a square x [B, n², C] → [B, ⌈n / 2⌉², D]. Traps for another width, and where there is no square.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        guard x.rank == 3, x.shape[2] == mlp.expand.weight.shape[1], x.shape[1] > 0,
            let grid = VisualTokens.Grid(squareOf: x.shape[1])
        else { trap("LDP", "tokens [B, N, \(mlp.expand.weight.shape[1])] of a square are needed", x) }
        return projected(x, grid)
    }
}

extension LDP: Compressor {
    /// A raster, square or not → every other row and column; a token stands in the middle of the three by three that the
    /// last convolution sees, or of what the edge leaves of them.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = problem(with: tokens.shape) { trap("LDP", problem, tokens.features) }
        tokens.requireAllReal("LDP")
        let grid = tokens.grid!
        func windows(_ n: Int) -> Tensor {
            .rowWeights(n) {
                $0.averagePooled(
                    kernel: Size2D(3, 1), stride: Size2D(2, 1), padding: Size2D(1, 0), countIncludePad: false)
            }
        }
        return tokens.resampled(
            features: projected(tokens.features, grid), rows: windows(grid.rows), columns: windows(grid.columns))
    }

    public func problem(with input: TokenShape) -> String? {
        input.problem(width: mlp.expand.weight.shape[1]) ?? input.problemWithoutRaster()
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        let width = mlp.contract.weight.shape[0]
        guard let grid = input.grid else { return TokenShape(count: input.count, width: width) }
        let size = blocks[1].depthwise.outputSize(grid.size)
        return TokenShape(grid: .init(rows: size.height, columns: size.width), width: width)
    }

    public func cost(_ input: TokenShape) -> Cost {
        mlp.cost(rows: input.count) + blocks[0].cost(pixels: input.count)
            + blocks[1].cost(pixels: outputShape(input).count)
    }
}
