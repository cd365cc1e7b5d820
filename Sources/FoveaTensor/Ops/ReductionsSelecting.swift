import CKernels

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

// Reductions that choose an element, or that ask of truth values.

extension Op {
    /// Reductions beside sum, mean and max, and running sums.
    static let furtherReductions: [Op] = [
        .min, .argmin, .any, .all, .product, .cumulativeSum, .variance, .standardDeviation, .l2Norm, .logSumExp,
    ]
}

// MARK: min

extension Op {
    public static let min = Op("min", "the smallest element over axes") { source in
        reductionSamples(&source, empty: false, { $0.distinct($1) }) { $0.min(axes: $1, keepingAxes: $2) }
    }
}

extension Tensor {
    /// The smallest element over `axes`; NaN where there is one, ∞ over nothing, where PyTorch traps: the neutral element,
    /// as for `sum`. Equal smallest elements share the gradient evenly, as in PyTorch's `amin`.
    public func min(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        requireDifferentiableType("min")
        let axes = normalizedAxes(axes, "min")
        guard !axes.isEmpty else { return self }
        let kept = rowReduced(axes, pick(Kernels.table.pointee.row_min, dtype))
        return kept.reshaped(to: reducedShape(axes, keepingAxes: keepingAxes)).derived(by: .min, from: self) { g in
            let smallest = Tensor.combined(self, kept, CK_EQUAL, "min")
            return smallest * (g.reshaped(to: kept.shape) / smallest.sum(axes: axes, keepingAxes: true))
        }
    }
}

// MARK: argmin

extension Op {
    public static let argmin = Op("argmin", "the index of the smallest element along an axis", differentiable: false) {
        [
            OpSample("last", [$0.distinct([3, 5])]) { $0[0].argmin(axis: -1) },
            OpSample("first", [$0.distinct([3, 5])]) { $0[0].argmin(axis: 0) },
            OpSample("no rows", [$0.distinct([0, 5])]) { $0[0].argmin(axis: 1) },
        ]
    }
}

extension Tensor {
    /// The index of the smallest element along `axis`, int64; the first of equal ones, or the first NaN. A constant to any
    /// gradient. Traps when the axis is empty.
    public func argmin(axis: Int) -> Tensor {
        requireDifferentiableType("argmin")
        return indexReduced(axis, pick(Kernels.table.pointee.row_argmin, dtype), "argmin")
    }
}

// MARK: any and all

extension Op {
    public static let any = Op("any", "whether a mask is true somewhere along axes", differentiable: false) { source in
        maskSamples(&source) { $0.any(axes: $1, keepingAxes: $2) }
    }

    public static let all = Op("all", "whether a mask is true everywhere along axes", differentiable: false) { source in
        maskSamples(&source) { $0.all(axes: $1, keepingAxes: $2) }
    }

    /// Masks that are true where an element is above 0.
    private static func maskSamples(
        _ source: inout SampleSource, _ run: @escaping @Sendable (Tensor, [Int]?, Bool) -> Tensor
    ) -> [OpSample] {
        let mask: @Sendable (Tensor) -> Tensor = { $0.relu().cast(to: .bool) }
        let uniform: (inout SampleSource, [Int]) -> Tensor = { $0.uniform($1) }
        var samples = reductionSamples(&source, uniform) { run(mask($0), $1, $2) }
        samples += [
            OpSample("none true", [source.uniform([2, 3], -2 ... -1)]) { run(mask($0[0]), [1], false) },
            OpSample("all true", [source.uniform([2, 3], 1...2)]) { run(mask($0[0]), [1], false) },
            OpSample("a view of a mask", [source.uniform([4, 3])]) { run(mask($0[0]).transposed(0, 1), [0], false) },
        ]
        return samples
    }
}

extension Tensor {
    /// Whether a mask, bool, is true somewhere along `axes`; false over nothing. A constant to any gradient.
    public func any(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        maskReduced(axes, keepingAxes, "any") { row, count in memchr(row, 1, count) != nil }
    }

    /// Whether a mask, bool, is true everywhere along `axes`; true over nothing. A constant to any gradient.
    public func all(axes: [Int]? = nil, keepingAxes: Bool = false) -> Tensor {
        maskReduced(axes, keepingAxes, "all") { row, count in memchr(row, 0, count) == nil }
    }

    private func maskReduced(
        _ axes: [Int]?, _ keepingAxes: Bool, _ op: String, _ holds: (UnsafeRawPointer, Int) -> Bool
    ) -> Tensor {
        guard dtype == .bool else { trap(op, "a mask of type bool is needed; cast(to:) converts", self) }
        let axes = normalizedAxes(axes, op)
        let (matrix, rows, columns) = reductionRows(axes)
        let y = Tensor(uninitialized: reducedShape(axes, keepingAxes: keepingAxes), .bool)
        matrix.read { x in
            y.write { target in
                let results = target.assumingMemoryBound(to: Bool.self)
                for row in 0..<rows { results[row] = holds(x + row * columns, columns) }
            }
        }
        return y
    }
}
