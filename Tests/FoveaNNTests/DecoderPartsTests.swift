import Foundation
import FoveaNN
import FoveaTensor
import Testing

/// A module whose every parameter is drawn anew, so that no one or zero hides a mistake.
private func stirred<Model: Module>(_ model: Model) -> Model {
    var model = model
    model.forEachParameter { path, tensor in tensor = .sample(tensor.shape, path) }
    return model
}

/// float64 is to agree to rounding.
private let wide = 1e-12

@Suite("the layers that decoders are made of") struct DecoderPartsTests {
    private let key = RandomKey(seed: 0)

    @Test("frequencies of rotary angles are those of transformers")
    func frequencies() {
        // `ROPE_INIT_FUNCTIONS` of transformers 5.24, in float32: Llama 3.2's numbers with 64 channels, every fourth pair, and
        // smaller ones.
        let cases: [(RotaryFrequencies, width: Int, every: Int, [Double])] = [
            (
                RotaryFrequencies(base: 500_000, scaling: .llama3(factor: 32, low: 1, high: 4, original: 8192)), 64, 4,
                [
                    1.0, 0.193922758102417, 0.03760603070259094, 0.00729266507551074, 0.000429556705057621,
                    8.570255886297673e-06, 1.6619674170215148e-06, 3.2229328894572973e-07,
                ]
            ),
            (
                RotaryFrequencies(scaling: .llama3(factor: 8, low: 1, high: 4, original: 64)), 16, 1,
                [
                    1.0, 0.24438458681106567, 0.013042256236076355, 0.0039528473280370235, 0.0012499999720603228,
                    0.00039528473280370235, 0.0001250000059371814, 3.9528473280370235e-05,
                ]
            ),
            (
                RotaryFrequencies(scaling: .linear(factor: 4)), 16, 1,
                [
                    0.25, 0.07905694097280502, 0.02500000037252903, 0.007905694656074047, 0.0024999999441206455,
                    0.0007905694656074047, 0.0002500000118743628, 7.905694656074047e-05,
                ]
            ),
        ]
        for (frequencies, width, every, expected) in cases {
            let angles = RotaryAngles(positions: Tensor([1.0]), width: width, frequencies: frequencies)
            let half = width / 2
            // (1, 0) becomes (cos f, sin f).
            let x = Tensor((0..<width).map { $0 < half ? 1.0 : 0 }, shape: [1, width])
            let turned = x.rotaryEmbedded(angles).doubles
            for (place, value) in expected.enumerated() {
                let f = atan2(turned[half + place * every], turned[place * every])
                #expect(abs(f - value) <= 1e-6 * value, "\(frequencies), \(place * every)")
            }
        }
    }

    @Test(arguments: [1e-6, 0.5])
    func rmsNorm(epsilon: Double) {
        let layer = stirred(RMSNorm(5, epsilon: epsilon))
        let x = Tensor.sample([2, 3, 5], "x")
        let (values, weight) = (x.doubles, layer.weight.doubles)
        let expected = values.indices.map { index in
            let row = values[index / 5 * 5..<index / 5 * 5 + 5]
            let meanSquare = row.reduce(0) { $0 + $1 * $1 } / 5
            return values[index] / (meanSquare + epsilon).squareRoot() * weight[index % 5]
        }
        #expect(difference(layer(x).doubles, expected) < wide)
        #expect(RMSNorm(3).weight.doubles == [1, 1, 1])
    }

    @Test("the gate multiplies what goes up", arguments: [true, false])
    func gatedMLP(bias: Bool) {
        let layer = stirred(GatedMLP(4, hidden: 6, bias: bias, key: key))
        #expect(layer.parameters.count == (bias ? 6 : 3))
        let x = Tensor.sample([2, 3, 4], "x")
        let (gate, up) = (layer.gate(x).doubles, layer.up(x).doubles)
        let inner = Tensor(zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }, shape: [2, 3, 6])
        #expect(difference(layer(x), layer.down(inner)) < wide)
    }

    @Test("without positions and order it is plain attention in several heads")
    func plain() {
        let layer = stirred(SelfAttention(6, heads: 3, bias: true, outputBias: true, key: key))
        var reference = MultiHeadAttention(6, heads: 3, key: key).cast(to: .float64)
        (reference.query, reference.key, reference.value, reference.output) =
            (layer.query, layer.key, layer.value, layer.output)
        let x = Tensor.sample([2, 5, 6], "x")
        let still = RotaryAngles(positions: .zeros([5]), width: 2)
        #expect(difference(layer(x, angles: still, isCausal: false), reference(x)) < wide)
        let seen = Tensor((0..<25).map { $0 % 5 <= $0 / 5 }, shape: [5, 5])
        #expect(difference(layer(x, angles: still), reference(x, mask: seen)) < wide)
        let taps: [AttentionTap] = [.columnMean(of: 1..<4, heads: .each), .rows([4])]
        let (output, tapped) = layer(x, angles: still, taps: taps)
        #expect(output.bytes() == layer(x, angles: still).bytes())
        for (a, b) in zip(tapped, reference(x, mask: seen, taps: taps).taps) { #expect(difference(a, b) < wide) }
        let some = Tensor((0..<25).map { $0 % 3 != 1 }, shape: [5, 5])
        #expect(difference(layer(x, angles: still, mask: some, isCausal: false), reference(x, mask: some)) < wide)
    }

    @Test("key heads that are shared equal key heads that are repeated")
    func grouped() {
        let shared = stirred(SelfAttention(6, heads: 4, keyHeads: 2, headWidth: 2, bias: true, key: key))
        var full = stirred(SelfAttention(6, heads: 4, headWidth: 2, bias: true, key: key))
        (full.query, full.output) = (shared.query, shared.output)
        /// Each head's rows twice.
        func repeated(_ x: Tensor) -> Tensor {
            concatenated([0, 0, 1, 1].map { x.sliced(axis: 0, 2 * $0..<2 * $0 + 2) }, axis: 0)
        }
        for path in [\SelfAttention.key, \.value] {
            full[keyPath: path].weight = repeated(shared[keyPath: path].weight)
            full[keyPath: path].bias = repeated(shared[keyPath: path].bias!)
        }
        let x = Tensor.sample([2, 5, 6], "x")
        let angles = RotaryAngles(positions: .arange(5), width: 2)
        #expect(difference(shared(x, angles: angles), full(x, angles: angles)) < wide)
    }

    @Test("positions count by their distances alone, and each sample may have its own")
    func positions() {
        let layer = stirred(SelfAttention(6, heads: 2, keyHeads: 1, headWidth: 4, key: key))
        let x = Tensor.sample([2, 4, 6], "x")
        func attended(_ positions: [Double], shape: [Int]) -> Tensor {
            layer(x, angles: RotaryAngles(positions: Tensor(positions, shape: shape), width: 4))
        }
        let plain = attended([0, 1, 2, 3], shape: [4])
        #expect(difference(attended([7, 8, 9, 10], shape: [4]), plain) < wide)
        let gap = attended([0, 1, 5, 6], shape: [4])
        #expect(difference(gap, plain) > 1e-3)
        let both = attended([0, 1, 2, 3, 0, 1, 5, 6], shape: [2, 1, 4])
        #expect(difference(both[0], plain[0]) < wide)
        #expect(difference(both[1], gap[1]) < wide)
    }

    @Test("dropout is off but where a gradient with randomness is taken, and depends on its key alone")
    func dropout() {
        let layer = stirred(SelfAttention(6, heads: 2, headWidth: 2, dropout: 0.5, key: key))
        let x = Tensor.sample([1, 6, 6], "x")
        let angles = RotaryAngles(positions: .arange(6), width: 2)
        func value(_ randomness: RandomKey?) -> Tensor {
            valueAndGradient(of: layer, randomness: randomness) {
                let y = $0(x, angles: angles)
                return (y.sum(), y)
            }.auxiliary
        }
        let plain = layer(x, angles: angles)
        #expect(difference(value(nil), plain) == 0)
        let dropped = value(RandomKey(seed: 1))
        #expect(difference(dropped, plain) > 1e-3)
        #expect(difference(value(RandomKey(seed: 1)), dropped) == 0)
        #expect(difference(value(RandomKey(seed: 2)), dropped) > 1e-3)
    }

    @Test("heads that cannot be shared evenly, and odd widths, trap with the numbers")
    func traps() async {
        let uneven = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = SelfAttention(6, heads: 3, keyHeads: 2, key: RandomKey(seed: 0))
        }
        #expect(message(uneven).contains("SelfAttention: 3 heads cannot share 2 key heads"), "\(message(uneven))")
        let odd = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = SelfAttention(9, heads: 3, key: RandomKey(seed: 0))
        }
        #expect(message(odd).contains("9 channels in 3 heads make 3"), "\(message(odd))")
    }
}
