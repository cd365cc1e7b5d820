import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("Any-resolution packing") struct AnyResolutionTests {
    private let released = AnyResolution.Options()

    @Test(
        "tokens of seven pictures as released: tiles, what is left of them, what that is resized to, tokens",
        arguments: [
            ([384, 384], [1, 1], [27, 27], [27, 27], 1485), ([500, 700], [2, 2], [38, 54], [38, 54], 2819),
            ([1000, 750], [3, 2], [73, 54], [73, 54], 4744), ([1080, 1920], [3, 5], [75, 135], [60, 108], 7269),
            ([2304, 2304], [6, 6], [162, 162], [81, 81], 7371), ([3000, 400], [6, 1], [162, 21], [162, 21], 4293),
            ([100, 2000], [1, 6], [9, 162], [9, 162], 2196),
        ])
    func counts(_ picture: [Int], _ tiles: [Int], _ left: [Int], _ size: [Int], _ tokens: Int) {
        let packing = released.packing(of: Size2D(picture[0], picture[1]))
        #expect(packing.tiles == .init(rows: tiles[0], columns: tiles[1]))
        #expect([packing.rows.count, packing.columns.count] == left)
        #expect(packing.grid == .init(rows: size[0], columns: size[1]))
        #expect(packing.tokenCount == tokens)
        #expect(packing.tokenCount == 729 + size[0] * (size[1] + 1))
    }

    @Test("no picture gets more than 8765 tokens; one of 1156 × 946 gets as many")
    func largest() {
        #expect(released.packing(of: Size2D(1156, 946)).tokenCount == 8765)
        // Every size around those that fill a grid of tiles just below the threshold, and a net over all others.
        var most = 0
        for height in stride(from: 1, through: 2600, by: 37) {
            for width in stride(from: 1, through: 2600, by: 37) {
                most = max(most, released.packing(of: Size2D(height, width)).tokenCount)
            }
        }
        for height in 1140..<1170 {
            for width in 930..<960 {
                most = max(most, released.packing(of: Size2D(height, width)).tokenCount)
                most = max(most, released.packing(of: Size2D(width, height)).tokenCount)
            }
        }
        #expect(most == 8765)
    }

    @Test("of pinpoints that show as much of a picture, the one that wastes the least")
    func bestFit() {
        #expect(released.bestFit(Size2D(100, 100)) == Size2D(384, 384))
        #expect(released.bestFit(Size2D(100, 700)) == Size2D(384, 768))
        #expect(released.bestFit(Size2D(5000, 5000)) == Size2D(2304, 2304))
        let odd = AnyResolution.Options(pinpoints: [Size2D(2, 4), Size2D(4, 2)], tile: 2, side: 3)
        #expect(odd.bestFit(Size2D(3, 9)) == Size2D(2, 4))
    }

    @Test("at least one row is left of the thinnest picture; an odd line of the letterbox stays")
    func unpadding() {
        let thin = released.packing(of: Size2D(10, 5000))
        #expect(thin.tiles == .init(rows: 1, columns: 6))
        #expect(thin.rows == 13..<14 && thin.columns == 0..<162)
        // 38 rows are shown of 54: 37.03 cut to 37, 17 over, 8 on each side.
        #expect(released.packing(of: Size2D(480, 700)).rows == 8..<46)
    }

    /// A picture of 4 × 6 pixels in tiles of 3 × 3 tokens whose values tell tile, row and column.
    private func crops(_ tiles: Int, side: Int = 3) -> Tensor {
        let values = (0...tiles).flatMap { tile in (0..<side * side).map { Double(tile * 100 + $0) } }
        return Tensor(values, shape: [1, tiles + 1, side * side, 1])
    }

    @Test("whole picture, then the tiles' tokens row by row, each row with its end")
    func order() {
        var model = AnyResolution(
            .init(pinpoints: [Size2D(4, 6)], tile: 2, side: 3), width: 1, key: RandomKey(seed: 0)
        ).cast(to: .float64)
        model.imageNewline = Tensor([-1.0], shape: [1])
        let packed = model(crops(6), picture: Size2D(4, 6), tracked: true)
        var want = (0..<9).map(Double.init)
        for row in 0..<6 {
            for column in 0..<9 {
                want.append(Double((row / 3 * 3 + column / 3 + 1) * 100 + row % 3 * 3 + column % 3))
            }
            want.append(-1)
        }
        #expect(packed.features.doubles == want)
        #expect(packed.count == model.packing(of: Size2D(4, 6)).tokenCount)
        // The whole picture's tokens cover 2 × 3 of the raster's: the first one is centred between them.
        #expect(packed.positions[0][0].doubles == [0.5, 1])
        #expect(packed.positions[0][8].doubles == [4.5, 7])
        #expect(packed.positions[0][9 + 10 * 5 + 8].doubles == [5, 8])
        #expect(packed.positions[0][9 + 10 * 5 + 9].doubles == [5, 8])
        #expect(packed.sizes[0].doubles.reduce(0, +) == 63)
        let patches = packed.provenance!.weights[0]
        #expect(patches.shape == [69, 63])
        #expect(patches[9 + 10 * 2 + 4].doubles.firstIndex(of: 1) == 9 + 9 * 2 + 4)
        #expect(patches[9 + 9].doubles.allSatisfy { $0 == 0 })
    }

    @Test("a resized raster says where its tokens stand")
    func resized() {
        // 4 × 4 tiles of 2 × 2 tokens, cut to the worth of four: 8 × 8 → 4 × 4.
        let model = AnyResolution(
            .init(pinpoints: [Size2D(8, 8)], tile: 2, side: 2, maxTiles: 4), width: 2, key: RandomKey(seed: 0)
        ).cast(to: .float64)
        var values = [Double](repeating: 0, count: 8)
        for tile in 0..<16 {
            for token in 0..<4 {
                values += [Double(tile / 4 * 2 + token / 2), Double(tile % 4 * 2 + token % 2)]
            }
        }
        let packed = model(Tensor(values, shape: [1, 17, 4, 2]), picture: Size2D(8, 8), tracked: true)
        #expect(packed.count == 4 + 4 * 5)
        for token in (0..<20) where token % 5 != 4 {
            let place = packed.positions[0][4 + token].doubles
            #expect(packed.features[0][4 + token].doubles == place)
            #expect(place == [Double(token / 5) * 2 + 0.5, Double(token % 5) * 2 + 0.5])
            #expect(packed.sizes[0][4 + token].item() == 4)
        }
    }

    @Test("a picture without tiles is its tokens and one end")
    func untiled() {
        let model = AnyResolution(.init(tile: 6, side: 3), width: 1, key: RandomKey(seed: 0))
        let packed = model(crops(0).cast(to: .float32), picture: Size2D(5, 5))
        #expect(packed.count == 10 && packed.sizes[0].doubles == Array(repeating: 1, count: 9) + [0])
    }

    @Test("crops that are not those of the picture, and pinpoints that are no tiles, are errors")
    func refusals() throws {
        let form = AnyResolution.entry.forms[0]
        let instance = try form.instance(form.sample, owner: "a test")
        let error = try #require(throws: ModuleInputError.self) {
            _ = try instance.outputs(["image_features": .ones([1, 4, 9, 2])])
        }
        #expect(
            error.description
                == "input image_features is [1, 4, 9, 2]: a picture of 7 × 11 pixels has 1 + 2 crops (1 × 2 tiles), not 4"
        )
        #expect(throws: ModuleInputError.self) {
            _ = try instance.outputs(["image_features": .ones([1, 3, 8, 2])])
        }
        let pinpoints = try #require(throws: ModuleInputError.self) {
            _ = try form.instance(form.sample.merging(["image_grid_pinpoints": [[6, 7]]]) { $1 }, owner: "c")
        }
        #expect(pinpoints.description.contains("multiples of \"image_size\", 6"))
        #expect(throws: ModuleInputError.self) {
            _ = try form.instance(form.sample.merging(["image_grid_pinpoints": [[6, 6, 6]]]) { $1 }, owner: "c")
        }
        #expect(throws: ModuleInputError.self) {
            _ = try form.instance(form.sample.merging(["vision_aspect_ratio": "anyres_max_0"]) { $1 }, owner: "c")
        }
    }
}
