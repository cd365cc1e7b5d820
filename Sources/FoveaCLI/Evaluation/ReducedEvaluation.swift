import Fovea

/// A trained model on one part of its questions, to be tried under reducers without training it again.
struct ReducedEvaluation {
    typealias Model = QuestionExperiment.Model

    let model: Model
    let questions: QuestionSet
    let patchSize: Int
    /// What the model answers with all tokens, sample by sample.
    private let plain: [[Int]]
    /// The share of these answers that is right.
    private let unreduced: Double
    /// One question about one picture, which times are taken of.
    private let single: PackedQuestions

    /// - Parameters:
    ///   - model: the model.
    ///   - questions: what is asked.
    ///   - patchSize: pixels along a patch's side.
    init(_ model: Model, on questions: QuestionSet, patchSize: Int) throws {
        self.model = model
        self.questions = questions
        self.patchSize = patchSize
        var plain: [[Int]] = []
        var (asked, right) = (0, 0)
        for indices in ReducedEvaluation.batches(questions.count, of: 32) {
            let batch = questions.batch(of: indices, augmentation: nil)
            let words = ReducedEvaluation.words(try withoutGradient { try model.answers(to: batch).logits })
            let labels: [Int64] = batch.labels.scalars()
            for (row, sample) in indices.enumerated() {
                let slots = questions.sample(sample).questions.indices
                asked += slots.count
                right += slots.count { words[row][$0] == Int(labels[row * batch.labels.shape[1] + $0]) }
            }
            plain += words
        }
        self.plain = plain
        unreduced = Double(right) / Double(max(1, asked))
        var first = questions.sample(0)
        first.questions = Array(first.questions.prefix(1))
        single = questions.packed([first])
    }

    private static func batches(_ count: Int, of size: Int) -> [[Int]] {
        stride(from: 0, to: count, by: size).map { Array($0..<min(count, $0 + size)) }
    }

    /// The likeliest word of each question, [B][A].
    private static func words(_ logits: Tensor) -> [[Int]] {
        let words: [Int64] = logits.argmax(axis: -1).scalars()
        let slots = logits.shape[1]
        return (0..<logits.shape[0]).map { words[$0 * slots..<($0 + 1) * slots].map(Int.init) }
    }

    /// Where reducers sit in a model.
    static func place(in model: Model) -> ReductionPlace {
        let seen = model.encoder.tokenShape
        let compressed = model.compressor.outputShape(seen)
        return ReductionPlace(
            grid: compressed.grid ?? .init(rows: 1, columns: compressed.count),
            encoderLayers: model.encoder.blocks.count, decoderLayers: model.decoder.layers.count,
            // One that needs their raster does not take fewer.
            keepsTokens: compressed.grid == seen.grid
                && model.compressor.refusal(of: TokenShape(count: seen.count, width: seen.width)) == nil)
    }

    /// How the model does with one reducer.
    func score(_ trial: ReducerArguments.Trial) throws -> ReducedScore {
        let reducers = trial.reducers
        var counts: [(asked: Int, right: Int)] = []
        var (same, evidence, undiluted, shown) = (0, 0.0, 0.0, 0)
        // Which patches go where takes a matrix for each question.
        for indices in ReducedEvaluation.batches(questions.count, of: 8) {
            let samples = indices.map { questions.sample($0) }
            let batch = questions.packed(samples)
            let answers = try withoutGradient { try model.answers(to: batch, reducers: reducers, tracked: true) }
            let words = ReducedEvaluation.words(answers.logits)
            let labels: [Int64] = batch.labels.scalars()
            let left = answers.origins.map { Survivors($0, isSame: model.layerReducers(reducers).isEmpty) }
            for (row, sample) in samples.enumerated() {
                var right = 0
                for (slot, question) in sample.questions.enumerated() {
                    right += words[row][slot] == Int(labels[row * batch.labels.shape[1] + slot]) ? 1 : 0
                    same += words[row][slot] == plain[indices[row]][slot] ? 1 : 0
                    let patches = sample.evidence(of: question, patchSize: patchSize).flatMap { $0 }
                    let wanted = patches.indices.filter { patches[$0] }
                    guard let left, !wanted.isEmpty else { continue }
                    let shares = wanted.map { left.share(of: $0, sample: row, question: slot) }
                    evidence += Double(shares.count { $0 > 0 }) / Double(shares.count)
                    undiluted += shares.reduce(0, +) / Double(shares.count)
                    shown += 1
                }
                counts.append((sample.questions.count, right))
            }
        }
        let score = QuestionScore(type: trial.name, samples: counts)
        let (times, costs) = (try times(reducers), try costs(reducers))
        return ReducedScore(
            reducer: trial.name, keep: trial.keep, asked: score.asked, accuracy: score.accuracy, lower: score.lower,
            upper: score.upper, unreduced: unreduced, agreement: Double(same) / Double(max(1, score.asked)),
            evidence: evidence / Double(max(1, shown)), undiluted: undiluted / Double(max(1, shown)),
            entering: costs.entering, mean: costs.mean, multiplyAdds: costs.multiplyAdds,
            reducerMultiplyAdds: costs.reducers, cacheBytes: costs.cacheBytes, visionMilliseconds: times.vision,
            prefillMilliseconds: times.prefill, decodeMilliseconds: times.decode, reducerMilliseconds: times.reducer)
    }
}

/// How much of each patch there is in what is left of the pictures.
private struct Survivors {
    /// Of each patch the largest share that it has in a token, [B, A, P · N], A being 1 where all questions see the same.
    private let shares: [Float]
    private let (questions, patches): (Int, Int)

    /// - Parameters:
    ///   - origins: [B, A, M, P · N].
    ///   - isSame: whether all questions see the same.
    init(_ origins: Tensor, isSame: Bool) {
        let own = isSame ? origins.sliced(axis: 1, 0..<min(1, origins.shape[1])) : origins
        let sums = own.sum(axes: [3], keepingAxes: true)
        let smallest = Tensor([Float(1e-12)], shape: [1, 1, 1, 1]).cast(to: own.dtype)
        shares = (own / maximum(sums, smallest)).max(axes: [2]).cast(to: .float32).scalars()
        (questions, patches) = (own.shape[1], own.shape[3])
    }

    func share(of patch: Int, sample: Int, question: Int) -> Double {
        Double(shares[(sample * questions + min(question, questions - 1)) * patches + patch])
    }
}

// What one question about one picture takes.

extension ReducedEvaluation {
    /// Milliseconds of each part, and of the reducers in them.
    private func times(
        _ reducers: Reducers
    ) throws -> (vision: Double, prefill: Double, decode: Double, reducer: Double) {
        let vision = { (encoder: [any LayerReducer], tokens: [any Compressor]) in
            try model.visualTokens(
                single.pictures.flattened(from: 0, to: 1), numbers: Array(0..<single.pictures.shape[1]),
                reducers: Reducers(encoder: encoder, tokens: tokens))
        }
        let seen = try vision(reducers.encoder, reducers.tokens)
        func prefill(_ seen: VisualTokens, _ decoder: [any LayerReducer]) throws -> KeyValueCache {
            var cache = KeyValueCache(for: model.decoder, picturesArePrefix: true)
            let text = try model.texts(of: single, sample: 0, seeing: seen)!
            let all = model.layerReducers(Reducers()) + decoder
            _ = model.decoder.logits(model.decoder.reading(text, cache: &cache, reducers: all).last)
            return cache
        }
        let read = try prefill(seen, reducers.decoder)
        let next = LayerTokens(features: model.decoder.embed(Tensor([Int64(0)], shape: [1, 1])))
        var (encoding, entering, deciding) = (0.0, 0.0, 0.0)
        let visionTime = try milliseconds { _ = try vision(reducers.encoder, reducers.tokens) }
        let prefillTime = try milliseconds { _ = try prefill(seen, reducers.decoder) }
        if !reducers.encoder.isEmpty {
            let replayed = try reducers.encoder.replayed { _ = try vision($0, []) }
            encoding =
                try milliseconds { _ = try vision(reducers.encoder, []) }
                - milliseconds { _ = try vision(replayed, []) }
        }
        if !reducers.tokens.isEmpty {
            let given = try vision(reducers.encoder, [])
            entering = try milliseconds { _ = reducers.reduced(given) }
        }
        if !reducers.decoder.isEmpty {
            let replayed = try reducers.decoder.replayed { _ = try prefill(seen, $0) }
            deciding = try prefillTime - milliseconds { _ = try prefill(seen, replayed) }
        }
        return (
            visionTime, prefillTime,
            try milliseconds {
                var cache = read
                _ = model.decoder.logits(model.decoder.reading(next, cache: &cache).last)
            }, max(0, encoding) + entering + max(0, deciding)
        )
    }

    /// The median of several runs.
    private func milliseconds(_ work: () throws -> Void) throws -> Double {
        let clock = ContinuousClock()
        let times = try withoutGradient { try (0..<11).map { _ in try clock.measure(work).seconds * 1e3 } }
        return times.sorted()[times.count / 2]
    }

    /// How many tokens of a picture the decoder gets on average, where that depends on the picture; nil where it does not.
    private func counted(_ reducers: Reducers) throws -> Double? {
        guard model.compressor.problem(with: model.encoder.tokenShape) != nil else { return nil }
        var (tokens, pictures) = (0, 0)
        for indices in ReducedEvaluation.batches(questions.count, of: 32) {
            let batch = questions.batch(of: indices, augmentation: nil)
            let most = batch.pictures.shape[1]
            let seen = try withoutGradient {
                try model.visualTokens(
                    batch.pictures.flattened(from: 0, to: 1), numbers: (0..<indices.count * most).map { $0 % most },
                    reducers: reducers)
            }
            let real: [Bool] = seen.mask?.scalars() ?? Array(repeating: true, count: seen.batch * seen.count)
            let present: [Bool] = batch.pictureMask?.scalars() ?? Array(repeating: true, count: seen.batch)
            tokens += real.indices.count { real[$0] && present[$0 / seen.count] }
            pictures += present.count { $0 }
        }
        return Double(tokens) / Double(max(1, pictures))
    }

    /// What the methods state; tokens are counted where a compressor states the most that there can be.
    private func costs(
        _ reducers: Reducers
    ) throws -> (entering: Double, mean: Double, multiplyAdds: Int, reducers: Int, cacheBytes: Int) {
        let question = single.ids.shape[1]
        let stated = model.cost(ofAnswering: question, reducers: reducers)
        let most = try counted(reducers) ?? .infinity
        let visual = stated.decoder.map { min(Double($0.visual), most) }
        return (
            visual.first ?? 0, visual.reduce(0, +) / Double(max(1, visual.count)), stated.total.multiplyAdds,
            stated.reducers.multiplyAdds, stated.decoder.reduce(0) { $0 + model.decoder.cacheBytes(of: $1.held) }
        )
    }
}
