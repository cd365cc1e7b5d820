import FoveaCompression
import FoveaNN
import FoveaTensor

extension VisionLanguageModel {
    /// What the decoder reads of a batch.
    public struct Sequence: Sendable {
        /// Text, and pictures where they stand in it.
        public var tokens: LayerTokens
        /// What takes part in the layers.
        public var injection: (any Injection)?
        /// For each token of `tokens`, before any is taken away, what it should be predicted as; empty without answers.
        var labels: [[Int]] = []
    }

    /// Texts with their pictures, as the decoder reads them; shorter ones are padded behind.
    ///
    /// - Throws: `LanguageModelError` where placeholders and pictures do not match, for ids outside the vocabulary, and for
    ///   pictures that encoder, compressor or injector cannot take.
    public func sequence(
        _ batch: InterleavedText, reducers: Reducers = Reducers()
    ) throws(LanguageModelError) -> Sequence {
        if let problem = batch.problem(vocabulary: decoder.options.vocabulary) { throw LanguageModelError(problem) }
        let places = batch.places
        guard injector == nil || places.count == 0 || (0..<decoder.options.vocabulary).contains(batch.placeholder)
        else {
            throw LanguageModelError(
                "the placeholder \(batch.placeholder) stays in the text and must be a token of it; there are \(decoder.options.vocabulary)"
            )
        }
        guard places.count > 0 else {
            // An injector may do something even where there is nothing to see.
            let none = injector.map { injector in
                let nothing = Tensor.zeros(
                    [0, 1, injector.mediaWidth(in: decoder)], dtype: decoder.norm.weight.dtype)
                return injector.injection(of: nothing, at: places, in: decoder)
            }
            return Sequence(
                tokens: try decoder.tokens(batch.ids), injection: none, labels: batch.labels ?? [])
        }
        let numbers = places.starts.flatMap { Array($0.indices) }
        let seen = try visualTokens(batch.pictures, numbers: numbers, reducers: reducers)
        guard let injector else { return expanded(batch, seen) }
        guard seen.mask == nil else {
            throw LanguageModelError("the pictures have different numbers of tokens, which an injector cannot take")
        }
        if let problem = injector.problem(with: seen.features, at: places) { throw LanguageModelError(problem) }
        return Sequence(
            tokens: try decoder.tokens(batch.ids),
            injection: injector.injection(of: seen.features, at: places, in: decoder), labels: batch.labels ?? [])
    }

    /// Each placeholder replaced by the tokens of its picture.
    private func expanded(_ batch: InterleavedText, _ seen: VisualTokens) -> Sequence {
        // Behind one another: the embeddings of all texts, and the tokens of all pictures.
        let flat = batch.ids.flatMap { $0.map { $0 == batch.placeholder ? 0 : Int64($0) } }
        let text = decoder.embed(Tensor(flat, shape: [1, flat.count]))[0]
        let visual = seen.features.flattened(from: 0, to: 1)
        let flags: [Bool]? = seen.mask?.scalars()
        let sizes: [Float] = seen.sizes.cast(to: .float32).scalars()
        let marks: [Bool]? = seen.marks?.scalars()

        var rows: [[(source: Int, picture: Int, size: Float)]] = []
        var labels: [[Int]] = []
        var (place, next) = (0, 0)
        for (sample, ids) in batch.ids.enumerated() {
            var (own, wanted): ([(source: Int, picture: Int, size: Float)], [Int]) = ([], [])
            var number = 0
            for (index, id) in ids.enumerated() {
                if id == batch.placeholder {
                    for token in next * seen.count..<(next + 1) * seen.count where flags?[token] ?? true {
                        own.append((flat.count + token, number, max(1, sizes[token])))
                        wanted.append(InterleavedText.ignored)
                    }
                    (next, number) = (next + 1, number + 1)
                } else {
                    own.append((place + index, -1, 1))
                    wanted.append(batch.labels?[sample][index] ?? InterleavedText.ignored)
                }
            }
            place += ids.count
            rows.append(own)
            labels.append(wanted)
        }
        let (samples, length) = (rows.count, rows.map(\.count).max() ?? 0)
        func table<Value>(_ padding: Value, _ value: ((source: Int, picture: Int, size: Float)) -> Value) -> [Value] {
            rows.flatMap { $0.map(value) + Array(repeating: padding, count: length - $0.count) }
        }
        let features = concatenated([text, visual], axis: 0)
            .selecting(axis: 0, Tensor(table(0) { Int64($0.source) }))
            .reshaped(to: [samples, length, decoder.options.width])
        let tokens = LayerTokens(
            features: features, pictures: Tensor(table(-1) { Int64($0.picture) }, shape: [samples, length]),
            sizes: Tensor(table(1) { $0.size }, shape: [samples, length]),
            mask: rows.contains { $0.count < length }
                ? Tensor(table(false) { _ in true }, shape: [samples, length]) : nil,
            marks: marks.map { marks in
                Tensor(table(false) { $0.picture >= 0 && marks[$0.source - flat.count] }, shape: [samples, length])
            })
        return Sequence(tokens: tokens, labels: batch.labels == nil ? [] : labels)
    }

    /// The mean cross-entropy of all tokens that have a label, each predicted by the token before it, or where reducers took that
    /// away by the last one before it that is left. Texts without any label contribute nothing; a batch of such texts has
    /// the loss 0.
    ///
    /// - Throws: `LanguageModelError` as `sequence`, and for a text that exceeds the context.
    public func loss(_ batch: InterleavedText, reducers: Reducers = Reducers()) throws(LanguageModelError) -> Tensor {
        let sequence = try sequence(batch, reducers: reducers)
        var cache = KeyValueCache(for: decoder)
        if let problem = cache.problem(with: sequence.tokens, in: decoder.options) { throw LanguageModelError(problem) }
        let read = decoder.reading(
            sequence.tokens, cache: &cache, injection: sequence.injection, reducers: layerReducers(reducers))
        let positions: [Double] = read.positions.scalars()
        var (rows, wanted): ([Int64], [Int64]) = ([], [])
        let real = read.real
        for (sample, labels) in sequence.labels.enumerated() {
            let left = (0..<read.count).filter { real[sample][$0] }
                .map { (place: sample * read.count + $0, position: positions[sample * read.count + $0]) }
                .sorted { $0.position < $1.position }
            var before = 0  // how many of them stand before the label
            for (place, label) in labels.enumerated() where label != InterleavedText.ignored {
                while before < left.count, left[before].position < Double(place) { before += 1 }
                guard before > 0 else { continue }
                rows.append(Int64(left[before - 1].place))
                wanted.append(Int64(label))
            }
        }
        if rows.isEmpty { (rows, wanted) = ([0], [Int64(InterleavedText.ignored)]) }
        let predicting = read.features.flattened(from: 0, to: 1).selecting(axis: 0, Tensor(rows))
        return crossEntropy(decoder.logits(predicting), Tensor(wanted))
    }

    /// How texts with pictures go on.
    ///
    /// - Parameters:
    ///   - batch: the texts and their pictures; labels play no part.
    ///   - limit: the most tokens that are added to each.
    ///   - sampling: how they are drawn.
    ///   - stops: tokens that end a sample.
    ///   - policy: which positions tokens have once some were taken away.
    ///   - reducers: what takes tokens away on the way.
    /// - Returns: for each sample what was added, with the token that ended it, if one did.
    /// - Throws: `LanguageModelError` as `sequence`, and for a text that would exceed the context.
    public func generate(
        _ batch: InterleavedText, limit: Int, sampling: Sampling = .greedy, stops: Set<Int> = [],
        policy: PositionPolicy = .compact, reducers: Reducers = Reducers()
    ) throws(LanguageModelError) -> [[Int]] {
        let sequence = try sequence(batch, reducers: reducers)
        var cache = KeyValueCache(for: decoder, policy: policy)
        return try decoder.generate(
            after: sequence.tokens, limit: limit, sampling: sampling, stops: stops, cache: &cache,
            injection: sequence.injection, reducers: layerReducers(reducers))
    }
}
