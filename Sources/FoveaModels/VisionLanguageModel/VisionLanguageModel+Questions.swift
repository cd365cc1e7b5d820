import FoveaCompression
import FoveaNN
import FoveaTensor

/// Answers to packed questions, and what of the pictures they were read from.
public struct TracedAnswers: Sendable {
    /// [B, A, V]; 0 for questions that a sample lacks.
    public var logits: Tensor
    /// What is left of the pictures behind the decoder's last layer, or went into the injector: [B, A, M, P·N], how much of
    /// each of the N patches of P pictures is in each of M tokens; rows of 0 where there are fewer. nil unless tracked.
    public var origins: Tensor?
    /// What parts of the model want of their own choices in training.
    public var losses: [AuxiliaryLoss] = []
}

extension VisionLanguageModel: QuestionAnswerer {
    /// Packed questions → logits [B, A, V]. Traps where `answers(to:)` throws.
    public func callAsFunction(_ questions: PackedQuestions) -> Tensor { answering(questions).logits }

    /// The same with what compressor and reducers want of their choices. Traps where `answers(to:)` throws.
    public func answering(_ questions: PackedQuestions) -> (logits: Tensor, losses: [AuxiliaryLoss]) {
        do {
            let answers = try answers(to: questions)
            return (answers.logits, answers.losses)
        } catch {
            trap("VisionLanguageModel", "\(error)", questions.pictures)
        }
    }

    /// Answers to packed questions, whatever takes tokens away on the way.
    ///
    /// The pictures of a sample are encoded once for all its questions, and all questions see all of them: as a prefix, or
    /// through the injector as if their placeholders stood in front of the question. A question does not see the others.
    /// Where reducers work between the layers of the decoder, they decide for each question by itself, as they do where it
    /// is asked alone; a prefix then goes through the decoder once for each. The model's own sampler in front of the last
    /// layer does without that: visual tokens are no more than keys and values there, and each question leaves out its own.
    ///
    /// - Parameters:
    ///   - questions: packed.
    ///   - reducers: what takes tokens away on the way.
    ///   - tracked: whether to keep track of which patches the answers are read from.
    /// - Throws: `LanguageModelError` for pictures that encoder, compressor, reducers or injector cannot take, and for more
    ///   of them than the model was made for.
    public func answers(
        to questions: PackedQuestions, reducers: Reducers = Reducers(), tracked: Bool = false
    ) throws(LanguageModelError) -> TracedAnswers {
        let (batch, most) = (questions.pictures.shape[0], questions.pictures.shape[1])
        let present = questions.present
        var pictures = questions.pictures.flattened(from: 0, to: 1)
        var numbers = (0..<batch * most).map { $0 % most }
        // An injector takes the pictures that there are; a prefix is as long in each sample.
        if injector != nil, present.contains(false) {
            let places = present.indices.filter { present[$0] }
            pictures = pictures.selecting(axis: 0, Tensor(places.map(Int64.init)))
            numbers = places.map { numbers[$0] }
        }
        let seen = try visualTokens(pictures, numbers: numbers, reducers: reducers, tracked: tracked)
        if let injector {
            return try answers(to: questions, injecting: seen, by: injector)
        }
        let isPacked = sampler.map { $0.layer == decoder.layers.count - 1 && !tracked } ?? true
        guard reducers.decoder.isEmpty, isPacked else {
            return try answers(to: questions, seeing: seen, reducers: layerReducers(reducers))
        }
        let width = decoder.options.width
        var mask = questions.pictureMask.map { $0.unsqueezed(2).expanded(to: [batch, most, seen.count]) }
        if let own = seen.mask?.reshaped(to: [batch, most, seen.count]) { mask = mask.map { $0 .& own } ?? own }
        let logits = decoder.answers(
            to: questions, prefix: seen.features.reshaped(to: [batch, most * seen.count, width]),
            prefixMask: mask.map { $0.contiguous().flattened(from: 1, to: 2) },
            sampler: sampler.map { ($0, pictures: most) })
        return TracedAnswers(logits: logits, origins: questions.origins(of: seen), losses: seen.losses)
    }

    /// The answers where an injector puts the pictures into the layers.
    private func answers(
        to questions: PackedQuestions, injecting seen: VisualTokens, by injector: any Injector
    ) throws(LanguageModelError) -> TracedAnswers {
        guard seen.mask == nil else {
            throw LanguageModelError("the pictures have different numbers of tokens, which an injector cannot take")
        }
        let counts = questions.pictureCounts
        let places = PicturePlaces(counts.map { Array(0..<$0) })
        if let problem = injector.problem(with: seen.features, at: places) { throw LanguageModelError(problem) }
        // The questions stand behind the placeholders.
        var behind = questions
        let length = questions.ids.shape[1]
        let within = questions.positions.scalars(as: Int64.self)
        behind.positions = Tensor(
            within.indices.map { within[$0] + Int64(counts[$0 / length]) }, shape: questions.positions.shape)
        let logits = decoder.answers(
            to: behind, prefix: nil, injection: injector.injection(of: seen.features, at: places, in: decoder))
        return TracedAnswers(logits: logits, origins: questions.origins(of: seen), losses: seen.losses)
    }

    /// The answers where reducers work between the decoder's layers: each question is a text of its own, with its sample's
    /// pictures as prefix.
    private func answers(
        to questions: PackedQuestions, seeing seen: VisualTokens, reducers: [any LayerReducer]
    ) throws(LanguageModelError) -> TracedAnswers {
        let (batch, most) = (questions.pictures.shape[0], questions.pictures.shape[1])
        let slots = questions.labels.shape[1]
        let provenance = questions.origins(of: seen)
        var (logits, origins): ([Tensor], [Tensor]) = ([], [])
        for sample in 0..<batch {
            guard let tokens = try texts(of: questions, sample: sample, seeing: seen) else {
                logits.append(.zeros([slots, decoder.options.vocabulary], dtype: seen.features.dtype))
                if let provenance { origins.append(.zeros([slots, 0, provenance.shape[3]])) }
                continue
            }
            var cache = KeyValueCache(for: decoder, picturesArePrefix: true)
            if let problem = cache.problem(with: tokens, in: decoder.options) { throw LanguageModelError(problem) }
            let read = decoder.reading(tokens, cache: &cache, reducers: reducers)
            let own = decoder.logits(read.last).squeezed(1)
            logits.append(own.padded(to: slots, axis: 0))
            if let provenance, let left = read.origins {
                // Of the sample's tokens those that are real, and of what is left those that are of pictures.
                let visual = questions.visual(of: sample, in: seen).map { Int64($0 - sample * most * seen.count) }
                let patches = provenance[sample][0].selecting(axis: 0, Tensor(visual))
                let isOfPicture = read.pictures .>= 0
                let isVisual = (read.mask.map { $0 .& isOfPicture } ?? isOfPicture).cast(to: left.dtype).unsqueezed(2)
                origins.append(
                    matmul(left.sliced(axis: 2, 0..<visual.count) * isVisual, patches).padded(to: slots, axis: 0))
            }
        }
        let longest = origins.map { $0.shape[1] }.max() ?? 0
        return TracedAnswers(
            logits: concatenated(logits.map { $0.unsqueezed(0) }, axis: 0),
            origins: origins.isEmpty
                ? nil : concatenated(origins.map { $0.padded(to: longest, axis: 1).unsqueezed(0) }, axis: 0),
            losses: seen.losses)
    }
}

extension VisionLanguageModel {
    /// The questions of a sample, each as a text of its own behind the sample's pictures: what a decoder reads whose cache has
    /// pictures as a prefix. nil where nothing is asked.
    ///
    /// - Parameters:
    ///   - questions: packed.
    ///   - sample: which.
    ///   - seen: the tokens of all pictures of the batch.
    /// - Throws: `LanguageModelError` for ids outside the vocabulary.
    public func texts(
        of questions: PackedQuestions, sample: Int, seeing seen: VisualTokens
    ) throws(LanguageModelError) -> LayerTokens? {
        let texts = questions.texts(of: sample)
        guard !texts.isEmpty else { return nil }
        let most = questions.pictures.shape[1]
        let visual = questions.visual(of: sample, in: seen)
        let rows = Tensor(visual.map(Int64.init))
        let tokens = try decoder.tokens(texts)
        let (count, length) = (visual.count, tokens.count)
        func behind(_ prefix: Tensor, _ text: Tensor) -> Tensor {
            concatenated([prefix.unsqueezed(0).expanded(to: [texts.count] + prefix.shape), text], axis: 1)
        }
        return LayerTokens(
            features: behind(seen.features.flattened(from: 0, to: 1).selecting(axis: 0, rows), tokens.features),
            pictures: behind(Tensor(visual.map { Int64($0 / seen.count % most) }), tokens.pictures),
            sizes: behind(seen.sizes.cast(to: .float32).flattened().selecting(axis: 0, rows), tokens.sizes),
            mask: tokens.mask.map { behind(Tensor(Array(repeating: true, count: count)), $0) },
            marks: seen.marks.map { marks in
                let own = marks.flattened().cast(to: .int64).selecting(axis: 0, rows) .> 0
                return behind(own, .full([texts.count, length], 0, dtype: .bool))
            },
            origins: seen.provenance == nil
                ? nil : VisualTokens.Provenance.identity(batch: texts.count, patches: count + length).weights)
    }

    /// What answering one question about one picture takes, as encoder, compressor, decoder and reducers state it.
    ///
    /// - Parameters:
    ///   - length: tokens of the question.
    ///   - reducers: what takes tokens away on the way.
    /// - Returns: of each layer of encoder and decoder, of all of them together, and of the reducers alone. Patches, projector
    ///   and head are part of the whole.
    public func cost(
        ofAnswering length: Int, reducers: Reducers = Reducers()
    ) -> (encoder: [LayerCost], decoder: [LayerCost], total: Cost, reducers: Cost) {
        let patches = encoder.tokenShape
        let (encoding, left) = encoder.blocks.cost(
            ofEncoding: patches.count, behind: encoder.tokensInFront, reducers: reducers.encoder)
        var seen = left == patches.count ? patches : TokenShape(count: left, width: patches.width)
        var total = encoder.frontCost + compressor.cost(seen)
        seen = compressor.outputShape(seen)
        if let projector {
            total = total + .product(seen.count, projector.weight.shape[1], projector.weight.shape[0])
            seen.width = projector.weight.shape[0]
        }
        var taken = encoding.reduce(Cost()) { $0 + $1.reducers }
        for method in reducers.tokens {
            taken = taken + method.cost(seen)
            seen = method.outputShape(seen)
        }
        let decoding = decoder.cost(ofReading: seen.count, question: length, reducers: layerReducers(reducers))
        taken = decoding.reduce(taken) { $0 + $1.reducers }
        total = (encoding + decoding).reduce(total + taken) { $0 + $1.layer }
        return (
            encoding, decoding, total + .product(1, decoder.options.width, decoder.options.vocabulary), taken
        )
    }
}

extension PackedQuestions {
    /// Where the real tokens of a sample's pictures are among those of all pictures of the batch.
    fileprivate func visual(of sample: Int, in seen: VisualTokens) -> [Int] {
        let most = pictures.shape[1]
        let real: [Bool] =
            seen.mask?.scalars() ?? Array(repeating: true, count: pictures.shape[0] * most * seen.count)
        let (present, first) = (self.present, sample * most * seen.count)
        return (first..<first + most * seen.count).filter { real[$0] && present[$0 / seen.count] }
    }

    /// Which pictures there are, for B · P of them.
    fileprivate var present: [Bool] {
        pictureMask?.scalars() ?? Array(repeating: true, count: pictures.shape[0] * pictures.shape[1])
    }

    /// How many pictures each sample has.
    fileprivate var pictureCounts: [Int] {
        let (flags, most) = (present, pictures.shape[1])
        return (0..<pictures.shape[0]).map { flags[$0 * most..<($0 + 1) * most].count { $0 } }
    }

    /// The token ids of each question of a sample.
    fileprivate func texts(of sample: Int) -> [[Int]] {
        let length = ids.shape[1]
        let words: [Int64] = ids[sample].scalars()
        let numbers: [Int64] = questions[sample].scalars()
        var texts: [[Int]] = []
        for place in 0..<length where numbers[place] >= 0 {
            if numbers[place] == texts.count { texts.append([]) }
            texts[texts.count - 1].append(Int(words[place]))
        }
        return texts
    }

    /// Which patches of a sample's pictures are in which of its tokens: [B, A, P·M, P·N]; nil unless tracked.
    ///
    /// - Parameter seen: the tokens of all pictures, or of those that there are.
    fileprivate func origins(of seen: VisualTokens) -> Tensor? {
        guard let weights = seen.provenance?.weights else { return nil }
        let (batch, most, slots) = (pictures.shape[0], pictures.shape[1], labels.shape[1])
        let (count, patches) = (weights.shape[1], weights.shape[2])
        let flags = present
        let isWhole = weights.shape[0] == flags.count
        var next = 0
        // A picture's tokens are of its own patches.
        let nothing = Tensor.zeros([count, patches])
        var samples: [Tensor] = []
        for sample in 0..<batch {
            var rows: [Tensor] = []
            for picture in 0..<most {
                let slot = sample * most + picture
                defer { next += isWhole || flags[slot] ? 1 : 0 }
                let own = flags[slot] ? weights[next] : nothing
                rows.append(concatenated((0..<most).map { $0 == picture ? own : nothing }, axis: 1))
            }
            samples.append(concatenated(rows, axis: 0).unsqueezed(0))
        }
        let joined = concatenated(samples, axis: 0).unsqueezed(1)
        return joined.expanded(to: [batch, slots, most * count, most * patches])
    }
}

extension Tensor {
    /// With zeros behind, up to a length along an axis.
    fileprivate func padded(to length: Int, axis: Int) -> Tensor {
        guard shape[axis] < length else { return self }
        var rest = shape
        rest[axis] = length - shape[axis]
        return concatenated([self, .zeros(rest, dtype: dtype)], axis: axis)
    }
}
