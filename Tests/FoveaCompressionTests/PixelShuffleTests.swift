import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("Pixel shuffle") struct PixelShuffleTests {
    private let ramp = Tensor.arange(48, dtype: .float64).reshaped(to: [1, 4, 4, 3])

    @Test("4 × 4 × 3 numbers in order: v2 by the formula, v1 with the sides exchanged")
    func indices() {
        let v2 = PixelShuffle.shuffled(ramp, factor: 2, order: .v2)
        for i in 0..<2 {
            for j in 0..<2 {
                let want = [(0, 0), (0, 1), (1, 0), (1, 1)].flatMap { a, e in
                    (0..<3).map { Double(((2 * i + a) * 4 + 2 * j + e) * 3 + $0) }
                }
                #expect(v2[0][i][j].doubles == want)
            }
        }
        let v1 = PixelShuffle.shuffled(ramp, factor: 2, order: .v1)
        expectSameBits(v1.transposed(1, 2).contiguous(), v2.contiguous())
    }

    @Test("the inverse brings every number back", arguments: [1, 2, 3, 4], [PixelShuffle.Order.v1, .v2])
    func inverse(factor: Int, order: PixelShuffle.Order) {
        let x = Tensor.arange(2 * 12 * 24 * 2, dtype: .float64).reshaped(to: [2, 12, 24, 2])
        let shuffled = PixelShuffle.shuffled(x, factor: factor, order: order)
        expectSameBits(PixelShuffle.unshuffled(shuffled, factor: factor, order: order).contiguous(), x)
    }

    @Test("the published shuffle with a factor of two undoes v1, and not v2")
    func publishedUpsampling() {
        // `pixel_shuffle(x, 2)`: width and channels, then height and channels, exchanged back in v2.
        func upsampled(_ z: Tensor, _ order: PixelShuffle.Order) -> Tensor {
            let (w, h, c) = (z.shape[1], z.shape[2], z.shape[3])
            let wide = z.reshaped(to: [1, w, 2 * h, c / 2]).permuted(to: [0, 2, 1, 3])
                .reshaped(to: [1, 2 * h, 2 * w, c / 4])
            return order == .v2 ? wide.permuted(to: [0, 2, 1, 3]) : wide
        }
        let v1 = PixelShuffle.shuffled(ramp, factor: 2, order: .v1)
        expectSameBits(upsampled(v1, .v1).contiguous(), ramp)
        let v2 = PixelShuffle.shuffled(ramp, factor: 2, order: .v2)
        #expect(upsampled(v2, .v2).doubles != ramp.doubles)
    }

    @Test("tokens stand where their blocks are, in v1 column by column", arguments: [PixelShuffle.Order.v1, .v2])
    func known(order: PixelShuffle.Order) {
        let model = PixelShuffle(3, outputs: 4, order: order, key: RandomKey(seed: 1)).cast(to: .float64)
        let x = Tensor.sample([2, 24, 3], "x")
        let grid = VisualTokens.Grid(rows: 4, columns: 6)
        let merged = model(VisualTokens(patches: x, grid: grid, tracked: true))
        expectClose(merged.features, model(x.reshaped(to: [2, 4, 6, 3])), tolerance: 1e-13)
        #expect(merged.shape == model.outputShape(TokenShape(grid: grid, width: 3)))
        let second = order == .v1 ? [2.5, 0.5] : [0.5, 2.5]
        #expect(merged.positions[0][1].doubles == second)
        #expect(merged.sizes[1].doubles == Array(repeating: 4, count: 6))
        let patches = merged.provenance!.weights[0][1].doubles
        #expect(
            patches.indices.filter { patches[$0] > 0 } == (order == .v1 ? [12, 13, 18, 19] : [2, 3, 8, 9]))
    }

    @Test("the width comes from the weights and the ratio; a ratio that is no 1 / k, and odd sides, are errors")
    func refusals() throws {
        let form = PixelShuffle.entry.forms[0]
        let weights = WeightLayout<PixelShuffle>.internVL.published(
            PixelShuffle(3, outputs: 4, factor: 3, key: RandomKey(seed: 0)).parameters)
        let instance = try form.instance(
            ["downsample_ratio": 0.333], weights: weights, owner: "c", source: "w")
        #expect(instance.configuration.int("vit_hidden_size") == 3)
        func refusal(_ configuration: [String: ConfigurationValue]) throws -> String {
            try #require(throws: ModuleInputError.self) {
                _ = try form.instance(configuration, weights: weights, owner: "c", source: "w")
            }.description
        }
        #expect(try refusal([:]).contains("27 does not divide by 4, which \"downsample_ratio\" says"))
        #expect(try refusal(["downsample_ratio": 0.4, "vit_hidden_size": 3]).contains("1 / k for a whole k, not 0.4"))
        let error = try #require(throws: ModuleInputError.self) {
            _ = try instance.outputs(["x": .ones([1, 3, 4, 3])])
        }
        #expect(
            error.description == "input x is [1, 3, 4, 3]: blocks of 3 × 3 do not tile a raster of 3 × 4")
    }
}
