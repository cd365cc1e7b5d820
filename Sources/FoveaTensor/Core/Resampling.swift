import CKernels

/// Weighted sums along one axis: what average pooling and interpolation are, first along the rows, then along the columns.
struct Resampling {
    private let length: Int
    private let outLength: Int
    private let maxTaps: Int
    private let first: [Int64]
    private let taps: [Int64]
    private let weights: [Double]

    /// - Parameters:
    ///   - length: of the axis before.
    ///   - outputs: for each output, where its inputs begin and their weights, at least one.
    init(length: Int, _ outputs: [(first: Int, weights: [Double])]) {
        self.length = length
        outLength = outputs.count
        let width = outputs.reduce(1) { Swift.max($0, $1.weights.count) }
        maxTaps = width
        first = outputs.map { Int64($0.first) }
        taps = outputs.map { Int64($0.weights.count) }
        weights = outputs.flatMap { $0.weights + [Double](repeating: 0, count: width - $0.weights.count) }
    }

    /// Windows of inputs, each output the mean of its own.
    static func means(length: Int, of windows: [Range<Int>]) -> Resampling {
        Resampling(
            length: length,
            windows.map { ($0.lowerBound, [Double](repeating: 1 / Double($0.count), count: $0.count)) })
    }

    /// x with `axis` resampled, or the transpose of that.
    fileprivate func callAsFunction(_ x: Tensor, axis: Int, transposed: Bool = false) -> Tensor {
        let dense = x.contiguous()
        var shape = x.shape
        shape[axis] = transposed ? length : outLength
        let y = Tensor(uninitialized: shape, x.dtype)
        let blocks = shape[..<axis].reduce(1, *)
        let inner = shape[(axis + 1)...].reduce(1, *)
        let size = x.dtype.size
        let type = Int32(x.dtype.kernelIndex)
        let (from, to) = (x.shape[axis] * inner * size, shape[axis] * inner * size)
        first.withUnsafeBufferPointer { first in
            taps.withUnsafeBufferPointer { taps in
                weights.withUnsafeBufferPointer { weights in
                    let resampling = ck_resampling(
                        length: length, out_length: outLength, max_taps: maxTaps, first: first.baseAddress,
                        taps: taps.baseAddress, weights: weights.baseAddress)
                    dense.read { source in
                        y.write { target in
                            let grain = Swift.max(1, Kernels.grain / Swift.max(1, Swift.max(length, outLength) * inner))
                            parallelFor(blocks, grain: grain) { range in
                                withUnsafePointer(to: resampling) { resampling in
                                    let (x, y) = (source + range.lowerBound * from, target + range.lowerBound * to)
                                    if transposed {
                                        ck_resample_transposed(type, resampling, x, y, range.count, inner)
                                    } else {
                                        ck_resample(type, resampling, x, y, range.count, inner)
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        return y
    }
}

extension Tensor {
    /// This tensor [..., H, W] resampled along the columns' and the rows' axis.
    func resampled(_ rows: Resampling, _ columns: Resampling, by op: Op) -> Tensor {
        noteLabel()
        let y = columns(rows(self, axis: rank - 2), axis: rank - 1)
        return y.derived(by: op, from: self) { g in
            rows(columns(g, axis: g.rank - 1, transposed: true), axis: g.rank - 2, transposed: true)
        }
    }

    /// Traps unless this is [B, C, H, W] of a type that computes, with at least one pixel.
    func requireImages(_ op: String) {
        requireDifferentiableType(op)
        guard rank == 4, shape[2] > 0, shape[3] > 0 else { trap(op, "[B, C, H, W] with pixels is needed", self) }
    }
}

/// A height and a width.
public struct Size2D: Sendable, Hashable {
    public var height: Int
    public var width: Int

    public init(_ height: Int, _ width: Int) { (self.height, self.width) = (height, width) }

    /// How many pixels that is.
    var area: Int { height * width }

    /// The same on both axes.
    public init(_ both: Int) { self.init(both, both) }
}

extension Size2D: ExpressibleByIntegerLiteral {
    public init(integerLiteral both: Int) { self.init(both) }
}
