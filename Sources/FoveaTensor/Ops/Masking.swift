import CKernels

// Elements chosen by a mask: a bool tensor, true where something is meant.

extension Op {
    /// Elements chosen by a mask.
    static let masking: [Op] = [.maskedSelect, .maskedFill]
}

// MARK: maskedSelect

extension Op {
    public static let maskedSelect = Op("maskedSelect", "the elements or rows where a mask is true", linearIn: [0]) {
        [
            OpSample("elements", [$0.uniform([3, 4]), $0.integers([3, 4], below: 2)]) {
                $0[0].masked(by: $0[1].cast(to: .bool))
            },
            OpSample("rows", [$0.uniform([6, 3]), $0.integers([6], below: 2)]) {
                $0[0].masked(by: $0[1].cast(to: .bool))
            },
            OpSample("vectors of a view", [$0.uniform([3, 4, 2]).transposed(0, 1), $0.integers([4, 3], below: 2)]) {
                $0[0].masked(by: $0[1].cast(to: .bool))
            },
            OpSample("nothing", [$0.uniform([3, 2])]) { $0[0].masked(by: Tensor([false, false, false])) },
        ]
    }
}

extension Tensor {
    /// The elements of this tensor [A, B] where the mask is true, in row-major order: [K, B]. The bool mask has the shape
    /// of the first axes A: of all of them for single elements, of the first for rows. PyTorch's x[mask]. Traps on other
    /// masks.
    public func masked(by mask: Tensor) -> Tensor {
        guard mask.dtype == .bool, mask.rank >= 1, mask.rank <= rank, Array(shape.prefix(mask.rank)) == mask.shape
        else {
            trap("maskedSelect", "a bool mask of the shape of the first axes is needed", self, mask)
        }
        let dense = mask.contiguous()
        let inner = Array(shape.dropFirst(mask.rank))
        let block = inner.reduce(1, *)
        let positions = dense.read { mask in
            let bytes = mask.assumingMemoryBound(to: UInt8.self)
            let positions = Tensor(uninitialized: [ck_true_positions(bytes, dense.count, nil)], .int64)
            positions.write { _ = ck_true_positions(bytes, dense.count, $0.assumingMemoryBound(to: Int64.self)) }
            return positions
        }
        return taking(positions, blocks: block, as: [positions.count] + inner)
            .derived(by: .maskedSelect, from: self) { [shape] g in g.scattered(positions, blocks: block, to: shape) }
    }
}

// MARK: maskedFill

extension Op {
    public static let maskedFill = Op(
        "maskedFill", "a number in place of the elements where a mask is true", linearIn: [0]
    ) {
        [
            OpSample("equal", [$0.uniform([3, 4]), $0.integers([3, 4], below: 2)]) {
                $0[0].maskedFill($0[1].cast(to: .bool), 0.5)
            },
            OpSample("row", [$0.uniform([3, 4]), $0.integers([4], below: 2)]) {
                $0[0].maskedFill($0[1].cast(to: .bool), -1)
            },
            OpSample("column of a view", [$0.uniform([4, 3]).transposed(0, 1), $0.integers([3, 1], below: 2)]) {
                $0[0].maskedFill($0[1].cast(to: .bool), 3)
            },
            OpSample("empty", [$0.uniform([0, 3])]) { $0[0].maskedFill(Tensor([true]), 1) },
        ]
    }
}

extension Tensor {
    /// This tensor with `value` where the bool mask, broadcast to the tensor's shape, is true. No gradient flows to what
    /// was replaced, not even NaN. Traps on a mask that does not broadcast to the shape.
    public func maskedFill(_ mask: Tensor, _ value: Double) -> Tensor {
        guard mask.dtype == .bool, broadcastShape(mask.shape, shape) == shape else {
            trap("maskedFill", "a bool mask that broadcasts to the shape is needed", self, mask)
        }
        let hidden = mask.detached.expanded(to: shape).contiguous()
        return filled(where: hidden, value)
            .derived(by: .maskedFill, from: self) { g in g.filled(where: hidden, 0) }
    }

    private func filled(where mask: Tensor, _ value: Double) -> Tensor {
        noteLabel()
        let x = detached.contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        let filler = Tensor.full([1], value, dtype: dtype)
        let size = dtype.size
        x.read { x in
            mask.read { mask in
                filler.read { filler in
                    y.write { y in
                        parallelFor(count, grain: Kernels.grain) { range in
                            let start = range.lowerBound
                            ck_fill_where(
                                size, mask.assumingMemoryBound(to: UInt8.self) + start, filler, x + start * size,
                                y + start * size, range.count)
                        }
                    }
                }
            }
        }
        return y
    }
}
