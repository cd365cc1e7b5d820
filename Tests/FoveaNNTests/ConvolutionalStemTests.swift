import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("a stem of convolutions") struct ConvolutionalStemTests {
    @Test("a stem is its convolutions one after the other, a GELU behind each, and each with weights of its own")
    func convolutions() {
        let stem = ConvolutionalStem(2, channels: 3, halvings: 3, key: RandomKey(seed: 1))
        let pictures = Tensor.uniform([2, 2, 16, 24], in: 0...1, key: RandomKey(seed: 2))
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
    func equivariance() {
        let stem = ConvolutionalStem(2, channels: 3, halvings: 3, key: RandomKey(seed: 1))
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
}
