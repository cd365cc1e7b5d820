import Fovea

extension Benchmark {
    /// Reducers on one picture of LLaVA-1.5's size, 24 × 24 patches of width 1024, mostly to 64 tokens. Run by name alone:
    /// they are measured against what they save, not against each other's products.
    static let reducers: [Benchmark] = [
        reducer("random", RandomSelection(keep: 64)), reducer("uniform", UniformSelection(keep: 64)),
        reducer("average-pool", AveragePooling(keep: 64)),
        reducer("downsample", Downsample(to: .init(rows: 8, columns: 8))),
        reducer("tome", ToMe(keep: 64)), reducer("tome-r16", ToMe(r: 16)),
        reducer("prumerge", PruMerge(budget: 64)), reducer("visionzip", VisionZip(budget: 64)),
        reducer("divprune", DivPrune(keep: 64)), reducer("cdpruner", CDPruner(keep: 64)),
        reducer("mustdrop-merge", MustDropMerge(window: 3, threshold: 0)),
        reducer(
            "focus-vision-sampler", FocusTokenSampler(1024, keyWidth: 32, keep: 64, key: RandomKey(seed: 0))),
        sparseVLM,
    ]

    private static let grid = VisualTokens.Grid(rows: 24, columns: 24)

    private static func reducer(_ name: String, _ method: some Compressor) -> Benchmark {
        Benchmark(name: "reduce.\(name)") {
            var tokens = VisualTokens(patches: .normal([1, 576, 1024], key: RandomKey(seed: 1)), grid: grid)
            tokens.signals = EncoderSignals(
                classAttention: Tensor.normal([1, 16, 576], key: RandomKey(seed: 2)).softmax(axis: 2),
                keys: .normal([1, 576, 64], key: RandomKey(seed: 3)),
                relevance: .normal([1, 576], key: RandomKey(seed: 4)))
            return { _ = method(tokens) }
        }
    }

    /// With the attention of 32 words.
    private static let sparseVLM = Benchmark(name: "reduce.sparsevlm") {
        let x = Tensor.normal([576, 1024], key: RandomKey(seed: 1))
        let text = Tensor.normal([32, 1024], key: RandomKey(seed: 2))
        let attention = Tensor.normal([16, 32, 576], key: RandomKey(seed: 3)).softmax(axis: 2)
        let method = SparseVLM(keep: 64)
        return { _ = method.reduction(x, attention: attention, raters: method.raters(x, text: text)) }
    }
}

extension Benchmark {
    /// Reading 576 visual tokens and 64 of text with a decoder of eight layers of width 1024: as it is (`prefill.none`), with
    /// a reducer that leaves 64 visual tokens (`prefill.<method>`), and where as many go in the same layers and nobody
    /// decides which (`replay.<method>`). What the second takes more than the third is the reducer's own time. Run by name
    /// alone.
    static let inDecoder: [Benchmark] = {
        let place = ReductionPlace(grid: grid, encoderLayers: 24, decoderLayers: 8)
        // Those whose part in the decoder leaves 64 by itself.
        let methods = ReductionMethod.all.filter { method in
            method.isGuidedByText
                && (try? method.reducers(keeping: 64, in: place).decoder).map { left(of: grid.count, by: $0) } == 64
        }
        return [prefill("prefill.none") { _ in [] }]
            + methods.flatMap { method in
                prefills(method.name) { try method.reducers(keeping: 64, in: place).decoder }
            }
            + prefills("ficoco-l-probabilities") {
                try ReductionMethod.named("ficoco-l")!
                    .reducers(keeping: 64, in: place, options: ["mode": .string("probabilities")]).decoder
            }
    }()

    /// How many of n visual tokens the last of eight layers gets; nil where that depends on the picture.
    private static func left(of n: Int, by reducers: [any LayerReducer]) -> Int? {
        var left = n
        for layer in 0..<8 {
            for reducer in reducers {
                guard let count = reducer.count(of: left, inLayer: layer) else { return nil }
                left = count
            }
        }
        return left
    }

    private static func prefills(
        _ name: String, _ reducers: @escaping @Sendable () throws -> [any LayerReducer]
    ) -> [Benchmark] {
        [
            prefill("prefill.\(name)") { _ in try reducers() },
            prefill("replay.\(name)") { read in try reducers().replayed(read) },
        ]
    }

    /// - Parameters:
    ///   - name: of the benchmark.
    ///   - reducers: what it reads with, made with the help of reading itself.
    private static func prefill(
        _ name: String,
        _ reducers: @escaping @Sendable (_ read: ([any LayerReducer]) -> Void) throws -> [any LayerReducer]
    ) -> Benchmark {
        Benchmark(name: name) {
            let model = LanguageModel(
                .init(vocabulary: 64, width: 1024, hidden: 2816, depth: 8, heads: 8), key: RandomKey(seed: 0))
            let prompt = LayerTokens(
                features: .normal([1, 640, 1024], key: RandomKey(seed: 1)),
                pictures: Tensor((0..<640).map { $0 < 576 ? Int64(0) : -1 }, shape: [1, 640]))
            let read = { (reducers: [any LayerReducer]) in
                withoutGradient {
                    var cache = KeyValueCache(for: model)
                    _ = model.logits(model.reading(prompt, cache: &cache, reducers: reducers).last)
                }
            }
            guard let reducers = try? reducers(read) else { return {} }
            return { read(reducers) }
        }
    }
}
