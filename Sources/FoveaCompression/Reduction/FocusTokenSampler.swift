import FoveaNN
import FoveaTensor

/// FocusLLaVA's vision-guided sampler, choosing tokens: out of all cells of all windows at all scales, the `keep` that
/// match the picture best.
///
/// (After Zhu et al., "FocusLLaVA", 2024, of which no code is published: that windows are pooled at several scales by
/// maxima and that a learned choice is made among them is the paper's; the choice by similarity to the whole picture is
/// one reading of it, `FocusScaleSampler` the other.)
///
///     c     = the pooled cells of all windows and scales          see `RegionCandidates`
///     g     = softmax_c mean_p ⟨W_q LN c, W_k LN x_p⟩ / √d_k      over all candidates of the picture
///     kept  = the `keep` largest;   token = c · (1 + g − stop(g))
///
/// The factor is 1: the model that reads the tokens sees them as they are, and g learns from what it makes of them. A cell
/// that is never kept teaches nothing; with noise, training draws the kept ones: the largest of log g + σ · Gumbel noise.
/// (Kool et al., "Stochastic beams and where to find them", 2019, §2.3: for σ = 1 that is drawing from g without putting
/// back.)
public struct FocusTokenSampler: Module {
    public var norm: LayerNorm
    public var query: Linear
    public var key: Linear
    /// w.
    public let window: Int
    /// Sides of the pooled cells, divisors of w.
    public let scales: [Int]
    /// How many tokens remain.
    public let keep: Int
    /// How the gradient reaches g.
    public let gate: SelectionGate
    /// σ.
    public let noise: Double
    private var stream = RandomStream()

    /// - Parameters:
    ///   - width: C.
    ///   - keyWidth: d_k.
    ///   - window: w.
    ///   - scales: sides of the pooled cells, divisors of w.
    ///   - keep: how many tokens remain, at most as many as there are cells.
    ///   - epsilon: of the norm.
    ///   - gate: how the gradient reaches the choice.
    ///   - noise: σ, in training; 0 for none.
    ///   - randomKey: of the random numbers that the weights start with.
    public init(
        _ width: Int, keyWidth: Int, window: Int = 4, scales: [Int] = [4, 2, 1], keep: Int, epsilon: Double = 1e-5,
        gate: SelectionGate = .valuePreserving, noise: Double = 0, key randomKey: RandomKey
    ) {
        if let problem = RegionCandidates.problem(window: window, scales: scales) { trap("FocusTokenSampler", problem) }
        guard keep >= 1 else { trap("FocusTokenSampler", "a budget from 1 on is needed, not \(keep)") }
        guard noise >= 0 else { trap("FocusTokenSampler", "noise must not be negative, as \(noise) is") }
        norm = LayerNorm(width, epsilon: epsilon)
        query = Linear(width, keyWidth, bias: false, key: randomKey.folding("query"))
        key = Linear(width, keyWidth, bias: false, key: randomKey.folding("key"))
        self.window = window
        self.scales = scales
        self.keep = keep
        self.gate = gate
        self.noise = noise
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("norm", &norm)
        visitor.module("query", &query)
        visitor.module("key", &key)
        visitor.randomStream("choice", &stream)
    }

    /// What the sampler makes of a batch.
    struct Sampled {
        let candidates: RegionCandidates
        /// Indices of the chosen cells of each sample, ascending.
        let kept: [[Int]]
        /// [B, keep, C].
        let tokens: Tensor
    }

    /// x [B, H, W, C] → the chosen cells.
    func sampled(_ x: Tensor) -> Sampled {
        let candidates = RegionCandidates(
            .init(rows: x.shape[1], columns: x.shape[2]), window: window, scales: scales)
        let pooled = candidates.pooled(x)
        // A mean of products is the product with the mean.
        let mean = key(norm(x)).mean(axes: [1, 2], keepingAxes: false).unsqueezed(2)
        let scale = 1 / Double(key.weight.shape[0]).squareRoot()
        let g = (matmul(query(norm(pooled)), mean).squeezed(2) * scale).softmax(axis: 1)
        let count = min(keep, candidates.cells.count)
        let scores = chances(g).doubles
        let kept = (0..<x.shape[0]).map { sample in
            Ranking.top(Array(scores[sample * candidates.cells.count..<(sample + 1) * candidates.cells.count]), count)
        }
        let taken = candidates.taken(pooled, kept)
        let factor = gate.factor(g.gathered(axis: 1, .paddedIndices(kept)), count: count)
        return Sampled(
            candidates: candidates, kept: kept, tokens: factor.map { taken * $0.unsqueezed(2) } ?? taken)
    }
}

extension FocusTokenSampler {
    /// What the kept ones are the largest of.
    private func chances(_ g: Tensor) -> Tensor {
        guard noise > 0, let key = stream.key else { return g }
        return withoutGradient {
            let uniform = Tensor.uniform(g.shape, in: 1e-6...(1 - 1e-6), key: key, dtype: .float64)
            return g.detached.cast(to: .float64).log() - (uniform.log() * -1).log() * noise
        }
    }
}

extension FocusTokenSampler: Compressor {
    /// Patches of a raster → the chosen cells, where they are, with the patches that they cover.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = problem(with: tokens.shape) { trap("FocusTokenSampler", problem, tokens.features) }
        tokens.requireAllReal("FocusTokenSampler")
        let sampled = sampled(tokens.raster)
        return sampled.candidates.tokens(sampled.kept, features: sampled.tokens, of: tokens)
    }

    public func problem(with input: TokenShape) -> String? {
        input.problem(width: norm.weight.shape[0]) ?? input.problemWithoutRaster()
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        guard let grid = input.grid else { return input }
        let cells = RegionCandidates(grid, window: window, scales: scales).cells.count
        return TokenShape(count: min(keep, cells), width: input.width)
    }

    public func cost(_ input: TokenShape) -> Cost {
        guard let grid = input.grid else { return Cost() }
        let cells = RegionCandidates(grid, window: window, scales: scales).cells.count
        return query.cost(rows: cells) + key.cost(rows: input.count) + .product(cells, key.weight.shape[0], 1)
    }
}

extension FocusTokenSampler {
    static let form = PublishedForm(
        WeightLayout<FocusTokenSampler>("tokens", []),
        keys: [
            .constant("selection", "choosing tokens", "tokens"),
            .size("width", "C of the patches", from: .axis(0, of: "norm.weight")),
            .size("key_width", "width of queries and keys", default: 32, from: .axis(0, of: "query.weight")),
        ] + FocusLLaVA.regionKeys + [
            .keep(),
            .choice(
                "gate", "how the gradient reaches the choice", of: SelectionGate.allCases.map(\.rawValue),
                default: .string(SelectionGate.valuePreserving.rawValue)),
            .number("noise", "Gumbel noise of the choice in training", default: 0, atLeast: 0),
        ],
        inputs: [.init("x", "[B, H, W, width]")],
        outputs: [
            .init("tokens", "[B, K, width]"), .init("kept", "[B, K]", .indices), .init("positions", "[B, K, 2]"),
            .init("size", "[B, K]"),
        ],
        widthKey: "width",
        sample: ["width": 3, "key_width": 2, "window": 2, "scales": [2, 1], "keep": 4, "gate": "soft"],
        sampleInputs: { ["x": $0.distinct([2, 3, 4, 3])] },
        make: { configuration in
            try FocusLLaVA.check(configuration)
            return FocusTokenSampler(
                configuration.int("width"), keyWidth: configuration.int("key_width"),
                window: configuration.int("window"), scales: configuration.ints("scales"),
                keep: configuration.int("keep"), epsilon: configuration.double("norm_eps"),
                gate: SelectionGate(rawValue: configuration.string("gate"))!, noise: configuration.double("noise"),
                key: configuration.key)
        },
        run: { model, inputs in
            let x = try FocusLLaVA.raster(inputs)
            let sampled = model.sampled(x)
            return [
                "tokens": sampled.tokens, "kept": .paddedIndices(sampled.kept),
                "positions": sampled.candidates.positions(sampled.kept).cast(to: x.dtype),
                "size": sampled.candidates.sizes(sampled.kept).cast(to: x.dtype),
            ]
        })
}

/// The two readings of the vision-guided sampler under one name.
public enum FocusLLaVA {
    /// The catalogue entry.
    public static let visionSamplerEntry = ModuleEntry(
        "focus-vision-sampler", "a learned choice among windows pooled at several scales",
        forms: [FocusTokenSampler.form, FocusScaleSampler.form])

    static let regionKeys: [ConfigurationKey] = [
        .size("window", "patches along a window's side", default: 4),
        .sizes("scales", "sides of the pooled cells, divisors of the window", default: [4, 2, 1]),
        .number("norm_eps", "epsilon of the norm", default: 1e-5, atLeast: 0),
    ]

    static func check(_ configuration: Configuration) throws {
        if let problem = RegionCandidates.problem(
            window: configuration.int("window"), scales: configuration.ints("scales"))
        {
            throw configuration.error(problem)
        }
    }

    static func raster(_ inputs: ModuleInputs) throws -> Tensor {
        let x = inputs["x"]
        guard x.shape[1] > 0, x.shape[2] > 0 else {
            throw ModuleInputError("input x is \(x.shape): there are no patches")
        }
        return x
    }
}
