import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("Spatial pooling") struct SpatialPoolTests {
    private func pool(_ mode: SpatialPool.Mode, stride: Int = 2) -> SpatialPool {
        SpatialPool(mode: mode, stride: stride, key: RandomKey(seed: 0))
    }

    /// Frames whose token (r, c) is (r, c).
    private func places(_ rows: Int, _ columns: Int, frames: Int = 1) -> VisualTokens {
        let values = (0..<rows * columns).flatMap { [Double($0 / columns), Double($0 % columns)] }
        return VisualTokens(
            patches: Tensor(values, shape: [1, rows * columns, 2]).expanded(to: [frames, rows * columns, 2]),
            grid: .init(rows: rows, columns: columns), tracked: true)
    }

    @Test("27 × 27 tokens become 13 × 13, 13 × 13, 14 × 14 and 14 × 14")
    func counts() {
        for (mode, side) in [(SpatialPool.Mode.average, 13), (.max, 13), (.bilinear, 14), (.adaptive, 14)] {
            let shape = pool(mode).outputShape(TokenShape(grid: .init(rows: 27, columns: 27), width: 8))
            #expect(shape == TokenShape(grid: .init(rows: side, columns: side), width: 8))
            #expect(pool(mode)(places(27, 27)).shape.count == side * side)
        }
    }

    @Test("on a ramp, windows give their centres, their last tokens, and bilinear steps of 27 / 14")
    func ramps() {
        let ramp = places(27, 27)
        let average = pool(.average)(ramp).features[0]
        let largest = pool(.max)(ramp).features[0]
        for (place, (i, j)) in [(0, (0, 0)), (12, (0, 12)), (13, (1, 0)), (168, (12, 12))] {
            #expect(average[place].doubles == [2 * Double(i) + 0.5, 2 * Double(j) + 0.5])
            #expect(largest[place].doubles == [2 * Double(i) + 1, 2 * Double(j) + 1])
        }
        let resized = pool(.bilinear)(ramp).features[0]
        for j in 0..<14 {
            #expect(abs(resized[j].doubles[1] - (0.46428571428571427 + Double(j) * 27 / 14)) < 1e-12)
            #expect(abs(resized[14 * j].doubles[0] - (0.46428571428571427 + Double(j) * 27 / 14)) < 1e-12)
        }
        // Means of the tokens ⌊i · 27 / 14⌋ ..< ⌈(i + 1) · 27 / 14⌉.
        let adaptive = pool(.adaptive)(ramp).features[0]
        for i in 0..<14 {
            let (first, end) = (i * 27 / 14, ((i + 1) * 27 + 13) / 14)
            let mean: Double = Double(first + end - 1) / 2
            expectClose(adaptive[i], Tensor([0.5, mean]), tolerance: 1e-12)
        }
    }

    @Test("what a pooled ramp says is where its tokens stand, whatever the mode, stride and raster")
    func positions() {
        for mode in [SpatialPool.Mode.average, .bilinear, .adaptive] {
            for (rows, columns, stride) in [(7, 7, 2), (5, 9, 3), (6, 4, 2), (4, 8, 1)] {
                let pooled = pool(mode, stride: stride)(places(rows, columns))
                expectClose(
                    pooled.positions.cast(to: .float64), pooled.features, tolerance: 1e-5, "\(mode) \(rows) \(columns)")
                let whole = pooled.provenance!.weights.sum(axes: [2])
                expectClose(whole, .ones(whole.shape), tolerance: 1e-5)
                let covered = rows / stride * stride * (columns / stride * stride)
                let kept = Double(mode == .average ? covered : rows * columns)
                let stands = pooled.sizes.sum().item()
                // Bilinear steps beyond two leap over tokens, which then no token stands for.
                #expect(mode == .bilinear && stride > 2 ? stands < kept : abs(stands - kept) < 1e-3)
            }
        }
    }

    @Test("a maximum may be of any patch of its window")
    func maximum() {
        let pooled = pool(.max)(places(4, 5))
        #expect(pooled.positions[0].doubles == [0.5, 0.5, 0.5, 2.5, 2.5, 0.5, 2.5, 2.5])
        #expect(pooled.sizes[0].doubles == [4, 4, 4, 4])
        let patches = pooled.provenance!.weights[0][3].doubles
        #expect(patches.indices.filter { patches[$0] == 1 } == [12, 13, 17, 18])
    }

    @Test(
        "end tokens stand behind the video, its rows, its frames, or nowhere", arguments: SpatialPool.Newlines.allCases)
    func newlines(_ newlines: SpatialPool.Newlines) {
        var model = SpatialPool(newlines: newlines, width: 2, key: RandomKey(seed: 0))
        model.imageNewline = Tensor([-7.0, -8.0], shape: [2])
        let video = model.video((0..<3).map { _ in places(5, 5, frames: 2) })
        let ends = (0..<video.count).filter { video.features[1][$0].doubles == [-7, -8] }
        let (count, wanted): (Int, [Int]) =
            switch newlines {
            case .video: (28, [27])
            case .row: (36, (0..<9).map { $0 * 4 + 3 })
            case .frame: (30, [9, 19, 29])
            case .none: (27, [])
            }
        #expect(video.count == count && ends == wanted)
        for end in ends {
            #expect(video.sizes[0][end].item() == 0)
            #expect(video.positions[0][end].doubles == video.positions[0][end - 1].doubles)
        }
        #expect(abs(video.sizes[0].sum().item() - 75) < 1e-3)
        let one = model(places(5, 5))
        #expect(one.shape == model.outputShape(places(5, 5).shape))
    }

    @Test("32 frames of 27 × 27: 6273 tokens with one at the end, and 13 · 14 a frame with one behind each row")
    func videos() {
        let frame = VisualTokens(
            patches: .zeros([1, 729, 1]), grid: .init(rows: 27, columns: 27))
        let video = SpatialPool(newlines: .video, width: 1, key: RandomKey(seed: 0))
        #expect(video.video(Array(repeating: frame, count: 32)).count == 6273)
        let rows = SpatialPool(mode: .average, newlines: .row, width: 1, key: RandomKey(seed: 0))
        #expect(rows(frame).count == 182)
    }

    @Test("the end token's gradient is the sum of what its copies get")
    func gradient() {
        let model = SpatialPool(newlines: .row, width: 2, key: RandomKey(seed: 0)).cast(to: .float64)
        let (_, gradients) = valueAndGradient(of: model) { $0(self.places(4, 4, frames: 3)).features.sum() }
        #expect(gradients["imageNewline"]!.doubles == [6, 6])
    }

    @Test("no raster, windows that do not fit, and other widths are told")
    func problems() throws {
        let average = pool(.average, stride: 3)
        #expect(average.problem(with: TokenShape(count: 9, width: 2)) == "the 9 tokens form no raster")
        #expect(
            average.problem(with: TokenShape(grid: .init(rows: 2, columns: 9), width: 2))
                == "windows of 3 × 3 do not fit into a raster of 2 × 9")
        let marked = SpatialPool(newlines: .row, width: 3, key: RandomKey(seed: 0))
        #expect(
            marked.problem(with: TokenShape(grid: .init(rows: 2, columns: 9), width: 2))
                == "tokens of width 3 are needed, not 2")
        let form = SpatialPool.entry.forms[0]
        let error = try #require(throws: ModuleInputError.self) {
            _ = try form.instance(
                ["num_patches_per_side": 2, "mm_spatial_pool_stride": 3, "mm_spatial_pool_mode": "max"], owner: "c")
        }
        #expect(error.description.contains("windows of 3 × 3"))
        let instance = try form.instance(["num_patches_per_side": 5], owner: "c")
        let shape = try #require(throws: ModuleInputError.self) { _ = try instance.outputs(["x": .ones([2, 24, 3])]) }
        #expect(shape.description.contains("[2, 24, 3]") && shape.description.contains("num_patches_per_side = 5"))
    }
}
