import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// A small block in float64 whose gates are open.
private func block(onlyLast: Bool = true, idefics: Bool = false) -> GatedCrossAttention {
    var options = GatedCrossAttention.Options(width: 6, mediaWidth: 5, heads: 2, headWidth: 3, hidden: 7)
    options.seesLastMediumOnly = onlyLast
    if idefics {
        options.norm = .rms()
        options.headNorm = .rms()
        options.feedForward = .gated(.silu)
        options.hasVectorGates = true
    }
    var block = GatedCrossAttention(options, key: RandomKey(seed: 4)).cast(to: .float64)
    block.forEachParameter { path, tensor in
        // Norms start at one and gates at zero, which would hide both.
        if path.lowercased().contains("norm") || path.contains("Gate") { tensor = .sample(tensor.shape, path) }
    }
    return block
}

/// bool, a row for each text: `1` marks a placeholder.
private func marks(_ texts: String...) -> Tensor {
    Tensor(texts.joined().map { $0 == "1" }, shape: [texts.count, texts[0].count])
}

/// What a token gets that sees no medium: the feed-forward alone.
private func blind(_ block: GatedCrossAttention, _ x: Tensor) -> Tensor {
    x + block.feedForwardGate.tanh() * block.feedForward(block.feedForwardNorm(x))
}

@Suite struct GatedCrossAttentionTests {
    @Test("gates at zero are the identity to the bit", arguments: GatedCrossAttention.entry.forms.map(\.layout))
    func identity(_ layout: String) throws {
        let form = try #require(GatedCrossAttention.entry.form(layout))
        let sample = form.sample.filter { $0.key != "alpha_initializer" }
        for dtype in [DType.float32, .float64] {
            let instance = try form.instance(sample, dtype: dtype, owner: "a test")
            var source = SampleSource(key: RandomKey(seed: 9))
            let inputs = form.sampleInputs(&source).mapValues { $0.dtype == .bool ? $0 : $0.cast(to: dtype) }
            let text = try #require(inputs.values.first)
            expectSameBits(try #require(try instance.outputs(inputs)["hidden"]), text)
        }
    }

    @Test("text before any medium sees nothing, and each token the last medium alone")
    func lastMedium() {
        let block = block()
        let (x, locations) = (Tensor.sample([2, 5, 6], "x"), marks("01010", "00011"))
        let media = Tensor.sample([2, 2, 3, 5], "media")
        let y = block(x, media: media, locations: locations)
        #expect(relativeDifference(y[0][0], blind(block, x)[0][0]) < 1e-14)
        #expect(relativeDifference(y[1].sliced(axis: 0, 0..<3), blind(block, x)[1].sliced(axis: 0, 0..<3)) < 1e-14)
        // Another second medium changes what stands behind the second placeholder.
        let first = media.sliced(axis: 1, 0..<1)
        let other = block(
            x, media: concatenated([first, .sample([2, 1, 3, 5], "other")], axis: 1), locations: locations)
        let changed = [[false, false, false, true, true], [false, false, false, false, true]]
        for sample in 0..<2 {
            for token in 0..<5 {
                let difference = relativeDifference(other[sample][token], y[sample][token])
                #expect(changed[sample][token] ? difference > 1e-4 : difference == 0, "\(sample), \(token)")
            }
        }
        // By hand: token 2 of the first text looks at the first medium as if it were the only one.
        let alone = block(
            x, to: block.attention.projected(first.flattened(from: 1, to: 2)), mask: nil)
        #expect(relativeDifference(y[0][2], alone[0][2]) < 1e-14)
    }

    @Test("where all media before are seen, those behind are not, and text before the first sees nothing")
    func allMedia() {
        let block = block(onlyLast: false)
        let (x, media) = (Tensor.sample([1, 5, 6], "x"), Tensor.sample([1, 2, 3, 5], "media"))
        let y = block(x, media: media, locations: marks("01010"))
        #expect(relativeDifference(y[0][0], blind(block, x)[0][0]) < 1e-14)
        let first = block.attention.projected(media[0].sliced(axis: 0, 0..<1))
        let both = block.attention.projected(media.flattened(from: 1, to: 2))
        for token in 1..<5 {
            let want = block(x, to: token < 3 ? first : both, mask: nil)
            #expect(relativeDifference(y[0][token], want[0][token]) < 1e-13, "\(token)")
        }
    }

    @Test(
        "a text token by token gives what it gives at once", arguments: [true, false],
        [[1, 1, 1, 1, 1, 1], [3, 0, 2, 1]])
    func decoding(_ onlyLast: Bool, _ steps: [Int]) {
        let block = block(onlyLast: onlyLast, idefics: !onlyLast)
        let (x, locations) = (Tensor.sample([2, 6, 6], "x"), marks("010010", "100000"))
        let media = Tensor.sample([2, 2, 3, 5], "media")
        let whole = block(x, media: media, locations: locations)
        var cache = MediaCache(of: media, for: block)
        var start = 0
        var parts: [Tensor] = []
        for length in steps {
            let range = start..<start + length
            let here = locations.sliced(axis: 1, range)
            // Tokens without a placeholder need not say so.
            let says = here.scalars(as: Bool.self).contains(true)
            parts.append(block(x.sliced(axis: 1, range), locations: says ? here : nil, cache: &cache))
            start += length
        }
        #expect(cache.seen == [2, 1])
        #expect(relativeDifference(concatenated(parts, axis: 1), whole) < 1e-13)
    }

    @Test("rows of the mask that are empty get nothing from attention")
    func emptyRows() {
        let block = block(idefics: true)
        let (x, media) = (Tensor.sample([1, 3, 6], "x"), Tensor.sample([1, 4, 5], "media"))
        let mask = Tensor(
            [false, false, false, false, true, false, false, true, true, true, true, true], shape: [1, 3, 4])
        let y = block(x, to: block.attention.projected(media), mask: mask)
        #expect(relativeDifference(y[0][0], blind(block, x)[0][0]) < 1e-14)
        #expect(relativeDifference(y[0][2], block(x, to: block.attention.projected(media), mask: nil)[0][2]) < 1e-14)
    }

    @Test("gradients with open gates, for every weight and input", arguments: [false, true])
    func gradients(idefics: Bool) {
        let block = block(idefics: idefics)
        let parameters = block.parameters
        let (x, media) = (Tensor.sample([2, 4, 6], "x"), Tensor.sample([2, 2, 2, 5], "media"))
        let check = checkGradients(
            of: { arguments in
                var block = block
                var next = 2
                block.forEachParameter { _, tensor in
                    tensor = arguments[next]
                    next += 1
                }
                return block(arguments[0], media: arguments[1], locations: marks("0110", "0001"))
            }, at: [x, media] + parameters.values.elements, named: ["x", "media"] + parameters.keys.elements)
        #expect(check.passed, "\(check.message)")
    }

    @Test("more placeholders than media trap, also when the text comes in parts")
    func tooManyPlaceholders() async {
        let once = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let block = GatedCrossAttention(.init(width: 4, mediaWidth: 3), key: RandomKey(seed: 0))
            _ = block(.ones([2, 3, 4]), media: .ones([2, 1, 2, 3]), locations: marks("001", "101"))
        }
        #expect(message(once).contains("sample 1 has 2 placeholders and 1 media"), "\(message(once))")
        let later = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let block = GatedCrossAttention(.init(width: 4, mediaWidth: 3), key: RandomKey(seed: 0))
            var cache = MediaCache(of: .ones([1, 1, 2, 3]), for: block)
            for _ in 0..<2 { _ = block(.ones([1, 1, 4]), locations: marks("1"), cache: &cache) }
        }
        #expect(message(later).contains("sample 0 has 2 placeholders and 1 media"), "\(message(later))")
    }

    @Test(
        "through the catalogue: placeholders, empty media and batches that do not match are one line with both shapes")
    func refusals() throws {
        let form = try #require(GatedCrossAttention.entry.form("open-flamingo"))
        let instance = try form.instance(form.sample, owner: "a test")
        let cases: [([Int], Tensor, [String])] = [
            (
                [2, 1, 3, 5], marks("0110", "0000"),
                ["[2, 4]", "[2, 1, 3, 5]", "sample 0 has 2 placeholders and 1 media"]
            ),
            ([2, 0, 3, 5], marks("0000", "0000"), ["media is [2, 0, 3, 5]"]),
            ([2, 2, 0, 5], marks("0000", "0000"), ["media is [2, 2, 0, 5]"]),
            ([1, 2, 3, 5], marks("0000", "0000"), ["media is [1, 2, 3, 5]", "B = 2"]),
            ([2, 2, 3, 4], marks("0000", "0000"), ["media is [2, 2, 3, 4]", "dim_visual = 5"]),
        ]
        for (media, locations, parts) in cases {
            let error = try #require(throws: ModuleInputError.self) {
                _ = try instance.outputs(["x": .ones([2, 4, 6]), "media": .ones(media), "media_locations": locations])
            }
            for part in parts { #expect(error.description.contains(part), "\(error)") }
            #expect(!error.description.contains("\n"))
        }
    }

    @Test("the cost is that of its products")
    func cost() {
        // 4 texts tokens of 6, 6 media tokens of 5, 6 features in heads, 7 in the feed-forward.
        let plain = 4 * 6 * 6 + 2 * 6 * 5 * 6 + 2 * 4 * 6 * 6 + 4 * 6 * 6
        #expect(block().cost(text: 4, mediaTokens: 6).multiplyAdds == plain + 2 * 4 * 6 * 7)
        #expect(block(idefics: true).cost(text: 4, mediaTokens: 6).multiplyAdds == plain + 3 * 4 * 6 * 7)
    }
}
