// Tensors put together, cut apart, padded and repeated. All of it moves elements of any type.

extension Op {
    /// Tensors put together, cut apart and repeated.
    static let joining: [Op] = [.stack, .split, .pad, .replace, .repeatInterleave, .tile]
}

// MARK: stack

extension Op {
    public static let stack = Op("stack", "tensors next to each other along a new axis", linearIn: [0, 1, 2]) {
        [
            OpSample("first", [$0.uniform([2, 3]), $0.uniform([2, 3])]) { stacked($0, axis: 0) },
            OpSample("last", [$0.uniform([2, 3]), $0.uniform([3, 2]).transposed(0, 1)]) { stacked($0, axis: -1) },
            OpSample("scalars", [$0.uniform([]), $0.uniform([])]) { stacked($0, axis: 0) },
            OpSample("empty", [$0.uniform([0, 3]), $0.uniform([0, 3])]) { stacked($0, axis: 1) },
        ]
    }
}

/// Tensors of one shape and type next to each other along a new axis, in front of their present `axis`; −1 puts it last.
///
/// Traps on no tensors, on shapes or types that differ, and on an axis outside the result.
public func stacked(_ tensors: [Tensor], axis: Int) -> Tensor {
    guard let first = tensors.first else { trap("stack", "no tensors were given") }
    guard tensors.allSatisfy({ $0.shape == first.shape && $0.dtype == first.dtype }) else {
        trap("stack", "shapes and types must agree", tensors)
    }
    let position = axis < 0 ? first.rank + 1 + axis : axis
    guard (0...first.rank).contains(position) else {
        trap("stack", "axis \(axis) is outside the \(first.rank + 1) axes of the result", tensors)
    }
    let y = withoutGradient { concatenated(tensors.map { $0.unsqueezed(position) }, axis: position) }
    return y.derived(by: .stack, from: tensors) { g, wanted in
        wanted.indices.map { wanted[$0] ? g.sliced(axis: position, $0..<$0 + 1).squeezed(position) : nil }
    }
}

// MARK: split

extension Op {
    public static let split = Op("split", "consecutive parts of an axis", linearIn: [0]) {
        [
            OpSample("swapped", [$0.uniform([5, 3])]) {
                let parts = $0[0].split(axis: 0, into: [2, 3])
                return concatenated([parts[1], parts[0]], axis: 0)
            },
            OpSample("middle", [$0.uniform([2, 6])]) { $0[0].split(axis: -1, into: [1, 2, 3])[1] },
            OpSample("with nothing", [$0.uniform([4, 2])]) { $0[0].split(axis: 0, into: [0, 4, 0])[1] },
            OpSample("of a view", [$0.uniform([4, 5]).transposed(0, 1)]) { $0[0].split(axis: 0, into: [2, 3])[1] },
        ]
    }
}

extension Tensor {
    /// Consecutive parts of `axis` with these lengths, which must add up to the axis. Views.
    public func split(axis: Int, into lengths: [Int]) -> [Tensor] {
        let axis = normalizedAxis(axis, "split")
        guard lengths.allSatisfy({ $0 >= 0 }), lengths.reduce(0, +) == shape[axis] else {
            trap("split", "\(lengths) do not add up to axis \(axis) of length \(shape[axis])", self)
        }
        var start = 0
        let whole = detached
        let parts = lengths.map { length in
            defer { start += length }
            return whole.sliced(axis: axis, start..<start + length)
        }
        let shapes = parts.map(\.shape)
        return Tensor.derived(parts, by: .split, from: [self]) { [dtype] gradients, _ in
            [concatenated(zip(gradients, shapes).map { $0 ?? .zeros($1, dtype: dtype) }, axis: axis)]
        }
    }
}

// MARK: pad

extension Op {
    public static let pad = Op("pad", "a constant around the elements", linearIn: [0]) {
        [
            OpSample("columns", [$0.uniform([2, 3])]) { $0[0].padded([(1, 2)]) },
            OpSample("planes", [$0.uniform([2, 2, 3])]) { $0[0].padded([(1, 0), (0, 2)], value: -1.5) },
            OpSample("nothing", [$0.uniform([2, 3])]) { $0[0].padded([(0, 0)]) },
            OpSample("empty", [$0.uniform([0, 3])]) { $0[0].padded([(2, 1), (0, 1)], value: 0.5) },
            OpSample("of a view", [$0.uniform([3, 2]).transposed(0, 1)]) { $0[0].padded([(1, 1), (0, 1)]) },
        ]
    }
}

extension Tensor {
    /// `value` before and after the elements of the last `widths.count` axes.
    ///
    /// The pairs stand in the order of the axes, the last one for the last axis; PyTorch's list runs backward. Negative
    /// widths trap, where PyTorch crops: `sliced` says that.
    public func padded(_ widths: [(before: Int, after: Int)], value: Double = 0) -> Tensor {
        guard widths.count <= rank, widths.allSatisfy({ $0.before >= 0 && $0.after >= 0 }) else {
            trap("pad", "\(widths) are not widths for \(rank) axes", self)
        }
        guard widths.contains(where: { $0.before > 0 || $0.after > 0 }) else { return self }
        let lead = rank - widths.count
        var target = shape
        for (place, width) in widths.enumerated() { target[lead + place] += width.before + width.after }
        let strides = Tensor.rowMajorStrides(target)
        let start = widths.indices.reduce(0) { $0 + widths[$1].before * strides[lead + $1] }
        let y = Tensor.full(target, value, dtype: dtype)
        y.view(shape: shape, strides: strides, offset: start).overwrite(with: detached)
        return y.derived(by: .pad, from: self) { [shape] g in
            let dense = g.contiguous()
            return dense.view(shape: shape, strides: strides, offset: dense.offset + start)
        }
    }
}

// MARK: replace

extension Op {
    public static let replace = Op("replace", "a range of an axis, with steps, given new elements", linearIn: [0, 1]) {
        [
            OpSample("range", [$0.uniform([5, 3]), $0.uniform([2, 3])]) {
                $0[0].replacing(axis: 0, 1..<3, with: $0[1])
            },
            OpSample("steps", [$0.uniform([2, 7]), $0.uniform([2, 3])]) {
                $0[0].replacing(axis: -1, 0..<7, step: 3, with: $0[1])
            },
            OpSample("broadcast", [$0.uniform([2, 4]), $0.uniform([])]) {
                $0[0].replacing(axis: 1, 2..<4, with: $0[1])
            },
            OpSample("everything", [$0.uniform([2, 3]), $0.uniform([3])]) {
                $0[0].replacing(axis: 0, 0..<2, with: $0[1])
            },
            OpSample("nothing", [$0.uniform([2, 3]), $0.uniform([0, 3])]) {
                $0[0].replacing(axis: 0, 1..<1, with: $0[1])
            },
        ]
    }
}

extension Tensor {
    /// This tensor with new elements where `sliced(axis:_:step:)` looks: x[range] = source, as a function. The source
    /// broadcasts to the slice; its type must be this tensor's. Gradients flow to the source, and to what was kept. Traps on
    /// another type or shape, and where `sliced` does.
    public func replacing(axis: Int, _ range: Range<Int>, step: Int = 1, with source: Tensor) -> Tensor {
        let y = copied()
        let part = y.sliced(axis: axis, range, step: step)
        guard source.dtype == dtype, broadcastShape(source.shape, part.shape) == part.shape else {
            trap("replace", "the source must be \(dtype) and broadcast to \(part.shape)", self, source)
        }
        let source = source.expanded(to: part.shape)
        part.overwrite(with: source.detached)
        return y.derived(
            by: .replace, from: self,
            { g in
                let kept = g.copied()
                let part = kept.sliced(axis: axis, range, step: step)
                part.overwrite(with: .zeros(part.shape, dtype: g.dtype))
                return kept
            }, and: source, { g in g.sliced(axis: axis, range, step: step) })
    }

    /// The same elements in memory of their own, row-major, without a trace.
    func copied() -> Tensor {
        let copy = Tensor(uninitialized: shape, dtype)
        copy.overwrite(with: detached)
        return copy
    }
}

// MARK: repeatInterleave

extension Op {
    public static let repeatInterleave = Op(
        "repeatInterleave", "each element of an axis several times in a row", linearIn: [0]
    ) {
        [
            OpSample("rows", [$0.uniform([2, 3])]) { $0[0].repeated(3, axis: 0) },
            OpSample("columns", [$0.uniform([2, 3])]) { $0[0].repeated(2, axis: -1) },
            OpSample("never", [$0.uniform([2, 3])]) { $0[0].repeated(0, axis: 0) },
            OpSample("of a view", [$0.uniform([3, 2]).transposed(0, 1)]) { $0[0].repeated(2, axis: 1) },
            OpSample("counts", [$0.uniform([2, 3])]) { $0[0].repeated([2, 0, 3], axis: 1) },
        ]
    }
}

extension Tensor {
    /// Each element of `axis` `times` times in a row: a a b b. PyTorch's `repeat_interleave` with a number. Traps on a
    /// negative number.
    public func repeated(_ times: Int, axis: Int) -> Tensor {
        let axis = normalizedAxis(axis, "repeatInterleave")
        guard times >= 0 else { trap("repeatInterleave", "\(times) is no number of times", self) }
        guard times != 1 else { return self }
        var (single, several, target) = (shape, shape, shape)
        single.insert(1, at: axis + 1)
        several.insert(times, at: axis + 1)
        target[axis] *= times
        let y = detached.reshaped(to: single).expanded(to: several).reshaped(to: target)
        return y.derived(by: .repeatInterleave, from: self) { g in g.reshaped(to: several).sum(axes: [axis + 1]) }
    }

    /// Element i of `axis` `counts[i]` times in a row: a c c c for the counts 1, 0, 3. PyTorch's `repeat_interleave` with
    /// a number for each element. Traps on negative numbers and unless there is one for each element.
    public func repeated(_ counts: [Int], axis: Int) -> Tensor {
        let axis = normalizedAxis(axis, "repeatInterleave")
        guard counts.count == shape[axis], counts.allSatisfy({ $0 >= 0 }) else {
            trap("repeatInterleave", "\(counts) are not the counts of axis \(axis) of length \(shape[axis])", self)
        }
        let order = counts.enumerated().flatMap { [Int64](repeating: Int64($0.offset), count: $0.element) }
        return selecting(axis: axis, Tensor(order))
    }
}

// MARK: tile

extension Op {
    public static let tile = Op("tile", "the whole several times along each axis", linearIn: [0]) {
        [
            OpSample("both", [$0.uniform([2, 3])]) { $0[0].tiled([2, 3]) },
            OpSample("last", [$0.uniform([2, 3])]) { $0[0].tiled([2]) },
            OpSample("ranks", [$0.uniform([3])]) { $0[0].tiled([2, 1, 2]) },
            OpSample("scalar", [$0.uniform([])]) { $0[0].tiled([3]) },
            OpSample("never", [$0.uniform([2, 3])]) { $0[0].tiled([0, 2]) },
        ]
    }
}

extension Tensor {
    /// The whole tensor repeated `counts` times along its last axes, a b a b; the shorter of shape and counts is taken
    /// with ones in front. PyTorch's `tile`. Traps on negative counts.
    public func tiled(_ counts: [Int]) -> Tensor {
        guard counts.allSatisfy({ $0 >= 0 }) else { trap("tile", "\(counts) has a negative count", self) }
        let axes = Swift.max(rank, counts.count)
        let lengths = [Int](repeating: 1, count: axes - rank) + shape
        let times = [Int](repeating: 1, count: axes - counts.count) + counts
        let single = lengths.flatMap { [1, $0] }
        let several = zip(times, lengths).flatMap { [$0, $1] }
        let y = detached.reshaped(to: single).expanded(to: several).reshaped(to: zip(times, lengths).map { $0 * $1 })
        return y.derived(by: .tile, from: self) { [shape] g in
            g.reshaped(to: several).sum(axes: (0..<axes).map { 2 * $0 }).reshaped(to: shape)
        }
    }
}
