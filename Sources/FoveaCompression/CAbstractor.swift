import FoveaNN
import FoveaTensor

/// Honeybee's C-Abstractor: convolutions, an average pooling to M tokens, convolutions, an MLP. It abstracts without
/// losing where things are.
///
/// (Cha et al., "Honeybee: Locality-enhanced projector for multimodal LLM", 2024, §4.1;
/// `honeybee/projectors/projectors.py`.)
///
///     x ← x + e                                          learned, one vector for each token (optional)
///     x ← stage₂(pool(stage₁(x)))                        `RegNetStage`, adaptive averages of √M × √M between them
///     y = W_n SiLU(… SiLU(W₁ x))
///     y ← [y; learned tokens]                            (optional)
///
/// With depth 0 there is the pooling and the MLP alone.
public struct CAbstractor: Module {
    /// One vector for each token, [1, N, C]; nil without.
    public var positions: Tensor?
    /// In front of everything; nil without.
    public var prenorm: LayerNorm?
    /// In front of the pooling; without blocks where the depth is 0.
    public var before: RegNetStage
    /// Behind the pooling, likewise.
    public var after: RegNetStage
    /// The MLP, named as in the published row of modules.
    public var readout: [Linear]
    /// Learned tokens at the end, [1, E, D]; nil without.
    public var endTokens: Tensor?
    public let options: Options

    /// Sizes of a C-Abstractor.
    public struct Options: Sendable, Equatable {
        /// C, of the encoder's tokens.
        public var width: Int
        /// The width of the convolutions.
        public var hidden: Int
        /// D.
        public var outputs: Int
        /// √M: rows and columns of the tokens that come out.
        public var side: Int
        /// Blocks in each of the two stages.
        public var depth: Int
        /// Linear layers behind them.
        public var readoutDepth: Int
        /// N, where each token gets a learned vector; nil without.
        public var positions: Int?
        /// Whether a layer norm stands in front.
        public var prenorm: Bool
        /// E, learned tokens at the end.
        public var endTokens: Int

        public init(
            width: Int, hidden: Int = 1024, outputs: Int, side: Int = 12, depth: Int = 3, readoutDepth: Int = 2,
            positions: Int? = nil, prenorm: Bool = false, endTokens: Int = 0
        ) {
            self.width = width
            self.hidden = hidden
            self.outputs = outputs
            self.side = side
            self.depth = depth
            self.readoutDepth = readoutDepth
            self.positions = positions
            self.prenorm = prenorm
            self.endTokens = endTokens
        }
    }

    /// An abstractor with fresh weights: embeddings from N(0, 0.02²), the rest as PyTorch starts it. Traps without a
    /// linear layer or without a token.
    public init(_ options: Options, key: RandomKey) {
        guard options.side > 0, options.readoutDepth > 0 else {
            trap("CAbstractor", "at least one token and one linear layer are needed")
        }
        self.options = options
        let small = Initializer.normal(deviation: 0.02)
        positions = options.positions.map { small([1, $0, options.width], key: key.folding("positions")) }
        // The epsilon of timm's norm, which is not that of PyTorch.
        prenorm = options.prenorm ? LayerNorm(options.width, epsilon: 1e-6) : nil
        before = RegNetStage(options.width, options.hidden, depth: options.depth, key: key.folding("before"))
        after = RegNetStage(options.hidden, options.hidden, depth: options.depth, key: key.folding("after"))
        let width = options.depth > 0 ? options.hidden : options.width
        readout = (0..<options.readoutDepth).map {
            Linear(
                $0 == 0 ? width : options.outputs, options.outputs,
                key: key.folding("readout").folding(UInt64($0)))
        }
        endTokens =
            options.endTokens > 0
            ? small([1, options.endTokens, options.outputs], key: key.folding("endTokens")) : nil
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("endTokens", &endTokens)
        visitor.parameter("positions", &positions)
        visitor.module("prenorm", &prenorm)
        visitor.module("before", &before)
        visitor.module("after", &after)
        for index in readout.indices { visitor.module("readout.\(2 * index)", &readout[index]) }
    }

    /// Tokens x [B, rows · columns, C] → [B, M, D], without the learned tokens at the end.
    private func abstracted(_ x: Tensor, _ grid: VisualTokens.Grid) -> Tensor {
        var x = prenorm?(x) ?? x
        if let positions { x = x + positions }
        let pooled = before(x.pictures(grid)).adaptiveAveragePooled(to: Size2D(options.side))
        let tokens = after(pooled).tokens()
        return readout.dropFirst().reduce(readout[0](tokens)) { x, layer in layer(x.silu()) }
    }

    /// Tokens of a square x [B, N, C] → [B, M + E, D]. Traps for another width, and where N is no square or has no
    /// embeddings.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        guard x.rank == 3, let grid = VisualTokens.Grid(squareOf: x.shape[1]) else {
            trap("CAbstractor", "tokens [B, N, \(options.width)] of a square are needed", x)
        }
        if let problem = problem(with: TokenShape(grid: grid, width: x.shape[2])) { trap("CAbstractor", problem, x) }
        let y = abstracted(x, grid)
        guard let endTokens else { return y }
        return concatenated([y, endTokens.expanded(to: [x.shape[0]] + endTokens.shape[1...])], axis: 1)
    }
}

extension CAbstractor: Compressor {
    /// A raster, square or not → the raster of M, each token at the centre of what it is pooled of, then the learned
    /// tokens, which stand for no patch, at the middle of the picture.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = problem(with: tokens.shape) { trap("CAbstractor", problem, tokens.features) }
        tokens.requireAllReal("CAbstractor")
        let grid = tokens.grid!
        func means(_ n: Int) -> Tensor { .rowWeights(n) { $0.adaptiveAveragePooled(to: Size2D(options.side, 1)) } }
        let pooled = tokens.resampled(
            features: abstracted(tokens.features, grid), rows: means(grid.rows), columns: means(grid.columns))
        guard let endTokens else { return pooled }
        let count = endTokens.shape[1]
        let ends = pooled.marks(
            features: endTokens.expanded(to: [tokens.batch] + endTokens.shape[1...]),
            positions: tokens.positions.mean(axes: [1], keepingAxes: true).expanded(to: [tokens.batch, count, 2]))
        return .joined([pooled, ends])
    }

    public func problem(with input: TokenShape) -> String? {
        if let problem = input.problem(width: options.width) ?? input.problemWithoutRaster() { return problem }
        guard let positions, positions.shape[1] != input.count else { return nil }
        return "there are embeddings for \(positions.shape[1]) tokens, not for \(input.count)"
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        let grid = VisualTokens.Grid(rows: options.side, columns: options.side)
        guard options.endTokens > 0 else { return TokenShape(grid: grid, width: options.outputs) }
        return TokenShape(count: grid.count + options.endTokens, width: options.outputs)
    }

    public func cost(_ input: TokenShape) -> Cost {
        let count = options.side * options.side
        return readout.reduce(before.cost(pixels: input.count) + after.cost(pixels: count)) {
            $0 + $1.cost(rows: count)
        }
    }
}
