import Foundation
import FoveaIO
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

private let options = LanguageModel.Options(
    vocabulary: 13, width: 8, hidden: 12, depth: 2, heads: 4, keyHeads: 2, attentionBias: true, tiesHead: true,
    contextLength: 20)

/// A published folder of a model whose matrices are of bfloat16, in two files with an index; removed afterwards.
private func withFolder(_ body: (String, LanguageModel) throws -> Void) throws {
    let folder = NSTemporaryDirectory() + "fovea-language-model-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    var model = LanguageModel(options, key: RandomKey(seed: 4))
    model.forEachParameter { path, tensor in
        tensor = .uniform(tensor.shape, in: -0.7...0.7, key: RandomKey(seed: 6).folding(path))
            .cast(to: .bfloat16).cast(to: .float32)
    }
    let config = """
        {"model_type": "qwen2", "vocab_size": 13, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 20, "tie_word_embeddings": true,
         "hidden_act": "silu", "torch_dtype": "bfloat16"}
        """
    try config.write(toFile: folder + "/config.json", atomically: true, encoding: .utf8)
    let tensors = WeightLayout<LanguageModel>.qwen2.published(model.parameters)
        .mapValues { $0.cast(to: .bfloat16) }
    let names = Array(tensors.keys)
    var places: [String: String] = [:]
    for (number, part) in [names.prefix(9), names.dropFirst(9)].enumerated() {
        let file = "model-0000\(number + 1)-of-00002.safetensors"
        var own: NamedTensors = [:]
        for name in part {
            own[name] = tensors[name]
            places[name] = file
        }
        try writeSafetensors(own, metadata: ["format": "pt"], to: folder + "/" + file)
    }
    let index = try JSONSerialization.data(withJSONObject: ["metadata": [String: String](), "weight_map": places])
    try index.write(to: URL(fileURLWithPath: folder + "/model.safetensors.index.json"))
    try body(folder, model)
}

@Suite("a published folder of a language model") struct LanguageModelLoadingTests {
    @Test("loads; matrices stay as they are stored, and the logits are those of the same numbers in float32")
    func logits() throws {
        try withFolder { folder, model in
            let loaded = try LanguageModel.load(from: folder)
            #expect(loaded.options == model.options)
            for (path, tensor) in loaded.parameters {
                #expect(tensor.dtype == (tensor.rank == 2 ? .bfloat16 : .float32), "\(path)")
            }
            let ids = Tensor([Int64(3), 1, 12, 0, 7, 7], shape: [2, 3])
            #expect(relativeDifference(loaded(ids), model(ids)) < 1e-5)
            let (got, want) = (
                try loaded.generate([[3, 1], [5]], limit: 4), try model.generate([[3, 1], [5]], limit: 4)
            )
            #expect(got == want)
            // Cast, it is the model itself, and can be trained.
            expectSameBits(loaded.cast(to: .float32)(ids), model(ids))
            let labels = Tensor([Int64(1), 12, 0, 7, 7, 3], shape: [2, 3])
            let (_, kept) = valueAndGradient(of: loaded) { crossEntropy($0(ids), labels) }
            #expect(kept["layers.0.attention.query.weight"] == nil)
            #expect(kept["layers.0.attentionNorm.weight"] != nil)
        }
    }

    @Test("what is wrong with a folder is said in one line")
    func refusals() throws {
        try withFolder { folder, _ in
            func message(_ config: String?) throws -> String {
                let path = folder + "/config.json"
                if let config {
                    try config.write(toFile: path, atomically: true, encoding: .utf8)
                } else {
                    try FileManager.default.removeItem(atPath: path)
                }
                do {
                    _ = try LanguageModel.load(from: folder)
                    return ""
                } catch {
                    return String(describing: error)
                }
            }
            let cases: [(String?, String)] = [
                ("{\"model_type\": \"mamba\"}", "known are llama, qwen2"), ("{}", "\"model_type\" is null"),
                ("[1]", "is not a JSON object"),
                (
                    "{\"model_type\": \"qwen2\", \"hidden_size\": 16, \"num_attention_heads\": 4}",
                    "\"hidden_size\" is 16"
                ), (nil, "cannot be read"),
            ]
            for (config, words) in cases {
                let said = try message(config)
                #expect(said.contains(words), "\(said)")
            }
        }
    }

    @Test("the catalogue takes token ids with a mask, or embeddings, and not both")
    func inputs() throws {
        let form = try #require(LanguageModel.entry.form("llama"))
        let instance = try form.instance(form.sample, owner: "c.json")
        let model = try #require(instance.module as? LanguageModel)
        let ids = Tensor([Int64(3), 1, 4, 0, 2, 0], shape: [2, 3])
        let mask = Tensor([true, true, true, true, true, false], shape: [2, 3])
        let got = try #require(try instance.outputs(["input_ids": ids, "attention_mask": mask])["logits"])
        expectSameBits(got, model(ids, mask: mask))
        let cases: [(NamedTensors, String)] = [
            ([:], "\"inputs_embeds\" or \"input_ids\""),
            (["input_ids": ids, "inputs_embeds": model.embed(ids)], "and not both"),
            (["input_ids": Tensor([Int64(5)], shape: [1, 1])], "token 5 is outside the vocabulary of 5"),
        ]
        for (inputs, words) in cases {
            let error = #expect(throws: ModuleInputError.self) { _ = try instance.outputs(inputs) }
            #expect(error?.description.contains(words) == true, "\(String(describing: error))")
        }
    }
}

@Suite("a published folder of a vision encoder") struct VisionEncoderLoadingTests {
    private static let sizes = """
        "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8,
        "patch_size": 4
        """

    /// A folder with this configuration, and an encoder's weights behind `prefix` among others; removed afterwards.
    private func withFolder(
        _ config: String, _ family: VisionEncoder.Family, prefix: String, _ body: (String, VisionEncoder) throws -> Void
    ) throws {
        let folder = NSTemporaryDirectory() + "fovea-vision-encoder-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let encoder = VisionEncoder(
            .init(family, imageSize: 8, patchSize: 4, width: 8, hidden: 12, depth: 2, heads: 2),
            key: RandomKey(seed: 5))
        let layout: WeightLayout<VisionEncoder> = family == .clip ? .clip : .siglip
        var tensors: NamedTensors = ["logit_scale": .zeros([]), "text_model.embeddings.position_ids": .zeros([1, 4])]
        if prefix.isEmpty { tensors = [:] }
        for (name, tensor) in layout.published(encoder.parameters) { tensors[prefix + name] = tensor }
        try writeSafetensors(tensors, metadata: ["format": "pt"], to: folder + "/model.safetensors")
        try config.write(toFile: folder + "/config.json", atomically: true, encoding: .utf8)
        try body(folder, encoder)
    }

    @Test(
        "loads, alone or out of a larger model",
        arguments: [
            ("clip", "{\"model_type\": \"clip_vision_model\", \(sizes)}", ""),
            ("siglip", "{\"model_type\": \"siglip_vision_model\", \(sizes)}", ""),
            ("clip", "{\"model_type\": \"clip\", \"text_config\": {}, \"vision_config\": {\(sizes)}}", "vision_model."),
            ("siglip", "{\"model_type\": \"siglip\", \"vision_config\": {\(sizes)}}", "vision_model."),
            (
                "clip",
                "{\"model_type\": \"llava\", \"vision_config\": {\"model_type\": \"clip_vision_model\", \"vocab_size\": 32000, \(sizes)}}",
                "vision_tower.vision_model."
            ),
        ])
    func loads(_ family: String, _ config: String, _ prefix: String) throws {
        try withFolder(config, try #require(.init(rawValue: family)), prefix: prefix) { folder, encoder in
            let loaded = try VisionEncoder.load(from: folder)
            #expect(loaded.options == encoder.options)
            let pictures = Tensor.uniform([1, 3, 8, 8], in: -1...1, key: RandomKey(seed: 3))
            expectSameBits(loaded(pictures), encoder(pictures))
        }
    }

    @Test("what is wrong with a folder is said in one line")
    func refusals() throws {
        let cases = [
            ("{\"model_type\": \"qwen2\"}", "known are clip_vision_model, siglip_vision_model"),
            (
                "{\"model_type\": \"llava\", \"vision_config\": {\(Self.sizes)}}",
                "\"model_type\" is \"llava_vision_model\""
            ),
            ("{\"model_type\": \"siglip_vision_model\", \(Self.sizes)}", "patch_embedding.bias"),
            ("{\"model_type\": \"clip_vision_model\", \"hidden_size\": 16}", "\"hidden_size\" is 16"),
            ("{", "is not a JSON"),
        ]
        for (config, words) in cases {
            try withFolder(config, .clip, prefix: "") { folder, _ in
                let error = #expect(throws: (any Error).self) { try VisionEncoder.load(from: folder) }
                let said = error.map { "\($0)" } ?? ""
                #expect(said.contains(words) && !said.contains("\n"), "\(said)")
            }
        }
    }
}
