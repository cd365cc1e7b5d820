import CKernels

// What the ops that index share: blocks of elements taken from places in a row-major tensor, and added at such places.
// Additions run in the order of the places, whatever the number of threads.

extension Tensor {
    /// The indices as row-major int64 numbers, each in 0 ..< bound; traps otherwise, naming op and index.
    func requireIndices(_ op: String, below bound: Int, _ place: String, for operands: Tensor...) -> Tensor {
        guard dtype == .int64 else { trap(op, "the indices must be int64", operands + [self]) }
        let dense = detached.contiguous()
        let stray = dense.read { ck_first_outside($0.assumingMemoryBound(to: Int64.self), count, Int64(bound)) }
        if stray >= 0 {
            let index = dense.read { $0.assumingMemoryBound(to: Int64.self)[stray] }
            trap(op, "index \(index) is outside \(place)", operands + [self])
        }
        return dense
    }

    /// The places in a row-major tensor of `target`'s shape that row-major indices along `axis` name.
    static func linePositions(_ indices: Tensor, along axis: Int, in target: [Int]) -> Tensor {
        let positions = Tensor(uninitialized: indices.shape, .int64)
        guard indices.count > 0 else { return positions }
        indices.read { index in
            positions.write {
                ck_line_positions(
                    target.count, indices.shape, rowMajorStrides(target), axis,
                    index.assumingMemoryBound(to: Int64.self), $0.assumingMemoryBound(to: Int64.self))
            }
        }
        return positions
    }

    /// The places of the slices of a row-major tensor of `target`'s shape that row-major indices [K] along `axis` name, and how
    /// many elements a slice has in one piece.
    static func slicePositions(
        _ indices: Tensor, along axis: Int, in target: [Int]
    ) -> (positions: Tensor, block: Int) {
        let outer = target[..<axis].reduce(1, *)
        let positions = Tensor(uninitialized: [outer, indices.count], .int64)
        indices.read { index in
            positions.write {
                ck_row_positions(
                    outer, Int64(target[axis]), index.assumingMemoryBound(to: Int64.self), indices.count,
                    $0.assumingMemoryBound(to: Int64.self))
            }
        }
        return (positions, target[(axis + 1)...].reduce(1, *))
    }

    /// y[i] = block positions[i] of this tensor, which counts as a list of blocks.
    func taking(_ positions: Tensor, blocks block: Int, as shape: [Int]) -> Tensor {
        noteLabel()
        let x = detached.contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        let (size, blocks) = (dtype.size, block == 0 ? 0 : y.count / block)
        x.read { x in
            positions.read { positions in
                let positions = positions.assumingMemoryBound(to: Int64.self)
                y.write { y in
                    parallelFor(
                        blocks, grain: Swift.max(1, Kernels.grain / Swift.max(1, block))
                    ) { range in
                        ck_take(
                            size, x, positions + range.lowerBound, range.count, block,
                            y + range.lowerBound * block * size)
                    }
                }
            }
        }
        return y
    }

    /// The slices of an axis that row-major indices [K] name.
    func takingSlices(_ indices: Tensor, along axis: Int, as shape: [Int]) -> Tensor {
        let block = self.shape[(axis + 1)...].reduce(1, *)
        let outer = self.shape[..<axis].reduce(1, *)
        guard outer != 1 else { return taking(indices, blocks: block, as: shape) }
        noteLabel()
        let x = detached.contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        let (length, count) = (self.shape[axis], indices.count)
        guard y.count > 0 else { return y }
        x.read { x in
            indices.read { indices in
                let indices = indices.assumingMemoryBound(to: Int64.self)
                let size = dtype.size
                y.write { y in
                    parallelFor(outer, grain: Swift.max(1, Kernels.grain / (count * block))) { range in
                        for row in range {
                            ck_take(
                                size, x + row * length * block * size, indices, count, block,
                                y + row * count * block * size)
                        }
                    }
                }
            }
        }
        return y
    }

    /// Adds block i of `source` to block positions[i] of this tensor, which nobody else may refer to. A position that
    /// equals `skipped` is left out.
    func add(_ source: Tensor, at positions: Tensor, blocks block: Int, skipping skipped: Int64 = -1) {
        let dense = source.contiguous()
        guard dense.count > 0 else { return }
        let n = dense.count / block
        // Threads share out the columns, so that each sum runs in the order of the positions.
        dense.read { x in
            positions.read { positions in
                let positions = positions.assumingMemoryBound(to: Int64.self)
                write { y in
                    parallelFor(block, grain: Swift.max(16, Kernels.grain / n)) { columns in
                        ck_add_at(
                            Int32(dtype.kernelIndex), x, positions, skipped, n, block, columns.lowerBound,
                            columns.count, y)
                    }
                }
            }
        }
    }

    /// Zeros of a shape to which the blocks of this tensor are added: the adjoint of `taking`.
    func scattered(_ positions: Tensor, blocks block: Int, to shape: [Int], skipping skipped: Int64 = -1) -> Tensor {
        let y = Tensor.zeros(shape, dtype: dtype)
        y.add(self, at: positions, blocks: block, skipping: skipped)
        return y
    }
}
