import Fovea

/// Some work to time.
struct Benchmark: Sendable {
    let name: String
    /// Makes the data and returns the work.
    let prepare: @Sendable () -> () -> Void

    /// Every benchmark, in the order of the table.
    static let all: [Benchmark] = [
        matmul(2048),
        resamplerStep("toy", width: 64, depth: 2, heads: 4, headWidth: 16, latents: 8, batch: 32, tokens: 64),
        resamplerStep("mid", width: 256, depth: 4, heads: 8, headWidth: 32, latents: 32, batch: 8, tokens: 196),
        resamplerStep("flamingo", width: 1024, depth: 6, heads: 8, headWidth: 64, latents: 64, batch: 2, tokens: 256),
        resamplerStep(
            "flamingo", "gradient", width: 1024, depth: 6, heads: 8, headWidth: 64, latents: 64, batch: 2, tokens: 256),
        resamplerForward(
            "flamingo", width: 1024, depth: 6, heads: 8, headWidth: 64, latents: 64, batch: 4, tokens: 576),
        decoderStep, attention, attentionForward, attentionTaps, longAttention, softmax, layerNorm, gelu, adamw,
        overhead,
    ]

    /// The training step of one sample against its number of visual tokens. Run by name alone: together they show that
    /// the time grows linearly.
    static let byVisualTokens: [Benchmark] = [256, 512, 1024, 2048, 4096, 8192, 16_384].map {
        resamplerStep("tokens-\($0)", width: 256, depth: 4, heads: 8, headWidth: 32, latents: 32, batch: 1, tokens: $0)
    }

    private static func matmul(_ size: Int) -> Benchmark {
        Benchmark(name: "matmul.\(size)") {
            let (a, b) = (random([size, size], 1), random([size, size], 2))
            return { _ = Fovea.matmul(a, b) }
        }
    }

    /// A whole step, or its forward and backward pass alone.
    private static func resamplerStep(
        _ size: String, _ name: String = "step", width: Int, depth: Int, heads: Int, headWidth: Int, latents: Int,
        batch: Int, tokens: Int
    ) -> Benchmark {
        return Benchmark(name: "resampler-\(name).\(size)") {
            var model = PerceiverResampler(
                .init(width: width, depth: depth, heads: heads, headWidth: headWidth, latents: latents),
                key: RandomKey(seed: 0))
            var optimizer = AdamW(learningRate: .constant(1e-4), weightDecay: 0.01)
            let (x, target) = (random([batch, 1, 1, tokens, width], 1), random([batch, 1, latents, width], 2))
            return {
                let (_, gradients) = valueAndGradient(of: model) { meanSquaredError($0(x), target) }
                if name == "step" { optimizer.update(&model, along: gradients) }
            }
        }
    }

    private static func resamplerForward(
        _ size: String, width: Int, depth: Int, heads: Int, headWidth: Int, latents: Int, batch: Int, tokens: Int
    ) -> Benchmark {
        return Benchmark(name: "resampler-forward.\(size)") {
            let model = PerceiverResampler(
                .init(width: width, depth: depth, heads: heads, headWidth: headWidth, latents: latents),
                key: RandomKey(seed: 0))
            let x = random([batch, 1, 1, tokens, width], 1)
            return { _ = model(x) }
        }
    }

    private static let decoderStep: Benchmark = {
        let (width, depth, hidden, vocabulary, batch, tokens) = (256, 4, 704, 512, 8, 256)
        return Benchmark(name: "decoder-step") {
            var model = LanguageModel(
                .init(vocabulary: vocabulary, width: width, hidden: hidden, depth: depth, heads: 8),
                key: RandomKey(seed: 0))
            var optimizer = AdamW(learningRate: .constant(1e-4), weightDecay: 0.01)
            let ids = Tensor((0..<batch * tokens).map { Int64($0 * 7919 % vocabulary) }, shape: [batch, tokens])
            let labels = Tensor((1...batch * tokens).map { Int64($0 * 7919 % vocabulary) }, shape: [batch * tokens])
            return {
                let (_, gradients) = valueAndGradient(of: model) {
                    crossEntropy($0(ids).flattened(from: 0, to: 1), labels)
                }
                optimizer.update(&model, along: gradients)
            }
        }
    }()

    private static let attention = attentionStep("attention", [4, 8, 1024, 64])
    private static let attentionForward = attentionForward("attention-forward") { _ in [] }
    /// What the forward pass costs with a column mean over all rows and the last row's attention.
    private static let attentionTaps = attentionForward("attention-taps") {
        [.columnMean(of: 0..<$0), .rows([$0 - 1])]
    }
    /// Where a matrix of weights would take 256 MiB.
    private static let longAttention = attentionStep("attention.8192", [1, 1, 8192, 64])

    private static func attentionStep(_ name: String, _ shape: [Int]) -> Benchmark {
        Benchmark(name: name) {
            let arguments = [random(shape, 1), random(shape, 2), random(shape, 3)]
            let cotangent = random(shape, 4)
            return {
                _ = vectorJacobianProduct(
                    of: { Fovea.attention(query: $0[0], keys: $0[1], values: $0[2]) }, at: arguments,
                    cotangent: cotangent)
            }
        }
    }

    private static func attentionForward(
        _ name: String, taps: @escaping @Sendable (_ rows: Int) -> [AttentionTap]
    ) -> Benchmark {
        let shape = [4, 8, 1024, 64]
        return Benchmark(name: name) {
            let (q, k, v) = (random(shape, 1), random(shape, 2), random(shape, 3))
            return { _ = Fovea.attention(query: q, keys: k, values: v, taps: taps(shape[2])) }
        }
    }

    private static let softmax = rows("softmax") { $0[0].softmax(axis: -1) }
    private static let layerNorm = rows("layernorm", vectors: 2) { Fovea.layerNorm($0[0], weight: $0[1], bias: $0[2]) }
    private static let gelu = rows("gelu") { $0[0].gelu() }

    /// An op on [4096, 1024], forward and backward.
    private static func rows(
        _ name: String, vectors: Int = 0, _ op: @escaping @Sendable ([Tensor]) -> Tensor
    ) -> Benchmark {
        Benchmark(name: name) {
            let arguments = [random([4096, 1024], 1)] + (0..<vectors).map { random([1024], UInt64($0) + 2) }
            let cotangent = random([4096, 1024], 9)
            return { _ = vectorJacobianProduct(of: op, at: arguments, cotangent: cotangent) }
        }
    }

    private static let adamw = Benchmark(name: "adamw") {
        var weights = Weights()
        var optimizer = AdamW(learningRate: .constant(1e-4), weightDecay: 0.01)
        let gradients = Gradients(weights.parameters.mapValues { random($0.shape, 5) })
        return { optimizer.update(&weights, along: gradients) }
    }

    /// 32 matrices of 2²⁰ elements.
    private struct Weights: Module {
        var tensors = (0..<32).map { Matrix(value: random([1024, 1024], UInt64($0))) }

        struct Matrix: Module {
            var value: Tensor
            mutating func visit(_ visitor: inout ModuleVisitor) { visitor.parameter("value", &value) }
        }
        mutating func visit(_ visitor: inout ModuleVisitor) { visitor.modules("tensors", &tensors) }
    }

    private static let overhead = Benchmark(name: "overhead") {
        let x = random([8], 1)
        return {
            _ = gradient(
                of: { x in
                    var y = x
                    for _ in 0..<1000 { y = y * 1.0001 }
                    return y.sum()
                }, at: x)
        }
    }

    private static func random(_ shape: [Int], _ seed: UInt64) -> Tensor {
        .normal(shape, key: RandomKey(seed: seed))
    }
}
