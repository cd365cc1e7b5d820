import CKernels

// MARK: rmsNorm

extension Op {
    /// Norms over rows, groups and batches.
    static let norms: [Op] = [.rmsNorm, .groupNorm, .batchNorm, .batchNormInference]

    public static let rmsNorm = Op("rmsNorm", "x / √(mean x² + ε) · weight along the last axis", linearIn: [1]) {
        [
            OpSample("weight", [$0.uniform([3, 5]), $0.uniform([5])]) { FoveaTensor.rmsNorm($0[0], weight: $0[1]) },
            OpSample("tail", [$0.uniform([2, 2, 19]), $0.uniform([19])]) { FoveaTensor.rmsNorm($0[0], weight: $0[1]) },
            OpSample("plain", [$0.uniform([3, 4])]) { FoveaTensor.rmsNorm($0[0]) },
            OpSample("view", [$0.uniform([5, 3]).transposed(0, 1), $0.uniform([5])]) {
                FoveaTensor.rmsNorm($0[0], weight: $0[1])
            },
            OpSample("empty", [$0.uniform([0, 4]), $0.uniform([4])]) { FoveaTensor.rmsNorm($0[0], weight: $0[1]) },
        ]
    }
}

/// x / √(mean x² + ε) · weight over the last axis: x [..., C], weight [C] or nil. A row of zeros stays zeros; a NaN or an
/// infinity makes its row NaN (but finite elements beside an infinity 0). Traps unless x is float32 or float64 and the
/// weight a vector of its type as long as the last axis.
/// (Zhang and Sennrich, "Root mean square layer normalization", 2019.)
///
/// PyTorch's ε is the type's own smallest step unless given; here it is the 10⁻⁶ that the published models use.
public func rmsNorm(_ x: Tensor, weight: Tensor? = nil, epsilon: Double = 1e-6) -> Tensor {
    let affine = [weight].compactMap { $0 }
    x.requireDifferentiableType("rmsNorm")
    guard x.rank >= 1, affine.allSatisfy({ $0.shape == [x.shape[x.rank - 1]] && $0.dtype == x.dtype }) else {
        trap("rmsNorm", "the weight must be a vector as long as the input's last axis, of its type", [x] + affine)
    }
    weight?.noteLabel()
    let (dense, weightRow) = (x.contiguous(), weight?.contiguous())
    let columns = x.shape[x.rank - 1]
    let rows = columns == 0 ? 0 : x.count / columns
    let size = x.dtype.size
    let y = Tensor(uninitialized: x.shape, x.dtype)
    let rstd = Tensor(uninitialized: [rows], x.dtype)
    let forward = pick(Kernels.table.pointee.rms_norm, x.dtype)
    withExtendedLifetime(weightRow) {
        let weight = weightRow?.read { $0 }
        dense.read { x in
            y.write { target in
                rstd.write { rstd in
                    let width = columns * size
                    y.forEachBlock(columns: columns, grain: Kernels.grain) { first, count in
                        Kernels.fill(target, first..<first + count, of: rows, bytes: width) { some, target in
                            let first = some.lowerBound
                            forward(
                                x + first * width, weight, epsilon, target, rstd + first * size, some.count, columns)
                        }
                    }
                }
            }
        }
    }
    return y.derived(by: .rmsNorm, from: [x] + affine) { g, wanted in
        let wantsWeight = weight != nil && wanted[1]
        let backward = pick(Kernels.table.pointee.rms_norm_gradient, dense.dtype)
        let g = g.contiguous()
        let dx = Tensor(uninitialized: dense.shape, dense.dtype)
        // Each block of rows sums its own part of the weight's gradient; the parts are added in order.
        let block = Swift.max(16, Kernels.grain / Swift.max(1, columns))
        let blocks = (rows + block - 1) / block
        let parts = Tensor.zeros([Swift.max(1, blocks), columns], dtype: dense.dtype)
        withExtendedLifetime(weightRow) {
            let weight = weightRow?.read { $0 }
            dense.read { x in
                g.read { g in
                    rstd.read { rstd in
                        dx.write { dx in
                            parts.write { parts in
                                let width = columns * size
                                parallelFor(blocks) { index in
                                    let first = index * block
                                    let end = Swift.min(first + block, rows)
                                    Kernels.fill(dx, first..<end, of: rows, bytes: width) { some, dx in
                                        let first = some.lowerBound
                                        backward(
                                            x + first * width, weight, rstd + first * size, g + first * width, dx,
                                            wantsWeight ? parts + index * width : nil, some.count, columns)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        guard weight != nil else { return [dx] }
        let total = parts.columnSummed(rows: Swift.max(1, blocks), columns: columns).reshaped(to: [columns])
        return [wanted[0] ? dx : nil, wantsWeight ? total : nil]
    }
}
