import Foundation
import FoveaCompression
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

private func pretraining(deviation: Double = 0.4) -> QFormerPretraining {
    QFormerPretraining(
        .init(
            .init(
                width: 8, depth: 3, heads: 2, hidden: 12, contextWidth: 6, deviation: deviation), queries: 3,
            projection: 4, vocabulary: 11, maxPositions: 7, padding: 0, beginning: 10, temperature: 0.2),
        key: RandomKey(seed: 9)
    ).cast(to: .float64)
}

private func batch(_ size: Int, imageIDs: [Int64]? = nil) -> ImageTextBatch {
    // Texts of two, three and four words, padded to five.
    let words = (0..<size * 5).map { place -> Int64 in
        let (text, position) = (place / 5, place % 5)
        return position < 2 + text % 3 ? Int64(1 + place * 7 % 9) : 0
    }
    let ids = Tensor(words, shape: [size, 5])
    return ImageTextBatch(
        tokens: .sample([size, 4, 6], "tokens"), ids: ids, textMask: ids .!= 0,
        imageIDs: imageIDs.map { Tensor($0, shape: [size]) })
}

@Suite("Q-Former objectives against LAVIS") struct QFormerLAVISTests {
    private func fixture() throws -> NamedTensors {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures/q-former-objectives/lavis.safetensors").path
        return try SafetensorsFile(reading: path).tensors()
    }

    private func part(_ fixture: NamedTensors, _ prefix: String) -> NamedTensors {
        var part: NamedTensors = [:]
        for (name, tensor) in fixture where name.hasPrefix(prefix) {
            part[String(name.dropFirst(prefix.count))] = tensor
        }
        return part
    }

    /// Two pairs: each has one negative of either kind, so that nothing is left to chance.
    @Test("the three losses to 4e-6, and the gradient of their sum for every weight to 4e-5")
    func losses() throws {
        let fixture = try fixture()
        var model = pretraining()
        let report = try model.load(from: part(fixture, "weight."), source: "LAVIS", layout: .lavis)
        #expect(report.isComplete)
        let (tokens, ids) = (try #require(fixture["tokens"]), try #require(fixture["ids"]))
        var pairs = ImageTextBatch(tokens: tokens.cast(to: .float64), ids: ids, textMask: ids .!= 0)
        let (_, gradients, losses) = valueAndGradient(of: model) { model in
            let losses = model.losses(pairs, key: RandomKey(seed: 1))
            return (losses.total, losses)
        }
        for (name, loss) in [
            ("loss_itc", losses.contrast), ("loss_itm", losses.matching), ("loss_lm", losses.generation),
        ] {
            #expect(relativeDifference(loss, fixture[name]!) <= 4e-6, "\(name)")
        }
        let published = WeightLayout<QFormerPretraining>.lavis.published(gradients.tensors)
        let wanted = part(fixture, "gradient.")
        #expect(Set(published.keys) == Set(wanted.keys))
        for (name, want) in wanted {
            #expect(relativeDifference(published[name], want) <= 4e-5, "gradient of \(name)")
        }
        pairs.imageIDs = Tensor([4, 4] as [Int64])
        let same = model.losses(pairs, key: RandomKey(seed: 1)).contrast
        #expect(relativeDifference(same, fixture["loss_itc_same_image"]!) <= 4e-6)
    }

    @Test("what LAVIS stores besides is left alone; a second table of words must be the first one")
    func layout() throws {
        let weights = part(try fixture(), "weight.")
        let words = weights["Qformer.bert.embeddings.word_embeddings.weight"]!
        var more = weights
        more["Qformer.bert.embeddings.position_ids"] = .arange(7, dtype: .int64).unsqueezed(0)
        more["visual_encoder.blocks.0.norm1.weight"] = .ones([2])
        more["ln_vision.weight"] = .ones([2])
        more["Qformer.cls.predictions.decoder.weight"] = words
        var model = pretraining()
        let report = try model.load(from: more, source: "a test", layout: .lavis)
        #expect(report.isComplete)
        let written = WeightLayout<QFormerPretraining>.lavis.published(model.parameters)
        #expect(Set(written.keys) == Set(weights.keys))
        for (name, tensor) in written {
            #expect(tensor.cast(to: .float32).bytes() == weights[name]!.bytes(), "\(name)")
        }

        more["Qformer.cls.predictions.decoder.weight"] = words * 2
        let error = try #require(throws: WeightsError.self) {
            _ = try model.load(from: more, source: "a test", layout: .lavis)
        }
        #expect(error.report.unexpected == ["Qformer.cls.predictions.decoder.weight"])

        // The Q-Former alone out of the same file.
        let form = try #require(QFormer.entry.form("lavis"))
        let alone = try form.instance(["num_attention_heads": 2], weights: weights, owner: "c", source: "w")
        #expect(alone.configuration.bool("use_qformer_text_input") && alone.weights.count == weights.count - 15)
    }
}

@Suite struct QFormerObjectivesTests {
    @Test("contrast: the largest similarity over the queries, both ways, against plain loops")
    func contrast() {
        let (images, texts) = (Tensor.sample([3, 2, 4], "images"), Tensor.sample([3, 4], "texts"))
        let (f, g) = (images.doubles, texts.doubles)
        var s = [[Double]](repeating: [0, 0, 0], count: 3)
        for i in 0..<3 {
            for j in 0..<3 {
                s[i][j] = (0..<2).map { q in (0..<4).reduce(0) { $0 + f[(i * 2 + q) * 4 + $1] * g[j * 4 + $1] } }.max()!
            }
        }
        let similarity = imageTextSimilarity(images, texts)
        #expect(relativeDifference(similarity, Tensor(s.flatMap { $0 }, shape: [3, 3])) < 1e-14)
        func loss(_ row: [Double], _ targets: [Double]) -> Double {
            let total = row.reduce(0) { $0 + exp($1) }
            return zip(row, targets).reduce(0) { $0 - (0.9 * $1.1 + 0.1 / 3) * ($1.0 - log(total)) }
        }
        for same in [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 1], [0, 1, 0], [1, 0, 1]]] as [[[Double]]] {
            var want = 0.0
            for i in 0..<3 {
                let targets = same[i].map { $0 / same[i].reduce(0, +) }
                want += (loss(s[i], targets) + loss((0..<3).map { s[$0][i] }, targets)) / 6
            }
            let mask = Tensor(same.flatMap { $0 }, shape: [3, 3]).cast(to: .bool)
            #expect(abs(imageTextContrast(similarity, samePicture: mask).item() - want) < 1e-13)
        }
    }

    @Test("hard negatives: never what is excluded, as often as the softmax says, the same for the same key")
    func negatives() {
        let scores = Tensor([5, 1, 2, 0.5, 9, 9, 3, 3, 3] as [Double], shape: [3, 3])
        let excluded = Tensor([true, false, false, false, true, false, true, true, true], shape: [3, 3])
        var counts = [[Int]](repeating: [0, 0, 0], count: 2)
        for seed in 0..<4000 as Range<UInt64> {
            let drawn = hardNegatives(scores, excluded: excluded, key: RandomKey(seed: seed))
            #expect(drawn == hardNegatives(scores, excluded: excluded, key: RandomKey(seed: seed)))
            #expect(drawn[2] == nil)
            for row in 0..<2 { counts[row][drawn[row]!] += 1 }
        }
        #expect(counts[0][0] == 0 && counts[1][1] == 0)
        // e / (1 + e) of 4000, give or take four deviations; and e^-8.5 of them.
        #expect(abs(Double(counts[0][2]) / 4000 - 0.7311) < 0.028)
        #expect(counts[1][0] <= 8)
    }

    @Test("matching: 3B pairs against plain loops; those without a negative do not count")
    func matching() {
        let model = pretraining()
        let key = RandomKey(seed: 4)
        for ids in [nil, [1, 2, 1, 3], [7, 7, 7, 7]] as [[Int64]?] {
            let batch = batch(4, imageIDs: ids)
            let (queries, _) = model.encode(batch.tokens)
            let s =
                imageTextSimilarity(
                    model.imageFeatures(queries), model.textFeatures(batch.ids, mask: batch.textMask))
                / model.temperature
            let pictureIDs = ids ?? [0, 1, 2, 3]
            let same = (0..<16).map { (cell: Int) -> Bool in pictureIDs[cell / 4] == pictureIDs[cell % 4] }
            let excluded = Tensor(same, shape: [4, 4])
            let pictures = hardNegatives(s.transposed(0, 1), excluded: excluded, key: key.folding("pictures"))
            let texts = hardNegatives(s, excluded: excluded, key: key.folding("texts"))
            var losses: [Double] = []
            func pair(_ picture: Int, _ text: Int, match: Int) {
                let z = model.matchLogits(
                    batch.tokens.sliced(axis: 0, picture..<picture + 1),
                    ids: batch.ids.sliced(axis: 0, text..<text + 1),
                    mask: batch.textMask.sliced(axis: 0, text..<text + 1)
                ).doubles
                losses.append(log(exp(z[0]) + exp(z[1])) - z[match])
            }
            for b in 0..<4 {
                pair(b, b, match: 1)
                if let picture = pictures[b] { pair(picture, b, match: 0) }
                if let text = texts[b] { pair(b, text, match: 0) }
            }
            #expect(losses.count == (ids == [7, 7, 7, 7] ? 4 : 12))
            let want = losses.reduce(0, +) / Double(losses.count)
            #expect(abs(model.losses(batch, key: key).matching.item() - want) < 1e-12)
        }
    }

    @Test("generation: each next word against plain loops, and against the combined mask")
    func generation() {
        let model = pretraining()
        let batch = batch(3)
        let ids: [Int64] = batch.ids.scalars()
        let begun = Tensor(ids.indices.map { $0 % 5 == 0 ? 10 : ids[$0] }, shape: [3, 5])
        let states = model.qFormer(
            concatenated([model.queryTokens.expanded(to: [3, 3, 8]), model.embeddings(begun)], axis: 1), queryLength: 3,
            mask: QFormerMask.multimodalCausal(queries: 3, text: 5, textMask: batch.textMask), context: batch.tokens)
        let logits = model.wordHead(states.sliced(axis: 1, 3..<8), words: model.embeddings.words).doubles
        var losses: [Double] = []
        for b in 0..<3 {
            for t in 1..<5 where ids[b * 5 + t] != 0 {
                let row = (0..<11).map { logits[(b * 5 + t - 1) * 11 + $0] }
                let total = log(row.reduce(0) { $0 + exp($1) })
                losses.append(
                    0.9 * (total - row[Int(ids[b * 5 + t])]) + 0.1 * row.reduce(0) { $0 + (total - $1) / 11 })
            }
        }
        let want = losses.reduce(0, +) / Double(losses.count)
        #expect(abs(model.losses(batch, key: RandomKey(seed: 0)).generation.item() - want) < 1e-12)

        // Word by word, as a caption is made.
        var cache = model.encode(batch.tokens).cache
        for t in 0..<5 {
            let step = model.wordLogits(
                begun.sliced(axis: 1, t..<t + 1), mask: batch.textMask.sliced(axis: 1, 0..<t + 1), cache: &cache)
            let whole = (0..<3).flatMap { b in (0..<11).map { logits[(b * 5 + t) * 11 + $0] } }
            #expect(relativeDifference(step, Tensor(whole, shape: [3, 1, 11])) < 1e-12, "word \(t)")
        }
    }

    /// Along one random direction for each parameter, rather than element by element: all three losses from two passes.
    @Test("the gradient of each loss for every parameter and the tokens against finite differences, to 1e-6")
    func gradients() {
        let model = pretraining()
        let batch = batch(3, imageIDs: [1, 2, 1])
        let arguments = model.parameters.merging(["tokens": batch.tokens]) { $1 }
        func losses(_ arguments: [Tensor]) -> [Tensor] {
            var (bound, pairs) = (model, batch)
            var next = 0
            bound.forEachParameter { _, parameter in
                parameter = arguments[next]
                next += 1
            }
            pairs.tokens = arguments[next]
            let losses = bound.losses(pairs, key: RandomKey(seed: 2))
            return [losses.contrast, losses.matching, losses.generation]
        }
        let values = arguments.values.elements
        let analytic = (0..<3).map { loss in valueAndGradient(of: { losses($0)[loss] }, at: values).gradients }
        let step = 1e-5
        for (position, name) in arguments.keys.enumerated() {
            let draw = Tensor.sample(values[position].shape, "direction of \(name)")
            let direction = draw / (draw * draw).sum().sqrt()
            func moved(_ distance: Double) -> [Double] {
                var moved = values
                moved[position] = values[position] + direction * distance
                return losses(moved).map { $0.item() }
            }
            let (up, down) = (moved(step), moved(-step))
            for loss in 0..<3 {
                let numeric = (up[loss] - down[loss]) / (2 * step)
                let slope = (analytic[loss][position] * direction).sum().item()
                #expect(abs(slope - numeric) <= 1e-6 * max(1, abs(numeric)), "\(name), loss \(loss)")
            }
        }
    }

    @Test("a batch gives what its members give alone: similarities, match logits, word logits")
    func batches() {
        let model = pretraining()
        let batch = batch(3)
        func outputs(_ rows: Range<Int>) -> [Tensor] {
            let (tokens, ids) = (batch.tokens.sliced(axis: 0, rows), batch.ids.sliced(axis: 0, rows))
            let mask = batch.textMask.sliced(axis: 0, rows)
            var (queries, cache) = model.encode(tokens)
            return [
                model.imageFeatures(queries), model.textFeatures(ids, mask: mask),
                model.matchLogits(tokens, ids: ids, mask: mask), model.wordLogits(ids, mask: mask, cache: &cache),
            ]
        }
        let whole = outputs(0..<3)
        for member in 0..<3 {
            for (alone, all) in zip(outputs(member..<member + 1), whole) {
                #expect(relativeDifference(alone, all.sliced(axis: 0, member..<member + 1)) < 1e-13)
            }
        }
    }

    @Test("ten steps of gradient descent lower every loss")
    func training() {
        var model = pretraining()
        let batch = batch(4)
        let first = model.losses(batch, key: RandomKey(seed: 0))
        for step in 0..<10 {
            let (_, gradients) = valueAndGradient(of: model) {
                $0.losses(batch, key: RandomKey(seed: UInt64(step))).total
            }
            model.forEachParameter { path, parameter in parameter = parameter - gradients[path]! * 0.05 }
        }
        let last = model.losses(batch, key: RandomKey(seed: 0))
        #expect(last.contrast.item() < first.contrast.item() && last.matching.item() < first.matching.item())
        #expect(last.generation.item() < first.generation.item())
    }

    @Test("visit shows every parameter once")
    func visit() {
        let model = pretraining()
        // Three layers of self-attention and two MLPs, each with its norm, and cross-attention in two of them.
        let layers = 3 * (10 + 2 * 6) + 2 * 10
        #expect(model.parameters.count == 1 + 2 + layers + 2 + 5 + 3 * 2 + 1)
        #expect(model.temperature.item() == Double(Float(0.2)))
    }
}
