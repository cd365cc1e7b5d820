import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("a compact encoder behind a convolutional stem") struct CompactEncoderStemTests {
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

    @Test("a stem is its convolutions one after the other, a GELU behind each, and each with weights of its own")
    func convolutions() throws {
        let stem = try #require(CompactEncoderStemTests.encoder(stem: 3).stem)
        let pictures = CompactEncoderStemTests.pictures(2)
        var x = pictures
        for layer in stem.layers { x = layer(x).gelu() }
        expectSameBits(stem(pictures), x)
        #expect(x.shape == [2, 12, 2, 3] && stem.layers.map { $0.weight.shape[1] } == [2, 3, 6])
        // Weights that were drawn alike would begin alike, up to how large they are.
        let starts = stem.layers.map { layer in
            let values = layer.weight.flattened()
            return values.sliced(axis: 0, 1..<9) / values.sliced(axis: 0, 0..<1)
        }
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            #expect(relativeDifference(starts[one], starts[other]) > 1e-2)
        }
    }

    @Test("what a stem sees moves with the picture")
    func equivariance() throws {
        let stem = try #require(CompactEncoderStemTests.encoder(stem: 3).stem)
        let picture = Tensor.uniform([1, 2, 40, 40], in: 0...1, key: RandomKey(seed: 3))
        // One patch to the left, with the edges left out: a token sees 15 pixels.
        let moved = concatenated(
            [picture.sliced(axis: 3, 8..<40), .zeros([1, 2, 40, 8])], axis: 3)
        let (own, shifted) = (stem(picture), stem(moved))
        #expect(own.shape == [1, 12, 5, 5])
        let inside = own.sliced(axis: 3, 2..<4)
        #expect(relativeDifference(shifted.sliced(axis: 3, 1..<3), inside) < 1e-6)
        #expect(relativeDifference(own.sliced(axis: 3, 1..<3), inside) > 1e-2)
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
