import Foundation
import FoveaCompression
import FoveaIO
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

private func sample(_ shape: [Int], _ name: String, _ dtype: DType = .float64, size: Double = 0.5) -> Tensor {
    .uniform(shape, in: -size...size, key: RandomKey(seed: 11).folding(name), dtype: dtype)
}

/// A model of four layers in which everything matters.
private func model(
    _ dtype: DType = .float64, keyHeads: Int = 4, bias: Bool = true, depth: Int = 4
) -> LanguageModel {
    let options = LanguageModel.Options(
        vocabulary: 19, width: 16, hidden: 20, depth: depth, heads: 4, keyHeads: keyHeads, attentionBias: bias,
        contextLength: 256)
    var model = LanguageModel(options, key: RandomKey(seed: 1)).cast(to: dtype)
    model.forEachParameter { path, tensor in tensor = sample(tensor.shape, path, dtype) }
    return model
}

private func vlora(_ dtype: DType = .float64, targets: String = "qkvom", atStart: Bool = false) -> VLoRA {
    var options = VLoRA.Options(
        width: 8, depth: 1, imageWidth: 5, imageTokens: 3, modelWidth: 16, modelDepth: 4, rank: 2)
    options.targets = targets.compactMap { GeneratedWeights.Target(rawValue: String($0)) }
    options.heads = 2
    options.stride = 2
    options.alpha = 3
    var vlora = VLoRA(options, key: RandomKey(seed: 2)).cast(to: dtype)
    if !atStart { vlora.forEachParameter { path, tensor in tensor = sample(tensor.shape, path, dtype) } }
    return vlora
}

/// Hyper attention in the first and the third layer, with gates that are open.
private func hyper(_ fusion: HyperAttention.Fusion, of model: LanguageModel) -> HyperAttentionLayers {
    var hyper = HyperAttentionLayers([0, 2], of: model, fusion: fusion)
    hyper.forEachParameter { path, tensor in tensor = sample(tensor.shape, path, tensor.dtype, size: 1) }
    return hyper
}

/// The injections that there are, each for texts whose pictures stand where `starts` says.
private enum Method: String, CaseIterable {
    case featureGates, joint, tokenGates, vlora

    /// - Parameters:
    ///   - model: whose layers it works in.
    ///   - starts: where the pictures of a batch stand.
    ///   - order: of the pictures; as they are drawn unless given.
    ///   - member: the one text of the batch whose injection it shall be; all of them unless given.
    func injection(
        _ model: LanguageModel, _ starts: [[Int]], order: [Int]? = nil, member: Int? = nil
    ) -> any Injection {
        let dtype = model.embedding.dtype
        guard self != .vlora else {
            let images = sample([starts.count, 3, 5], "image", dtype, size: 2)
            return FoveaModelsTests.vlora(dtype)(member.map { images.sliced(axis: 0, $0..<$0 + 1) } ?? images)
        }
        let first = member.map { starts[..<$0].joined().count } ?? 0
        let own = member.map { [starts[$0]] } ?? starts
        let pictures = sample([starts.joined().count, 5, 16], "pictures", dtype, size: 2)
            .selecting(axis: 0, Tensor((order ?? Array(first..<first + own.joined().count)).map { Int64($0) }))
        let fusion = HyperAttention.Fusion.allCases.first { "\($0)" == rawValue } ?? .joint
        return hyper(fusion, of: model)(pictures, at: PicturePlaces(own), in: model)
    }
}

@Suite("injections in a language model") struct InjectionTests {
    @Test("VLoRA at its start is the base model, to the bit", arguments: [DType.float32, .float64])
    func vloraAtStart(_ dtype: DType) {
        let model = model(dtype)
        let x = sample([2, 9, 16], "x", dtype)
        let weights = vlora(dtype, atStart: true)(sample([2, 3, 5], "image", dtype))
        expectSameBits(model(embeddings: x, injection: weights), model(embeddings: x))
        let other = vlora(dtype)(sample([2, 3, 5], "image", dtype))
        #expect(relativeDifference(model(embeddings: x, injection: other), model(embeddings: x)) > 1e-2)
    }

    @Test("each target of VLoRA changes the model", arguments: ["q", "k", "v", "o", "m"])
    func targets(_ target: String) {
        let model = model()
        let x = sample([1, 6, 16], "x")
        let weights = vlora(targets: target)(sample([1, 3, 5], "image", size: 2))
        let y = model(embeddings: x, injection: weights)
        #expect(relativeDifference(y, model(embeddings: x)) > 1e-3)
        // Its whole change is that of the matrix.
        #expect(relativeDifference(model.merged(with: weights)(embeddings: x), y) < 1e-12)
    }

    @Test("one picture's weights merged into the model give what they give apart")
    func merged() {
        for (dtype, tolerance) in [(DType.float32, 1e-5), (.float64, 1e-12)] {
            let model = model(dtype)
            let x = sample([2, 9, 16], "x", dtype)
            let weights = vlora(dtype)(sample([2, 3, 5], "image", dtype, size: 2))
            let apart = model(embeddings: x, injection: weights)
            for picture in 0..<2 {
                let one = model.merged(with: weights, ofSample: picture)(embeddings: x)[picture]
                #expect(relativeDifference(one, apart[picture]) < tolerance, "\(dtype), \(picture)")
                #expect(relativeDifference(one, apart[1 - picture]) > 1e-2)
            }
        }
    }

    @Test("a model of half precision merges in single precision")
    func mergedHalf() {
        let half = model(.float32).cast(to: .bfloat16)
        let x = sample([1, 5, 16], "x", .float32)
        let weights = vlora(.float32)(sample([1, 3, 5], "image", .float32, size: 2))
        let merged = half.merged(with: weights)
        #expect(merged.layers[1].attention.query.weight.dtype == .float32)
        let whole = half.cast(to: .float32)
        expectClose(
            merged.cast(to: .float32)(embeddings: x), whole.merged(with: weights)(embeddings: x), tolerance: 1e-6)
    }

    @Test(
        "a merged model loads again from its published names",
        arguments: [
            ("qkvom", true, "llama"), ("qkvom", false, "llama"), ("qvo", true, "qwen2"), ("kv", false, "llama"),
        ])
    func export(_ targets: String, _ bias: Bool, _ layout: String) throws {
        let model = model(.float32, bias: bias)
        let weights = vlora(.float32, targets: targets)(sample([1, 3, 5], "image", .float32, size: 2))
        let x = sample([1, 9, 16], "x", .float32)
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let file = folder.appendingPathComponent("model.safetensors").path
        let merged = model.merged(with: weights)
        try merged.save(to: file, layout: layout == "llama" ? .llama : .qwen2)
        // Sizes come from the weights, biases too: those that one flag stands for are all there.
        let again = try #require(LanguageModel.entry.form(layout)).instance(
            ["num_attention_heads": 4, "head_dim": 4, "num_key_value_heads": 4],
            weights: SafetensorsFile(reading: file).tensors(), owner: "a test", source: file)
        let y = try #require(try again.outputs(["inputs_embeds": x])["logits"])
        expectSameBits(y, merged(embeddings: x))
        #expect(relativeDifference(y, model(embeddings: x, injection: weights)) < 1e-5)
        let options = try #require(again.module as? LanguageModel).options
        #expect(options.mlpBias == targets.contains("m") && options.hidden == (targets.contains("m") ? 24 : 20))
    }

    @Test("weights for another model are told apart")
    func mismatches() async {
        let weights = vlora()(sample([1, 3, 5], "image"))
        #expect(model().problem(with: weights) == nil)
        #expect(model(depth: 3).problem(with: weights) == "the weights are for 4 layers, the model has 3")
        let grouped = model(keyHeads: 2).problem(with: vlora(targets: "k")(sample([1, 3, 5], "image")))
        #expect(grouped == "the weights change key from 16 to 16 features, the model's is [8, 16]")
        #expect(model(keyHeads: 2).problem(with: vlora(targets: "qom")(sample([1, 3, 5], "image"))) == nil)
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            _ = model(depth: 3).merged(with: vlora()(sample([1, 3, 5], "image")))
        }
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(text.contains("the weights are for 4 layers, the model has 3"), "\(text)")
    }

    @Test(
        "text in front of the first picture is that of the model without pictures, to the bit",
        arguments: HyperAttention.Fusion.allCases)
    func textBefore(_ fusion: HyperAttention.Fusion) {
        let model = model(.float32, keyHeads: 2)
        let x = sample([2, 90, 16], "x", .float32)
        let injection = hyper(fusion, of: model)(
            sample([3, 30, 16], "pictures", .float32), at: PicturePlaces([[70, 80], [9]]), in: model)
        let (with, without) = (model(embeddings: x, injection: injection), model(embeddings: x))
        for (sample, start) in [(0, 70), (1, 9)] {
            let (a, b) = (with[sample], without[sample])
            expectSameBits(a.sliced(axis: 0, 0..<start), b.sliced(axis: 0, 0..<start))
            #expect(relativeDifference(a[start + 1], b[start + 1]) > 1e-3)
        }
    }

    @Test("pictures that change places change the logits", arguments: HyperAttention.Fusion.allCases)
    func permutation(_ fusion: HyperAttention.Fusion) {
        let model = model()
        let method = Method(rawValue: "\(fusion)") ?? .vlora
        let x = sample([1, 8, 16], "x")
        let y = model(embeddings: x, injection: method.injection(model, [[1, 4]]))
        let swapped = model(embeddings: x, injection: method.injection(model, [[1, 4]], order: [1, 0]))
        for token in 2..<8 { #expect(relativeDifference(swapped[0][token], y[0][token]) > 1e-4, "\(token)") }
    }

    /// Text in two turns, a picture in the first and in the second, and 64 tokens behind: at once, and in pieces.
    @Test(
        "decoding with a cache equals reading at once: ragged batches, two turns, both policies",
        arguments: Method.allCases.map(\.rawValue), PositionPolicy.allCases)
    func cached(_ name: String, _ policy: PositionPolicy) {
        let method = Method(rawValue: name) ?? .vlora
        for (dtype, tolerance) in [(DType.float32, 1e-5), (.float64, 1e-12)] {
            let model = model(dtype, keyHeads: method == .vlora ? 4 : 2)
            // Turns of 7 and 5 tokens; those of the second sample have 5 and 3, and are padded.
            let x = sample([2, 76, 16], "x", dtype)
            let real = (0..<2 * 76).map { ![5, 6, 10, 11].contains($0 - 76) }
            let mask = Tensor(real, shape: [2, 76])
            // By position: of the second sample, token 8 of the padded text is its sixth.
            let injection = method.injection(model, [[1, 9], [3, 6]])
            func read(_ pieces: [Range<Int>]) -> Tensor {
                var cache = KeyValueCache(for: model, policy: policy)
                return concatenated(
                    pieces.map { piece in
                        model.reading(
                            LayerTokens(
                                features: x.sliced(axis: 1, piece), mask: mask.sliced(axis: 1, piece).contiguous()),
                            cache: &cache, injection: injection
                        ).features
                    }, axis: 1)
            }
            let pieced = read([0..<7, 7..<12] + (12..<76).map { $0..<$0 + 1 })
            let whole = read([0..<76])
            // Without any cache, each sample by itself.
            for sample in 0..<2 {
                let own = Tensor((0..<76).filter { real[sample * 76 + $0] }.map(Int64.init))
                func tokens(_ y: Tensor) -> Tensor { y[sample].selecting(axis: 0, own) }
                let alone = model.hiddenStates(
                    embeddings: tokens(x).unsqueezed(0),
                    injection: method.injection(model, [[1, 9], [3, 6]], member: sample))[4][0]
                #expect(relativeDifference(tokens(pieced), alone) < tolerance, "\(dtype), sample \(sample)")
                #expect(relativeDifference(tokens(whole), alone) < tolerance, "\(dtype), sample \(sample)")
                let plain = model.hiddenStates(embeddings: tokens(x).unsqueezed(0))[4][0]
                #expect(relativeDifference(plain, alone) > 1e-2)
            }
        }
    }

    @Test("gradients reach the injection and the picture", arguments: Method.allCases.map(\.rawValue))
    func gradients(_ name: String) {
        let model = model(depth: 4)
        let x = sample([1, 4, 16], "x")
        let image = sample([1, 3, 5], "image", size: 2)
        func logits(_ picture: Tensor) -> Tensor {
            guard name != "vlora" else { return model(embeddings: x, injection: vlora()(picture)) }
            let fusion = HyperAttention.Fusion.allCases.first { "\($0)" == name } ?? .joint
            let tokens = linear(picture, weight: sample([16, 5], "projection"))
            return model(
                embeddings: x, injection: hyper(fusion, of: model)(tokens, at: PicturePlaces([[1]]), in: model))
        }
        let check = checkGradients(of: { logits($0[0]) }, at: [image], named: ["picture"])
        #expect(check.passed, "\(check.message)")
    }
}
