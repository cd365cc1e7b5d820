import Foundation
import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("Projectors and abstractors") struct AbstractorTests {
    @Test("golden vector G6: the second LDP with a raster of 2 × 2")
    func golden() {
        var model = LDPv2(3, outputs: 4, grid: .init(rows: 2, columns: 2), key: RandomKey(seed: 0)).cast(to: .float64)
        // Tensor k of the order, element j: 0.5 · sin(0.37 j + 1.1 k). Input, element j: cos(0.21 j).
        var k = 0
        model.forEachParameter { _, tensor in
            tensor = Tensor(
                (0..<tensor.count).map { 0.5 * sin(0.37 * Double($0) + 1.1 * Double(k)) }, shape: tensor.shape)
            k += 1
        }
        let tokens = model(Tensor((0..<48).map { cos(0.21 * Double($0)) }, shape: [1, 16, 3]))
        #expect(tokens.shape == [1, 4, 4])
        #expect(abs(tokens.doubles.reduce(0, +) - -8.848397) < 1e-6)
        for (value, want) in zip(tokens.doubles, [0.065864, -0.406924, -1.814277, 0.186569]) {
            #expect(abs(value - want) < 1e-6)
        }
        for (value, want) in zip(tokens.doubles.suffix(2), [-0.001186, 0.466667]) { #expect(abs(value - want) < 1e-6) }
    }

    @Test("one layer alone, named as such, or as many as the name says")
    func projectors() {
        for (name, depth) in [("linear", 1), ("mlp1x_gelu", 1), ("mlp2x_gelu", 2), ("mlp12x_gelu", 12)] {
            let form = MLPProjector.Form(published: name)
            #expect(form?.depth == depth)
            let model = MLPProjector(3, outputs: 2, form: form!, key: RandomKey(seed: 0))
            let names = WeightLayout<MLPProjector>.llava.published(model.parameters).keys.elements
            #expect(
                names
                    == (name == "linear"
                        ? ["weight", "bias"] : (0..<depth).flatMap { ["\(2 * $0).weight", "\(2 * $0).bias"] }))
        }
        for name in ["mlp0x_gelu", "mlpx_gelu", "mlp2x_relu", "identity", "mlp99x_gelu"] {
            #expect(MLPProjector.Form(published: name) == nil, "\(name)")
        }
    }

    @Test("the form of a projector is read from its weights")
    func projectorForms() throws {
        let form = MLPProjector.entry.forms[0]
        for name in ["linear", "mlp1x_gelu", "mlp3x_gelu"] {
            let model = MLPProjector(3, outputs: 2, form: .init(published: name)!, key: RandomKey(seed: 0))
            let weights = NamedTensors(
                uniqueKeysWithValues: WeightLayout<MLPProjector>.llava.published(model.parameters).map {
                    ("model.mm_projector." + $0.key, $0.value)
                })
            let instance = try form.instance([:], weights: weights, owner: "c", source: "w")
            #expect(instance.configuration.string("mm_projector_type") == name)
            #expect(instance.configuration.int("mm_hidden_size") == 3)
            #expect(instance.weights.keys.elements == weights.keys.elements)
        }
        let two = WeightLayout<MLPProjector>.llava.published(
            MLPProjector(3, outputs: 2, key: RandomKey(seed: 0)).parameters)
        let error = try #require(throws: ModuleInputError.self) {
            _ = try form.instance(["mm_projector_type": "mlp3x_gelu"], weights: two, owner: "c", source: "w")
        }
        #expect(
            error.description
                == "c: \"mm_projector_type\" is \"mlp3x_gelu\", but there are 2 tensors *.weight in the weights")
    }

    /// Expects rows and columns of the tokens of every sample, one pair after the other.
    private func stand(_ tokens: VisualTokens, _ places: [Float]) {
        for sample in 0..<tokens.batch {
            expectClose(tokens.positions[sample], Tensor(places, shape: [places.count / 2, 2]), tolerance: 1e-5)
        }
    }

    @Test("a raster that is no square goes through the abstractors too, each token where it is pooled of")
    func rasters() {
        let grid = VisualTokens.Grid(rows: 4, columns: 6)
        let tokens = VisualTokens(patches: .sample([2, 24, 6], "x"), grid: grid, tracked: true)
        let key = RandomKey(seed: 1)
        let abstractor = CAbstractor(
            .init(width: 6, hidden: 8, outputs: 5, side: 2, depth: 1, endTokens: 1), key: key
        ).cast(to: .float64)
        let abstracted = abstractor(tokens)
        stand(abstracted, [0.5, 1, 0.5, 4, 2.5, 1, 2.5, 4, 1.5, 2.5])
        expectClose(abstracted.sizes[1], Tensor([Float(6), 6, 6, 6, 0]), tolerance: 1e-5)

        let first = LDP(6, outputs: 8, key: key).cast(to: .float64)(tokens)
        #expect(first.grid == .init(rows: 2, columns: 3))
        // The last convolution sees rows 0 and 1, then 1 to 3; columns 0 and 1, 1 to 3, 3 to 5.
        stand(first, [0.5, 0.5, 0.5, 2, 0.5, 4, 2, 0.5, 2, 2, 2, 4])
        #expect(abs(first.sizes[0].sum().item() - 24) < 1e-4)

        let second = LDPv2(6, outputs: 8, grid: .init(rows: 2, columns: 2), key: key).cast(to: .float64)(tokens)
        stand(second, [0.5, 1, 0.5, 4, 2.5, 1, 2.5, 4])

        var packer = TokenPacker(2, levelsWidth: 6, inner: 4, outputs: 3, heads: 2, key: key).cast(to: .float64)
        packer.attention.query.weight = packer.attention.query.weight * 4
        let packed = packer(tokens)
        stand(packed, [0.5, 0.5, 0.5, 2.5, 0.5, 4.5, 2.5, 0.5, 2.5, 2.5, 2.5, 4.5])
        expectClose(
            packed.features,
            packer(tokens.features.sliced(axis: 2, 4..<6), levels: tokens.features, grid: grid), tolerance: 1e-13)
        // A region's query attends to its own four patches, in unequal parts that make one.
        let weights = packed.provenance!.weights[1][4].doubles
        #expect(weights.indices.filter { weights[$0] > 0 } == [14, 15, 20, 21])
        #expect(abs(weights.reduce(0, +) - 1) < 1e-5)
        #expect(weights.max()! > 0.26)
    }

    /// A method with a shape that it takes and what one sample of it costs, from the published sizes by hand.
    private static let costs: [(model: any Compressor, input: TokenShape, multiplyAdds: Int)] = {
        let key = RandomKey(seed: 0)
        let small = TokenShape(grid: .init(rows: 4, columns: 6), width: 6)
        let square = TokenShape(grid: .init(rows: 4, columns: 4), width: 6)
        return [
            (PatchMerger(6, outputs: 5, key: key), small, 6 * (24 * 24 + 24 * 5)),
            (MLPProjector(6, outputs: 5, form: .mlp(depth: 3), key: key), small, 24 * (6 * 5 + 2 * 25)),
            (PixelShuffle(6, outputs: 5, order: .v1, key: key), small, 6 * (24 * 5 + 25)),
            (SpatialPool(key: key), small, 0),
            // Each stage: enter, 3 × 3 depthwise, squeeze-excitation, leave, and where the widths differ a shortcut.
            (
                CAbstractor(.init(width: 6, hidden: 8, outputs: 5, side: 2, depth: 1, endTokens: 2), key: key), square,
                16 * (48 + 72 + 64 + 48) + 2 * 16 + 4 * (64 + 72 + 64) + 2 * 16 + 4 * (40 + 25)
            ),
            (
                LDP(6, outputs: 8, key: key), square,
                16 * (48 + 64) + 16 * (72 + 64) + 128 + 4 * (72 + 64) + 128
            ),
            (LDPv2(6, outputs: 8, key: key), square, 16 * (48 + 64) + 144 * 72),
            (
                TokenPacker(2, levelsWidth: 6, inner: 4, outputs: 3, heads: 2, key: key), small,
                6 * 8 + 2 * 24 * (24 + 16) + 2 * 6 * 16 + 2 * 24 * 16 + 6 * 2 * 4 * 4 + 6 * (12 + 9)
            ),
        ]
    }()

    @Test("every method says what comes out, and what it takes", arguments: 0..<8)
    func contract(index: Int) {
        let (model, input, multiplyAdds) = AbstractorTests.costs[index]
        #expect(model.problem(with: input) == nil)
        #expect(model.cost(input).multiplyAdds == multiplyAdds)
        let tokens = VisualTokens(
            patches: .sample([2, input.count, input.width], "x").cast(to: .float32), grid: input.grid!, tracked: true)
        let output = model(tokens)
        #expect(output.shape == model.outputShape(input))
        // Each member alone gives the same, and so does what is known of it.
        for member in 0..<2 {
            let alone = model(
                VisualTokens(
                    patches: tokens.features.sliced(axis: 0, member..<member + 1), grid: input.grid!, tracked: true))
            expectClose(alone.features[0], output.features[member], tolerance: 1e-5)
            expectClose(alone.positions[0], output.positions[member], tolerance: 1e-6)
            expectClose(alone.provenance!.weights[0], output.provenance!.weights[member], tolerance: 1e-5)
        }
        var wide = input
        wide.width = 7
        if index != 3 { #expect(model.problem(with: wide)?.contains("width 6") == true) }
        if index != 1 {
            #expect(model.problem(with: TokenShape(count: 24, width: 6)) == "the 24 tokens form no raster")
        }
    }

    @Test("what a method says that it takes is what the products multiply")
    func counted() async {
        // In a process of its own: other tests multiply too.
        await #expect(processExitsWith: .success) {
            for (model, input, multiplyAdds) in AbstractorTests.costs {
                let grid = input.grid!
                let x = Tensor.sample([1, input.count, input.width], "x").cast(to: .float32)
                // Features alone: what is known of the tokens is mixed by products too.
                let before = MatrixProduct.multiplyAdds
                switch model {
                case let model as PatchMerger: _ = model(x[0])
                case let model as MLPProjector: _ = model(x)
                case let model as PixelShuffle: _ = model(x.reshaped(to: [1, grid.rows, grid.columns, input.width]))
                case let model as SpatialPool: _ = model.pooled(x, grid: grid)
                case let model as CAbstractor: _ = model(x)
                case let model as LDP: _ = model(x)
                case let model as LDPv2: _ = model(x)
                case let model as TokenPacker:
                    _ = model(x.sliced(axis: 2, 4..<6), levels: x, grid: grid)
                default: Issue.record("\(type(of: model)) is not called here")
                }
                let counted = MatrixProduct.multiplyAdds - before
                #expect(counted == multiplyAdds, "\(type(of: model))")
            }
        }
    }

    @Test("the published sizes: parameters and multiply-adds of Qwen2-VL's merger, InternVL's and LLaVA's projectors")
    func publishedSizes() {
        let (merger, shuffle, projector) = withoutMemory {
            let key = RandomKey(seed: 0)
            return (
                PatchMerger(1280, outputs: 3584, key: key), PixelShuffle(1024, outputs: 4096, key: key),
                MLPProjector(1024, outputs: 4096, key: key)
            )
        }
        #expect(merger.parameterCount == 2 * 1280 + 5120 * 5121 + 3584 * 5121)
        #expect(
            merger.cost(TokenShape(grid: .init(rows: 16, columns: 16), width: 1280)).multiplyAdds
                == 64 * 5120 * (5120 + 3584))
        #expect(shuffle.parameterCount == 2 * 4096 + 2 * 4096 * 4097)
        #expect(shuffle.outputShape(TokenShape(grid: .init(rows: 32, columns: 32), width: 1024)).count == 256)
        #expect(projector.parameterCount == 4096 * 1025 + 4096 * 4097)
        #expect(
            projector.cost(TokenShape(grid: .init(rows: 24, columns: 24), width: 1024)).multiplyAdds
                == 576 * 4096 * (1024 + 4096))
    }

    @Test("tokens that form no square, or have no embeddings, are errors that name them")
    func refusals() throws {
        for (entry, form) in [(CAbstractor.entry, 0), (LDP.entry, 0), (LDP.entry, 1)] {
            let form = entry.forms[form]
            let instance = try form.instance(form.sample, owner: "a test")
            let width = entry.name == "ldp" ? 3 : 4
            let error = try #require(throws: ModuleInputError.self) {
                _ = try instance.outputs(["x": .ones([2, 8, width])])
            }
            #expect(error.description == "input x is [2, 8, \(width)]: 8 tokens form no square")
        }
        let form = CAbstractor.entry.forms[0]
        let instance = try form.instance(form.sample, owner: "a test")
        let error = try #require(throws: ModuleInputError.self) { _ = try instance.outputs(["x": .ones([2, 16, 4])]) }
        #expect(error.description == "input x is [2, 16, 4]: there are embeddings for 9 tokens, not for 16")
        let square = try #require(throws: ModuleInputError.self) {
            _ = try form.instance(form.sample.merging(["num_query_tokens": 5]) { $1 }, owner: "c")
        }
        #expect(square.description == "c: \"num_query_tokens\" must be a square number, not 5")
    }
}
