import CKernels

// The same elements in another order, and parts of matrices. All of it moves elements of any type.

extension Op {
    /// Elements in another order, and triangular parts.
    static let rearranging: [Op] = [.flip, .roll, .tril, .triu]
}

// MARK: flip

extension Op {
    public static let flip = Op("flip", "axes backward", linearIn: [0]) {
        [
            OpSample("last", [$0.uniform([2, 5])]) { $0[0].flipped([-1]) },
            OpSample("both", [$0.uniform([3, 4])]) { $0[0].flipped([0, 1]) },
            OpSample("none", [$0.uniform([3, 4])]) { $0[0].flipped([]) },
            OpSample("empty", [$0.uniform([0, 3])]) { $0[0].flipped([0]) },
            OpSample("of a view", [$0.uniform([4, 3]).transposed(0, 1)]) { $0[0].flipped([0]) },
        ]
    }
}

extension Tensor {
    /// The elements with `axes` running backward. A copy. Traps on an axis named twice.
    public func flipped(_ axes: [Int]) -> Tensor {
        let axes = normalizedAxes(axes, "flip")
        guard !axes.isEmpty, count > 0 else { return self }
        var (strides, start) = (layoutStrides, offset)
        for axis in axes {
            start += (shape[axis] - 1) * strides[axis]
            strides[axis] = -strides[axis]
        }
        return view(shape: shape, strides: strides, offset: start).contiguous()
            .derived(by: .flip, from: self) { g in g.flipped(axes) }
    }
}

// MARK: roll

extension Op {
    public static let roll = Op("roll", "an axis shifted around its end", linearIn: [0]) {
        [
            OpSample("forward", [$0.uniform([2, 5])]) { $0[0].rolled(by: 2, axis: -1) },
            OpSample("backward", [$0.uniform([5, 2])]) { $0[0].rolled(by: -1, axis: 0) },
            OpSample("around", [$0.uniform([5, 2])]) { $0[0].rolled(by: 13, axis: 0) },
            OpSample("empty", [$0.uniform([0, 2])]) { $0[0].rolled(by: 1, axis: 0) },
            OpSample("of a view", [$0.uniform([4, 3]).transposed(0, 1)]) { $0[0].rolled(by: 1, axis: 1) },
        ]
    }
}

extension Tensor {
    /// The elements moved `shift` places along `axis`; what goes over the end comes in at the start. One axis a call,
    /// where PyTorch takes several, or none for the flattened tensor.
    public func rolled(by shift: Int, axis: Int) -> Tensor {
        let axis = normalizedAxis(axis, "roll")
        let length = shape[axis]
        guard length > 0, shift % length != 0 else { return self }
        let cut = (length - shift % length) % length
        let whole = detached
        return concatenated([whole.sliced(axis: axis, cut..<length), whole.sliced(axis: axis, 0..<cut)], axis: axis)
            .derived(by: .roll, from: self) { g in g.rolled(by: cut, axis: axis) }
    }
}

// MARK: tril, triu

extension Op {
    public static let tril = Op("tril", "the lower triangle of matrices, zeros above", linearIn: [0]) { source in
        triangles(&source) { $0.tril(diagonal: $1) }
    }

    public static let triu = Op("triu", "the upper triangle of matrices, zeros below", linearIn: [0]) { source in
        triangles(&source) { $0.triu(diagonal: $1) }
    }

    private static func triangles(
        _ source: inout SampleSource, _ run: @escaping @Sendable (Tensor, Int) -> Tensor
    ) -> [OpSample] {
        [
            OpSample("square", [source.uniform([4, 4])]) { run($0[0], 0) },
            OpSample("wide, above", [source.uniform([2, 3, 5])]) { run($0[0], 1) },
            OpSample("tall, below", [source.uniform([5, 3])]) { run($0[0], -2) },
            OpSample("far out", [source.uniform([2, 3])]) { run($0[0], 7) },
            OpSample("empty", [source.uniform([0, 3])]) { run($0[0], 0) },
            OpSample("of a view", [source.uniform([4, 3]).transposed(0, 1)]) { run($0[0], 0) },
        ]
    }
}

extension Tensor {
    /// The elements of matrices [..., n, m] on and below a diagonal, zeros above it, also in place of NaN. Diagonal 0 is
    /// the main one, positive ones lie above. Traps on fewer than two axes.
    public func tril(diagonal: Int = 0) -> Tensor {
        triangle(lower: true, diagonal, "tril").derived(by: .tril, from: self) { g in g.tril(diagonal: diagonal) }
    }

    /// The elements of matrices [..., n, m] on and above a diagonal, zeros below it, also in place of NaN. Diagonal 0 is
    /// the main one, positive ones lie above. Traps on fewer than two axes.
    public func triu(diagonal: Int = 0) -> Tensor {
        triangle(lower: false, diagonal, "triu").derived(by: .triu, from: self) { g in g.triu(diagonal: diagonal) }
    }

    private func triangle(lower: Bool, _ diagonal: Int, _ op: String) -> Tensor {
        guard rank >= 2 else { trap(op, "matrices [..., n, m] are needed", self) }
        noteLabel()
        let x = detached.contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        guard count > 0 else { return y }
        let (height, width) = (shape[rank - 2], shape[rank - 1])
        // Beyond the corners nothing changes; the bound keeps the sums in C from overflowing.
        let diagonal = Swift.max(-height, Swift.min(width, diagonal))
        x.read { x in
            y.write { y in
                parallelFor(count / width, grain: Swift.max(1, Kernels.grain / width)) { rows in
                    ck_triangle(
                        dtype.size, lower ? 1 : 0, diagonal, height, width, rows.lowerBound, rows.count, x, y)
                }
            }
        }
        return y
    }
}
