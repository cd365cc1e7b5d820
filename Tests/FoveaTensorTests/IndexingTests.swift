import FoveaTensor
import FoveaTestSupport
import Testing

private let inf = Double.infinity
private let nan = Double.nan

private func zeros(_ shape: Int...) -> Tensor { .zeros(shape) }
private func ids(_ values: Int64...) -> Tensor { Tensor(values) }

/// The gradient of Σ g·y for the cotangent g = 1, 2, 3, … in row-major order.
private func pulled(_ x: Tensor, _ run: (Tensor) -> Tensor) -> Tensor {
    func counting(_ y: Tensor) -> Tensor {
        Tensor((0..<y.count).map { Double($0 + 1) }, shape: y.shape).cast(to: y.dtype)
    }
    return pullBack({ run($0[0]) }, [x], cotangent: counting).gradients[0]
}

/// Ops that only move elements, on a tensor [2, 2, 3, 4].
private let moves: [(label: String, run: @Sendable (Tensor) -> Tensor)] = [
    ("stack", { stacked([$0, $0.flipped([3])], axis: 1) }),
    ("split", { $0.split(axis: 3, into: [1, 3])[1] }),
    ("pad", { $0.padded([(1, 0), (0, 2)], value: 1) }),
    ("replace", { $0.replacing(axis: 3, 0..<4, step: 2, with: $0.sliced(axis: 3, 1..<3)) }),
    ("repeatInterleave", { $0.repeated(2, axis: 1) }),
    ("tile", { $0.tiled([2, 1, 3]) }),
    ("flip", { $0.flipped([0, 2]) }),
    ("roll", { $0.rolled(by: 3, axis: 3) }),
    ("tril", { $0.tril(diagonal: 1) }),
    ("triu", { $0.triu() }),
    ("gather", { $0.gathered(axis: 3, Tensor([Int64(2), 0, 3, 3, 1, 0], shape: [1, 1, 2, 3])) }),
    ("indexSelect", { $0.selecting(axis: 2, ids(2, 0, 2)) }),
    ("embedding", { embedding(ids(3, 0, 11), table: $0.reshaped(to: [12, 4])) }),
    ("maskedSelect, elements", { $0.flattened().masked(by: Tensor((0..<48).map { $0 % 5 == 0 })) }),
    ("maskedSelect, rows", { $0.masked(by: Tensor([false, true])) }),
    ("maskedFill", { $0.maskedFill(Tensor([true, false, false, true]), 1) }),
    ("unfold", { $0.unfolded(Windows(kernel: 2, padding: Size2D(1, 0))) }),
    ("sort", { $0.sorted(axis: 2, descending: true).values }),
    ("argsort", { $0.argsorted(axis: 3) }),
    ("topK", { $0.topK(2, axis: 3).indices }),
]

@Suite("Joining, indexing, sorting, windows")
struct IndexingTests {
    @Test("move elements of every type", arguments: zip(moves.indices, moves.map(\.label)))
    func types(index: Int, label: String) {
        let numbers = (0..<48).map { Double($0 * 7 % 5) }
        for type in DType.allCases {
            let x = Tensor(numbers, shape: [2, 2, 3, 4]).cast(to: type)
            let y = moves[index].run(x)
            #expect(y.dtype == type || y.dtype == .int64, "\(label), \(type)")
            expectClose(
                y.cast(to: .float64), moves[index].run(x.cast(to: .float64)).cast(to: .float64), tolerance: 0,
                "\(label), \(type)")
        }
    }

    // MARK: Order

    @Test("sorting puts NaN behind every number, and in front when descending")
    func sortingNaN() {
        let x = Tensor([nan, 1, inf, -inf, nan, -1])
        for type in [DType.float64, .float32, .float16] {
            let (rising, from) = x.cast(to: type).sorted(axis: 0)
            expectClose(rising.cast(to: .float64), Tensor([-inf, -1, 1, inf, nan, nan]), tolerance: 0, "\(type)")
            #expect(from.scalars(as: Int64.self) == [3, 5, 1, 2, 0, 4])
            let falling = x.cast(to: type).sorted(axis: 0, descending: true)
            expectClose(falling.values.cast(to: .float64), Tensor([nan, nan, inf, 1, -1, -inf]), tolerance: 0)
            #expect(falling.indices.scalars(as: Int64.self) == [0, 4, 2, 1, 5, 3])
            #expect(x.cast(to: type).topK(3, axis: 0).indices.scalars(as: Int64.self) == [0, 4, 2])
            #expect(x.cast(to: type).topK(2, axis: 0, largest: false).indices.scalars(as: Int64.self) == [3, 5])
        }
    }

    @Test("equal elements keep their order, −0 and 0 among them")
    func sortingTies() {
        let x = Tensor([2.0, 0, 2, -0.0, 1, 0, 2])
        #expect(x.argsorted(axis: 0).scalars(as: Int64.self) == [1, 3, 5, 4, 0, 2, 6])
        #expect(x.argsorted(axis: 0, descending: true).scalars(as: Int64.self) == [0, 2, 6, 4, 1, 3, 5])
        let (values, indices) = x.topK(4, axis: 0)
        #expect(values.scalars(as: Double.self) == [2, 2, 2, 1])
        #expect(indices.scalars(as: Int64.self) == [0, 2, 6, 4])
        expectClose(pulled(x) { $0.topK(4, axis: 0).values }, Tensor([1.0, 0, 2, 0, 4, 0, 3]), tolerance: 0)
        expectClose(
            pulled(x) { $0.topK(2, axis: 0, largest: false).values }, Tensor([0.0, 1, 0, 2, 0, 0, 0]), tolerance: 0)
    }

    @Test("integers too large for a double are sorted exactly")
    func sortingIntegers() {
        let large = Int64(1) << 53
        #expect(ids(large + 1, large, -large).argsorted(axis: 0).scalars(as: Int64.self) == [2, 1, 0])
    }

    // MARK: Indices

    @Test("the gradients of an element that was taken several times add up")
    func repeated() {
        let x = Tensor([5.0, 6, 7])
        expectClose(pulled(x) { $0.gathered(axis: 0, ids(1, 1, 0, 1)) }, Tensor([3.0, 7, 0]), tolerance: 0)
        expectClose(pulled(x) { $0.selecting(axis: 0, ids(2, 2)) }, Tensor([0.0, 0, 3]), tolerance: 0)
    }

    @Test("the row of an embedding that pads has no gradient, and is read as any other")
    func padding() {
        let table = Tensor([1.0, 2, 3, 4, 5, 6], shape: [3, 2])
        let words = Tensor([Int64(1), 0, 1, 2], shape: [2, 2])
        let y = embedding(words, table: table, paddingIndex: 1)
        expectClose(y, Tensor([3.0, 4, 1, 2, 3, 4, 5, 6], shape: [2, 2, 2]), tolerance: 0)
        expectClose(
            pulled(table) { embedding(words, table: $0, paddingIndex: 1) },
            Tensor([3.0, 4, 0, 0, 7, 8], shape: [3, 2]), tolerance: 0)
    }

    // MARK: What is left out

    @Test("NaN does not come through masks and triangles")
    func hidden() {
        let x = Tensor([nan, 1, nan, 2], shape: [2, 2])
        let mask = Tensor([true, false])
        expectClose(x.maskedFill(mask, -inf), Tensor([-inf, 1, -inf, 2], shape: [2, 2]), tolerance: 0)
        expectClose(pulled(x) { $0.maskedFill(mask, 0) }, Tensor([0.0, 2, 0, 4], shape: [2, 2]), tolerance: 0)
        expectClose(x.triu(diagonal: 1), Tensor([0.0, 1, 0, 0], shape: [2, 2]), tolerance: 0)
        expectClose(
            pulled(x) { $0.maskedFill(mask, 0) * Tensor([nan, 1]) }, Tensor([0.0, 2, 0, 4], shape: [2, 2]), tolerance: 0
        )
        for far in [Int.min, Int.max] {
            expectClose(x.tril(diagonal: far), far > 0 ? x : Tensor.zeros([2, 2]), tolerance: 0)
            expectClose(x.triu(diagonal: far), far > 0 ? Tensor.zeros([2, 2]) : x, tolerance: 0)
        }
    }

    @Test("an unused part of a split has a gradient of zeros, and so has a replaced element")
    func unused() {
        let x = Tensor([1.0, 2, 3, 4])
        expectClose(pulled(x) { $0.split(axis: 0, into: [1, 2, 1])[1] }, Tensor([0.0, 1, 2, 0]), tolerance: 0)
        expectClose(
            pulled(x) { $0.replacing(axis: 0, 1..<4, step: 2, with: Tensor([9.0])) }, Tensor([1.0, 0, 3, 0]),
            tolerance: 0)
    }

    @Test("folding the windows of ones counts how often each pixel is seen")
    func overlap() {
        let windows = Windows(kernel: 2)
        let counts = Tensor.ones([1, 1, 3, 3]).unfolded(windows).folded(to: 3, windows)
        expectClose(counts, Tensor([1.0, 2, 1, 2, 4, 2, 1, 2, 1], shape: [1, 1, 3, 3]), tolerance: 0)
    }
}

let indexingMistakes: [TrapCase] = [
    TrapCase("stack nothing", saying: "stack: no tensors") { _ = stacked([], axis: 0) },
    TrapCase("stack", saying: "stack: shapes and types must agree", "[2]", "[3]") {
        _ = stacked([zeros(2), zeros(3)], axis: 0)
    },
    TrapCase("stack's axis", saying: "stack: axis 2 is outside the 2 axes") { _ = stacked([zeros(2)], axis: 2) },
    TrapCase("split", saying: "split: [1, 2] do not add up to axis 0 of length 4") {
        _ = zeros(4).split(axis: 0, into: [1, 2])
    },
    TrapCase("pad", saying: "pad:", "are not widths for 1 axes") { _ = zeros(4).padded([(0, -1)]) },
    TrapCase("replace", saying: "replace: the source must be float32 and broadcast to [2]", "[3]") {
        _ = zeros(4).replacing(axis: 0, 0..<2, with: zeros(3))
    },
    TrapCase("repeatInterleave", saying: "repeatInterleave: -1 is no number") { _ = zeros(4).repeated(-1, axis: 0) },
    TrapCase("repeatInterleave's counts", saying: "repeatInterleave: [1, 2] are not the counts of axis 0 of length 4") {
        _ = zeros(4).repeated([1, 2], axis: 0)
    },
    TrapCase("tile", saying: "tile: [-1] has a negative count") { _ = zeros(4).tiled([-1]) },
    TrapCase("flip", saying: "flip: an axis is named twice") { _ = zeros(4).flipped([0, -1]) },
    TrapCase("roll", saying: "roll: axis 1 is outside") { _ = zeros(4).rolled(by: 1, axis: 1) },
    TrapCase("tril", saying: "tril: matrices [..., n, m] are needed", "[4]") { _ = zeros(4).tril() },
    TrapCase("triu", saying: "triu: matrices [..., n, m] are needed", "[4]") { _ = zeros(4).triu() },
    TrapCase("gather's index", saying: "gather: index 3 is outside axis 1 of length 3", "[2, 3]") {
        _ = zeros(2, 3).gathered(axis: 1, Tensor([Int64(0), 3], shape: [2, 1]))
    },
    TrapCase("gather's negative index", saying: "gather: index -1 is outside axis 0 of length 2") {
        _ = zeros(2).gathered(axis: 0, ids(0, -1))
    },
    TrapCase("gather's lines", saying: "gather: the indices must have as many axes", "int64 [3, 1]") {
        _ = zeros(2, 3).gathered(axis: 1, Tensor([Int64(0), 0, 0], shape: [3, 1]))
    },
    TrapCase("gather's type", saying: "gather: the indices must be int64", "int32 [1]") {
        _ = zeros(2).gathered(axis: 0, Tensor([Int32(0)]))
    },
    TrapCase("scatterAdd's index", saying: "scatterAdd: index 2 is outside axis 0 of length 2") {
        _ = zeros(2).addingAt(axis: 0, ids(2), zeros(1))
    },
    TrapCase("scatterAdd's source", saying: "scatterAdd: the source must have the indices' shape", "float32 [2]") {
        _ = zeros(2).addingAt(axis: 0, ids(1), zeros(2))
    },
    TrapCase("indexSelect", saying: "indexSelect: index 5 is outside axis 0 of length 2") {
        _ = zeros(2).selecting(axis: 0, ids(5))
    },
    TrapCase("indexSelect's rank", saying: "indexSelect: indices [K] are needed", "int64 []") {
        _ = zeros(2).selecting(axis: 0, Tensor([Int64(1)], shape: []))
    },
    TrapCase("indexAdd", saying: "indexAdd: index 5 is outside axis 0 of length 2") {
        _ = zeros(2).addingSlices(axis: 0, ids(5), zeros(1))
    },
    TrapCase("indexAdd's source", saying: "indexAdd: the source must be a slice for each index", "float32 [3, 2]") {
        _ = zeros(3, 2).addingSlices(axis: 0, ids(0, 1), zeros(3, 2))
    },
    TrapCase("indexAdd's rank", saying: "indexAdd: indices [K] are needed", "int64 []") {
        _ = zeros(2).addingSlices(axis: 0, Tensor([Int64(1)], shape: []), zeros(1))
    },
    TrapCase("embedding", saying: "embedding: index 4 is outside the 4 rows", "[4, 2]") {
        _ = embedding(ids(4), table: zeros(4, 2))
    },
    TrapCase("embedding's padding", saying: "embedding: the padding index 4 is outside the 4 rows") {
        _ = embedding(ids(0), table: zeros(4, 2), paddingIndex: 4)
    },
    TrapCase("embedding's table", saying: "embedding: a table [V, D] is needed", "[4]") {
        _ = embedding(ids(0), table: zeros(4))
    },
    TrapCase("embeddingBag", saying: "embeddingBag: index 4 is outside the 4 rows", "[4, 2]") {
        _ = embeddingBag(ids(4), offsets: ids(0), table: zeros(4, 2))
    },
    TrapCase("embeddingBag's offsets", saying: "embeddingBag: the offsets must ascend from 0", "int64 [2]") {
        _ = embeddingBag(ids(1, 2), offsets: ids(1, 2), table: zeros(4, 2))
    },
    TrapCase("embeddingBag without bags", saying: "embeddingBag: 2 ids are in no bag") {
        _ = embeddingBag(ids(1, 2), offsets: ids(), table: zeros(4, 2))
    },
    TrapCase("embeddingBag's last offset", saying: "embeddingBag: index 3 is outside the 2 ids") {
        _ = embeddingBag(ids(1, 2), offsets: ids(0, 3), table: zeros(4, 2))
    },
    TrapCase("embeddingBag's weights", saying: "embeddingBag: a table [V, D], ids [K], offsets [P] and weights [K]") {
        _ = embeddingBag(ids(1, 2), offsets: ids(0), table: zeros(4, 2), weights: zeros(3))
    },
    TrapCase("oneHot", saying: "oneHot: index 3 is outside the 3 classes") { _ = ids(3).oneHot(classes: 3) },
    TrapCase("oneHot's type", saying: "oneHot: float32 or float64 is needed, not int64") {
        _ = ids(3).oneHot(classes: 4, dtype: .int64)
    },
    TrapCase("oneHot's classes", saying: "oneHot: -1 is no number of classes") { _ = ids(3).oneHot(classes: -1) },
    TrapCase("bincount", saying: "bincount: index -2 is outside 0, 1, …") { _ = ids(1, -2).bincount() },
    TrapCase("bincount's rank", saying: "bincount: numbers [N]", "int64 [1, 1]") {
        _ = Tensor([Int64(1)], shape: [1, 1]).bincount()
    },
    TrapCase("maskedSelect", saying: "maskedSelect: a bool mask of the shape of the first axes", "bool [1]") {
        _ = zeros(2).masked(by: Tensor([true]))
    },
    TrapCase("maskedFill", saying: "maskedFill: a bool mask that broadcasts", "[2, 2]") {
        _ = zeros(2).maskedFill(Tensor([true, true, true, true], shape: [2, 2]), 0)
    },
    TrapCase("topK", saying: "topK: there are no 5 elements in axis 0 of length 4") { _ = zeros(4).topK(5, axis: 0) },
    TrapCase("sort", saying: "sort: axis 1 is outside the 1 axes") { _ = zeros(4).sorted(axis: 1) },
    TrapCase("windows", saying: "Windows: kernel, stride and dilation must be positive") {
        _ = Windows(kernel: 2, stride: Size2D(0, 1))
    },
    TrapCase("unfold's rank", saying: "unfold: images [B, C, H, W] are needed") {
        _ = zeros(3, 3).unfolded(Windows(kernel: 2))
    },
    TrapCase("unfold", saying: "unfold: no window of 4 × 2 fits", "[1, 1, 3, 3]") {
        _ = zeros(1, 1, 3, 3).unfolded(Windows(kernel: Size2D(4, 2)))
    },
    TrapCase("fold", saying: "fold: columns [B, C·4, L] of an image 3 × 3 are needed", "[1, 4, 5]") {
        _ = zeros(1, 4, 5).folded(to: 3, Windows(kernel: 2))
    },
]

@Suite("Mistakes in calls that index and move")
struct IndexingTrapTests {
    @Test("stop the program and say why", arguments: zip(indexingMistakes.indices, indexingMistakes.map(\.label)))
    func mistake(index: Int, label: String) async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) { [index] in
            indexingMistakes[index].call()
        }
        indexingMistakes[index].expectMessage(in: result)
    }
}
