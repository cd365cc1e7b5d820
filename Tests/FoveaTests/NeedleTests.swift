import Fovea
import Testing

/// One informative patch among 64, a budget of 6: which of four things the picture shows is written in that patch alone.
private struct NeedleReader<Method: Compressor>: Module {
    var sampler: Method
    var classifier: Linear

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("sampler", &sampler)
        visitor.module("classifier", &classifier)
    }

    /// Patches [B, 64, 12] → logits [B, 4].
    func callAsFunction(_ patches: Tensor) -> Tensor {
        let tokens = sampler(VisualTokens(patches: patches, grid: .init(rows: 8, columns: 8)))
        return classifier(tokens.features.sum(axes: [1]))
    }

    /// The share of 1,000 fresh pictures that it reads.
    func accuracy() -> Double {
        let (patches, classes) = haystacks(1_000, seed: 1_000_000)
        let found = withoutGradient { self(patches).argmax(axis: 1) }.scalars(as: Int64.self)
        return Double(zip(found, classes).count { $0 == $1 }) / 1_000
    }

    mutating func train(steps: Int) {
        var optimizer = AdamW(learningRate: .constant(0.01), groups: ParameterGroup.decayingMatrices(0))
        for step in 0..<steps {
            let (patches, classes) = haystacks(64, seed: UInt64(step))
            let (_, gradients) = valueAndGradient(of: self) {
                crossEntropy($0(patches), Tensor(classes, shape: [classes.count]))
            }
            optimizer.update(&self, along: gradients)
        }
    }
}

/// Pictures of noise, [B, 64, 12], in each of which one patch at random carries a mark and one of four patterns.
private func haystacks(_ count: Int, seed: UInt64) -> (patches: Tensor, classes: [Int64]) {
    let key = RandomKey(seed: seed).folding("haystacks")
    var values = Tensor.normal([count, 64, 12], key: key, dtype: .float32).scalars(as: Float.self).map { $0 * 0.2 }
    var classes: [Int64] = []
    for sample in 0..<count {
        let start = (sample * 64 + key.folding("place").integer(below: 64, at: sample)) * 12
        let pattern = key.folding("class").integer(below: 4, at: sample)
        for mark in 0..<4 { values[start + mark] += mark % 2 == 0 ? 2 : -2 }
        values[start + 4 + 2 * pattern] += 2
        classes.append(Int64(pattern))
    }
    return (Tensor(values, shape: [count, 64, 12]), classes)
}

@Suite("a needle in a haystack, at a tenth of the patches") struct NeedleTests {
    @Test(
        "FocusLLaVA's gate learns from the loss alone to find it",
        arguments: [SelectionGate.valuePreserving, .straightThrough, .soft])
    func gate(_ gate: SelectionGate) {
        let key = RandomKey(seed: 11)
        var reader = NeedleReader(
            sampler: FocusTokenSampler(
                12, keyWidth: 8, window: 4, scales: [1], keep: 6, gate: gate, key: key.folding("sampler")),
            classifier: Linear(12, 4, key: key.folding("classifier")))
        reader.train(steps: 400)
        #expect(reader.accuracy() >= 0.95, "\(gate): \(reader.accuracy())")
    }

    @Test("without a gradient to the gate, and with a random choice, it is found as often as the budget says")
    func random() {
        let key = RandomKey(seed: 11)
        var reader = NeedleReader(
            sampler: RandomSelection(keep: 6, seed: 5), classifier: Linear(12, 4, key: key.folding("classifier")))
        reader.train(steps: 400)
        // 6 of 64 seen, and a quarter of the others guessed: 0.32.
        #expect(reader.accuracy() < 0.42, "\(reader.accuracy())")
        var still = NeedleReader(
            sampler: FocusTokenSampler(
                12, keyWidth: 8, window: 4, scales: [1], keep: 6, gate: .none, key: key.folding("sampler")),
            classifier: Linear(12, 4, key: key.folding("classifier")))
        let before = still.sampler.query.weight
        still.train(steps: 3)
        #expect(still.sampler.query.weight.bytes() == before.bytes())
    }
}
