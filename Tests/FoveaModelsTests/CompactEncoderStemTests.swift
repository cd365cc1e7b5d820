import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("a compact encoder behind a stem") struct CompactEncoderStemTests {
    private static func encoder(stem channels: Int) -> CompactEncoder {
        CompactEncoder(
            .init(
                channels: 2, imageSize: (16, 24), patchSize: 8, stemChannels: channels, width: 8, depth: 0, heads: 2),
            key: RandomKey(seed: 1))
    }

    private static func pictures(_ count: Int) -> Tensor {
        .uniform([count, 2, 16, 24], in: 0...1, key: RandomKey(seed: 2))
    }

    @Test("three halvings give as many tokens as patches of 8 pixels, and pictures of another size are refused")
    func tokens() {
        let encoder = CompactEncoderStemTests.encoder(stem: 3)
        let tokens = encoder.visualTokens(
            CompactEncoderStemTests.pictures(2), reducers: [], tracked: false, signals: false)
        #expect(encoder.stem?.layers.count == 3 && encoder.stem?.outputs == 12)
        #expect(tokens.features.shape == [2, 6, 8] && tokens.grid == .init(rows: 2, columns: 3))
        #expect(encoder.problem(with: CompactEncoderStemTests.pictures(1)) == nil)
        #expect(encoder.problem(with: .zeros([1, 2, 24, 16])) == "pictures [1, 2, 24, 16] are not [B, 2, 16, 24]")
        #expect(encoder.problem(with: .zeros([1, 12, 16, 24])) != nil)
    }

    @Test("the cost of the front is what the products multiply", arguments: [0, 3])
    func cost(channels: Int) async {
        // In a process of its own: other tests multiply too.
        await #expect(processExitsWith: .success) { [channels] in
            let encoder = CompactEncoderStemTests.encoder(stem: channels)
            let before = MatrixProduct.multiplyAdds
            _ = encoder.visualTokens(
                CompactEncoderStemTests.pictures(1), reducers: [], tracked: false, signals: false)
            let counted = MatrixProduct.multiplyAdds - before
            #expect(counted == encoder.frontCost.multiplyAdds)
        }
    }
}
