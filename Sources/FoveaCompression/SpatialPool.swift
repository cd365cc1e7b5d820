import FoveaNN
import FoveaTensor

/// LLaVA-OneVision's pooling of a video's frames: fewer tokens of each, in the raster that they form.
///
/// (Li et al., "LLaVA-OneVision", 2024; `llava/model/llava_arch.py` of LLaVA-NeXT, `get_2dPool`.)
///
/// From n rows and a stride s:
///
/// | mode | rows | |
/// |---|---|---|
/// | average, max | ⌊n / s⌋ | windows of s × s; what is left over at the right and lower edge is dropped |
/// | bilinear | ⌈n / s⌉ | resized, centres aligned, no filter against aliasing: 27 → 14 |
/// | adaptive | ⌈n / s⌉ | means of windows that make up that number |
///
/// and columns likewise. It stands behind the projector. A learned token can mark the end of lines or frames.
public struct SpatialPool: Module {
    /// The token that marks ends, [D]; nil where nothing is marked.
    public var imageNewline: Tensor?
    public let mode: Mode
    /// s.
    public let stride: Int
    public let newlines: Newlines

    /// How tokens are pooled.
    public enum Mode: String, Sendable, CaseIterable {
        case average, max, bilinear, adaptive
    }

    /// What the end token marks; the values are those of `mm_newline_position`.
    public enum Newlines: String, Sendable, CaseIterable {
        /// The end of the whole video.
        case video = "one_token"
        /// The end of every row of every frame.
        case row = "grid"
        /// The end of every frame.
        case frame
        /// Nothing.
        case none = "no_token"
    }

    /// - Parameters:
    ///   - mode: how tokens are pooled.
    ///   - stride: s.
    ///   - newlines: what the end token marks.
    ///   - width: D, the width of the end token; nil for none.
    ///   - key: of the random numbers that the end token starts with, N(0, 1 / D).
    public init(mode: Mode = .bilinear, stride: Int = 2, newlines: Newlines = .none, width: Int? = nil, key: RandomKey)
    {
        guard stride > 0 else { trap("SpatialPool", "a stride from 1 on is needed, not \(stride)") }
        guard width != nil || newlines == .none else { trap("SpatialPool", "an end token needs a width") }
        imageNewline = width.map { .endOfLine(width: $0, key: key.folding("imageNewline")) }
        self.mode = mode
        self.stride = stride
        self.newlines = newlines
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("imageNewline", &imageNewline)
    }

    /// Frames x [F, rows · columns, D] → [F, N', D], without end tokens.
    public func pooled(_ x: Tensor, grid: VisualTokens.Grid) -> Tensor {
        guard x.rank == 3, x.shape[1] == grid.count, problem(with: grid) == nil else {
            trap("SpatialPool", problem(with: grid) ?? "frames [F, \(grid.count), D] are needed", x)
        }
        return pool(x.pictures(grid), stride: Size2D(stride), to: pooledGrid(grid).size).tokens()
    }

    private func pool(_ pictures: Tensor, stride: Size2D, to size: Size2D) -> Tensor {
        switch mode {
        case .average: pictures.averagePooled(kernel: stride)
        case .max: pictures.maxPooled(kernel: stride)
        case .bilinear: pictures.interpolatedBilinear(to: size)
        case .adaptive: pictures.adaptiveAveragePooled(to: size)
        }
    }

    private func pooledGrid(_ grid: VisualTokens.Grid) -> VisualTokens.Grid {
        func along(_ n: Int) -> Int { mode == .average || mode == .max ? n / stride : (n + stride - 1) / stride }
        return .init(rows: along(grid.rows), columns: along(grid.columns))
    }

    /// What goes where along one axis, [n', n]; ones for each token whose maximum a pooled one may be.
    private func weights(_ n: Int, to pooled: Int) -> Tensor {
        switch mode {
        case .average, .max:
            let means = Tensor.rowWeights(n) { $0.averagePooled(kernel: Size2D(stride, 1)) }
            return mode == .max ? (means .> 0).cast(to: .float32) : means
        case .bilinear: return .rowWeights(n) { $0.interpolatedBilinear(to: Size2D(pooled, 1)) }
        case .adaptive: return .rowWeights(n) { $0.adaptiveAveragePooled(to: Size2D(pooled, 1)) }
        }
    }

    private func problem(with grid: VisualTokens.Grid) -> String? {
        let pooled = pooledGrid(grid)
        return pooled.count > 0 ? nil : "windows of \(stride) × \(stride) do not fit into a raster of \(grid)"
    }
}

extension SpatialPool: Compressor {
    /// Pictures, each a video of one frame.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens { video([tokens]) }

    /// The frames of a video for each sample → its tokens, one frame after the other. Frames keep their own positions and
    /// patches: provenance tells of the patches of a token's frame.
    public func video(_ frames: [VisualTokens]) -> VisualTokens {
        var parts: [VisualTokens] = []
        for (index, frame) in frames.enumerated() {
            if let problem = problem(with: frame.shape) { trap("SpatialPool", problem, frame.features) }
            let (grid, smaller) = (frame.grid!, pooledGrid(frame.grid!))
            let pooled = frame.resampled(
                features: self.pooled(frame.features, grid: grid), rows: weights(grid.rows, to: smaller.rows),
                columns: weights(grid.columns, to: smaller.columns))
            guard let imageNewline else {
                parts.append(pooled)
                continue
            }
            switch newlines {
            case .row: parts.append(pooled.endingRows(with: imageNewline))
            case .frame: parts.append(pooled.ending(with: imageNewline))
            case .video where index == frames.count - 1: parts.append(pooled.ending(with: imageNewline))
            case .video, .none: parts.append(pooled)
            }
        }
        return parts.count == 1 ? parts[0] : VisualTokens.joined(parts)
    }

    public func problem(with input: TokenShape) -> String? {
        if let width = imageNewline?.shape[0], let problem = input.problem(width: width) { return problem }
        return input.problemWithoutRaster() ?? problem(with: input.grid!)
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        guard let grid = input.grid.map(pooledGrid) else { return input }
        guard imageNewline != nil, newlines != .none else { return TokenShape(grid: grid, width: input.width) }
        return TokenShape(count: grid.count + (newlines == .row ? grid.rows : 1), width: input.width)
    }

    /// No products.
    public func cost(_ input: TokenShape) -> Cost { Cost() }
}

extension VisualTokens {
    /// The raster with one more token [C] behind each row, standing where the row ends.
    func endingRows(with token: Tensor) -> VisualTokens {
        guard let grid else { trap("VisualTokens", "the tokens form no raster", features) }
        func rows(_ x: Tensor) -> Tensor { x.reshaped(to: [batch, grid.rows, grid.columns] + x.shape[2...]) }
        func last(_ x: Tensor) -> Tensor {
            rows(x).sliced(axis: 2, grid.columns - 1..<grid.columns).squeezed(2)
        }
        let ends = marks(
            features: token.expanded(to: [batch, grid.rows, width]), positions: last(positions))
        func joined(_ x: Tensor, _ end: Tensor) -> Tensor {
            concatenated([rows(x), end.unsqueezed(2)], axis: 2).flattened(from: 1, to: 2)
        }
        return VisualTokens(
            features: joined(features, ends.features), positions: joined(positions, ends.positions),
            sizes: joined(sizes, ends.sizes), mask: mask.map { joined($0, last($0)) },
            provenance: provenance.map {
                Provenance(weights: joined($0.weights, ends.provenance!.weights))
            })
    }

    /// The tokens with one more [C] behind the last, standing where that stands.
    func ending(with token: Tensor) -> VisualTokens {
        VisualTokens.joined([
            self,
            marks(
                features: token.expanded(to: [batch, 1, width]),
                positions: positions.sliced(axis: 1, count - 1..<count)),
        ])
    }
}

extension Tensor {
    /// How LLaVA's end-of-line token starts: N(0, 1 / D).
    static func endOfLine(width: Int, key: RandomKey) -> Tensor {
        .normal([width], deviation: 1 / Double(width).squareRoot(), key: key)
    }
}
