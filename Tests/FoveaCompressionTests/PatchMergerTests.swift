import Foundation
import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("The patch merger") struct PatchMergerTests {
    private func merger(_ norm: PatchMerger.Norm, mergeSize: Int = 2) -> PatchMerger {
        var model = PatchMerger(4, outputs: 5, mergeSize: mergeSize, norm: norm, key: RandomKey(seed: 3))
            .cast(to: .float64)
        model.forEachParameter { path, tensor in
            if path.lowercased().contains("norm") { tensor = .sample(tensor.shape, path) }
        }
        return model
    }

    @Test(
        "golden vectors G11a and G11b",
        arguments: [
            (0, ["ln_q.weight", "ln_q.bias"], 12.27307, [0.29913, 0.67742, 0.96832, 1.133], [1.8817, 1.6738]),
            (1, ["ln_q.weight"], 1.71533, [-2.62488, -1.79777, -0.73369, 0.42834], [0.3547, -0.45702]),
        ])
    func golden(_ form: Int, _ norm: [String], _ sum: Double, _ first: [Double], _ last: [Double]) throws {
        let form = PatchMerger.entry.forms[form]
        var instance = try form.instance(["dim": 5, "context_dim": 4], dtype: .float64, owner: "G11")
        let order = norm + ["mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"]
        // Tensor k of the order, element j: 0.5 · sin(0.37 j + 1.1 k). Input, element j: cos(0.21 j).
        var weights: NamedTensors = [:]
        for (k, name) in order.enumerated() {
            let shape = try #require(instance.weights[name]?.shape)
            weights[name] = Tensor(
                (0..<shape.reduce(1, *)).map { 0.5 * sin(0.37 * Double($0) + 1.1 * Double(k)) }, shape: shape)
        }
        _ = try instance.load(weights, source: "G11")
        let tokens = try #require(
            try instance.outputs(["x": Tensor((0..<32).map { cos(0.21 * Double($0)) }, shape: [8, 4])])["tokens"])
        #expect(tokens.shape == [2, 5])
        // Five decimals are known, of numbers in float32.
        #expect(abs(tokens.doubles.reduce(0, +) - sum) < 2e-5)
        for (value, want) in zip(tokens.doubles, first) { #expect(abs(value - want) < 1e-5) }
        for (value, want) in zip(tokens.doubles.suffix(2), last) { #expect(abs(value - want) < 1e-5) }
    }

    @Test("block-major order: frame, block, then the patches of the block in raster order")
    func blockMajor() {
        let order = BlockOrder.blockMajor(.init(rows: 4, columns: 6), mergedBy: 2)
        // (0,0) (0,1) (1,0) (1,1) (0,2) (0,3) (1,2) (1,3), as row · 6 + column.
        #expect(order.prefix(8) == [0, 1, 6, 7, 2, 3, 8, 9])
        for m in [1, 2, 3] {
            let (frames, h, w) = (2, 6, 12)
            let order = BlockOrder.blockMajor(.init(rows: h, columns: w), frames: frames, mergedBy: m)
            #expect(order.sorted() == Array(0..<frames * h * w))
            for t in 0..<frames {
                for r in 0..<h {
                    for c in 0..<w {
                        let block = t * (h / m) * (w / m) + (r / m) * (w / m) + c / m
                        #expect(order[block * m * m + (r % m) * m + c % m] == (t * h + r) * w + c)
                    }
                }
            }
        }
    }

    @Test("Qwen2.5-VL's windows of a 12 × 12 grid: 6 × 6 units, partial windows at the edges")
    func windows() {
        let (order, bounds) = BlockOrder.windows(.init(rows: 6, columns: 6))
        #expect(
            order == [
                0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 18, 19, 20, 21, 4, 5, 10, 11, 16, 17, 22, 23, 24, 25, 26, 27,
                30,
                31, 32, 33, 28, 29, 34, 35,
            ])
        #expect(bounds.map { $0 * 4 } == [0, 64, 96, 128, 144])
        // Exact windows leave no empty ones behind.
        #expect(BlockOrder.windows(.init(rows: 4, columns: 8)).bounds == [0, 16, 32])
        let video = BlockOrder.windows(.init(rows: 3, columns: 5), frames: 2, side: 2)
        #expect(video.order.sorted() == Array(0..<30) && video.bounds.last == 30)
        #expect(video.order.prefix(15).sorted() == Array(0..<15))
    }

    @Test("the inverse permutation brings merged units back, around the merger too")
    func inverse() {
        let units = VisualTokens.Grid(rows: 3, columns: 5)
        let order = BlockOrder.windows(units, side: 2).order
        let inverse = BlockOrder.inverse(order)
        #expect(inverse.map { order[$0] } == Array(0..<15))
        let x = Tensor.sample([60, 4], "x")
        let moved = BlockOrder.reordered(x, by: order, rows: 4)
        expectSameBits(BlockOrder.reordered(moved, by: inverse, rows: 4), x)
        let model = merger(.rms)
        let restored = BlockOrder.reordered(model(moved), by: inverse)
        expectClose(restored, model(x), tolerance: 1e-14)
    }

    @Test("a raster merges as its patches in block-major order do, for any block", arguments: [1, 2, 3])
    func raster(m: Int) {
        let grid = VisualTokens.Grid(rows: 6, columns: 12)
        for norm in [PatchMerger.Norm.layer, .rms] {
            let model = merger(norm, mergeSize: m)
            let x = Tensor.sample([2, grid.count, 4], "x")
            let merged = model(VisualTokens(patches: x, grid: grid))
            #expect(merged.grid == .init(rows: 6 / m, columns: 12 / m))
            // Both pictures packed one after the other, as two frames.
            let order = BlockOrder.blockMajor(grid, frames: 2, mergedBy: m)
            let packed = model(BlockOrder.reordered(x.flattened(from: 0, to: 1), by: order))
            expectClose(merged.features.flattened(from: 0, to: 1), packed, tolerance: 1e-13)
        }
    }

    @Test("a merged token stands at the centre of its block and stands for its patches")
    func known() {
        let merged = merger(.layer)(
            VisualTokens(patches: .sample([1, 24, 4], "x"), grid: .init(rows: 4, columns: 6), tracked: true))
        #expect(merged.positions[0].doubles.prefix(6) == [0.5, 0.5, 0.5, 2.5, 0.5, 4.5])
        #expect(merged.sizes.doubles == Array(repeating: 4, count: 6))
        let patches = merged.provenance!.weights[0][4].doubles
        #expect(patches.indices.filter { patches[$0] == 0.25 } == [14, 15, 20, 21])
        #expect(patches.reduce(0, +) == 1)
    }

    @Test("a file of Qwen2-VL does not load as one of Qwen2.5-VL: the norm's bias has no place")
    func otherForm() throws {
        let weights = WeightLayout<PatchMerger>.qwen2VL.published(merger(.layer).parameters)
        let error = try #require(throws: WeightsError.self) {
            _ = try PatchMerger.entry.forms[1].instance([:], weights: weights, owner: "c", source: "w")
        }
        #expect(error.report.unexpected == ["ln_q.bias"])
        let behind = NamedTensors(uniqueKeysWithValues: weights.map { ("model.visual.merger." + $0.key, $0.value) })
        let loaded = try PatchMerger.entry.forms[0].instance([:], weights: behind, owner: "c", source: "w")
        #expect(loaded.configuration.int("context_dim") == 4 && loaded.configuration.int("dim") == 5)
        #expect(loaded.weights.keys.elements == behind.keys.elements)
    }

    @Test("rows that make up no whole blocks, and other widths, are errors with both shapes")
    func refusals() throws {
        let form = PatchMerger.entry.forms[0]
        let instance = try form.instance(form.sample, owner: "a test")
        let error = try #require(throws: ModuleInputError.self) { _ = try instance.outputs(["x": .ones([6, 4])]) }
        #expect(
            error.description
                == "input x is [6, 4]; expected is [M*spatial_merge_size*spatial_merge_size, context_dim] with "
                + "spatial_merge_size = 2, context_dim = 4")
        #expect(throws: ModuleInputError.self) { _ = try instance.outputs(["x": .ones([8, 5])]) }
    }
}
