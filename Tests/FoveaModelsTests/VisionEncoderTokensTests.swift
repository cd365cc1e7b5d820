import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("what a vision encoder hands to a compressor") struct VisionEncoderTokensTests {
    private func encoder(_ family: VisionEncoder.Family) -> VisionEncoder {
        VisionEncoder(
            .init(family, imageSize: 12, patchSize: 4, width: 8, hidden: 16, depth: 3, heads: 2),
            key: RandomKey(seed: 1))
    }

    private let pictures = Tensor.normal([2, 3, 12, 12], key: RandomKey(seed: 2))

    @Test("CLIP: patches of the layer before the last, its keys, and its class token's attention")
    func clip() {
        let encoder = encoder(.clip)
        let tokens = encoder.visualTokens(pictures, reducers: [], tracked: true, signals: true)
        let states = encoder.hiddenStates(pictures)
        expectSameBits(tokens.features.contiguous(), states[2].sliced(axis: 1, 1..<10).contiguous())
        #expect(tokens.grid == .init(rows: 3, columns: 3) && tokens.provenance != nil)
        // The attention once more, written out.
        let layer = encoder.layers[1]
        let x = layer.attentionNorm(states[1])
        func heads(_ x: Tensor) -> Tensor { x.reshaped(to: [2, 10, 2, 4]).transposed(1, 2) }
        let (queries, keys) = (
            heads(layer.attention.query(x)),
            heads(
                linear(
                    x, weight: layer.attention.key.weight, bias: layer.attention.key.bias))
        )
        let weights = (matmul(queries, keys.transposed(2, 3)) * 0.5).softmax(axis: 3)
        let ofClass = weights.sliced(axis: 2, 0..<1).squeezed(2).sliced(axis: 2, 1..<10)
        expectClose(tokens.signals!.classAttention!, ofClass.contiguous(), tolerance: 1e-5)
        expectClose(
            tokens.signals!.keys!, keys.mean(axes: [1]).sliced(axis: 1, 1..<10).contiguous(), tolerance: 1e-5)
    }

    @Test("SigLIP: no class token, so that reducers go by the proxy, and those that may not say why")
    func siglip() {
        var encoder = encoder(.siglip)
        encoder.visualLayers = 3
        let tokens = encoder.visualTokens(pictures, reducers: [], tracked: false, signals: true)
        #expect(tokens.count == 9 && tokens.signals!.classAttention == nil && tokens.signals!.keys!.shape == [2, 9, 4])
        #expect(VisionZip(budget: 4)(tokens).count == 4)
        #expect(PruMerge(budget: 4, importance: .classToken).problem(with: tokens) != nil)
    }
}
