import FoveaTensor
import FoveaTestSupport
import Testing

private func zeros(_ shape: Int...) -> Tensor { .zeros(shape) }

/// Calls of neural ops that are a programmer's mistake. Each must name the op and what it was given.
let neuralMistakes: [TrapCase] = [
    TrapCase("RMS norm's weight", saying: "rmsNorm: the weight must be a vector", "[2, 3]", "[2]") {
        _ = rmsNorm(zeros(2, 3), weight: zeros(2))
    },
    TrapCase("groups", saying: "groupNorm: 3 groups do not divide the channels", "[2, 4, 5]") {
        _ = groupNorm(zeros(2, 4, 5), groups: 3)
    },
    TrapCase("batch norm's vectors", saying: "batchNorm: an input [B, C, ...]", "[3]") {
        _ = batchNorm(zeros(2, 4), weight: zeros(3))
    },
    TrapCase("swiglu", saying: "swiGLU: two tensors of one shape", "[2, 1]", "[2, 3]") {
        _ = swiGLU(zeros(2, 1), zeros(2, 3))
    },
    TrapCase("loss of two shapes", saying: "meanSquaredError: input and target", "[3, 1]", "[3]") {
        _ = meanSquaredError(zeros(3, 1), zeros(3))
    },
    TrapCase("delta", saying: "huberLoss: delta must be positive") { _ = huberLoss(zeros(1), zeros(1), delta: 0) },
    TrapCase("positive weight", saying: "binaryCrossEntropy: the positive weight", "[3]") {
        _ = binaryCrossEntropy(zeros(2, 2), zeros(2, 2), positiveWeight: zeros(3))
    },
    TrapCase("soft targets", saying: "softCrossEntropy: logits [..., C]", "[2, 3]", "[2, 4]") {
        _ = softCrossEntropy(zeros(2, 3), targets: zeros(2, 4))
    },
    TrapCase("cosine", saying: "cosineSimilarity: two tensors") { _ = cosineSimilarity(zeros(2), zeros(3), axis: 0) },
    TrapCase("rotary width", saying: "rotaryEmbedding: x [..., N, d]", "[2, 3]") {
        _ = zeros(2, 3).rotaryEmbedded(positions: Tensor([Int64(0), 1]))
    },
    TrapCase("pixel shuffle", saying: "pixelShuffle: [B, C·r², H, W] with r = 2", "[1, 3, 2, 2]") {
        _ = zeros(1, 3, 2, 2).pixelShuffled(by: 2)
    },
    TrapCase("pixel unshuffle", saying: "pixelUnshuffle: [B, C, H·r, W·r] with r = 2", "[1, 3, 2, 3]") {
        _ = zeros(1, 3, 2, 3).pixelUnshuffled(by: 2)
    },
    TrapCase("window", saying: "maxPooling: no window of 4 × 4 fits", "[1, 1, 3, 3]") {
        _ = zeros(1, 1, 3, 3).maxPooled(kernel: 4)
    },
    TrapCase("pooling's padding", saying: "averagePooling: the padding must be at most half") {
        _ = zeros(1, 1, 3, 3).averagePooled(kernel: 2, padding: 2)
    },
    TrapCase("stride", saying: "maxPooling: kernel, stride and dilation") {
        _ = zeros(1, 1, 3, 3).maxPooled(kernel: 2, stride: 0)
    },
    TrapCase("size", saying: "nearestInterpolation: 0 × 2 is no size") {
        _ = zeros(1, 1, 3, 3).interpolatedNearest(to: Size2D(0, 2))
    },
    TrapCase("no images", saying: "bilinearInterpolation: [B, C, H, W] with pixels", "[3, 3]") {
        _ = zeros(3, 3).interpolatedBilinear(to: 2)
    },
    TrapCase("convolution", saying: "convolution: x [B, C, H, W]", "groups = 2", "[1, 3, 4, 4]") {
        _ = convolution(zeros(1, 3, 4, 4), weight: zeros(4, 2, 2, 2), groups: 2)
    },
    TrapCase("convolution's types", saying: "convolution: the types differ") {
        _ = convolution(zeros(1, 1, 4, 4), weight: .zeros([1, 1, 2, 2], dtype: .float64))
    },
    TrapCase("straight through", saying: "straightThrough: both tensors", "[2]", "[3]") {
        _ = straightThrough(zeros(2), gradientOf: zeros(3))
    },
    TrapCase("temperature", saying: "gumbelSoftmax: the temperature must be positive") {
        _ = zeros(2).gumbelSoftmax(axis: 0, temperature: 0, key: RandomKey(seed: 0))
    },
    TrapCase("heads", saying: "attention: the heads of the keys must divide", "[3, 2, 4]", "[2, 2, 4]") {
        _ = attention(query: zeros(3, 2, 4), keys: zeros(2, 2, 4), values: zeros(2, 2, 4))
    },
    TrapCase("batch of attention", saying: "attention: the axes before the heads", "[2, 1, 2, 4]", "[3, 1, 2, 4]") {
        _ = attention(query: zeros(2, 1, 2, 4), keys: zeros(3, 1, 2, 4), values: zeros(3, 1, 2, 4))
    },
    TrapCase("a tap's row", saying: "attention: a tap's row 5 is outside the 5 query rows") {
        _ = attention(query: zeros(5, 4), keys: zeros(2, 4), values: zeros(2, 4), taps: [.rows([0, 5])])
    },
    TrapCase("a tap's rows", saying: "attention: a tap's rows must be int64 [R] or [..., R]", "[3, 1]") {
        _ = attention(
            query: zeros(2, 1, 5, 4), keys: zeros(2, 1, 2, 4), values: zeros(2, 1, 2, 4),
            taps: [.rows(.zeros([3, 1], dtype: .int64))])
    },
    TrapCase("a tap's range", saying: "attention: a tap's rows 2..<6 must be some of the 5") {
        _ = attention(query: zeros(5, 4), keys: zeros(2, 4), values: zeros(2, 4), taps: [.columnMean(of: 2..<6)])
    },
    TrapCase("a tap's weights", saying: "attention: a tap's weights must be [N] or [..., N]", "float32 [4]") {
        _ = attention(
            query: zeros(5, 4), keys: zeros(2, 4), values: zeros(2, 4), taps: [.columns(weightedBy: zeros(4))])
    },
    TrapCase("mask's type", saying: "attention: the mask must be bool or float32", "int64 [1]") {
        _ = attention(query: zeros(2, 4), keys: zeros(2, 4), values: zeros(2, 4), mask: Tensor([Int64(1)]))
    },
]

@Suite("Mistakes in calls of neural ops")
struct NeuralTrapTests {
    @Test("stop the program and say why", arguments: zip(neuralMistakes.indices, neuralMistakes.map(\.label)))
    func mistake(index: Int, label: String) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            neuralMistakes[index].call()
        }
        neuralMistakes[index].expectMessage(in: result)
    }
}
