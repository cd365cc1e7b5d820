import CKernels

// Order along an axis. Sorting is stable in both directions: equal elements keep their order. NaN counts as larger than
// every number, so that it stands last in ascending and first in descending order, as in PyTorch.

extension Op {
    /// Order along an axis.
    static let sorting: [Op] = [.sort, .argsort, .topK]
}

// MARK: sort

extension Op {
    public static let sort = Op("sort", "the elements along an axis in order") {
        [
            OpSample("ascending", [$0.distinct([3, 7])]) { $0[0].sorted(axis: -1).values },
            OpSample("descending", [$0.distinct([5, 2])]) { $0[0].sorted(axis: 0, descending: true).values },
            OpSample("middle", [$0.distinct([2, 4, 3])]) { $0[0].sorted(axis: 1).values },
            OpSample("with indices", [$0.distinct([2, 5])]) {
                let (values, indices) = $0[0].sorted(axis: 1)
                return concatenated([values, indices.cast(to: values.dtype)], axis: 1)
            },
            OpSample("of a view", [$0.distinct([4, 3]).transposed(0, 1)]) { $0[0].sorted(axis: 1).values },
            OpSample("empty", [$0.distinct([2, 0])]) { $0[0].sorted(axis: 1).values },
        ]
    }
}

extension Tensor {
    /// The elements along `axis` in order, and where each came from, int64.
    ///
    /// Stable in both directions, where PyTorch has to be asked; NaN counts as the largest. The gradient of a value goes
    /// to the element that it was.
    public func sorted(axis: Int, descending: Bool = false) -> (values: Tensor, indices: Tensor) {
        let axis = normalizedAxis(axis, "sort")
        let indices = order(axis, descending)
        return (gathered(axis: axis, indices, by: .sort), indices)
    }
}

// MARK: argsort

extension Op {
    public static let argsort = Op("argsort", "the indices that sort an axis", differentiable: false) {
        [
            OpSample("ascending", [$0.distinct([3, 7])]) { $0[0].argsorted(axis: -1) },
            OpSample("descending", [$0.distinct([5, 2])]) { $0[0].argsorted(axis: 0, descending: true) },
            OpSample("ties", [$0.integers([2, 9], below: 3)]) { $0[0].argsorted(axis: 1) },
            OpSample("ties, descending", [$0.integers([2, 9], below: 3)]) {
                $0[0].argsorted(axis: 1, descending: true)
            },
            OpSample("of a view", [$0.distinct([4, 3]).transposed(0, 1)]) { $0[0].argsorted(axis: 1) },
        ]
    }
}

extension Tensor {
    /// The indices, int64, that put `axis` in order: stable, NaN as the largest. A constant to any gradient.
    public func argsorted(axis: Int, descending: Bool = false) -> Tensor {
        order(normalizedAxis(axis, "argsort"), descending)
    }

    private func order(_ axis: Int, _ descending: Bool) -> Tensor {
        noteLabel()
        var places = Array(0..<rank)
        places.swapAt(axis, rank - 1)
        var keys = detached.permuted(to: places).contiguous()
        switch dtype {
        case .float32, .float64, .int64: break
        case .float16, .bfloat16: keys = keys.cast(to: .float32)
        case .int32, .uint8, .bool: keys = keys.cast(to: .int64)
        }
        let sorted = Tensor(uninitialized: keys.shape, .int64)
        guard count > 0 else { return sorted.permuted(to: places).contiguous() }
        let scratch = Tensor(uninitialized: keys.shape, .int64)
        let (columns, size, type) = (shape[axis], keys.dtype.size, keys.dtype.kernelType)
        keys.read { keys in
            sorted.write { sorted in
                scratch.write { scratch in
                    parallelFor(count / columns, grain: Swift.max(1, Kernels.heavyGrain / columns)) { rows in
                        for row in rows {
                            let start = row * columns
                            ck_argsort(
                                type, keys + start * size, columns, descending ? 1 : 0,
                                sorted.assumingMemoryBound(to: Int64.self) + start,
                                scratch.assumingMemoryBound(to: Int64.self) + start)
                        }
                    }
                }
            }
        }
        return sorted.permuted(to: places).contiguous()
    }
}

// MARK: topK

extension Op {
    public static let topK = Op("topK", "the largest elements along an axis, in order") {
        [
            OpSample("largest", [$0.distinct([3, 7])]) { $0[0].topK(3, axis: -1).values },
            OpSample("smallest", [$0.distinct([5, 2])]) { $0[0].topK(2, axis: 0, largest: false).values },
            OpSample("all, with indices", [$0.distinct([2, 4])]) {
                let (values, indices) = $0[0].topK($0[0].shape[1], axis: 1)
                return concatenated([values, indices.cast(to: values.dtype)], axis: 1)
            },
            OpSample("of a view", [$0.distinct([4, 3]).transposed(0, 1)]) { $0[0].topK(2, axis: 1).values },
            OpSample("none", [$0.distinct([2, 3])]) { $0[0].topK(0, axis: 1).values },
        ]
    }
}

extension Tensor {
    /// The k largest elements along `axis`, largest first, or the k smallest, smallest first; and their indices, int64.
    ///
    /// Of equal elements the lower index comes first, where PyTorch leaves it open; NaN counts as the largest. The
    /// gradient of a value goes to the element that it was. Traps when k is not in 0 ... length.
    public func topK(_ k: Int, axis: Int, largest: Bool = true) -> (values: Tensor, indices: Tensor) {
        let axis = normalizedAxis(axis, "topK")
        guard (0...shape[axis]).contains(k) else {
            trap("topK", "there are no \(k) elements in axis \(axis) of length \(shape[axis])", self)
        }
        let indices = order(axis, largest).sliced(axis: axis, 0..<k).contiguous()
        return (gathered(axis: axis, indices, by: .topK), indices)
    }
}
