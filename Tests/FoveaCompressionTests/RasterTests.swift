import FoveaCompression
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("VisualTokens on rasters") struct RasterTests {
    private func tokens(_ rows: Int, _ columns: Int, batch: Int = 2, width: Int = 3) -> VisualTokens {
        VisualTokens(
            patches: .sample([batch, rows * columns, width], "raster"), grid: .init(rows: rows, columns: columns),
            tracked: true)
    }

    /// The mean of two rows, and of a half and a whole column.
    private let rows = Tensor([Float(0.5), 0.5, 0, 0, 0, 0, 0.5, 0.5], shape: [2, 4])
    private let columns = Tensor([Float(1), 0, 0, 0, 0.5, 0.5], shape: [2, 3])

    @Test("mixing rows and columns is mixing tokens by the products of their weights")
    func separable() {
        let tokens = tokens(4, 3)
        let features = Tensor.sample([2, 4, 5], "features")
        let separate = tokens.resampled(features: features, rows: rows, columns: columns)
        var weights: [Float] = []
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for r in 0..<4 {
                for c in 0..<3 { weights.append(Float(rows[i][r].item() * columns[j][c].item())) }
            }
        }
        let together = tokens.mixed(features: features, by: Tensor(weights, shape: [4, 12]))
        expectClose(separate.positions, together.positions, tolerance: 1e-6)
        expectClose(separate.sizes, together.sizes, tolerance: 1e-6)
        expectClose(separate.provenance!.weights, together.provenance!.weights, tolerance: 1e-6)
        #expect(separate.grid == .init(rows: 2, columns: 2))
        #expect(separate.positions[0].doubles == [0.5, 0, 0.5, 1.5, 2.5, 0, 2.5, 1.5])
        #expect(separate.sizes[1].doubles == [2, 4, 2, 4])
    }

    @Test("tokens that are not real do not count, and what is made of them alone is not real")
    func masked() {
        var tokens = tokens(4, 3, batch: 1)
        // The two rows below are padding.
        tokens.mask = Tensor((0..<12).map { $0 < 6 }, shape: [1, 12])
        tokens.sizes = tokens.mask!.cast(to: .float32)
        let mixed = tokens.resampled(features: .sample([1, 4, 5], "f"), rows: rows, columns: columns)
        #expect(mixed.mask!.scalars(as: Bool.self) == [true, true, false, false])
        #expect(mixed.sizes.doubles == [2, 4, 0, 0])
    }

    @Test("the raster mirrored at its diagonal goes column by column")
    func transposed() {
        let tokens = tokens(2, 3)
        let turned = tokens.transposedRaster()
        #expect(turned.grid == .init(rows: 3, columns: 2))
        #expect(turned.positions[0].doubles == [0, 0, 1, 0, 0, 1, 1, 1, 0, 2, 1, 2])
        for (place, patch) in [0, 3, 1, 4, 2, 5].enumerated() {
            #expect(turned.features[1][place].doubles == tokens.features[1][patch].doubles)
            #expect(turned.provenance!.weights[0][place][patch].item() == 1)
        }
        expectSameBits(turned.transposedRaster().features, tokens.features.contiguous())
    }

    @Test("joined tokens keep what is known of each; marks stand for no patch")
    func joined() {
        let tokens = tokens(2, 2)
        let marks = tokens.marks(features: .ones([2, 1, 3], dtype: .float64), positions: .full([2, 1, 2], 7))
        let joined = VisualTokens.joined([tokens, marks])
        #expect(joined.count == 5 && joined.grid == nil && joined.mask == nil)
        #expect(joined.sizes[0].doubles == [1, 1, 1, 1, 0])
        #expect(joined.positions[1][4].doubles == [7, 7])
        #expect(joined.provenance!.weights[0][4].doubles == [0, 0, 0, 0])
        var masked = tokens
        masked.mask = .full([2, 4], 0, dtype: .bool)
        #expect(
            VisualTokens.joined([masked, marks]).mask!.scalars(as: Bool.self).filter { $0 }.count == 2)
    }

    @Test("blocks are stacked in raster order, and taken apart again", arguments: [1, 2, 3])
    func spaceToDepth(k: Int) {
        let x = Tensor.arange(2 * 6 * 12 * 2, dtype: .float64).reshaped(to: [2, 6, 12, 2])
        let stacked = FoveaCompression.spaceToDepth(x, by: k)
        #expect(stacked.shape == [2, 6 / k, 12 / k, 2 * k * k])
        for (b, i, j, a, e, c) in [(0, 0, 0, 0, 0, 1), (1, 1, 2, k - 1, 0, 0), (1, 0, 1, 0, k - 1, 1)] {
            let value = ((b * 6 + k * i + a) * 12 + k * j + e) * 2 + c
            #expect(stacked[b][i][j][(a * k + e) * 2 + c].item() == Double(value))
        }
        expectSameBits(depthToSpace(stacked, by: k).contiguous(), x)
    }

    @Test("sides that do not divide trap with the shape")
    func odd() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = FoveaCompression.spaceToDepth(.ones([1, 3, 4, 2]), by: 2)
        }
        #expect(message(result).contains("sides that divide by 2"), "\(message(result))")
        #expect(message(result).contains("[1, 3, 4, 2]"), "\(message(result))")
    }
}
