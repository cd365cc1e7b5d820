import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// What a resampler makes of visual tokens: where they stand, what they are made of, which of them are real.
@Suite("the resampler as a compressor") struct ResamplerTokensTests {
    private let grid = VisualTokens.Grid(rows: 2, columns: 3)

    enum Form: CaseIterable {
        case flamingo, idefics2
        /// Few latents beside the width of a head: tokens are not projected.
        case fewLatents, fewLatentsOneNorm
    }

    private func resampler(_ form: Form, depth: Int = 2) -> PerceiverResampler {
        let headWidth = form == .flamingo || form == .idefics2 ? 3 : 6
        var options = PerceiverResampler.Options(width: 8, depth: depth, heads: 4, headWidth: headWidth, latents: 3)
        options.sharesContextNorm = form == .fewLatentsOneNorm
        if form == .idefics2 {
            options.keyHeads = 2
            options.norm = .rms()
            options.feedForward = .gated(.silu)
        }
        return PerceiverResampler(options, key: RandomKey(seed: 2)).cast(to: .float64)
    }

    /// The last layer's weights, computed the plain way: softmax of the scores, the mean over the heads.
    private func weights(_ model: PerceiverResampler, _ x: Tensor) -> Tensor {
        var z = model.latents.unsqueezed(0).expanded(to: [x.shape[0]] + model.latents.shape)
        var found = Tensor.zeros([])
        for layer in model.layers {
            let n = layer.latentNorm(z)
            let context = concatenated([layer.mediaNorm(x), layer.sharesContextNorm ? layer.mediaNorm(z) : n], axis: 1)
            let attention = layer.attention
            let width = attention.innerWidth / attention.heads
            func heads(_ y: Tensor, _ count: Int) -> Tensor {
                y.reshaped(to: [y.shape[0], y.shape[1], count, y.shape[2] / count]).transposed(1, 2)
            }
            let k = heads(attention.key(context), attention.keyHeads)
                .repeated(attention.heads / attention.keyHeads, axis: 1)
            let scores = matmul(heads(attention.query(n), attention.heads), k.transposed(-1, -2))
            found = (scores * (1 / Double(width).squareRoot())).softmax(axis: -1).mean(axes: [1])
            z = z + attention(n, context: context)
            z = z + layer.feedForward(layer.feedForwardNorm(z))
        }
        let seen = found.sliced(axis: 2, 0..<x.shape[1])
        return seen / seen.sum(axes: [2], keepingAxes: true)
    }

    @Test("latents stand where they look, and are made of what they look at", arguments: Form.allCases)
    func provenance(form: Form) throws {
        let model = resampler(form)
        let x = Tensor.sample([2, 6, 8], "x")
        let tokens = VisualTokens(patches: x, grid: grid, tracked: true)
        let latents = model(tokens)
        let want = weights(model, x)
        let found = try #require(latents.provenance).weights
        #expect(relativeDifference(found, want) < 1e-6)
        #expect(relativeDifference(found.sum(axes: [2]), .ones([2, 3])) < 1e-6)
        #expect(relativeDifference(latents.positions, matmul(want, tokens.positions.cast(to: .float64))) < 1e-6)
        // They share the patches out.
        #expect(latents.grid == nil && latents.mask == nil)
        #expect(relativeDifference(latents.sizes.sum(axes: [1]), .full([2], 6)) < 1e-6)
        #expect(relativeDifference(latents.features, model(x, mask: nil)) == 0)
        // Not followed, they stand at the same places.
        let untracked = model(VisualTokens(patches: x, grid: grid))
        #expect(untracked.provenance == nil)
        #expect(relativeDifference(untracked.positions, latents.positions) == 0)
    }

    @Test("tokens that are not real are not seen", arguments: Form.allCases)
    func mask(form: Form) throws {
        let model = resampler(form)
        let x = Tensor.sample([2, 6, 8], "x")
        let real = Tensor([true, true, true, true, false, false, true, true, true, true, true, true], shape: [2, 6])
        var tokens = VisualTokens(patches: x, grid: grid, tracked: true)
        tokens.mask = real
        tokens.sizes = real.cast(to: .float32)
        let latents = model(tokens)
        // As the sample gives alone without them.
        let four = model(x.sliced(axis: 0, 0..<1).sliced(axis: 1, 0..<4), mask: nil)
        #expect(relativeDifference(latents.features[0], four[0]) < 1e-13)
        #expect(relativeDifference(latents.features[1], model(x, mask: nil)[1]) < 1e-13)
        let provenance = try #require(latents.provenance).weights
        #expect(provenance[0].sliced(axis: 1, 4..<6).doubles.allSatisfy { $0 == 0 })
        #expect(relativeDifference(provenance[0].sum(axes: [1]), .ones([3])) < 1e-6)
        #expect(abs(latents.sizes[0].doubles.reduce(0, +) - 4) < 1e-5)
        // Without a real token, finite all the same, and made of nothing.
        tokens.mask = Tensor(Array(repeating: false, count: 12), shape: [2, 6])
        tokens.sizes = .zeros([2, 6])
        let blind = model(tokens)
        #expect(blind.features.doubles.allSatisfy { $0.isFinite })
        #expect(
            relativeDifference(blind.features[0], model(Tensor.zeros([1, 0, 8], dtype: .float64), mask: nil)[0]) < 1e-13
        )
        #expect(blind.positions.doubles.allSatisfy { $0 == 0 })
    }

    @Test("without layers each latent has an equal share")
    func noLayers() throws {
        let latents = resampler(.flamingo, depth: 0)(
            VisualTokens(patches: .sample([1, 6, 8], "x"), grid: grid, tracked: true))
        let shares = try #require(latents.provenance).weights
        #expect(relativeDifference(shares, .full([1, 3, 6], 1.0 / 6)) < 1e-6)
        #expect(relativeDifference(latents.positions[0][0], Tensor([0.5, 1], shape: [2])) < 1e-6)
    }

    @Test("shape, cost and complaint say what runs")
    func statements() {
        for form in Form.allCases {
            let model = resampler(form)
            let input = TokenShape(grid: grid, width: 8)
            #expect(
                model.outputShape(input)
                    == model(VisualTokens(patches: .zeros([1, 6, 8], dtype: .float64), grid: grid)).shape)
            #expect(model.problem(with: input) == nil)
            #expect(model.problem(with: TokenShape(count: 6, width: 7)) == "tokens of width 8 are needed, not 7")
            // 6 tokens and 3 latents of 8 features; 12 features in four heads of queries, 6 in two heads of keys. Where the tokens
            // are not projected, the 3 latents go from 24 features in four heads to 4 · 8 and back.
            let attention =
                switch form {
                case .flamingo: 2 * 3 * 8 * 12 + 2 * 9 * 8 * 12 + 2 * 3 * 9 * 12
                case .idefics2: 2 * 3 * 8 * 12 + 2 * 9 * 8 * 6 + 2 * 3 * 9 * 12
                case .fewLatents, .fewLatentsOneNorm: 2 * 3 * 8 * 24 + 2 * 3 * 24 * 8 + 2 * 3 * 9 * 4 * 8
                }
            let feedForward = (form == .idefics2 ? 3 : 2) * 3 * 8 * 32
            #expect(model.cost(input).multiplyAdds == 2 * (attention + feedForward))
        }
    }

    @Test("few latents compute what many would: the value and every gradient", arguments: [true, false])
    func fewLatents(hasOneNorm: Bool) {
        var model = resampler(hasOneNorm ? .fewLatentsOneNorm : .fewLatents)
        // Norms start at one and zero, which would hide what is missing of them.
        model.forEachParameter { path, tensor in
            if path.lowercased().contains("norm") { tensor = .sample(tensor.shape, path) }
        }
        let (x, cotangent) = (Tensor.sample([2, 70, 8], "x"), Tensor.sample([2, 3, 8], "cotangent"))
        let (value, gradients) = valueAndGradient(of: model) { ($0(x, mask: nil) * cotangent).sum() }
        let (want, expected) = valueAndGradient(of: model) { model in
            var z = model.latents.unsqueezed(0).expanded(to: [2, 3, 8])
            for layer in model.layers {
                let n = layer.latentNorm(z)
                let own = layer.sharesContextNorm ? layer.mediaNorm(z) : n
                let context = concatenated([layer.mediaNorm(x), own], axis: 1)
                z = z + layer.attention(n, context: context)
                z = z + layer.feedForward(layer.feedForwardNorm(z))
            }
            return ((model.norm?(z) ?? z) * cotangent).sum()
        }
        #expect(relativeDifference(value, want) < 1e-12)
        #expect(gradients.tensors.keys == expected.tensors.keys)
        for (path, gradient) in gradients.tensors {
            #expect(relativeDifference(gradient, expected[path]!) < 1e-11, "\(path)")
        }
    }
}

/// Methods that attend: their costs are stated by hand elsewhere, and here held against what the products multiply.
@Suite("costs of what attends") struct AttentionCostTests {
    @Test("a resampler, a Q-Former's connector and gated cross-attention multiply what they say")
    func counted() async {
        // In a process of its own: other tests multiply too.
        await #expect(processExitsWith: .success) {
            let key = RandomKey(seed: 2)
            func multiplied(_ body: () -> Void) -> Int {
                let before = MatrixProduct.multiplyAdds
                withoutGradient(body)
                return MatrixProduct.multiplyAdds - before
            }
            for keyHeads in [nil, 2] as [Int?] {
                var options = PerceiverResampler.Options(width: 8, depth: 2, heads: 4, headWidth: 3, latents: 3)
                options.keyHeads = keyHeads
                options.feedForward = keyHeads == nil ? .plain(.gelu) : .gated(.silu)
                let model = PerceiverResampler(options, key: key)
                let stated = model.cost(TokenShape(count: 7, width: 8)).multiplyAdds
                #expect(multiplied { _ = model(.ones([1, 7, 8]), mask: nil) } == stated)
                // The first layer's latents are the same for all: their queries, keys and values are made once.
                let shared = 3 * 8 * 12 + 2 * 3 * 8 * 3 * (keyHeads ?? 4)
                #expect(multiplied { _ = model(.ones([2, 7, 8]), mask: nil) } == 2 * stated - shared)
            }
            // Few latents: theirs are the only rows that are projected.
            let few = PerceiverResampler(.init(width: 8, depth: 2, heads: 4, headWidth: 6, latents: 3), key: key)
            let stated = few.cost(TokenShape(count: 7, width: 8)).multiplyAdds
            #expect(multiplied { _ = few(.ones([1, 7, 8]), mask: nil) } == stated)
            #expect(multiplied { _ = few(.ones([2, 7, 8]), mask: nil) } == 2 * stated - 2 * 3 * 8 * 24)
            let connector = QFormerConnector(
                .init(width: 8, depth: 3, heads: 2, hidden: 12, contextWidth: 6), queries: 4, outputs: 5, key: key)
            let counted = multiplied { _ = connector(.ones([2, 9, 6])) }
            #expect(counted == 2 * connector.cost(TokenShape(count: 9, width: 6)).multiplyAdds)
        }
    }
}

@Suite("the resampler of the paper") struct PaperResamplerTests {
    private func model(_ frames: Int) throws -> PerceiverResampler {
        let form = try #require(PerceiverResampler.entry.form("paper"))
        let instance = try form.instance(
            form.sample.merging(["maxFrames": .int(frames)]) { $1 }, dtype: .float64, owner: "a test")
        return try #require(instance.module as? PerceiverResampler)
    }

    @Test("more frames than time embeddings get those between, the first and the last one kept")
    func interpolation() throws {
        let model = try model(3)
        let embeddings = try #require(model.frameEmbeddings)
        let x = Tensor.sample([1, 1, 5, 2, 6], "x")
        // Frames 0, 2 and 4 have the three embeddings; 1 and 3 stand half way.
        let halves = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)].map { (embeddings[$0.0] + embeddings[$0.1]) * 0.5 }
        var plain = model
        plain.frameEmbeddings = nil
        let want = plain(x + stacked(halves, axis: 0).unsqueezed(1))
        #expect(relativeDifference(model(x), want) < 1e-12)
        // One embedding serves all frames.
        let single = try self.model(1)
        plain = single
        plain.frameEmbeddings = nil
        #expect(relativeDifference(single(x), plain(x + single.frameEmbeddings![0])) < 1e-12)
    }
}
