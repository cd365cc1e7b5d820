import CKernels

// Products over axes, and running sums.

// MARK: product

extension Op {
    public static let product = Op("product", "the product over axes") { source in
        var samples = reductionSamples(&source, { $0.uniform($1) }) { $0.product(axes: $1, keepingAxes: $2) }
        let zeros = Tensor([1.5, 0, -2, 3, 0, 4, 0.5, 0, 1, 2, 3, -1.5], shape: [3, 4])
        samples.append(OpSample("zeros", [zeros]) { $0[0].product(axes: [1]) })
        return samples
    }
}

extension Tensor {
    /// The product over `axes`; 1 over nothing. NaN and infinities as in IEEE 754. The gradient of an element is the
    /// product of the others, right with any number of zeros, and with one NaN or ∞, where PyTorch gives NaN.
    public func product(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("product")
        let axes = normalizedAxes(axes, "product")
        guard !axes.isEmpty else { return self }
        let kept = rowReduced(axes, pick(Kernels.table.pointee.row_product, dtype))
        return kept.reshaped(to: reducedShape(axes, keepingAxes: keepingAxes)).derived(by: .product, from: self) { g in
            self.productsOfOthers(axes, times: g)
        }
    }

    /// For each element the product of the others along `axes`, times the element of g, of the reduced shape.
    func productsOfOthers(_ axes: [Int], times g: Tensor) -> Tensor {
        let (matrix, rows, columns) = reductionRows(axes)
        let g = g.contiguous()
        let y = Tensor(uninitialized: [rows, columns], dtype)
        let loop = pick(Kernels.table.pointee.row_product_gradient, dtype)
        let size = dtype.size
        matrix.read { x in
            g.read { g in
                y.write { target in
                    y.forEachBlock(columns: columns, grain: Kernels.grain) { first, rows in
                        let start = first * columns * size
                        loop(x + start, g + first * size, target + start, rows, columns)
                    }
                }
            }
        }
        return .fromReductionRows(y, axes, shape: shape)
    }
}

// MARK: cumulativeSum

extension Op {
    public static let cumulativeSum = Op("cumulativeSum", "the running sum along an axis", linearIn: [0]) {
        [
            OpSample("last", [$0.uniform([3, 19])]) { $0[0].cumulativeSum(axis: -1) },
            OpSample("first", [$0.uniform([3, 4])]) { $0[0].cumulativeSum(axis: 0) },
            OpSample("middle", [$0.uniform([2, 3, 4])]) { $0[0].cumulativeSum(axis: 1) },
            OpSample("one", [$0.uniform([4, 1])]) { $0[0].cumulativeSum(axis: 1) },
            OpSample("transposed", [$0.uniform([4, 3]).transposed(0, 1)]) { $0[0].cumulativeSum(axis: 1) },
            OpSample("empty", [$0.uniform([0, 3])]) { $0[0].cumulativeSum(axis: 0) },
        ]
    }
}

extension Tensor {
    /// The sum of the elements up to and with each one along `axis`; the same shape. Added up in double. From the first
    /// NaN on everything is NaN. Traps on a scalar, which has no axis; PyTorch gives it one.
    public func cumulativeSum(axis: Int) -> Tensor {
        requireDifferentiableType("cumulativeSum")
        let axis = normalizedAxis(axis, "cumulativeSum")
        noteLabel()
        return detached.runningSum(axis, backward: false).derived(by: .cumulativeSum, from: self) { g in
            g.runningSum(axis, backward: true)
        }
    }

    private func runningSum(_ axis: Int, backward: Bool) -> Tensor {
        guard axis == rank - 1 else {
            return transposed(axis, -1).runningSum(rank - 1, backward: backward).transposed(axis, -1)
        }
        let x = contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        let columns = shape[axis]
        let loop = pick(Kernels.table.pointee.row_cumulative_sum, dtype)
        let size = dtype.size
        x.read { x in
            y.write { target in
                y.forEachBlock(columns: columns, grain: Kernels.grain) { first, rows in
                    let start = first * columns * size
                    loop(x + start, target + start, rows, columns, backward ? 1 : 0)
                }
            }
        }
        return y
    }
}
