import CKernels

// Elements and rows by index. Indices are int64, count from 0 and trap when they are outside; a negative one is outside.
// Gradients of an element that was taken several times add up in the order of the indices, on any number of threads.

extension Op {
    /// Elements and rows by index.
    static let indexing: [Op] = [
        .gather, .scatterAdd, .indexSelect, .indexAdd, .embedding, .embeddingBag, .oneHot, .bincount,
    ]
}

// MARK: gather

extension Op {
    public static let gather = Op("gather", "along an axis, the element that each index names", linearIn: [0]) {
        [
            OpSample("last", [$0.uniform([3, 5]), $0.integers([3, 4], below: 5)]) {
                $0[0].gathered(axis: -1, $0[1])
            },
            OpSample("first", [$0.uniform([4, 3]), $0.integers([6, 3], below: 3)]) {
                $0[0].gathered(axis: 0, $0[1])
            },
            OpSample("middle, fewer lines", [$0.uniform([2, 3, 4]), $0.integers([1, 5, 2], below: 3)]) {
                $0[0].gathered(axis: 1, $0[1])
            },
            OpSample("of a view", [$0.uniform([5, 3]).transposed(0, 1), $0.integers([3, 2], below: 5)]) {
                $0[0].gathered(axis: 1, $0[1])
            },
            OpSample("no indices", [$0.uniform([2, 3]), $0.integers([2, 0], below: 3)]) {
                $0[0].gathered(axis: 1, $0[1])
            },
        ]
    }
}

extension Tensor {
    /// y[i, j, k] = x[i, indices[i, j, k], k] for `axis` 1: take-along-axis, PyTorch's `gather`.
    ///
    /// The indices, int64, have as many axes as this tensor; along each axis but `axis` they may be shorter, and only the
    /// first lines are then read. Traps on other shapes and on indices outside the axis.
    public func gathered(axis: Int, _ indices: Tensor) -> Tensor { gathered(axis: axis, indices, by: .gather) }

    func gathered(axis: Int, _ indices: Tensor, by op: Op) -> Tensor {
        let axis = normalizedAxis(axis, op.name)
        requireLines(op.name, axis, indices)
        let index = indices.requireIndices(
            op.name, below: shape[axis], "axis \(axis) of length \(shape[axis])", for: self)
        let positions = Tensor.linePositions(index, along: axis, in: shape)
        return taking(positions, blocks: 1, as: indices.shape)
            .derived(by: op, from: self) { [shape] g in g.scattered(positions, blocks: 1, to: shape) }
    }

    /// Traps unless the indices have this tensor's axes and are nowhere longer, but along `axis`.
    private func requireLines(_ op: String, _ axis: Int, _ indices: Tensor) {
        guard indices.rank == rank, shape.indices.allSatisfy({ $0 == axis || indices.shape[$0] <= shape[$0] }) else {
            trap(op, "the indices must have as many axes, none but axis \(axis) longer", self, indices)
        }
    }
}

// MARK: scatterAdd

extension Op {
    public static let scatterAdd = Op(
        "scatterAdd", "along an axis, elements added where each index says", linearIn: [0, 2]
    ) {
        [
            OpSample("last", [$0.uniform([3, 5]), $0.integers([3, 4], below: 5), $0.uniform([3, 4])]) {
                $0[0].addingAt(axis: -1, $0[1], $0[2])
            },
            OpSample("first", [$0.uniform([4, 3]), $0.integers([6, 2], below: 3), $0.uniform([6, 2])]) {
                $0[0].addingAt(axis: 0, $0[1], $0[2])
            },
            OpSample(
                "views",
                [
                    $0.uniform([5, 3]).transposed(0, 1), $0.integers([3, 2], below: 5),
                    $0.uniform([2, 3]).transposed(0, 1),
                ]
            ) { $0[0].addingAt(axis: 1, $0[1], $0[2]) },
            OpSample("nothing", [$0.uniform([2, 3]), $0.integers([2, 0], below: 3), $0.uniform([2, 0])]) {
                $0[0].addingAt(axis: 1, $0[1], $0[2])
            },
        ]
    }
}

extension Tensor {
    /// y = x, and then y[i, indices[i, j, k], k] += source[i, j, k] for `axis` 1, in row-major order: PyTorch's
    /// `scatter_add`.
    ///
    /// float32 or float64. The indices, int64, have as many axes as this tensor and are longer along `axis` at most. The
    /// source has their shape; PyTorch also takes a longer one and leaves the rest out, which `sliced` says. Traps on
    /// other shapes and types and on indices outside the axis.
    public func addingAt(axis: Int, _ indices: Tensor, _ source: Tensor) -> Tensor {
        requireDifferentiableType("scatterAdd")
        let axis = normalizedAxis(axis, "scatterAdd")
        requireLines("scatterAdd", axis, indices)
        guard source.shape == indices.shape, source.dtype == dtype else {
            trap("scatterAdd", "the source must have the indices' shape and the base's type", self, indices, source)
        }
        let index = indices.requireIndices(
            "scatterAdd", below: shape[axis], "axis \(axis) of length \(shape[axis])", for: self)
        let positions = Tensor.linePositions(index, along: axis, in: shape)
        let y = copied()
        y.add(source.detached, at: positions, blocks: 1)
        return y.derived(
            by: .scatterAdd, from: self, { g in g }, and: source,
            { g in g.taking(positions, blocks: 1, as: positions.shape) })
    }
}

// MARK: indexSelect

extension Op {
    public static let indexSelect = Op(
        "indexSelect", "the slices of an axis that a list of indices names", linearIn: [0]
    ) {
        [
            OpSample("rows", [$0.uniform([5, 3]), $0.integers([7], below: 3)]) { $0[0].selecting(axis: 0, $0[1]) },
            OpSample("columns", [$0.uniform([2, 5]), $0.integers([3], below: 5)]) { $0[0].selecting(axis: -1, $0[1]) },
            OpSample("middle", [$0.uniform([2, 4, 3]), $0.integers([5], below: 3)]) {
                $0[0].selecting(axis: 1, $0[1])
            },
            OpSample("none", [$0.uniform([2, 5]), $0.integers([0], below: 5)]) { $0[0].selecting(axis: 0, $0[1]) },
            OpSample("of a view", [$0.uniform([5, 3]).transposed(0, 1), $0.integers([4], below: 3)]) {
                $0[0].selecting(axis: 0, $0[1])
            },
        ]
    }
}

extension Tensor {
    /// The slices of `axis` that int64 indices [K] name, in their order: the axis gets length K. PyTorch's
    /// `index_select`. Traps on indices of another rank or outside the axis.
    public func selecting(axis: Int, _ indices: Tensor) -> Tensor {
        let axis = normalizedAxis(axis, "indexSelect")
        guard indices.rank == 1 else { trap("indexSelect", "indices [K] are needed", self, indices) }
        let length = shape[axis]
        let index = indices.requireIndices("indexSelect", below: length, "axis \(axis) of length \(length)", for: self)
        var target = shape
        target[axis] = indices.count
        return takingSlices(index, along: axis, as: target)
            .derived(by: .indexSelect, from: self) { [shape] g in
                let (positions, inner) = Tensor.slicePositions(index, along: axis, in: shape)
                return g.scattered(positions, blocks: inner, to: shape)
            }
    }
}

// MARK: indexAdd

extension Op {
    public static let indexAdd = Op(
        "indexAdd", "slices added at the places on an axis that a list of indices names", linearIn: [0, 2]
    ) {
        [
            OpSample("rows", [$0.uniform([5, 3]), $0.integers([7], below: 5), $0.uniform([7, 3])]) {
                $0[0].addingSlices(axis: 0, $0[1], $0[2])
            },
            OpSample("columns", [$0.uniform([2, 5]), $0.integers([3], below: 5), $0.uniform([2, 3])]) {
                $0[0].addingSlices(axis: -1, $0[1], $0[2])
            },
            OpSample("middle", [$0.uniform([2, 4, 3]), $0.integers([5], below: 4), $0.uniform([2, 5, 3])]) {
                $0[0].addingSlices(axis: 1, $0[1], $0[2])
            },
            OpSample("none", [$0.uniform([2, 5]), $0.integers([0], below: 5), $0.uniform([2, 0])]) {
                $0[0].addingSlices(axis: 1, $0[1], $0[2])
            },
            OpSample(
                "views",
                [
                    $0.uniform([5, 3]).transposed(0, 1), $0.integers([4], below: 3),
                    $0.uniform([5, 4]).transposed(0, 1),
                ]
            ) { $0[0].addingSlices(axis: 0, $0[1], $0[2]) },
        ]
    }
}

extension Tensor {
    /// y = x, and then y[:, indices[j], :] += source[:, j, :] for `axis` 1, j by j: PyTorch's `index_add`.
    ///
    /// float32 or float64; int64 indices [K], which may repeat. The source has this tensor's shape, but K along `axis`.
    /// Traps on other shapes and types and on indices outside the axis.
    public func addingSlices(axis: Int, _ indices: Tensor, _ source: Tensor) -> Tensor {
        requireDifferentiableType("indexAdd")
        let axis = normalizedAxis(axis, "indexAdd")
        guard indices.rank == 1 else { trap("indexAdd", "indices [K] are needed", self, indices) }
        var slices = shape
        slices[axis] = indices.count
        guard source.shape == slices, source.dtype == dtype else {
            trap("indexAdd", "the source must be a slice for each index, of the base's type", self, indices, source)
        }
        let index = indices.requireIndices(
            "indexAdd", below: shape[axis], "axis \(axis) of length \(shape[axis])", for: self)
        let (positions, inner) = Tensor.slicePositions(index, along: axis, in: shape)
        let y = copied()
        y.add(source.detached, at: positions, blocks: inner)
        return y.derived(
            by: .indexAdd, from: self, { g in g }, and: source, { g in g.taking(positions, blocks: inner, as: slices) })
    }
}

// MARK: embedding

extension Op {
    public static let embedding = Op("embedding", "the rows of a table that ids name", linearIn: [0]) {
        [
            OpSample("sequence", [$0.uniform([5, 3]), $0.integers([2, 4], below: 3)]) {
                FoveaTensor.embedding($0[1], table: $0[0])
            },
            OpSample("one id", [$0.uniform([5, 3]), $0.integers([], below: 3)]) {
                FoveaTensor.embedding($0[1], table: $0[0])
            },
            OpSample("no ids", [$0.uniform([5, 3]), $0.integers([0], below: 3)]) {
                FoveaTensor.embedding($0[1], table: $0[0])
            },
            OpSample("table is a view", [$0.uniform([3, 5]).transposed(0, 1), $0.integers([6], below: 5)]) {
                FoveaTensor.embedding($0[1], table: $0[0])
            },
        ]
    }
}

/// The rows of a table that ids name: table [V, D] and int64 ids [...] to [..., D].
///
/// The row `paddingIndex` is read as any other, and its gradient is zero, as in PyTorch. Traps on ids outside the table
/// and on a padding index outside it.
public func embedding(_ ids: Tensor, table: Tensor, paddingIndex: Int? = nil) -> Tensor {
    guard table.rank == 2 else { trap("embedding", "a table [V, D] is needed", table, ids) }
    let (rows, width) = (table.shape[0], table.shape[1])
    if let paddingIndex, !(0..<rows).contains(paddingIndex) {
        trap("embedding", "the padding index \(paddingIndex) is outside the \(rows) rows", table)
    }
    let index = ids.requireIndices("embedding", below: rows, "the \(rows) rows", for: table)
    return table.taking(index, blocks: width, as: ids.shape + [width]).derived(by: .embedding, from: table) { g in
        g.scattered(index, blocks: width, to: [rows, width], skipping: paddingIndex.map(Int64.init) ?? -1)
    }
}

// MARK: oneHot

extension Op {
    public static let oneHot = Op("oneHot", "1 at the class of each index, 0 elsewhere", differentiable: false) {
        [
            OpSample("vector", [$0.integers([5], below: 5)]) { $0[0].oneHot(classes: $0[0].count) },
            OpSample("matrix", [$0.integers([2, 3], below: 4)]) { $0[0].oneHot(classes: 4, dtype: .float64) },
            OpSample("one", [$0.integers([], below: 4)]) { $0[0].oneHot(classes: 4) },
            OpSample("empty", [$0.integers([0], below: 4)]) { $0[0].oneHot(classes: 4) },
        ]
    }
}

extension Tensor {
    /// int64 classes [...] to [..., C]: 1 at each one's class, 0 elsewhere. float32 unless said otherwise, where PyTorch
    /// gives integers, which would have to be cast before anything is done with them; `classes` must be given, since a
    /// shape should not depend on values. Traps on classes outside 0 ..< C and on types that do not compute.
    public func oneHot(classes: Int, dtype: DType = .float32) -> Tensor {
        guard dtype.isDifferentiable else { trap("oneHot", "float32 or float64 is needed, not \(dtype)", self) }
        guard classes >= 0 else { trap("oneHot", "\(classes) is no number of classes", self) }
        let index = requireIndices("oneHot", below: classes, "the \(classes) classes").reshaped(to: [count, 1])
        let positions = Tensor.linePositions(index, along: 1, in: [count, classes])
        return Tensor.ones([count], dtype: dtype).scattered(positions, blocks: 1, to: shape + [classes])
    }
}

// MARK: bincount

extension Op {
    public static let bincount = Op("bincount", "how often each number occurs", differentiable: false) {
        [
            OpSample("numbers", [$0.integers([20], below: 6)]) { $0[0].bincount() },
            OpSample("longer", [$0.integers([7], below: 4)]) { $0[0].bincount(minimumLength: 9) },
            OpSample("empty", [$0.integers([0], below: 4)]) { $0[0].bincount() },
        ]
    }
}

extension Tensor {
    /// How often each of 0, 1, … occurs in int64 numbers [N], int64; as long as the largest number asks for, and at least
    /// `minimumLength`. For weights, which PyTorch takes here, there is `addingAt`. Traps on negative numbers.
    public func bincount(minimumLength: Int = 0) -> Tensor {
        guard rank == 1, minimumLength >= 0 else {
            trap("bincount", "numbers [N] and a length of 0 or more are needed, got the length \(minimumLength)", self)
        }
        let index = requireIndices("bincount", below: Int.max, "0, 1, …")
        let largest = index.scalars(as: Int64.self).max() ?? -1
        let counts = Tensor.zeros([Swift.max(Int(largest) + 1, minimumLength)], dtype: .int64)
        index.read { index in
            counts.write {
                ck_bincount(
                    index.assumingMemoryBound(to: Int64.self), count, $0.assumingMemoryBound(to: Int64.self))
            }
        }
        return counts
    }
}
