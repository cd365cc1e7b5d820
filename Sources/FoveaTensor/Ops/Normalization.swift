import CKernels

// Softmax and layer norm: operations on whole rows.

extension Tensor {
    /// Runs a loop over blocks of rows of this row-major tensor; blocks depend on the shape alone.
    func forEachBlock(columns: Int, grain: Int = Kernels.heavyGrain, _ body: (_ first: Int, _ rows: Int) -> Void) {
        let rows = columns == 0 ? 0 : count / columns
        parallelFor(rows, grain: Swift.max(1, grain / Swift.max(1, columns))) { body($0.lowerBound, $0.count) }
    }

    typealias RowsLoop = @convention(c) (UnsafeRawPointer?, UnsafeMutableRawPointer?, Int, Int) -> Void
    typealias RowsGradientLoop =
        @convention(c) (UnsafeRawPointer?, UnsafeRawPointer?, UnsafeMutableRawPointer?, Int, Int) -> Void

    /// y = f(x) along `axis`, with a gradient that needs y and g alone. Where nobody else has y any more by then, the
    /// gradient takes its memory: each element is read before it is written.
    fileprivate func alongAxis(
        _ axis: Int, _ op: Op, _ forward: RowsLoop, _ backward: @escaping RowsGradientLoop
    ) -> Tensor {
        let axis = normalizedAxis(axis, op.name)
        guard axis == rank - 1 else {
            return transposed(axis, -1).alongAxis(-1, op, forward, backward).transposed(axis, -1)
        }
        noteLabel()
        let x = contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        let columns = shape[axis]
        let size = dtype.size
        x.read { x in
            y.write { target in
                y.forEachBlock(columns: columns) { first, rows in
                    forward(x + first * columns * size, target + first * columns * size, rows, columns)
                }
            }
        }
        let saved = Saved(y)
        return y.derived(by: op, from: self) { g in
            var y = saved.take()
            let g = g.contiguous()
            let dx = y.isReusable() ? y : Tensor(uninitialized: y.shape, y.dtype)
            y.read { y in
                g.read { g in
                    dx.write { target in
                        dx.forEachBlock(columns: columns) { first, rows in
                            let start = first * columns * size
                            backward(y + start, g + start, target + start, rows, columns)
                        }
                    }
                }
            }
            return dx
        }
    }
}

// MARK: softmax

extension Op {
    public static let softmax = Op("softmax", "eˣ / Σ eˣ along an axis") {
        [
            OpSample("last", [$0.uniform([3, 5])]) { $0[0].softmax(axis: -1) },
            OpSample("first", [$0.uniform([3, 5])]) { $0[0].softmax(axis: 0) },
            OpSample("tail", [$0.uniform([2, 35])]) { $0[0].softmax(axis: 1) },
            OpSample("one", [$0.uniform([4, 1])]) { $0[0].softmax(axis: 1) },
            OpSample("empty", [$0.uniform([0, 4])]) { $0[0].softmax(axis: 1) },
            OpSample("view", [$0.uniform([5, 3]).transposed(0, 1)]) { $0[0].softmax(axis: -1) },
        ]
    }
}

extension Tensor {
    /// eˣ / Σ eˣ along `axis`, without overflow. A row of −∞ alone becomes zeros, where PyTorch gives NaN: a query that
    /// may attend to nothing takes nothing.
    public func softmax(axis: Int) -> Tensor {
        requireDifferentiableType("softmax")
        return alongAxis(
            axis, .softmax, pick(Kernels.table.pointee.softmax, dtype),
            pick(Kernels.table.pointee.softmax_gradient, dtype))
    }
}

// MARK: logSoftmax

extension Op {
    public static let logSoftmax = Op("logSoftmax", "x − log Σ eˣ along an axis") {
        [
            OpSample("last", [$0.uniform([3, 5])]) { $0[0].logSoftmax(axis: -1) },
            OpSample("first", [$0.uniform([3, 5])]) { $0[0].logSoftmax(axis: 0) },
            OpSample("tail", [$0.uniform([2, 35])]) { $0[0].logSoftmax(axis: 1) },
            OpSample("empty", [$0.uniform([0, 4])]) { $0[0].logSoftmax(axis: 1) },
        ]
    }
}

extension Tensor {
    /// log softmax along `axis`, without overflow. A row of −∞ alone becomes NaN, as in PyTorch.
    public func logSoftmax(axis: Int) -> Tensor {
        requireDifferentiableType("logSoftmax")
        return alongAxis(
            axis, .logSoftmax, pick(Kernels.table.pointee.log_softmax, dtype),
            pick(Kernels.table.pointee.log_softmax_gradient, dtype))
    }
}

// MARK: layerNorm

extension Op {
    public static let layerNorm = Op(
        "layerNorm", "(x − mean) / √(variance + ε) · weight + bias along the last axis", linearIn: [1, 2]
    ) {
        [
            OpSample("affine", [$0.uniform([3, 5]), $0.uniform([5]), $0.uniform([5])]) {
                FoveaTensor.layerNorm($0[0], weight: $0[1], bias: $0[2])
            },
            OpSample("tail", [$0.uniform([2, 2, 19]), $0.uniform([19]), $0.uniform([19])]) {
                FoveaTensor.layerNorm($0[0], weight: $0[1], bias: $0[2])
            },
            OpSample("weight alone", [$0.uniform([3, 4]), $0.uniform([4])]) {
                FoveaTensor.layerNorm($0[0], weight: $0[1])
            },
            OpSample("plain", [$0.uniform([3, 4])]) { FoveaTensor.layerNorm($0[0]) },
            OpSample("view", [$0.uniform([5, 3]).transposed(0, 1), $0.uniform([5]), $0.uniform([5])]) {
                FoveaTensor.layerNorm($0[0], weight: $0[1], bias: $0[2])
            },
            OpSample("empty", [$0.uniform([0, 4]), $0.uniform([4]), $0.uniform([4])]) {
                FoveaTensor.layerNorm($0[0], weight: $0[1], bias: $0[2])
            },
        ]
    }
}

/// (x − mean) / √(variance + ε) · weight + bias over the last axis: x [..., C], weight and bias [C] or nil. The variance is
/// the biased one. (Ba, Kiros and Hinton, "Layer normalization", 2016.)
public func layerNorm(_ x: Tensor, weight: Tensor? = nil, bias: Tensor? = nil, epsilon: Double = 1e-5) -> Tensor {
    let affine = [weight, bias].compactMap { $0 }
    x.requireDifferentiableType("layerNorm")
    guard x.rank >= 1, affine.allSatisfy({ $0.shape == [x.shape[x.rank - 1]] && $0.dtype == x.dtype }) else {
        trap("layerNorm", "weight and bias must be vectors as long as the input's last axis, of its type", [x] + affine)
    }
    for vector in affine { vector.noteLabel() }
    let (dense, weightRow, biasRow) = (x.contiguous(), weight?.contiguous(), bias?.contiguous())
    let columns = x.shape[x.rank - 1]
    let rows = columns == 0 ? 0 : x.count / columns
    let size = x.dtype.size
    let y = Tensor(uninitialized: x.shape, x.dtype)
    let (mean, rstd) = (Tensor(uninitialized: [rows], x.dtype), Tensor(uninitialized: [rows], x.dtype))
    let forward = pick(Kernels.table.pointee.layer_norm, x.dtype)
    withExtendedLifetime((weightRow, biasRow)) {
        let (weight, bias) = (weightRow?.read { $0 }, biasRow?.read { $0 })
        dense.read { x in
            y.write { target in
                mean.write { mean in
                    rstd.write { rstd in
                        let width = columns * size
                        y.forEachBlock(columns: columns) { first, count in
                            Kernels.fill(target, first..<first + count, of: rows, bytes: width) { some, target in
                                let first = some.lowerBound
                                forward(
                                    x + first * width, weight, bias, epsilon, target, mean + first * size,
                                    rstd + first * size, some.count, columns)
                            }
                        }
                    }
                }
            }
        }
    }
    return y.derived(by: .layerNorm, from: [x] + affine) { g, wanted in
        let wantsWeight = weight != nil && wanted[1]
        let wantsBias = bias != nil && wanted[wanted.count - 1]
        let backward = pick(Kernels.table.pointee.layer_norm_gradient, dense.dtype)
        let g = g.contiguous()
        let dx = Tensor(uninitialized: dense.shape, dense.dtype)
        // Each block of rows sums its own part of the weight's and the bias's gradient; the parts are added in order. At
        // most 32 of them: they are memory to clear, to write and to read again.
        let block = Swift.max(16, (rows + 31) / 32, Kernels.heavyGrain / Swift.max(1, columns))
        let blocks = (rows + block - 1) / block
        let parts = Tensor.zeros([2, Swift.max(1, blocks), columns], dtype: dense.dtype)
        withExtendedLifetime(weightRow) {
            let weight = weightRow?.read { $0 }
            dense.read { x in
                g.read { g in
                    mean.read { mean in
                        rstd.read { rstd in
                            dx.write { dx in
                                parts.write { parts in
                                    let width = columns * size
                                    parallelFor(blocks) { index in
                                        let first = index * block
                                        let end = Swift.min(first + block, rows)
                                        let dweight = parts + index * width
                                        Kernels.fill(dx, first..<end, of: rows, bytes: width) { some, dx in
                                            let first = some.lowerBound
                                            backward(
                                                x + first * width, weight, mean + first * size, rstd + first * size,
                                                g + first * width, dx, wantsWeight ? dweight : nil,
                                                wantsBias ? dweight + blocks * width : nil, some.count, columns)
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        var gradients: [Tensor?] = [wanted[0] ? dx : nil]
        func total(_ part: Int) -> Tensor {
            parts[part].columnSummed(rows: Swift.max(1, blocks), columns: columns).reshaped(to: [columns])
        }
        if weight != nil { gradients.append(wantsWeight ? total(0) : nil) }
        if bias != nil { gradients.append(wantsBias ? total(1) : nil) }
        return gradients
    }
}
