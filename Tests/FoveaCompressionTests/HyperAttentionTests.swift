import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

private typealias Fusion = HyperAttention.Fusion

/// A layer in which nothing is at its start: 4 heads of 4 in two groups.
private func layer(_ fusion: Fusion, _ dtype: DType = .float64) -> HyperSelfAttention {
    var options = HyperSelfAttention.Options(width: 16, heads: 4, keyHeads: 2, fusion: fusion)
    options.deviation = 0.4
    var layer = HyperSelfAttention(options, key: RandomKey(seed: 3)).cast(to: dtype)
    layer.forEachParameter { path, tensor in
        if path.contains("injection") || path.contains("norm") {
            tensor = (Tensor.sample(tensor.shape, path) * 0.5).cast(to: dtype)
        }
    }
    return layer
}

private func places(_ starts: [Int]...) -> PicturePlaces { PicturePlaces(starts) }

@Suite struct HyperAttentionTests {
    private static let fusions = Fusion.allCases

    @Test("text in front of the first picture has the bits that it has without pictures", arguments: fusions)
    func textBefore(_ fusion: HyperAttention.Fusion) {
        for dtype in [DType.float32, .float64] {
            let layer = layer(fusion, dtype)
            // More keys than attention takes at once, of text and of pictures.
            let x = Tensor.sample([2, 150, 16], "x").cast(to: dtype)
            let pictures = Tensor.sample([3, 30, 16], "pictures").cast(to: dtype)
            let with = layer(x, pictures: pictures, at: places([100, 120], [77]))
            let without = layer(x, pictures: pictures.sliced(axis: 0, 0..<0), at: places([], []))
            for (sample, start) in [(0, 100), (1, 77)] {
                let end = start + (fusion == .joint ? 0 : 1)
                let (a, b) = (with[sample], without[sample])
                expectSameBits(a.sliced(axis: 0, 0..<end), b.sliced(axis: 0, 0..<end), "\(dtype)")
                #expect(relativeDifference(a[end], b[end]) > 1e-3, "\(dtype)")
            }
        }
    }

    @Test("a picture is seen from its placeholder on, or from the token behind it", arguments: fusions)
    func visibility(_ fusion: HyperAttention.Fusion) {
        let layer = layer(fusion)
        let (x, pictures) = (Tensor.sample([2, 6, 16], "x"), Tensor.sample([4, 3, 16], "pictures"))
        let starts = [[0, 3], [2, 5]]
        let y = layer(x, pictures: pictures, at: PicturePlaces(starts))
        for picture in 0..<4 {
            let other = pictures.replacing(
                axis: 0, picture..<picture + 1, with: .sample([1, 3, 16], "another \(picture)"))
            let changed = layer(x, pictures: other, at: PicturePlaces(starts))
            for sample in 0..<2 {
                for token in 0..<6 {
                    let start = starts[picture / 2][picture % 2]
                    let sees = sample == picture / 2 && (fusion == .joint ? token >= start : token > start)
                    let difference = relativeDifference(changed[sample][token], y[sample][token])
                    #expect(sees ? difference > 1e-4 : difference == 0, "\(picture), \(sample), \(token)")
                }
            }
        }
    }

    @Test("pictures that change places change what text says", arguments: fusions)
    func permutation(_ fusion: HyperAttention.Fusion) {
        let layer = layer(fusion)
        let (x, pictures) = (Tensor.sample([1, 6, 16], "x"), Tensor.sample([2, 3, 16], "pictures"))
        let y = layer(x, pictures: pictures, at: places([1, 3]))
        let swapped = layer(x, pictures: pictures.flipped([0]), at: places([1, 3]))
        // Also where both are seen: their places are in the angles.
        for token in 2..<6 { #expect(relativeDifference(swapped[0][token], y[0][token]) > 1e-4, "\(token)") }
    }

    @Test("a batch has the bits of its members, whatever pictures they have", arguments: fusions)
    func batch(_ fusion: HyperAttention.Fusion) {
        let layer = layer(fusion, .float32)
        let starts = [[3, 40, 66], [], [0], [10, 69]]
        let x = Tensor.sample([4, 70, 16], "x").cast(to: .float32)
        let pictures = Tensor.sample([6, 25, 16], "pictures").cast(to: .float32)
        let together = layer(x, pictures: pictures, at: PicturePlaces(starts))
        var next = 0
        for (sample, own) in starts.enumerated() {
            let alone = layer(
                x.sliced(axis: 0, sample..<sample + 1), pictures: pictures.sliced(axis: 0, next..<next + own.count),
                at: PicturePlaces([own]))
            expectSameBits(alone[0], together[sample], "sample \(sample)")
            next += own.count
        }
    }

    @Test("gates that are shut are the layer without pictures, to the bit")
    func shutGates() {
        var layer = layer(.featureGates, .float32)
        layer.injection.featureGate = .full([16], -200)
        let x = Tensor.sample([1, 8, 16], "x").cast(to: .float32)
        let pictures = Tensor.sample([2, 3, 16], "pictures").cast(to: .float32)
        expectSameBits(
            layer(x, pictures: pictures, at: places([0, 4])),
            layer(x, pictures: pictures.sliced(axis: 0, 0..<0), at: places([])))
    }

    @Test("keys and values of pictures start as those of text at their places", arguments: fusions)
    func start(_ fusion: HyperAttention.Fusion) {
        var attention = SelfAttention(8, heads: 4, keyHeads: 2, headWidth: 6, bias: true, key: RandomKey(seed: 5))
        attention.forEachParameter { path, tensor in tensor = .sample(tensor.shape, path) }
        let injection = HyperAttention(in: attention, fusion: fusion)
        let x = Tensor.sample([1, 5, 8], "x")
        // Pictures of one token each, at the places that the tokens of a text have.
        let shift = fusion == .featureGates ? 1 : 0
        let angles = RotaryAngles(
            positions: Tensor((0..<5).map { Int64($0 + shift) }), width: attention.headWidth)
        let text = attention.projected(x, angles: angles).context
        let pictures = injection.pictures(x.reshaped(to: [5, 1, 8]), at: places([0, 1, 2, 3, 4])).context
        expectClose(pictures.keys, text.keys, tolerance: 1e-14)
        expectClose(pictures.values, text.values, tolerance: 1e-14)
        // All gates are half open.
        for gate in [injection.featureGate, injection.tokenGate?.weight] {
            if let gate { #expect(gate.doubles.allSatisfy { $0 == 0 }) }
        }
        #expect((injection.featureGate == nil) == (fusion != .featureGates))
        #expect((injection.tokenGate == nil) == (fusion != .tokenGates))
        // All in the type of the layer, in float32 beside half precision.
        for (dtype, own) in [(DType.float64, DType.float64), (.bfloat16, .float32)] {
            let injection = HyperAttention(in: attention.cast(to: dtype), fusion: fusion)
            #expect(injection.parameters.values.allSatisfy { $0.dtype == own })
        }
        // Without biases of the text, pictures have none.
        let plain = SelfAttention(8, heads: 2, key: RandomKey(seed: 5))
        #expect(HyperAttention(in: plain, fusion: fusion).keyValue.bias == nil)
    }

    @Test("one softmax over pictures that look like text is attention to more text")
    func jointIsOneSoftmax() {
        // Pictures that stand where tokens stand, with the same projections: the text twice over, seen in causal order.
        var layer = layer(.joint)
        layer.injection = HyperAttention(in: layer.attention, fusion: .joint)
        let x = Tensor.sample([1, 5, 16], "x")
        let twice = layer(x, pictures: x.reshaped(to: [5, 1, 16]), at: places([0, 1, 2, 3, 4]))
        let once = layer(x, pictures: .zeros([0, 1, 16], dtype: .float64), at: places([]))
        expectClose(twice, once, tolerance: 1e-13)
    }

    @Test("the text's mask holds, whether it hides or is added to the scores", arguments: fusions)
    func masks(_ fusion: HyperAttention.Fusion) {
        let (layer, x) = (layer(fusion), Tensor.sample([1, 5, 16], "x"))
        let positions = Tensor.arange(5, dtype: .int64)
        let angles = RotaryAngles(positions: positions, width: 4)
        let (queries, text) = layer.attention.projected(x, angles: angles)
        let pictures = layer.injection.pictures(.sample([1, 3, 16], "pictures"), at: places([2]))
        func heads(_ text: MultiHeadAttention.Context, _ mask: Tensor?, causal: Bool = true) -> Tensor {
            layer.injection(
                queries: queries, text: text, mask: mask, isCausal: causal, positions: positions, pictures: pictures
            ) { layer.attention.attended(queries, to: $0, mask: $1, isCausal: $2).output }
        }
        // The last key is hidden from all: as good as a text without it.
        let hidden = Tensor([true, true, true, true, false], shape: [1, 1, 1, 5])
        let shorter = MultiHeadAttention.Context(
            keys: text.keys.sliced(axis: 2, 0..<4), values: text.values.sliced(axis: 2, 0..<4))
        let added = select(hidden, 0, else: Tensor.full([1], -.infinity, dtype: .float64))
        for causal in [true, false] {
            let want = heads(shorter, nil, causal: causal)
            expectClose(heads(text, hidden, causal: causal), want, tolerance: 1e-13)
            expectClose(heads(text, added, causal: causal), want, tolerance: 1e-13)
            #expect(relativeDifference(heads(text, nil, causal: causal), want) > 1e-3)
        }
        // A finite number weighs a key: ln 2 is as good as having it twice.
        let twice = Tensor([0, 0, 0.6931471805599453, 0, 0], shape: [1, 1, 1, 5])
        let order = Tensor([Int64(0), 1, 2, 2, 3, 4])
        let repeated = MultiHeadAttention.Context(
            keys: text.keys.selecting(axis: 2, order), values: text.values.selecting(axis: 2, order))
        expectClose(heads(text, twice, causal: false), heads(repeated, nil, causal: false), tolerance: 1e-13)
    }

    @Test(
        "gradients for every weight and input, with gates that are open and ragged pictures",
        arguments: HyperSelfAttention.entry.forms.map(\.layout))
    func gradients(_ layout: String) throws {
        let form = try #require(HyperSelfAttention.entry.form(layout))
        var instance = try form.instance(form.sample, dtype: .float64, owner: "a test")
        let drawn = Dictionary(uniqueKeysWithValues: instance.weights.map { ($0, .sample($1.shape, $0) * 0.6) })
        _ = try instance.load(NamedTensors(uniqueKeys: drawn.keys, values: drawn.values), source: "a test")
        let check = try #require(
            try instance.checkGradients(
                [
                    "hidden_states": .sample([3, 4, 8], "x"), "image_embeds": .sample([3, 2, 8], "pictures"),
                    "media_starts": Tensor([Int64(0), 2, -1, -1, 1, -1], shape: [3, 2]),
                ], name: layout, seed: 1))
        #expect(check.passed, "\(check.message)")
    }

    @Test("what it says that it takes is what the products multiply")
    func cost() async {
        // In a process of its own: other tests multiply too.
        await #expect(processExitsWith: .success) {
            for fusion in Fusion.allCases {
                let layer = layer(fusion, .float32)
                let x = Tensor.sample([1, 7, 16], "x").cast(to: .float32)
                for own in [[0, 3], []] {
                    let pictures = Tensor.sample([own.count, 5, 16], "pictures").cast(to: .float32)
                    let before = MatrixProduct.multiplyAdds
                    _ = layer(x, pictures: pictures, at: places(own))
                    let counted = MatrixProduct.multiplyAdds - before
                    let stated = layer.cost(text: 7, pictureTokens: 5 * own.count)
                    #expect(counted == stated.multiplyAdds, "\(fusion), \(own)")
                }
            }
        }
        // Attention and projections of 7 tokens; 10 tokens of pictures that 7 look at.
        let text = 7 * 16 * (2 * 16 + 2 * 8) + 2 * 7 * 7 * 16
        #expect(
            layer(.joint).cost(text: 7, pictureTokens: 10).multiplyAdds == text + 10 * 16 * 16 + 2 * 7 * 10 * 16)
        #expect(layer(.tokenGates).cost(text: 7, pictureTokens: 0).multiplyAdds == text)
    }

    @Test("a table of places is ascending positions with −1 behind them")
    func tables() throws {
        let table = try #require(PicturePlaces(table: Tensor([Int64(0), 4, -1, -1], shape: [2, 2])))
        #expect(table == places([0, 4], []) && table.count == 2 && table.most == 2 && table.batch == 2)
        #expect(PicturePlaces(table: Tensor.zeros([3, 0], dtype: .int64))?.starts == [[], [], []])
        for row in [[3, 3], [4, 2], [-1, 2], [2, -2]] {
            #expect(PicturePlaces(table: Tensor(row.map { Int64($0) }, shape: [1, 2])) == nil, "\(row)")
        }
    }

    @Test("pictures and placeholders that do not match are one line with both numbers")
    func refusals() throws {
        let form = try #require(HyperSelfAttention.entry.form("mplug-owl3-241101"))
        let instance = try form.instance(form.sample, owner: "a test")
        let cases: [(starts: [Int64], pictures: [Int], part: String)] = [
            ([1, 2], [1, 3], "the texts have 2 placeholders, and there are 1 pictures"),
            ([1, -1], [2, 3], "the texts have 1 placeholders, and there are 2 pictures"),
            ([2, 4], [2, 3], "sample 0 has a placeholder at 4, and 4 tokens"),
            ([2, 1], [2, 3], "ascending"), ([-1, 1], [1, 3], "ascending"), ([1, -1], [1, 0], "L ≥ 1"),
        ]
        for (starts, pictures, part) in cases {
            let error = try #require(throws: ModuleInputError.self) {
                _ = try instance.outputs([
                    "hidden_states": .ones([1, 4, 8]), "image_embeds": .ones(pictures + [8]),
                    "media_starts": Tensor(starts, shape: [1, 2]),
                ])
            }
            #expect(error.description.contains(part), "\(error)")
            #expect(!error.description.contains("\n"))
        }
        let short = try form.instance(form.sample.merging(["max_position_embeddings": 3]) { $1 }, owner: "a test")
        let error = try #require(throws: ModuleInputError.self) {
            _ = try short.outputs([
                "hidden_states": .ones([1, 4, 8]), "image_embeds": .ones([0, 1, 8]),
                "media_starts": Tensor.zeros([1, 0], dtype: .int64),
            ])
        }
        #expect(error.description.contains("\"max_position_embeddings\" is 3"), "\(error)")
        for (changes, part) in [
            (["num_attention_heads": 3], "\"hidden_size\" 8"), (["num_key_value_heads": 3], "3 key heads"),
            (["num_attention_heads": 8, "num_key_value_heads": 8], "even width"),
            (["attention_dropout": 1], "\"attention_dropout\""),
        ] as [([String: ConfigurationValue], String)] {
            let error = try #require(throws: ModuleInputError.self) {
                _ = try form.instance(form.sample.merging(changes) { $1 }, owner: "config.json")
            }
            #expect(error.description.contains(part), "\(error)")
        }
    }

    @Test("pictures without places trap")
    func traps() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let layer = layer(.joint)
            _ = layer(.sample([1, 4, 16], "x"), pictures: .sample([2, 3, 16], "pictures"), at: places([1]))
        }
        #expect(message(result).contains("1 placeholders, and there are 2 pictures"), "\(message(result))")
    }
}
