import FoveaNN
import FoveaTensor

/// FocusLLaVA's vision-guided sampler, choosing scales: each window is pooled as finely as a small network decides.
///
/// (After Zhu et al., "FocusLLaVA", 2024, of which no code is published. That windows are pooled at several scales by
/// maxima, that one is chosen for each, and that a loss balances them is the paper's; the network and the loss are those
/// of Fedus et al., "Switch transformers", 2021, §2.2.)
///
///     u = [mean of the window, mean of the picture, mean |x − its maximum at the coarsest scale|]
///     p = softmax(W₂ GELU(W₁ LN u) / τ);    s = the scale of highest p, of equal ones the coarsest
///     tokens = the window's cells of scale s, times p_s / stop(p_s)
///
/// Windows that reach over the edge have it repeated in u; their tokens are of real patches alone. How many tokens come
/// out depends on the picture.
public struct FocusScaleSampler: Module {
    public var norm: LayerNorm
    public var fc1: Linear
    public var fc2: Linear
    /// w.
    public let window: Int
    /// Sides of the pooled cells, divisors of w.
    public let scales: [Int]
    /// τ.
    public let temperature: Double
    /// What training asks of the choice.
    public let wishes: Wishes

    /// How much of which loss a sampler adds to that of the task.
    public struct Wishes: Sendable {
        /// Of the balance loss.
        public var balance: Double
        /// Of the budget loss; 0 for none.
        public var budget: Double
        /// ρ, the share of the patches that the budget loss wants to remain.
        public var share: Double

        /// - Parameters:
        ///   - balance: of the balance loss.
        ///   - budget: of the budget loss.
        ///   - share: ρ.
        public init(balance: Double = 0.01, budget: Double = 0, share: Double = 0.4) {
            self.balance = balance
            self.budget = budget
            self.share = share
        }
    }

    /// - Parameters:
    ///   - width: C.
    ///   - hidden: width inside the network.
    ///   - window: w.
    ///   - scales: sides of the pooled cells, divisors of w.
    ///   - temperature: τ.
    ///   - wishes: what training asks of the choice.
    ///   - epsilon: of the norm.
    ///   - key: of the random numbers that the weights start with; the last layer starts at zero, so that all scales are
    ///     equally likely.
    public init(
        _ width: Int, hidden: Int = 256, window: Int = 4, scales: [Int] = [4, 2, 1], temperature: Double = 1,
        wishes: Wishes = .init(), epsilon: Double = 1e-5, key: RandomKey
    ) {
        if let problem = RegionCandidates.problem(window: window, scales: scales) { trap("FocusScaleSampler", problem) }
        guard temperature > 0 else { trap("FocusScaleSampler", "τ must be positive, not \(temperature)") }
        norm = LayerNorm(2 * width + 1, epsilon: epsilon)
        fc1 = Linear(2 * width + 1, hidden, key: key.folding("fc1"))
        fc2 = Linear(hidden, scales.count, initializer: .zeros, key: key.folding("fc2"))
        self.window = window
        self.scales = scales
        self.temperature = temperature
        self.wishes = wishes
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("norm", &norm)
        visitor.module("fc1", &fc1)
        visitor.module("fc2", &fc2)
    }

    /// What the sampler makes of a batch.
    public struct Sampled: Sendable {
        /// [B, longest, C], zeros behind the shorter ones.
        public let tokens: Tensor
        /// The probability of each scale in each window, [B, windows, scales].
        public let probabilities: Tensor
        /// Which of the scales each window of each sample has.
        public let scale: [[Int]]
        let candidates: RegionCandidates
        /// Indices of the cells of each sample.
        let cells: [[Int]]

        /// S Σ_s f_s P_s over all windows of the batch, [1], with f the shares of the chosen scales and P the means of the
        /// probabilities: 1 where all scales are used evenly. 0 for an empty batch.
        public var balanceLoss: Tensor {
            let (windows, count) = (scale.joined().count, probabilities.shape[2])
            guard windows > 0 else { return .zeros([1], dtype: probabilities.dtype) }
            var shares = [Double](repeating: 0, count: count)
            for chosen in scale.joined() { shares[chosen] += Double(count) / Double(windows) }
            return meanProbability(times: shares)
        }

        /// (Σ_s P_s n_s − ρ)², [1]; n_s the share of a whole window's patches that scale s keeps.
        ///
        /// - Parameter share: ρ, the share of tokens that is wanted.
        public func budgetLoss(share: Double) -> Tensor {
            guard !scale.joined().isEmpty else { return .zeros([1], dtype: probabilities.dtype) }
            return (meanProbability(times: candidates.scales.map { 1 / Double($0 * $0) }) - share).square()
        }

        private func meanProbability(times factors: [Double]) -> Tensor {
            let mean = probabilities.mean(axes: [0, 1])
            return (mean * Tensor(factors, shape: [factors.count]).cast(to: mean.dtype))
                .sum(axes: [0], keepingAxes: true)
        }
    }

    /// x [B, H, W, C] → the cells of the chosen scales.
    public func sampled(_ x: Tensor) -> Sampled {
        let batch = x.shape[0]
        let candidates = RegionCandidates(
            .init(rows: x.shape[1], columns: x.shape[2]), window: window, scales: scales)
        let p = (fc2(fc1(norm(facts(x))).gelu()) * (1 / temperature)).softmax(axis: 2)
        let (values, windows) = (p.doubles, p.shape[1])
        let coarsestFirst = scales.indices.sorted { scales[$0] > scales[$1] }
        let chosen = (0..<batch).map { sample in
            (0..<windows).map { window in
                coarsestFirst[
                    Ranking.first(coarsestFirst.map { values[(sample * windows + window) * scales.count + $0] })]
            }
        }
        let cells = chosen.map { chosen in
            candidates.cells.indices.filter { candidates.cells[$0].scale == chosen[candidates.cells[$0].block] }
        }
        let taken = candidates.taken(candidates.pooled(x), cells)
        // The probability of each token's scale, in its window.
        let length = taken.shape[1]
        var places: [Int] = []
        for (sample, list) in cells.enumerated() {
            for index in list {
                let cell = candidates.cells[index]
                places.append((sample * windows + cell.block) * scales.count + cell.scale)
            }
            places += [Int](repeating: sample * windows * scales.count, count: length - list.count)
        }
        let own = p.flattened().selecting(axis: 0, .indices(places)).reshaped(to: [batch, length])
        let factor = straightThrough(
            .ones([batch, length], dtype: x.dtype), gradientOf: own / own.detached)
        return Sampled(
            tokens: taken * factor.unsqueezed(2), probabilities: p, scale: chosen, candidates: candidates,
            cells: cells)
    }

    /// u of each window, [B, windows, 2 C + 1].
    private func facts(_ x: Tensor) -> Tensor {
        let (batch, width) = (x.shape[0], x.shape[3])
        let whole = RegionCandidates.edgeReplicated(x, window)
        let coarsest = scales.max()!
        let highest = RegionCandidates.maxima(whole, coarsest).repeated(coarsest, axis: 1).repeated(coarsest, axis: 2)
        func means(_ x: Tensor) -> Tensor {
            x.permuted(to: [0, 3, 1, 2]).averagePooled(kernel: Size2D(window)).tokens()
        }
        let local = means(whole)
        let detail = means((whole - highest).abs().mean(axes: [3], keepingAxes: true))
        let global = x.mean(axes: [1, 2]).unsqueezed(1).expanded(to: [batch, local.shape[1], width])
        return concatenated([local, global, detail], axis: 2)
    }
}

extension FocusScaleSampler: Compressor {
    /// Patches of a raster → the cells of the chosen scales; pictures with fewer are padded. What the sampler wishes for
    /// comes with them.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = refusal(of: tokens.shape) { trap("FocusScaleSampler", problem, tokens.features) }
        tokens.requireAllReal("FocusScaleSampler")
        let sampled = sampled(tokens.raster)
        var made = sampled.candidates.tokens(sampled.cells, features: sampled.tokens, of: tokens)
        if wishes.balance > 0 { made.losses.append(.init("balance", sampled.balanceLoss, weight: wishes.balance)) }
        if wishes.budget > 0 {
            made.losses.append(.init("budget", sampled.budgetLoss(share: wishes.share), weight: wishes.budget))
        }
        return made
    }

    public func refusal(of input: TokenShape) -> String? {
        input.problem(width: (norm.weight.shape[0] - 1) / 2) ?? input.problemWithoutRaster()
    }

    public func problem(with input: TokenShape) -> String? {
        refusal(of: input) ?? (scales.count == 1 ? nil : "how many tokens come out depends on the picture")
    }

    /// At most as many as the finest scale makes.
    public func outputShape(_ input: TokenShape) -> TokenShape {
        guard let grid = input.grid else { return input }
        return TokenShape(count: RegionCandidates.blocks(grid, window: scales.min()!).count, width: input.width)
    }

    public func cost(_ input: TokenShape) -> Cost {
        guard let grid = input.grid else { return Cost() }
        let windows = RegionCandidates.blocks(grid, window: window).count
        return fc1.cost(rows: windows) + fc2.cost(rows: windows)
    }
}

extension FocusScaleSampler {
    static let form = PublishedForm(
        WeightLayout<FocusScaleSampler>("scale", []),
        keys: [
            .constant("selection", "choosing scales", "scale"),
            .size("width", "C of the patches", from: .axis(0, of: "norm.weight", through: { ($0 - 1) / 2 })),
            .size("hidden", "width inside the network", default: 256, from: .axis(0, of: "fc1.weight")),
        ] + FocusLLaVA.regionKeys + [
            .number("tau", "temperature of the choice", default: 1, above: 0),
            .number("balance_weight", "of the loss that balances the scales, in training", default: 0.01, atLeast: 0),
            .number(
                "budget_weight", "of the loss that wants a share of the patches, in training", default: 0, atLeast: 0),
            .share("budget_share", "the share that it wants", default: 0.4),
        ],
        inputs: [.init("x", "[B, H, W, width]")],
        outputs: [
            .init("tokens", "[B, L, width]"), .init("mask", "[B, L]", .mask), .init("scale", "[B, Y, X]", .indices),
            .init("positions", "[B, L, 2]"), .init("size", "[B, L]"), .init("balance_loss", "[1]"),
        ],
        widthKey: "width",
        // Finite differences do not see a gate that keeps values: with one scale there is none to see.
        sample: ["width": 3, "hidden": 4, "window": 2, "scales": [2]],
        sampleInputs: { ["x": $0.distinct([2, 3, 4, 3])] },
        make: { configuration in
            try FocusLLaVA.check(configuration)
            return FocusScaleSampler(
                configuration.int("width"), hidden: configuration.int("hidden"), window: configuration.int("window"),
                scales: configuration.ints("scales"), temperature: configuration.double("tau"),
                wishes: .init(
                    balance: configuration.double("balance_weight"), budget: configuration.double("budget_weight"),
                    share: configuration.double("budget_share")),
                epsilon: configuration.double("norm_eps"), key: configuration.key)
        },
        run: { model, inputs in
            let x = try FocusLLaVA.raster(inputs)
            let sampled = model.sampled(x)
            let blocks = RegionCandidates.blocks(sampled.candidates.grid, window: model.window)
            return [
                "tokens": sampled.tokens, "mask": .prefixMask(sampled.cells.map(\.count)),
                "scale": Tensor.paddedIndices(sampled.scale).reshaped(to: [x.shape[0], blocks.rows, blocks.columns]),
                "positions": sampled.candidates.positions(sampled.cells).cast(to: x.dtype),
                "size": sampled.candidates.sizes(sampled.cells).cast(to: x.dtype),
                "balance_loss": sampled.balanceLoss,
            ]
        })
}
