import FoveaNN
import FoveaTensor

// What every reducer is to be compared with: choices that look at nothing, and pooling, at any exact budget.

/// So many tokens at random. The choice depends on the seed and the number of tokens alone, so that every picture of a
/// batch has what it would have by itself.
public struct RandomSelection: TokenReducer {
    /// How many tokens remain.
    public let keep: Int
    /// Of the choice.
    public let seed: UInt64

    public init(keep: Int, seed: UInt64 = 0) {
        guard keep >= 1 else { trap("RandomSelection", "a budget from 1 on is needed, not \(keep)") }
        self.keep = keep
        self.seed = seed
    }

    /// Which of n tokens remain, ascending.
    public func kept(of n: Int) -> [Int] {
        RandomKey(seed: seed).folding("random selection").permutation(of: n).prefix(keep).sorted()
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        TokenReduction(keeping: kept(of: sample.count))
    }

    public func count(of n: Int) -> Int? { min(keep, n) }

    /// The catalogue entry.
    public static let entry = Baseline.entry(
        "random", "keeps tokens at random",
        more: [.size("seed", "of the choice", default: 0, atLeast: 0)],
        make: { RandomSelection(keep: $0.int("keep"), seed: UInt64($0.int("seed"))) })
}

/// So many tokens at even distances in raster order: token ⌊(i + ½) N / keep⌋.
public struct UniformSelection: TokenReducer {
    /// How many tokens remain.
    public let keep: Int

    public init(keep: Int) {
        guard keep >= 1 else { trap("UniformSelection", "a budget from 1 on is needed, not \(keep)") }
        self.keep = keep
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        let (n, k) = (sample.count, min(keep, sample.count))
        return TokenReduction(keeping: (0..<k).map { (2 * $0 + 1) * n / (2 * k) })
    }

    public func count(of n: Int) -> Int? { min(keep, n) }

    /// The catalogue entry.
    public static let entry = Baseline.entry(
        "uniform", "keeps tokens at even distances", make: { UniformSelection(keep: $0.int("keep")) })
}

/// Means of so many cells that share the raster between them: bands of rows, each cut into as many cells as make up the
/// number, so that any budget is met exactly and every patch goes into one token.
public struct AveragePooling: TokenReducer {
    /// How many tokens come out.
    public let keep: Int

    public init(keep: Int) {
        guard keep >= 1 else { trap("AveragePooling", "a budget from 1 on is needed, not \(keep)") }
        self.keep = keep
    }

    /// How many cells each band of rows has; as square ones as go.
    static func bands(_ grid: VisualTokens.Grid, cells: Int) -> [Int] {
        let square = (Double(cells * grid.rows) / Double(grid.columns)).squareRoot().rounded()
        let least = (cells + grid.columns - 1) / grid.columns
        let bands = min(max(Int(square), least), min(grid.rows, cells))
        return (0..<bands).map { ($0 + 1) * cells / bands - $0 * cells / bands }
    }

    public func reduction(of sample: SampleTokens) -> TokenReduction {
        let n = sample.count
        guard keep < n else { return TokenReduction(keeping: Array(0..<n)) }
        // Tokens that form no raster are a row.
        let grid = sample.grid ?? .init(rows: 1, columns: n)
        let bands = AveragePooling.bands(grid, cells: keep)
        var kept: [Int] = []
        var merges: [TokenReduction.Merge] = []
        for (band, cells) in bands.enumerated() {
            let rows = band * grid.rows / bands.count..<(band + 1) * grid.rows / bands.count
            for cell in 0..<cells {
                let columns = cell * grid.columns / cells..<(cell + 1) * grid.columns / cells
                let members = rows.flatMap { row in columns.map { row * grid.columns + $0 } }
                merges += members.dropFirst().map { .init(source: $0, place: kept.count) }
                kept.append(members[0])
            }
        }
        let dtype = sample.features.dtype
        return .means(
            kept: kept, merges: merges, weights: .ones([merges.count], dtype: dtype),
            own: .ones([kept.count], dtype: dtype))
    }

    public func count(of n: Int) -> Int? { min(keep, n) }

    /// The mixture.
    public func cost(_ input: TokenShape) -> Cost {
        keep < input.count ? TokenReduction.cost(of: input.count - keep, into: keep, width: input.width) : Cost()
    }

    /// The catalogue entry.
    public static let entry = Baseline.entry(
        "average-pool", "means of cells that share the raster between them",
        more: [.knownGrid],
        make: { AveragePooling(keep: $0.int("keep")) })
}

/// What the entries of baselines have in common.
enum Baseline {
    static func entry<Method: TokenReducer>(
        _ name: String, _ summary: String, more keys: [ConfigurationKey] = [],
        make: @escaping @Sendable (Configuration) -> Method
    ) -> ModuleEntry {
        ModuleEntry(
            name, summary,
            forms: [
                PublishedForm(
                    WeightLayout<Method>.native, keys: [.keep()] + keys, inputs: [.init("x", "[B, N, C]")],
                    outputs: [.init("tokens", "[B, K, C]")], sample: ["keep": 4],
                    sampleInputs: { ["x": $0.uniform([2, 6, 3])] }, make: make,
                    run: { method, inputs in
                        let x = try inputs.filled("x")
                        var grid = VisualTokens.Grid(rows: 1, columns: x.shape[1])
                        if let sides = inputs.configuration.values["grid"], sides != .null {
                            grid = try inputs.raster("x").1
                        }
                        return ["tokens": method(VisualTokens(patches: x, grid: grid)).features]
                    })
            ])
    }
}
