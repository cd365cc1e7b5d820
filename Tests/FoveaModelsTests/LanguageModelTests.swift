import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// float64 is to agree to rounding.
private let wide = 1e-12

private let sizes = LanguageModel.Options(
    vocabulary: 7, width: 8, hidden: 12, depth: 2, heads: 4, keyHeads: 2, contextLength: 9)

/// A model with weights of a size that makes every part of it matter, norms and biases included.
private func model(_ options: LanguageModel.Options = sizes) -> LanguageModel {
    var model = LanguageModel(options, key: RandomKey(seed: 1)).cast(to: .float64)
    model.forEachParameter { path, tensor in
        tensor = .uniform(tensor.shape, in: -1...1, key: RandomKey(seed: 5).folding(path), dtype: .float64)
    }
    return model
}

private func ids(_ rows: [[Int64]]) -> Tensor { Tensor(rows.flatMap { $0 }, shape: [rows.count, rows[0].count]) }

@Suite("LanguageModel") struct LanguageModelTests {
    @Test("tokens give what their embeddings give, one row of logits for each")
    func tokens() {
        let model = model()
        let tokens = ids([[3, 1, 6, 0], [2, 2, 5, 4]])
        let logits = model(tokens)
        #expect(logits.shape == [2, 4, 7])
        expectSameBits(model(embeddings: model.embed(tokens)), logits)
        let states = model.hiddenStates(embeddings: model.embed(tokens))
        #expect(states.map(\.shape) == [[2, 4, 8], [2, 4, 8], [2, 4, 8]])
        expectSameBits(states[0], model.embed(tokens))
        expectSameBits(model.logits(states[2]), logits)
    }

    @Test("a later token changes nothing before it, to the bit")
    func causality() {
        let model = model()
        let logits = model(ids([[3, 1, 6, 0, 2]]))
        for changed in 1..<5 {
            var row: [Int64] = [3, 1, 6, 0, 2]
            row[changed] = 5
            let other = model(ids([row]))
            expectSameBits(
                other.sliced(axis: 1, 0..<changed), logits.sliced(axis: 1, 0..<changed), "token \(changed)")
            #expect(relativeDifference(other[0][changed], logits[0][changed]) > 1e-3)
        }
        // Without the order, the last token reaches the first.
        let both = [ids([[3, 1, 6, 0, 2]]), ids([[3, 1, 6, 0, 5]])].map { model($0, isCausal: false)[0][0] }
        #expect(relativeDifference(both[0], both[1]) > 1e-3)
    }

    @Test("padding on either side changes nothing for the tokens that are there")
    func padding() {
        let model = model()
        let alone = model(ids([[3, 1, 6]]))
        let behind = model(
            ids([[3, 1, 6, 0, 0], [2, 4, 5, 1, 0]]),
            mask: Tensor([true, true, true, false, false, true, true, true, true, false], shape: [2, 5]))
        #expect(relativeDifference(behind.sliced(axis: 0, 0..<1).sliced(axis: 1, 0..<3), alone) < wide)
        // In front, the tokens keep their positions; the first ones see nothing at all.
        let before = model(
            ids([[0, 0, 3, 1, 6]]), positions: Tensor([Int64(0), 0, 0, 1, 2], shape: [1, 5]),
            mask: Tensor([false, false, true, true, true], shape: [1, 5]))
        #expect(relativeDifference(before.sliced(axis: 1, 2..<5), alone) < wide)
        #expect(before.scalars(as: Double.self).allSatisfy { $0.isFinite })
    }

    @Test("a mask for each query packs two sequences in one")
    func packing() {
        let model = model()
        let packed = model(
            ids([[3, 1, 6, 2, 4]]), positions: Tensor([Int64(0), 1, 2, 0, 1]),
            mask: Tensor((0..<25).map { ($0 / 5 < 3) == ($0 % 5 < 3) }, shape: [1, 5, 5]))
        #expect(relativeDifference(packed.sliced(axis: 1, 0..<3), model(ids([[3, 1, 6]]))) < wide)
        #expect(relativeDifference(packed.sliced(axis: 1, 3..<5), model(ids([[2, 4]]))) < wide)
    }

    @Test("a tied head is the embedding's table, once, and gets both gradients")
    func tied() {
        var options = sizes
        options.tiesHead = true
        let tied = model(options)
        #expect(tied.head == nil)
        #expect(tied.parameterCount == model().parameterCount - 7 * 8)
        #expect(!WeightLayout<LanguageModel>.llama.published(tied.parameters).keys.contains("lm_head.weight"))
        var apart = model()
        apart.head?.weight = tied.embedding
        let tokens = ids([[3, 1, 6, 0]])
        let labels = ids([[1, 6, 0, -100]])
        expectSameBits(tied(tokens), apart(tokens))
        let (_, together) = valueAndGradient(of: tied) { crossEntropy($0(tokens), labels) }
        let (_, separate) = valueAndGradient(of: apart) { crossEntropy($0(tokens), labels) }
        #expect(
            relativeDifference(together["embedding"], separate["embedding"]! + separate["head.weight"]!) < wide)
    }

    @Test("fresh weights: matrices of the deviation that is asked for, norms one, biases zero")
    func initialisation() {
        let options = LanguageModel.Options(
            vocabulary: 300, width: 64, hidden: 96, depth: 2, heads: 4, keyHeads: 2, attentionBias: true,
            deviation: 0.05)
        let parameters = LanguageModel(options, key: RandomKey(seed: 3)).parameters
        for (path, tensor) in parameters {
            let values = doubles(of: tensor)
            if path.hasSuffix("bias") {
                #expect(values.allSatisfy { $0 == 0 }, "\(path)")
            } else if path.contains("orm.") {
                #expect(values.allSatisfy { $0 == 1 }, "\(path)")
            } else {
                // At least 2,048 numbers: six standard errors of their deviation.
                let deviation = (values.reduce(0) { $0 + $1 * $1 } / Double(values.count)).squareRoot()
                #expect(abs(deviation - 0.05) < 0.05 * 6 / (2 * 2048.0).squareRoot(), "\(path): \(deviation)")
            }
        }
        #expect(
            parameters["layers.0.attention.query.weight"]!.bytes()
                != parameters["layers.1.attention.query.weight"]!.bytes())
    }

    @Test("published names come from a larger model's file, and go back")
    func names() throws {
        var options = sizes
        options.attentionBias = true
        let original = model(options)
        let published = WeightLayout<LanguageModel>.qwen2.published(original.parameters)
        #expect(published["model.layers.1.self_attn.k_proj.bias"]?.shape == [4])
        #expect(published["model.layers.0.self_attn.o_proj.bias"] == nil)
        let file = NamedTensors(uniqueKeysWithValues: published.map { ("language_model." + $0.key, $0.value) })
        var loaded = LanguageModel(options, key: RandomKey(seed: 9)).cast(to: .float64)
        let report = try loaded.load(from: file, source: "a test", layout: .qwen2)
        #expect(report.prefix == "language_model." && report.isComplete)
        expectSameBits(loaded(ids([[3, 1]])), original(ids([[3, 1]])))
    }
}

@Suite("a language model's configuration") struct LanguageModelConfigurationTests {
    /// What transformers 5 writes besides the sizes of the samples.
    private static let written: [String: ConfigurationValue] = [
        "_name_or_path": "", "architectures": .null, "attention_dropout": 0.0, "bos_token_id": 1,
        "chunk_size_feed_forward": 0, "dtype": "bfloat16", "eos_token_id": [2, 3], "head_dim": 2, "hidden_act": "silu",
        "id2label": .object(["0": "LABEL_0"]), "is_encoder_decoder": false, "label2id": .object(["LABEL_0": 0]),
        "max_position_embeddings": 2048, "output_attentions": false, "output_hidden_states": false,
        "pad_token_id": .null, "problem_type": .null, "return_dict": true, "rms_norm_eps": 1e-06,
        "rope_parameters": .object(["rope_theta": 10_000.0, "rope_type": "default"]), "tie_word_embeddings": false,
        "transformers_version": "5.24.0", "use_cache": true,
    ]
    private static let own: [String: [String: ConfigurationValue]] = [
        "llama": ["attention_bias": false, "mlp_bias": false, "model_type": "llama", "pretraining_tp": 1],
        "qwen2": [
            "layer_types": ["full_attention", "full_attention"], "max_window_layers": 28, "model_type": "qwen2",
            "sliding_window": .null, "use_sliding_window": false,
        ],
    ]

    @Test("everything that transformers writes is taken, and means the defaults", arguments: ["llama", "qwen2"])
    func written(_ layout: String) throws {
        let form = try #require(LanguageModel.entry.form(layout))
        let plain = try form.instance(form.sample, owner: "c.json")
        let whole = form.sample.merging(Self.written) { $1 }.merging(try #require(Self.own[layout])) { $1 }
        let inputs: NamedTensors = ["inputs_embeds": .uniform([1, 4, 8], in: -1...1, key: RandomKey(seed: 1))]
        let logits = try #require(plain.outputs(inputs)["logits"])
        expectSameBits(try #require(try form.instance(whole, owner: "c.json").outputs(inputs)["logits"]), logits)
        // The base of the angles, by its name of today and by the older one.
        for base in [
            ["rope_theta": 100.0], ["rope_theta": 1.0, "rope_parameters": .object(["rope_theta": 100.0])],
            ["rope_theta": 100.0, "rope_scaling": .null],
        ] as [[String: ConfigurationValue]] {
            let other = try form.instance(form.sample.merging(base) { $1 }, owner: "c.json")
            #expect((other.module as? LanguageModel)?.options.rotary == .init(base: 100))
        }
    }

    @Test("angles that are stretched for long texts, by all the names that they have had")
    func stretched() throws {
        let form = try #require(LanguageModel.entry.form("llama"))
        func rotary(_ configuration: [String: ConfigurationValue]) throws -> RotaryFrequencies? {
            let instance = try form.instance(form.sample.merging(configuration) { $1 }, owner: "c.json")
            return (instance.module as? LanguageModel)?.options.rotary
        }
        let linear = RotaryFrequencies(base: 100, scaling: .linear(factor: 2))
        for scaling: ConfigurationValue in [
            .object(["type": "linear", "factor": 2.0]), .object(["rope_type": "linear", "factor": .int(2)]),
        ] {
            #expect(try rotary(["rope_theta": 100.0, "rope_scaling": scaling]) == linear)
        }
        #expect(
            try rotary(["rope_parameters": .object(["rope_theta": 100.0, "rope_type": "linear", "factor": 2.0])])
                == linear)
        let llama: [String: ConfigurationValue] = [
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": .int(8192),
        ]
        #expect(
            try rotary(["rope_theta": 500_000.0, "rope_scaling": .object(llama)])
                == RotaryFrequencies(
                    base: 500_000, scaling: .llama3(factor: 32, low: 1, high: 4, original: 8192)))
        // What is read, generated and cached goes by them: as at positions that lie half as far apart.
        func logits(_ configuration: [String: ConfigurationValue], _ positions: Tensor?) throws -> Tensor {
            let instance = try form.instance(form.sample.merging(configuration) { $1 }, owner: "c.json")
            let model = try #require(instance.module as? LanguageModel)
            var cache = KeyValueCache(for: model, policy: .original)
            let prompt = LayerTokens(features: .uniform([1, 5, 8], key: RandomKey(seed: 1)), positions: positions)
            return model.logits(model.reading(prompt, cache: &cache).features)
        }
        expectClose(
            try logits(["rope_scaling": .object(["type": "linear", "factor": 2.0])], nil),
            try logits([:], Tensor((0..<5).map { Double($0) / 2 }, shape: [1, 5])), tolerance: 1e-6)
    }

    @Test("heads of keys and values and their width are told by the weights")
    func told() throws {
        let form = try #require(LanguageModel.entry.form("qwen2"))
        let weights = try form.instance(form.sample.merging(["head_dim": 6]) { $1 }, owner: "c.json").weights
        let told = try form.instance(
            ["num_attention_heads": 4], weights: weights, owner: "c.json", source: "w.safetensors")
        let options = try #require(told.module as? LanguageModel).options
        #expect(options.headWidth == 6 && options.keyHeads == 2 && options.hidden == 6 && options.depth == 2)
    }
}

@Suite("what a language model refuses") struct LanguageModelRefusalTests {
    @Test("configurations that do not fit together", arguments: LanguageModel.entry.forms.map(\.layout))
    func configurations(_ layout: String) throws {
        let form = try #require(LanguageModel.entry.forms.first { $0.layout == layout })
        let cases: [(String, ConfigurationValue, String)] = [
            ("num_key_value_heads", .int(3), "4 heads cannot share 3 key heads"),
            ("head_dim", .int(3), "even width"), ("attention_dropout", .double(1), "attention_dropout"),
            ("hidden_size", .int(4), "even width"), ("hidden_act", "swoosh", "\"silu\""),
            (
                "rope_scaling", .object(["rope_type": "yarn", "beta_fast": 32.0]),
                "\"rope_type\" that must be \"default\" or \"linear\" or \"llama3\", not \"yarn\""
            ),
            ("rope_scaling", .object(["type": "linear"]), "\"rope_scaling\" lacks the \"factor\" of linear"),
            ("rope_scaling", .object(["type": "linear", "factor": 0.5]), "\"factor\" that must be 1 or more"),
            (
                "rope_parameters", .object(["rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0]),
                "\"rope_parameters\" lacks the \"high_freq_factor\" of llama3"
            ),
            (
                "rope_parameters",
                .object(["rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0]),
                "\"low_freq_factor\" 4.0 must be below"
            ),
            ("rope_parameters", .object(["rope_theta": "big"]), "\"rope_theta\" that must be a number"),
            ("rope_parameters", .object(["rope_theta": .int(0)]), "\"rope_theta\" that must be above 0, not 0"),
            ("rms_norm_eps", .double(-0.5), "\"rms_norm_eps\" must be 0 or more, not -0.5"),
            ("rope_parameters", .object(["beta_fast": 2.0]), "unknown key \"beta_fast\""),
            ("rope_parameters", 3, "must be an object or null"),
        ]
        for (key, value, words) in cases {
            let error = try #require(throws: ModuleInputError.self, "\(key)") {
                _ = try form.instance(form.sample.merging([key: value]) { $1 }, owner: "c.json")
            }
            #expect(error.description.contains(words), "\(error)")
        }
        if layout == "qwen2" {
            let error = try #require(throws: ModuleInputError.self) {
                _ = try form.instance(form.sample.merging(["use_sliding_window": true]) { $1 }, owner: "c.json")
            }
            #expect(error.description.contains("must be false: every layer sees the whole sequence"), "\(error)")
        }
        let short = try form.instance(
            form.sample.merging(["max_position_embeddings": .int(2)]) { $1 }, owner: "c.json")
        let error = try #require(throws: ModuleInputError.self) {
            _ = try short.outputs(["inputs_embeds": .ones([1, 3, 8])])
        }
        #expect(error.description.contains("3 tokens; the context holds 2"), "\(error)")
    }

    @Test(arguments: zip(traps.indices, traps.map(\.label)))
    func trap(index: Int, label: String) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            traps[index].call()
        }
        traps[index].expectMessage(in: result)
    }
}

private let traps: [TrapCase] = [
    TrapCase("an id outside the vocabulary", saying: "index 7 is outside the 7 rows") {
        _ = model()(ids([[3, 7]]))
    },
    TrapCase("ids without a batch", saying: "LanguageModel: token ids [B, T]", "[2]") {
        _ = model()(Tensor([Int64(1), 2]))
    },
    TrapCase("another width", saying: "LanguageModel: embedded tokens [B, T, 8]", "[1, 2, 7]") {
        _ = model()(embeddings: .ones([1, 2, 7]))
    },
    TrapCase("more tokens than the context holds", saying: "LanguageModel: 10 tokens exceed the context of 9") {
        _ = model()(ids([[Int64](repeating: 1, count: 10)]))
    },
    TrapCase("positions of another length", saying: "LanguageModel: positions [T] or [B, T]", "[3]") {
        _ = model()(ids([[1, 2]]), positions: Tensor([Int64(0), 1, 2]))
    },
    TrapCase("a mask of rank 1", saying: "LanguageModel: a mask [B, T]", "bool [2]") {
        _ = model()(ids([[1, 2]]), mask: Tensor([true, false]))
    },
]
