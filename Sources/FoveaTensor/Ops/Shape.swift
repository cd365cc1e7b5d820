import CKernels

// Views: the same elements under another shape. Their gradients are the inverse views.

// MARK: reshape

extension Op {
    public static let reshape = Op("reshape", "the same elements in another shape", linearIn: [0]) {
        [
            OpSample("split", [$0.uniform([6, 2])]) { $0[0].reshaped(to: [2, 3, 2]) },
            OpSample("inferred", [$0.uniform([2, 6])]) { $0[0].reshaped(to: [-1, 4]) },
            OpSample("transposed", [$0.uniform([3, 4]).transposed(0, 1)]) { $0[0].reshaped(to: [12]) },
            OpSample("to scalar", [$0.uniform([1])]) { $0[0].reshaped(to: []) },
            OpSample("empty", [$0.uniform([0, 3])]) { $0[0].reshaped(to: [3, 0]) },
        ]
    }
}

extension Tensor {
    /// The same elements in row-major order under another shape; one length may be −1 and is inferred. A view where the
    /// elements are in row-major order already.
    public func reshaped(to newShape: [Int]) -> Tensor {
        guard newShape != shape else { return self }
        var target = newShape
        if let open = target.firstIndex(of: -1) {
            var known = 1
            for (axis, length) in target.enumerated() where axis != open { known *= length }
            guard known > 0, count % known == 0 else {
                trap("reshape", "\(newShape) does not divide \(count) elements", self)
            }
            target[open] = count / known
            guard target != shape else { return self }
        }
        var elements = 1
        for length in target { elements *= length }
        guard elements == count, target.allSatisfy({ $0 >= 0 }) else {
            trap("reshape", "\(newShape) does not hold \(count) elements", self)
        }
        let y =
            strides == nil
            ? Tensor(storage: storage, shape: target, offset: offset, dtype: dtype)
            : Tensor(storage: detached.contiguous().storage, shape: target, dtype: dtype)
        return y.derived(by: .reshape, from: self) { [shape] g in g.reshaped(to: shape) }
    }

    /// Axes `first` to `last` merged into one. A scalar becomes a vector of one element, as in PyTorch.
    public func flattened(from first: Int = 0, to last: Int = -1) -> Tensor {
        if rank == 0, first == 0 || first == -1, last == 0 || last == -1 { return reshaped(to: [1]) }
        let (first, last) = (normalizedAxis(first, "flatten"), normalizedAxis(last, "flatten"))
        guard first <= last else { trap("flatten", "axis \(first) stands after axis \(last)", self) }
        let merged = shape[first...last].reduce(1, *)
        return reshaped(to: Array(shape[..<first]) + [merged] + Array(shape[(last + 1)...]))
    }

    /// One more axis of length 1, in front of the present `axis`; −1 appends it. A view.
    public func unsqueezed(_ axis: Int) -> Tensor {
        let position = axis < 0 ? rank + 1 + axis : axis
        guard (0...rank).contains(position) else {
            trap("unsqueeze", "axis \(axis) is outside the \(rank + 1) axes of the result", self)
        }
        var (target, steps) = (shape, layoutStrides)
        target.insert(1, at: position)
        steps.insert(1, at: position)
        return view(shape: target, strides: steps, offset: offset)
            .derived(by: .reshape, from: self) { [shape] g in g.reshaped(to: shape) }
    }

    /// Without an axis of length 1. A view.
    public func squeezed(_ axis: Int) -> Tensor {
        let axis = normalizedAxis(axis, "squeeze")
        guard shape[axis] == 1 else { trap("squeeze", "axis \(axis) is not of length 1", self) }
        var (target, steps) = (shape, layoutStrides)
        target.remove(at: axis)
        steps.remove(at: axis)
        return view(shape: target, strides: steps, offset: offset)
            .derived(by: .reshape, from: self) { [shape] g in g.reshaped(to: shape) }
    }
}

// MARK: permute

extension Op {
    public static let permute = Op("permute", "the axes in another order", linearIn: [0]) {
        [
            OpSample("rotated", [$0.uniform([2, 3, 4])]) { $0[0].permuted(to: [2, 0, 1]) },
            OpSample("swapped", [$0.uniform([2, 3, 4])]) { $0[0].transposed(-1, -2) },
            OpSample("twice", [$0.uniform([2, 3, 4]).transposed(0, 2)]) { $0[0].permuted(to: [1, 2, 0]) },
            OpSample("empty", [$0.uniform([2, 0])]) { $0[0].transposed(0, 1) },
        ]
    }
}

extension Tensor {
    /// The axes in the order given: axis i of the result is axis `order[i]` of this tensor. A view.
    public func permuted(to order: [Int]) -> Tensor {
        var named: UInt32 = 0
        for axis in order where shape.indices.contains(axis) { named |= 1 << UInt32(axis) }
        guard order.count == rank, named.nonzeroBitCount == rank else {
            trap("permute", "\(order) does not name each of the \(rank) axes once", self)
        }
        guard !order.elementsEqual(0..<rank) else { return self }
        let own = layoutStrides
        return view(shape: order.map { shape[$0] }, strides: order.map { own[$0] }, offset: offset)
            .derived(by: .permute, from: self) { g in
                var inverse = order
                for (position, axis) in order.enumerated() { inverse[axis] = position }
                return g.permuted(to: inverse)
            }
    }

    /// Two axes swapped. A view.
    public func transposed(_ a: Int, _ b: Int) -> Tensor {
        let (a, b) = (normalizedAxis(a, "transpose"), normalizedAxis(b, "transpose"))
        guard a != b else { return self }
        var (swapped, steps) = (shape, layoutStrides)
        swapped.swapAt(a, b)
        steps.swapAt(a, b)
        return view(shape: swapped, strides: steps, offset: offset)
            .derived(by: .permute, from: self) { g in g.transposed(a, b) }
    }
}

// MARK: expand

extension Op {
    public static let expand = Op("expand", "axes of length 1 repeated", linearIn: [0]) {
        [
            OpSample("rows", [$0.uniform([1, 3])]) { $0[0].expanded(to: [4, 3]) },
            OpSample("ranks", [$0.uniform([3, 1])]) { $0[0].expanded(to: [2, 3, 2]) },
            OpSample("scalar", [$0.uniform([])]) { $0[0].expanded(to: [2, 2]) },
            OpSample("to nothing", [$0.uniform([1, 2])]) { $0[0].expanded(to: [0, 2]) },
        ]
    }
}

extension Tensor {
    /// Axes of length 1 repeated, and new ones in front, to make `newShape`. A view: nothing is copied.
    public func expanded(to newShape: [Int]) -> Tensor {
        guard newShape != shape else { return self }
        guard newShape.count >= rank, newShape.allSatisfy({ $0 >= 0 }), broadcastShape(shape, newShape) == newShape
        else {
            trap("expand", "the shape does not broadcast to \(newShape)", self)
        }
        return view(shape: newShape, strides: expandedStrides(to: newShape), offset: offset)
            .derived(by: .expand, from: self) { [shape] g in g.reduced(to: shape) }
    }
}

// MARK: slice

extension Op {
    public static let slice = Op("slice", "a range of an axis, with steps", linearIn: [0]) {
        [
            OpSample("range", [$0.uniform([5, 3])]) { $0[0].sliced(axis: 0, 1..<4) },
            OpSample("steps", [$0.uniform([2, 7])]) { $0[0].sliced(axis: -1, 1..<7, step: 3) },
            OpSample("one", [$0.uniform([4, 3])]) { $0[0][2] },
            OpSample("none", [$0.uniform([4, 3])]) { $0[0].sliced(axis: 0, 2..<2) },
            OpSample("of a view", [$0.uniform([4, 6]).transposed(0, 1)]) { $0[0].sliced(axis: 0, 0..<6, step: 2) },
        ]
    }
}

extension Tensor {
    /// The elements of `range` along `axis`, every `step`-th of them. A view.
    public func sliced(axis: Int, _ range: Range<Int>, step: Int = 1) -> Tensor {
        let axis = normalizedAxis(axis, "slice")
        guard range.lowerBound >= 0, range.upperBound <= shape[axis], step >= 1 else {
            trap("slice", "\(range) by \(step) is outside axis \(axis) of length \(shape[axis])", self)
        }
        guard range.count != shape[axis] || step != 1 else { return self }
        var strides = layoutStrides
        var newShape = shape
        let start = range.isEmpty ? 0 : range.lowerBound * strides[axis]
        newShape[axis] = (range.count + step - 1) / step
        strides[axis] *= step
        return view(shape: newShape, strides: strides, offset: offset + start)
            .derived(by: .slice, from: self) { [shape] g in
                // Into zeros: the elements outside the range had no part.
                let whole = Tensor.zeros(shape, dtype: g.dtype)
                whole.view(
                    shape: newShape, strides: steps(shape, axis, step),
                    offset: range.lowerBound
                        * Tensor.rowMajorStrides(shape)[axis]
                ).overwrite(with: g)
                return whole
            }
    }

    /// Element `index` of the first axis, without that axis. A view.
    public subscript(index: Int) -> Tensor {
        guard rank > 0, index >= 0, index < shape[0] else {
            trap("subscript", "index \(index) is outside the first axis", self)
        }
        return sliced(axis: 0, index..<index + 1).squeezed(0)
    }

    /// Writes the values of `source`, of this view's shape, through the view. The memory must not be shared.
    func overwrite(with source: Tensor) {
        guard !ThreadState.isPlanning else { return }
        let dense = source.contiguous()
        dense.read { from in
            write { to in
                forEachPart { part, dense, own in
                    withUnsafePointer(to: part.axes) { ck_scatter_box(dtype.size, $0, from + dense, to + own) }
                }
            }
        }
    }
}

private func steps(_ shape: [Int], _ axis: Int, _ step: Int) -> [Int] {
    var strides = Tensor.rowMajorStrides(shape)
    strides[axis] *= step
    return strides
}

// MARK: concatenate

extension Op {
    public static let concatenate = Op("concatenate", "tensors one after another along an axis", linearIn: [0, 1, 2]) {
        [
            OpSample("rows", [$0.uniform([2, 3]), $0.uniform([1, 3])]) { concatenated($0, axis: 0) },
            OpSample("columns", [$0.uniform([2, 3]), $0.uniform([2, 1]), $0.uniform([2, 2])]) {
                concatenated($0, axis: -1)
            },
            OpSample("with nothing", [$0.uniform([2, 3]), $0.uniform([0, 3])]) { concatenated($0, axis: 0) },
            OpSample("views", [$0.uniform([3, 2]).transposed(0, 1), $0.uniform([2, 3])]) {
                concatenated($0, axis: 1)
            },
        ]
    }
}

/// The tensors one after another along `axis`; their other axes and their types must agree.
public func concatenated(_ tensors: [Tensor], axis: Int) -> Tensor {
    guard let first = tensors.first else { trap("concatenate", "no tensors were given") }
    let axis = first.normalizedAxis(axis, "concatenate")
    var shape = first.shape
    shape[axis] = 0
    for tensor in tensors {
        var expected = tensor.shape
        if expected.indices.contains(axis) { expected[axis] = 0 }
        var known = shape
        known[axis] = 0
        guard expected == known, tensor.dtype == first.dtype else {
            trap("concatenate", "axes other than \(axis), and types, must agree", tensors)
        }
        shape[axis] += tensor.shape[axis]
    }
    let y = Tensor(uninitialized: shape, first.dtype)
    let strides = Tensor.rowMajorStrides(shape)
    var starts: [Int] = []
    var start = 0
    for tensor in tensors {
        starts.append(start)
        tensor.noteLabel()
        y.view(shape: tensor.shape, strides: strides, offset: start * strides[axis]).overwrite(with: tensor)
        start += tensor.shape[axis]
    }
    let lengths = tensors.map { $0.shape[axis] }
    return y.derived(by: .concatenate, from: tensors) { g, wanted in
        // Copied here once: the op before reads its cotangent for each of its own operands.
        wanted.indices.map {
            wanted[$0] ? g.sliced(axis: axis, starts[$0]..<starts[$0] + lengths[$0]).contiguous() : nil
        }
    }
}

// MARK: cast

extension Op {
    public static let cast = Op(
        "cast", "the same numbers in another type", linearIn: [0],
        exception: "finite differences take steps of 1: rounding to float32 would swamp smaller ones"
    ) {
        [
            OpSample("to float32 and back", [$0.uniform([3, 5])], step: 1) {
                $0[0].cast(to: .float32).cast(to: .float64)
            }
        ]
    }
}

extension Tensor {
    /// The same numbers in another type. Floats go to 16 bits by rounding to nearest, ties to even; to integers
    /// by truncation, saturating, NaN to 0; to `bool` as x ≠ 0. The gradient is cast back; none flows through types that
    /// do not compute.
    public func cast(to type: DType) -> Tensor {
        guard type != dtype else { return self }
        guard !ThreadState.isPlanning else { return Tensor(uninitialized: shape, type) }
        let dense = contiguous()
        let y = Tensor(uninitialized: shape, type)
        let (from, to) = (dtype, type)
        dense.read { source in
            y.write { target in
                parallelFor(count, grain: Kernels.grain) { range in
                    ck_convert(
                        from.kernelType, source + range.lowerBound * from.size, to.kernelType,
                        target + range.lowerBound * to.size, range.count)
                }
            }
        }
        guard from.isDifferentiable, to.isDifferentiable else { return y }
        return y.derived(by: .cast, from: self) { g in g.cast(to: from) }
    }
}
