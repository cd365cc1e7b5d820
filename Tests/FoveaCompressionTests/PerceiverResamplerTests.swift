import Foundation
import FoveaCompression
import FoveaIO
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite struct PerceiverResamplerTests {
    private func resampler(embeddings: Bool = false, depth: Int = 2) -> PerceiverResampler {
        var model = PerceiverResampler(
            .init(
                width: 8, depth: depth, heads: 2, headWidth: 3, latents: 3, maxFrames: embeddings ? 4 : nil,
                maxMedia: embeddings ? 3 : nil), key: RandomKey(seed: 2)
        ).cast(to: .float64)
        // Norms start at one and zero, which would hide a norm in the wrong place.
        model.forEachParameter { path, tensor in
            if path.lowercased().contains("norm") { tensor = .sample(tensor.shape, path) }
        }
        return model
    }

    @Test("R latents of each medium, whatever goes in")
    func shapes() {
        let model = resampler()
        for shape in [[1, 1, 1, 1, 8], [2, 3, 4, 5, 8], [1, 2, 1, 9, 8]] {
            #expect(model(.sample(shape, "x")).shape == [shape[0], shape[1], 3, 8])
        }
    }

    @Test("the order of the tokens of a frame does not matter")
    func tokenOrder() {
        let x = Tensor.sample([2, 2, 2, 5, 8], "x")
        let shuffled = concatenated([4, 1, 3, 0, 2].map { x.sliced(axis: 3, $0..<$0 + 1) }, axis: 3)
        for embeddings in [false, true] {
            let model = resampler(embeddings: embeddings)
            #expect(relativeDifference(model(shuffled), model(x)) < 1e-12)
        }
    }

    @Test("the order of frames and of media matters through their embeddings alone")
    func frameOrder() {
        let x = Tensor.sample([1, 2, 2, 3, 8], "x")
        let frames = concatenated([x.sliced(axis: 2, 1..<2), x.sliced(axis: 2, 0..<1)], axis: 2)
        #expect(relativeDifference(resampler()(frames), resampler()(x)) < 1e-12)
        let model = resampler(embeddings: true)
        #expect(relativeDifference(model(frames), model(x)) > 1e-3)
        // Embeddings stand by position: shifting them by hand gives the swapped result.
        var swapped = model
        let embeddings = model.frameEmbeddings!
        swapped.frameEmbeddings = concatenated(
            [embeddings.sliced(axis: 0, 1..<2), embeddings.sliced(axis: 0, 0..<1)], axis: 0)
        #expect(relativeDifference(swapped(frames), model(x)) < 1e-12)
    }

    @Test("media do not mix: changing one changes its latents alone")
    func mediaAreIndependent() {
        for embeddings in [false, true] {
            let model = resampler(embeddings: embeddings)
            let x = Tensor.sample([2, 3, 2, 4, 8], "x")
            let other = Tensor.sample([2, 1, 2, 4, 8], "other")
            let changed = concatenated([x.sliced(axis: 1, 0..<1), other, x.sliced(axis: 1, 2..<3)], axis: 1)
            let (before, after) = (model(x), model(changed))
            for medium in [0, 2] {
                #expect(
                    relativeDifference(
                        after.sliced(axis: 1, medium..<medium + 1), before.sliced(axis: 1, medium..<medium + 1)) < 1e-13
                )
            }
            #expect(relativeDifference(after.sliced(axis: 1, 1..<2), before.sliced(axis: 1, 1..<2)) > 1e-3)
        }
    }

    @Test("without embeddings a medium's latents do not depend on its place")
    func mediaPlaces() {
        let x = Tensor.sample([1, 3, 1, 4, 8], "x")
        let model = resampler()
        let together = model(x)
        for medium in 0..<3 {
            let alone = model(x.sliced(axis: 1, medium..<medium + 1))
            #expect(relativeDifference(alone, together.sliced(axis: 1, medium..<medium + 1)) < 1e-13)
        }
    }

    @Test("without visual tokens the latents attend to themselves", arguments: [[2, 2, 1, 0, 8], [2, 2, 0, 3, 8]])
    func noTokens(shape: [Int]) {
        for embeddings in [false, true] {
            let model = resampler(embeddings: embeddings)
            let latents = model(.zeros(shape, dtype: .float64))
            #expect(latents.shape == [2, 2, 3, 8])
            #expect(latents.doubles.allSatisfy { $0.isFinite })
            // The same for every medium, since there is nothing to tell them apart.
            #expect(relativeDifference(latents[0][0], latents[1][1]) == 0)
            // By hand: each layer attends from the normed latents to the normed latents.
            var z = model.latents.unsqueezed(0)
            for layer in model.layers {
                z = z + layer.attention(layer.latentNorm(z))
                z = z + layer.feedForward(layer.feedForwardNorm(z))
            }
            #expect(relativeDifference(latents[0][0], model.norm!(z)[0]) < 1e-12)
        }
    }

    @Test("no media give no latents, and gradients of zero")
    func noMedia() {
        let model = resampler(embeddings: true)
        let (_, gradients, latents) = valueAndGradient(of: model) { model -> (Tensor, Tensor) in
            let latents = model(.zeros([2, 0, 1, 4, 8], dtype: .float64))
            return (latents.sum(), latents)
        }
        #expect(latents.shape == [2, 0, 3, 8])
        #expect(gradients.norm == 0)
    }

    @Test("fewer frames and media than embeddings use the first ones")
    func fewerThanEmbeddings() {
        let model = resampler(embeddings: true)
        let x = Tensor.sample([1, 2, 3, 4, 8], "x")
        let (_, gradients) = valueAndGradient(of: model) { ($0(x) * .sample([1, 2, 3, 8], "cotangent")).sum() }
        let (frames, media) = (gradients["frameEmbeddings"]!, gradients["mediaEmbeddings"]!)
        #expect(frames.shape == [4, 8] && media.shape == [3, 1, 8])
        #expect(frames[3].doubles.allSatisfy { $0 == 0 } && media[2].doubles.allSatisfy { $0 == 0 })
        for row in 0..<3 { #expect(frames[row].doubles.contains { $0 != 0 }) }
        for row in 0..<2 { #expect(media[row].doubles.contains { $0 != 0 }) }
    }

    @Test("depth 0 is the norm of the latents")
    func noLayers() {
        let model = resampler(depth: 0)
        let latents = model(.sample([2, 1, 1, 4, 8], "x"))
        #expect(relativeDifference(latents[1][0], model.norm!(model.latents)) < 1e-14)
    }

    @Test("more frames than embeddings trap with both numbers")
    func tooManyFrames() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let model = PerceiverResampler(
                .init(width: 4, depth: 1, heads: 1, headWidth: 2, latents: 2, maxFrames: 2), key: RandomKey(seed: 0))
            _ = model(.ones([1, 1, 3, 2, 4]))
        }
        let text = message(result)
        #expect(text.contains("PerceiverResampler: 3 frames exceed the 2 embeddings"), "\(text)")
        #expect(text.contains("[1, 1, 3, 2, 4]"), "\(text)")
    }

    @Test("more media than embeddings trap with both numbers")
    func tooManyMedia() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let model = PerceiverResampler(
                .init(width: 4, depth: 1, heads: 1, headWidth: 2, latents: 2, maxMedia: 2), key: RandomKey(seed: 0))
            _ = model(.ones([1, 3, 1, 2, 4]))
        }
        #expect(message(result).contains("PerceiverResampler: 3 media exceed the 2 embeddings"), "\(message(result))")
    }

    @Test("tokens of another rank or width trap with what is needed")
    func wrongTokens() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let model = PerceiverResampler(
                .init(width: 4, depth: 1, heads: 1, headWidth: 2, latents: 2), key: RandomKey(seed: 0))
            _ = model(.ones([1, 1, 1, 2, 5]))
        }
        #expect(message(result).contains("tokens [B, N, F, V, 4] are needed"), "\(message(result))")
    }

    @Test("too many frames or media are errors through the catalogue")
    func catalogueLimits() throws {
        let form = PerceiverResampler.entry.forms[0]
        let instance = try form.instance(form.sample, owner: "a test")
        for shape in [[1, 3, 1, 2, 8], [1, 1, 3, 2, 8], [1, 1, 1, 2, 7], [1, 1, 2, 8]] {
            let error = try #require(throws: ModuleInputError.self, "\(shape)") {
                _ = try instance.outputs(["x": .ones(shape)])
            }
            #expect(error.description.contains("\(shape)"))
        }
    }
}

@Suite("the layout of open_flamingo") struct OpenFlamingoLayoutTests {
    /// The published keys and shapes: D width, I = H · d, R latents, F and N embeddings.
    private func published(
        _ d: Int, _ inner: Int, _ latents: Int, depth: Int, multiple: Int, frames: Int? = nil, media: Int? = nil
    ) -> [String: [Int]] {
        var shapes = ["latents": [latents, d], "norm.weight": [d], "norm.bias": [d]]
        shapes["frame_embs"] = frames.map { [$0, d] }
        shapes["media_time_embs"] = media.map { [$0, 1, d] }
        for i in 0..<depth {
            for norm in ["0.norm_media", "0.norm_latents", "1.0"] {
                shapes["layers.\(i).\(norm).weight"] = [d]
                shapes["layers.\(i).\(norm).bias"] = [d]
            }
            shapes["layers.\(i).0.to_q.weight"] = [inner, d]
            shapes["layers.\(i).0.to_kv.weight"] = [2 * inner, d]
            shapes["layers.\(i).0.to_out.weight"] = [d, inner]
            shapes["layers.\(i).1.1.weight"] = [multiple * d, d]
            shapes["layers.\(i).1.3.weight"] = [d, multiple * d]
        }
        return shapes
    }

    @Test("save and load give the same bytes, under the published names and shapes")
    func roundTrip() throws {
        let options = PerceiverResampler.Options(
            width: 6, depth: 2, heads: 2, headWidth: 5, latents: 3, feedForwardMultiple: 3, maxFrames: 2, maxMedia: 4)
        let model = PerceiverResampler(options, key: RandomKey(seed: 1))
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let (first, second) = (folder.path + "/first.safetensors", folder.path + "/second.safetensors")
        try model.save(to: first, layout: .openFlamingo)

        let shapes = try SafetensorsFile(reading: first).entries.mapValues(\.shape)
        #expect(
            Dictionary(uniqueKeysWithValues: shapes.map { ($0.key, $0.value) })
                == published(6, 10, 3, depth: 2, multiple: 3, frames: 2, media: 4))

        var other = PerceiverResampler(options, key: RandomKey(seed: 2))
        let report = try other.load(from: first, layout: .openFlamingo)
        #expect(report.isComplete && report.cast.isEmpty)
        for (path, tensor) in model.parameters { #expect(other.parameters[path]?.bytes() == tensor.bytes(), "\(path)") }
        try other.save(to: second, layout: .openFlamingo)
        let (bytes, again) = (FileManager.default.contents(atPath: first), FileManager.default.contents(atPath: second))
        #expect(bytes != nil && bytes == again)
        let x = Tensor.sample([1, 2, 2, 3, 6], "x").cast(to: .float32)
        #expect(other(x).bytes() == model(x).bytes())
    }

    @Test("to_kv holds the keys above the values")
    func fusedOrder() {
        let model = PerceiverResampler(
            .init(width: 4, depth: 1, heads: 1, headWidth: 2, latents: 2), key: RandomKey(seed: 1))
        let fused = WeightLayout<PerceiverResampler>.openFlamingo.published(model.parameters)[
            "layers.0.0.to_kv.weight"]!
        #expect(fused.shape == [4, 4])
        let attention = model.layers[0].attention
        #expect(fused.doubles == attention.key.weight.doubles + attention.value.weight.doubles)
    }

    @Test("the released sizes: names and shapes of a depth-6 resampler without embeddings, prefix and all")
    func releasedNames() throws {
        // Every width but D as released; the shapes of the rest follow D in the same way.
        let model = PerceiverResampler(.init(width: 16), key: RandomKey(seed: 1))
        let weights = WeightLayout<PerceiverResampler>.openFlamingo.published(model.parameters)
        #expect(
            Dictionary(uniqueKeysWithValues: weights.map { ($0.key, $0.value.shape) })
                == published(16, 512, 64, depth: 6, multiple: 4))
        var other = PerceiverResampler(.init(width: 16), key: RandomKey(seed: 2))
        let released = NamedTensors(uniqueKeysWithValues: weights.map { ("perceiver." + $0.key, $0.value) })
        let report = try other.load(
            from: released.merging(["lang_encoder.gate": .ones([1])]) { $1 }, source: "a test", layout: .openFlamingo)
        #expect(report.prefix == "perceiver." && report.isComplete)
    }

    @Test("63,019,008 parameters at D = 1024 and depth 6")
    func parameterCount() {
        func count(_ width: Int, _ depth: Int) -> Int {
            PerceiverResampler(.init(width: width, depth: depth), key: RandomKey(seed: 0)).parameterCount
        }
        // The count is linear in the depth and quadratic in D: three small widths fix it, without drawing 63 million
        // numbers, and a fourth confirms that it is so.
        func extrapolated(_ width: Int, _ depth: Int) -> Int {
            func atDepth(_ width: Int) -> Int { count(width, 0) + depth * (count(width, 1) - count(width, 0)) }
            let (a, b, c) = (atDepth(8), atDepth(16), atDepth(24))
            let n = width / 8 - 1
            return a + n * (b - a) + n * (n - 1) / 2 * (c - 2 * b + a)
        }
        #expect(extrapolated(40, 3) == count(40, 3))
        #expect(extrapolated(1024, 6) == 63_019_008)
    }
}
