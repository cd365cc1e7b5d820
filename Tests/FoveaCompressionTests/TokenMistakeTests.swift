import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// Two samples of a raster of 2 × 2 patches of width 3.
private func tokens() -> VisualTokens {
    VisualTokens(patches: .sample([2, 4, 3], "x"), grid: .init(rows: 2, columns: 2))
}

private func flags(_ values: [Bool], _ shape: [Int]) -> Tensor { Tensor(values, shape: shape) }

private let traps: [TrapCase] = [
    TrapCase("a mask of other tokens", saying: "VisualTokens: a mask is bool [B, N]", "[2, 5]", "[2, 4, 3]") {
        var tokens = tokens()
        tokens.mask = .full([2, 5], 1, dtype: .bool)
    },
    TrapCase("a mask of numbers", saying: "VisualTokens: a mask is bool [B, N]", "float32 [2, 4]") {
        var tokens = tokens()
        tokens.mask = .ones([2, 4])
    },
    TrapCase("attention with the class token", saying: "classAttention is [B, H, N]", "[2, 2, 5]") {
        var tokens = tokens()
        tokens.signals = EncoderSignals(classAttention: .ones([2, 2, 5]))
    },
    TrapCase("keys of each head", saying: "keys is [B, N, d]", "[2, 2, 4, 3]") {
        var tokens = tokens()
        tokens.signals = EncoderSignals(keys: .ones([2, 2, 4, 3]))
    },
    TrapCase("relevance of another batch", saying: "relevance is [B, N]", "[1, 4]") {
        var tokens = tokens()
        tokens.signals = EncoderSignals(relevance: .ones([1, 4]))
    },
    TrapCase("a token that there is not", saying: "VisualTokens: a reduction names tokens beyond the 4") {
        _ = tokens().reduced(by: [TokenReduction(keeping: [5]), TokenReduction(keeping: [0])])
    },
    TrapCase("a place that there is not", saying: "VisualTokens: a reduction names tokens beyond the 4") {
        let merge = TokenReduction(kept: [0], merges: [.init(source: 1, place: 1)], weights: .ones([1]))
        _ = tokens().reduced(by: [merge, merge])
    },
    TrapCase("a row that there is not", saying: "keeping: indices below 4") {
        _ = LayerTokens(features: .zeros([2, 4, 3])).keeping(Tensor([Int64(0), 4], shape: [2, 1]))
    },
    TrapCase("blocks of real and masked tokens", saying: "VisualTokens: masked tokens would be mixed with real ones") {
        var tokens = tokens()
        tokens.mask = flags([true, true, true, false, true, true, true, true], [2, 4])
        _ = Downsample(to: .init(rows: 1, columns: 1))(tokens)
    },
    TrapCase("neighbours that are masked", saying: "FocusTokenSampler: all tokens of a raster must be real") {
        var tokens = tokens()
        tokens.mask = flags([true, true, true, false, true, true, true, true], [2, 4])
        _ = FocusTokenSampler(3, keyWidth: 2, keep: 1, key: RandomKey(seed: 0))(tokens)
    },
]

@Suite("Mistakes with tokens") struct TokenMistakeTests {
    @Test("each traps and says what was given", arguments: zip(traps.indices, traps.map(\.label)))
    func trap(index: Int, label: String) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            traps[index].call()
        }
        traps[index].expectMessage(in: result)
    }

    @Test("a mask of all is none")
    func wholeMask() {
        var tokens = tokens()
        let downsample = Downsample(to: .init(rows: 1, columns: 1))
        let without = downsample(tokens)
        tokens.mask = .full([2, 4], 1, dtype: .bool)
        let with = downsample(tokens)
        expectClose(with.features, without.features, tolerance: 0)
        #expect(with.mask!.scalars(as: Bool.self) == [true, true])
    }

    @Test("reducers in a row are asked about what the one before leaves")
    func row() throws {
        let grid = VisualTokens.Grid(rows: 1, columns: 1)
        #expect(Reducers(tokens: [Downsample(to: grid), ToMe(keep: 1)]).problem(with: tokens()) == nil)
        let problem = try #require(Reducers(tokens: [ToMe(keep: 2), Downsample(to: grid)]).problem(with: tokens()))
        #expect(problem.contains("raster"))
    }
}
