import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// float64 is to agree to rounding.
private let wide = 1e-12

private func sizes(_ family: VisionEncoder.Family) -> VisionEncoder.Options {
    VisionEncoder.Options(family, imageSize: 6, patchSize: 2, channels: 2, width: 8, hidden: 12, depth: 3, heads: 2)
}

/// An encoder with weights of a size that makes every part of it matter, norms and biases included.
private func encoder(_ family: VisionEncoder.Family) -> VisionEncoder {
    var encoder = VisionEncoder(sizes(family), key: RandomKey(seed: 1)).cast(to: .float64)
    encoder.forEachParameter { path, tensor in
        tensor = .uniform(tensor.shape, in: -1...1, key: RandomKey(seed: 5).folding(path), dtype: .float64)
    }
    return encoder
}

private func pictures(_ shape: [Int]) -> Tensor {
    .uniform(shape, in: -1...1, key: RandomKey(seed: 7), dtype: .float64)
}

@Suite("VisionEncoder") struct VisionEncoderTests {
    @Test("a token for each patch, behind CLIP's class token; SigLIP norms what comes out")
    func tokens() {
        let x = pictures([2, 2, 6, 6])
        for (family, count) in [(VisionEncoder.Family.clip, 10), (.siglip, 9)] {
            let encoder = encoder(family)
            let states = encoder.hiddenStates(x)
            #expect(states.map(\.shape) == [[Int]](repeating: [2, count, 8], count: 4))
            expectSameBits(encoder(x), family == .clip ? states[3] : encoder.postNorm(states[3]))
            let embedded = encoder.patches(x)
            expectSameBits(states[0], encoder.preNorm?(embedded) ?? embedded)
        }
        #expect(encoder(.clip).preNorm != nil && encoder(.clip).patches.bias == nil)
        #expect(encoder(.siglip).preNorm == nil && encoder(.siglip).patches.bias != nil)
    }

    @Test("going through fewer layers gives the first states")
    func through() {
        let encoder = encoder(.clip)
        let x = pictures([1, 2, 6, 6])
        let states = encoder.hiddenStates(x)
        for count in 0...3 {
            let first = encoder.hiddenStates(x, through: count)
            #expect(first.count == count + 1)
            expectSameBits(first[count], states[count])
        }
    }

    @Test("pictures of another size", arguments: [VisionEncoder.Family.clip, .siglip])
    func otherSizes(_ family: VisionEncoder.Family) {
        let encoder = encoder(family)
        let front = family == .clip ? 1 : 0
        #expect(encoder(pictures([2, 2, 8, 4])).shape == [2, front + 8, 8])
        // Three pixels that fill no patch are left out.
        let x = pictures([1, 2, 7, 6])
        expectSameBits(encoder(x), encoder(x.sliced(axis: 2, 0..<6)))
    }

    @Test("fresh weights are as published")
    func initialisation() {
        let (width, hidden, depth) = (64, 128, 2)
        func deviations(_ family: VisionEncoder.Family, factor: Double = 1) -> [String: Double] {
            let options = VisionEncoder.Options(
                family, imageSize: 32, patchSize: 4, width: width, hidden: hidden, depth: depth, heads: 4,
                deviationFactor: factor)
            return VisionEncoder(options, key: RandomKey(seed: 3)).parameters.mapValues { tensor in
                let values = doubles(of: tensor)
                return (values.reduce(0) { $0 + $1 * $1 } / Double(values.count)).squareRoot()
            }.reduce(into: [:]) { $0[$1.key] = $1.value }
        }
        let xavier = (2.0 / Double(width + hidden)).squareRoot()
        let square = (1.0 / Double(width)).squareRoot()
        let cases: [(VisionEncoder.Family, [(String, Double)])] = [
            (
                .clip,
                [
                    ("patches.weight", 0.02), ("patches.positions", 0.02),
                    ("layers.0.attention.query.weight", square / 2),
                    ("layers.1.attention.value.weight", square / 2), ("layers.0.attention.output.weight", square),
                    ("layers.0.mlp.expand.weight", square / 2.0.squareRoot()),
                    ("layers.1.mlp.contract.weight", square / 2), ("layers.0.attention.key.bias", 0),
                    ("layers.0.mlp.expand.bias", 0), ("preNorm.weight", 1), ("layers.1.mlpNorm.bias", 0),
                ]
            ),
            (
                .siglip,
                [
                    ("patches.weight", 1 / 48.0.squareRoot()), ("patches.positions", square), ("patches.bias", 0),
                    ("layers.0.attention.query.weight", square), ("layers.1.attention.output.weight", square),
                    ("layers.0.attention.key.bias", 0), ("layers.0.mlp.expand.weight", xavier),
                    ("layers.1.mlp.contract.weight", xavier), ("postNorm.weight", 1), ("postNorm.bias", 0),
                ]
            ),
        ]
        for (family, expected) in cases {
            let found = deviations(family)
            for (path, deviation) in expected {
                // At least 3,072 numbers: six standard errors of their deviation.
                let tolerance = deviation * 6 / (2 * 3_072.0).squareRoot()
                let value = found[path] ?? .nan
                #expect(abs(value - deviation) <= tolerance, "\(family) \(path): \(value)")
            }
        }
        let small = deviations(.siglip)["layers.0.mlp.expand.bias"] ?? .nan
        // 128 numbers.
        #expect(abs(small - 1e-6) < 1e-6 * 6 / 256.0.squareRoot(), "\(small)")
        let doubled = deviations(.clip, factor: 2)["layers.0.attention.query.weight"] ?? .nan
        #expect(abs(doubled - square) < square * 6 / (2 * 4_096.0).squareRoot(), "\(doubled)")
        let token = deviations(.clip)["patches.classToken"] ?? .nan
        #expect(abs(token - square) < square * 6 / 128.0.squareRoot(), "\(token)")
    }

    @Test("published names come from a hub file, where they stand behind vision_model.")
    func names() throws {
        let original = encoder(.clip)
        let published = WeightLayout<VisionEncoder>.clip.published(original.parameters)
        #expect(published["pre_layrnorm.weight"]?.shape == [8])
        #expect(published["embeddings.patch_embedding.weight"]?.shape == [8, 2, 2, 2])
        #expect(published["encoder.layers.2.self_attn.out_proj.bias"]?.shape == [8])
        var file = NamedTensors(uniqueKeysWithValues: published.map { ("vision_model." + $0.key, $0.value) })
        file["text_model.final_layer_norm.weight"] = .ones([4])
        file["vision_model.embeddings.position_ids"] = .arange(10, dtype: .int64).unsqueezed(0)
        var loaded = VisionEncoder(sizes(.clip), key: RandomKey(seed: 9)).cast(to: .float64)
        let report = try loaded.load(from: file, source: "a test", layout: .clip)
        #expect(report.prefix == "vision_model." && report.isComplete)
        let x = pictures([1, 2, 6, 6])
        expectSameBits(loaded(x), original(x))
    }

    @Test("configurations that do not fit together", arguments: VisionEncoder.entry.forms.map(\.layout))
    func refusals(_ layout: String) throws {
        let form = try #require(VisionEncoder.entry.forms.first { $0.layout == layout })
        let cases: [(String, ConfigurationValue, String)] = [
            ("num_attention_heads", .int(3), "does not divide by 3 heads"),
            ("patch_size", .int(5), "4 pixels hold no patch of 5"),
            ("attention_dropout", .double(1), "attention_dropout"),
        ]
        for (key, value, words) in cases {
            let error = try #require(throws: ModuleInputError.self, "\(key)") {
                _ = try form.instance(form.sample.merging([key: value]) { $1 }, owner: "c.json")
            }
            #expect(error.description.contains(words), "\(error)")
        }
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
    TrapCase("other channels", saying: "PatchEmbedding: pictures [B, 2, height, width]", "[1, 3, 6, 6]") {
        _ = encoder(.clip)(pictures([1, 3, 6, 6]))
    },
    TrapCase("less than a patch", saying: "PatchEmbedding", "2 pixels or more", "[1, 2, 6, 1]") {
        _ = encoder(.siglip)(pictures([1, 2, 6, 1]))
    },
    TrapCase("more layers than there are", saying: "VisionEncoder: 4 layers are not among the 3") {
        _ = encoder(.clip).hiddenStates(pictures([1, 2, 6, 6]), through: 4)
    },
]
