import CKernels

// Sums, means and maxima over any set of axes. `axes` nil means all of them; with `keepingAxes` a reduced axis stays
// with length 1. The order of additions depends on shape and strides alone.

extension Tensor {
    /// The axes counted from the front, sorted, each once.
    func normalizedAxes(_ axes: [Int]?, _ op: String) -> [Int] {
        guard let axes else { return Array(0..<rank) }
        var named: UInt32 = 0
        for axis in axes {
            let bit: UInt32 = 1 << UInt32(normalizedAxis(axis, op))
            guard named & bit == 0 else { trap(op, "an axis is named twice in \(axes)", self) }
            named |= bit
        }
        return (0..<rank).filter { named & 1 << UInt32($0) != 0 }
    }

    /// The shape without the axes, or with length 1 in their place.
    func reducedShape(_ axes: [Int], keepingAxes: Bool) -> [Int] {
        var reduced = shape
        for axis in axes { reduced[axis] = 1 }
        if !keepingAxes { for axis in axes.reversed() { reduced.remove(at: axis) } }
        return reduced
    }

    /// This tensor as a row-major matrix [kept elements, reduced elements].
    func reductionRows(_ axes: [Int]) -> (matrix: Tensor, rows: Int, columns: Int) {
        let kept = shape.indices.filter { !axes.contains($0) }
        let matrix = detached.permuted(to: kept + axes).contiguous()
        return (matrix, kept.reduce(1) { $0 * shape[$1] }, axes.reduce(1) { $0 * shape[$1] })
    }

    typealias RowLoop = @convention(c) (UnsafeRawPointer?, UnsafeMutableRawPointer?, Int, Int) -> Void

    func rowReduced(_ axes: [Int], _ loop: RowLoop) -> Tensor {
        let (matrix, rows, columns) = reductionRows(axes)
        let y = Tensor(uninitialized: reducedShape(axes, keepingAxes: true), dtype)
        let size = dtype.size
        matrix.read { x in
            y.write { y in
                parallelFor(rows, grain: Swift.max(1, Kernels.grain / Swift.max(1, columns))) { range in
                    let start = range.lowerBound
                    loop(x + start * columns * size, y + start * size, range.count, columns)
                }
            }
        }
        return y
    }

    /// A matrix [kept elements, reduced elements] as a tensor of `shape`: the way back from `reductionRows`.
    static func fromReductionRows(_ matrix: Tensor, _ axes: [Int], shape: [Int]) -> Tensor {
        let order = shape.indices.filter { !axes.contains($0) } + axes
        var inverse = order
        for (position, axis) in order.enumerated() { inverse[axis] = position }
        return matrix.reshaped(to: order.map { shape[$0] }).permuted(to: inverse)
    }

    typealias IndexLoop = @convention(c) (UnsafeRawPointer?, UnsafeMutablePointer<Int64>?, Int, Int) -> Void

    /// The index along `axis` that a loop finds in each row.
    func indexReduced(_ axis: Int, _ loop: IndexLoop, _ op: String) -> Tensor {
        let axis = normalizedAxis(axis, op)
        guard shape[axis] > 0 else { trap(op, "axis \(axis) is empty", self) }
        let (matrix, rows, columns) = reductionRows([axis])
        let y = Tensor(uninitialized: reducedShape([axis], keepingAxes: false), .int64)
        let size = dtype.size
        matrix.read { x in
            y.write { target in
                let indices = target.assumingMemoryBound(to: Int64.self)
                parallelFor(rows, grain: Swift.max(1, Kernels.grain / columns)) { range in
                    let start = range.lowerBound
                    loop(x + start * columns * size, indices + start, range.count, columns)
                }
            }
        }
        return y
    }

    /// Σ over the rows of a matrix whose columns have no gaps, without moving it: column sums of blocks of rows, added up in
    /// order.
    ///
    /// - Parameters:
    ///   - rows: how many rows; of each group, where there are several.
    ///   - columns: how many columns.
    ///   - stride: from row to row; as many elements as columns unless given.
    ///   - groups: how many groups of rows, and the elements from one to the next.
    func columnSummed(
        rows: Int, columns: Int, stride: Int? = nil, groups: (count: Int, step: Int) = (1, 0)
    ) -> Tensor {
        let block = Swift.max(64, Kernels.grain / Swift.max(1, columns))
        let blocksOfGroup = Swift.max(1, (rows + block - 1) / block)
        let blocks = groups.count * blocksOfGroup
        let loop = pick(Kernels.table.pointee.column_sum, dtype)
        let size = dtype.size
        let partial = Tensor(uninitialized: [blocks, columns], dtype)
        let stride = stride ?? columns
        read { x in
            partial.write { target in
                parallelFor(blocks, grain: Swift.max(1, block / Swift.max(1, rows))) { range in
                    for index in range {
                        let first = index % blocksOfGroup * block
                        loop(
                            x + (index / blocksOfGroup * groups.step + first * stride) * size, stride,
                            target + index * columns * size, Swift.min(block, rows - first), columns)
                    }
                }
            }
        }
        guard blocks > 1 else { return partial }
        let y = Tensor(uninitialized: [1, columns], dtype)
        partial.read { x in y.write { loop(x, columns, $0, blocks, columns) } }
        return y
    }
}

// MARK: sum

extension Op {
    public static let sum = Op("sum", "the sum over axes", linearIn: [0]) { source in
        reductionSamples(&source, { $0.uniform($1) }) { $0.sum(axes: $1, keepingAxes: $2) }
    }

    /// Reductions over all axes, the last, the first, the middle and several, of dense, empty and transposed tensors.
    static func reductionSamples(
        _ source: inout SampleSource, empty: Bool = true, _ draw: (inout SampleSource, [Int]) -> Tensor,
        _ run: @escaping @Sendable (Tensor, [Int]?, Bool) -> Tensor
    ) -> [OpSample] {
        let cases: [(String, [Int], [Int]?, Bool)] = [
            ("all", [3, 4], nil, false), ("last", [3, 19], [-1], false), ("first", [3, 4], [0], true),
            ("middle", [2, 3, 4], [1], false), ("several", [2, 3, 4], [0, 2], true), ("scalar", [], nil, false),
        ]
        var samples = cases.map { name, shape, axes, keeping in
            OpSample(name, [draw(&source, shape)]) { run($0[0], axes, keeping) }
        }
        samples.append(
            OpSample("transposed", [draw(&source, [4, 3]).transposed(0, 1)]) { run($0[0], [1], false) })
        if empty { samples.append(OpSample("empty", [draw(&source, [0, 3])]) { run($0[0], [0], false) }) }
        return samples
    }
}

extension Tensor {
    /// The sum over `axes` where the others lie without gaps between them, in whatever order: the rows of a matrix, or of
    /// groups of rows in even steps, are added up where they are. The axes stay with length 1; nil where it is not so.
    private func summedOverRows(_ axes: [Int]) -> Tensor? {
        guard axes.count < rank, count > 0 else { return nil }
        var summed = shape
        for axis in axes { summed[axis] = 1 }
        if isContiguous, axes[axes.count - 1] == axes.count - 1 {
            var columns = 1
            for axis in axes.count..<rank { columns *= shape[axis] }
            return columnSummed(rows: count / columns, columns: columns).reshaped(to: summed)
        }
        let strides = layoutStrides
        let kept = shape.indices.filter { !axes.contains($0) }.sorted { strides[$0] > strides[$1] }
        var (row, rows) = (Box(), Box())
        for axis in kept.reversed() { row.add(shape[axis], strides[axis]) }
        for axis in axes.reversed() { rows.add(shape[axis], strides[axis]) }
        let columns = row.count()
        guard columns > 1, row.rank == 1, row[0].steps.0 == 1,
            rows.rank <= 2, (0..<rows.rank).allSatisfy({ rows[$0].steps.0 >= columns })
        else { return nil }
        let sum = columnSummed(
            rows: rows[0].length, columns: columns, stride: rows[0].steps.0, groups: (rows[1].length, rows[1].steps.0))
        return Tensor.fromReductionRows(sum, kept, shape: summed)
    }

    /// The sum over `axes`; 0 over nothing.
    public func sum(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("sum")
        let axes = normalizedAxes(axes, "sum")
        guard !axes.isEmpty else { return self }
        let y = summedOverRows(axes) ?? rowReduced(axes, pick(Kernels.table.pointee.row_sum, dtype))
        let kept = y.shape
        return y.reshaped(to: keepingAxes ? kept : reducedShape(axes, keepingAxes: false))
            .derived(by: .sum, from: self) { [shape] g in g.reshaped(to: kept).expanded(to: shape) }
    }
}

// MARK: mean

extension Op {
    public static let mean = Op("mean", "the mean over axes", linearIn: [0]) { source in
        reductionSamples(&source, empty: false, { $0.uniform($1) }) { $0.mean(axes: $1, keepingAxes: $2) }
    }
}

extension Tensor {
    /// The mean over `axes`; NaN over nothing.
    public func mean(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("mean")
        let normalized = normalizedAxes(axes, "mean")
        let count = Double(normalized.reduce(1) { $0 * shape[$1] })
        let kept = reducedShape(normalized, keepingAxes: true)
        let y = withoutGradient { sum(axes: normalized, keepingAxes: keepingAxes) / count }
        return y.derived(by: .mean, from: self) { [shape] g in (g / count).reshaped(to: kept).expanded(to: shape) }
    }
}

// MARK: max

extension Op {
    public static let max = Op("max", "the largest element over axes") { source in
        reductionSamples(&source, empty: false, { $0.distinct($1) }) { $0.max(axes: $1, keepingAxes: $2) }
    }
}

extension Tensor {
    /// The largest element over `axes`; NaN where there is one, −∞ over nothing, where PyTorch refuses. Equal largest
    /// elements share the gradient evenly, as in PyTorch's `amax`.
    public func max(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("max")
        let axes = normalizedAxes(axes, "max")
        guard !axes.isEmpty else { return self }
        let kept = rowReduced(axes, pick(Kernels.table.pointee.row_max, dtype))
        return kept.reshaped(to: reducedShape(axes, keepingAxes: keepingAxes)).derived(by: .max, from: self) { g in
            let largest = Tensor.combined(self, kept, CK_EQUAL, "max")
            return largest * (g.reshaped(to: kept.shape) / largest.sum(axes: axes, keepingAxes: true))
        }
    }
}

// MARK: argmax

extension Op {
    public static let argmax = Op("argmax", "the index of the largest element along an axis", differentiable: false) {
        [
            OpSample("last", [$0.distinct([3, 5])]) { $0[0].argmax(axis: -1) },
            OpSample("first", [$0.distinct([3, 5])]) { $0[0].argmax(axis: 0) },
        ]
    }
}

extension Tensor {
    /// The index of the largest element along `axis`, int64; the first of equal ones, or the first NaN. A constant to any
    /// gradient. Traps when the axis is empty.
    public func argmax(axis: Int) -> Tensor {
        requireDifferentiableType("argmax")
        return indexReduced(axis, pick(Kernels.table.pointee.row_argmax, dtype), "argmax")
    }
}
