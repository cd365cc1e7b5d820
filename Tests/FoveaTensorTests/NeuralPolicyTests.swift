import FoveaTensor
import FoveaTestSupport
import Testing

private let inf = Double.infinity
private let nan = Double.nan

private func row(_ values: Double...) -> Tensor { Tensor(values) }
private func zeros(_ shape: Int...) -> Tensor { .zeros(shape, dtype: .float64) }

/// Expects a value, and the gradients for a cotangent of ones.
private func expect(
    _ run: ([Tensor]) -> Tensor, _ inputs: [Tensor], gives output: Tensor, gradients: [Tensor] = [],
    sourceLocation: SourceLocation = #_sourceLocation
) {
    for type in [DType.float64, .float32] {
        let inputs = inputs.map { $0.dtype.isDifferentiable ? $0.cast(to: type) : $0 }
        let tolerance = type == .float64 ? 4e-15 : 1e-6
        expectClose(
            run(inputs).cast(to: .float64), output, tolerance: tolerance, "\(type)", sourceLocation: sourceLocation)
        guard !gradients.isEmpty else { continue }
        let pulled = pullBack(run, inputs) { Tensor.ones($0.shape, dtype: $0.dtype) }
        for (gradient, expected) in zip(pulled.gradients, gradients) {
            expectClose(
                gradient.cast(to: .float64), expected, tolerance: tolerance, "gradient in \(type)",
                sourceLocation: sourceLocation)
        }
    }
}

@Suite("NaN, infinities, ties and nothing at all in neural ops")
struct NeuralPolicyTests {
    @Test("norms")
    func norms() {
        expect({ rmsNorm($0[0]) }, [zeros(1, 2)], gives: zeros(1, 2), gradients: [Tensor([1e3, 1e3], shape: [1, 2])])
        expect(
            { rmsNorm($0[0]) }, [Tensor([inf, 1, nan, 1], shape: [2, 2])],
            gives: Tensor([nan, 0, nan, nan], shape: [2, 2]))
        let single = batchNorm(Tensor([5.0, 7], shape: [1, 2]), bias: row(1, 2))
        expectClose(single.output, Tensor([1.0, 2], shape: [1, 2]), tolerance: 0, "one value a channel")
        expectClose(single.mean, row(5, 7), tolerance: 0, "its mean")
        expectClose(single.variance, row(0, 0), tolerance: 0, "its variance")
    }

    @Test("losses")
    func losses() {
        let reductions: [(Tensor, Tensor) -> Tensor] = [
            { meanSquaredError($0, $1) }, { huberLoss($0, $1) }, { binaryCrossEntropy($0, $1) },
            { klDivergence($0, $1) }, { klDivergence($0, $1, isLogTarget: true) },
            { softCrossEntropy($0, targets: $1) },
            { meanSquaredError($0, $1, reduction: .sum) }, { meanSquaredError($0, $1, reduction: .batchMean) },
        ]
        for loss in reductions {
            expect(
                { loss($0[0], $0[1]) }, [zeros(0, 3), zeros(0, 3)], gives: Tensor([0.0], shape: []),
                gradients: [zeros(0, 3), zeros(0, 3)])
            expect({ loss($0[0], $0[1]) }, [row(nan, 0.5), row(0.5, 0.5)], gives: Tensor([nan], shape: []))
        }
        // A distance of δ is still on the parabola's slope; beyond it the slope stays.
        expect(
            { huberLoss($0[0], $0[1], delta: 2, reduction: .none) }, [row(2, -2, 5, inf), row(0, 0, 0, 0)],
            gives: row(2, 2, 8, inf), gradients: [row(2, -2, 2, 2), row(-2, 2, -2, -2)])
        expect(
            { binaryCrossEntropy($0[0], $0[1], reduction: .none) }, [row(1e4, -1e4, 1e4), row(1, 1, 0)],
            gives: row(0, 1e4, 1e4), gradients: [row(0, -1, 1)])
        expect(
            { binaryCrossEntropy($0[0], $0[1], reduction: .none) }, [row(inf), row(1)], gives: row(nan))
        expect(
            { klDivergence($0[0], $0[1], reduction: .none) }, [row(-inf, -inf, -1), row(0, 1, -1)],
            gives: row(0, inf, nan))
        expect(
            { klDivergence($0[0], $0[1], isLogTarget: true, reduction: .none) }, [row(-inf, -1), row(-inf, -inf)],
            gives: row(0, 0), gradients: [row(0, 0), row(0, 0)])
        expect(
            { cosineSimilarity($0[0], $0[1], axis: 0) }, [row(0, 0), row(3, 4)], gives: Tensor([0.0], shape: []),
            gradients: [row(0.6e8, 0.8e8), row(0, 0)])
    }

    @Test("pooling and interpolation")
    func images() {
        func image(_ values: Double..., width: Int) -> Tensor {
            Tensor(values, shape: [1, 1, values.count / width, width])
        }
        // The first of equal ones, and the first NaN, take the gradient; −∞ alone too.
        expect(
            { $0[0].maxPooled(kernel: 2) }, [image(1, 3, nan, 5, -inf, -inf, 3, 3, 7, nan, -inf, -inf, width: 6)],
            gives: image(3, nan, -inf, width: 3), gradients: [image(0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, width: 6)])
        expect(
            { $0[0].averagePooled(kernel: 2) }, [image(1, inf, 2, 4, 1, 1, nan, 2, width: 4)],
            gives: image(inf, nan, width: 2))
        // A pixel that coincides with an output is taken alone.
        expect(
            { $0[0].interpolatedBilinear(to: Size2D(1, 3), alignCorners: true) }, [image(1, inf, width: 2)],
            gives: image(1, inf, inf, width: 3))
        expect(
            { $0[0].interpolatedNearest(to: Size2D(1, 4)) }, [image(nan, 2, width: 2)],
            gives: image(nan, nan, 2, 2, width: 4))
        let x = Tensor.arange(2 * 8 * 3 * 5).reshaped(to: [2, 8, 3, 5])
        expectSameBits(x.pixelShuffled(by: 2).pixelUnshuffled(by: 2), x, "pixels there and back")
    }

    @Test("choices")
    func choices() {
        expect(
            { straightThrough(row(1, inf).cast(to: $0[0].dtype), gradientOf: $0[0]) }, [row(0.3, nan)],
            gives: row(1, inf), gradients: [row(1, 1)])
        // What is drawn is the largest of the soft choice, with its gradient.
        let x = Tensor.uniform([40, 7], in: -2...2, key: RandomKey(seed: 1), dtype: .float64)
        let key = RandomKey(seed: 2)
        let soft = pullBack({ $0[0].gumbelSoftmax(axis: 1, temperature: 0.5, key: key) }, [x])
        let hard = pullBack({ $0[0].gumbelSoftmax(axis: 1, temperature: 0.5, hard: true, key: key) }, [x])
        expectSameBits(hard.gradients[0], soft.gradients[0], "the soft choice's gradient")
        for line in 0..<40 {
            let best = Int(soft.output[line].argmax(axis: 0).item())
            #expect(doubles(of: hard.output[line]) == (0..<7).map { $0 == best ? 1 : 0 })
        }
        // A logit of −∞ is never drawn.
        expect(
            { $0[0].gumbelSoftmax(axis: 0, hard: true, key: key) }, [row(-inf, 0, -inf)], gives: row(0, 1, 0),
            gradients: [row(0, 0, 0)])
    }

    @Test("attention")
    func attentions() {
        let none = Tensor((0..<8).map { _ in false }, shape: [4, 1, 2])
        for mask in [none, none.cast(to: .float64).log()] {
            expect(
                {
                    attention(
                        query: $0[0], keys: $0[1], values: $0[1],
                        mask: mask.dtype == .bool ? mask : mask.cast(to: $0[0].dtype))
                }, [Tensor.ones([4, 1, 3], dtype: .float64), Tensor.ones([2, 2, 3], dtype: .float64)],
                gives: zeros(4, 1, 3), gradients: [zeros(4, 1, 3), zeros(2, 2, 3)])
        }
        // More queries than keys: the last ones see all; a mask on top takes more away.
        let values = Tensor([1.0, 2, 4], shape: [3, 1])
        expect(
            { attention(query: $0[0], keys: zeros(3, 1).cast(to: $0[0].dtype), values: $0[1], isCausal: true) },
            [zeros(4, 1), values], gives: Tensor([1, 1.5, 7 / 3.0, 7 / 3.0], shape: [4, 1]))
        expect(
            {
                attention(
                    query: $0[0], keys: zeros(3, 1).cast(to: $0[0].dtype), values: $0[1],
                    mask: Tensor([false, true, true]), isCausal: true)
            }, [zeros(4, 1), values], gives: Tensor([0.0, 2, 3, 3], shape: [4, 1]))
    }
}
