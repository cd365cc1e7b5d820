import CKernels

// Pooling over windows of images.

extension Op {
    /// Ops on images.
    static let images: [Op] = [
        .pixelShuffle, .pixelUnshuffle, .averagePooling, .maxPooling, .adaptiveAveragePooling, .bilinearInterpolation,
        .bicubicInterpolation, .nearestInterpolation, .convolution,
    ]
}

/// The windows of a pooling op, and how many there are. Traps unless they fit the images.
private func poolingWindows(
    _ x: Tensor, _ kernel: Size2D, _ stride: Size2D?, _ padding: Size2D, _ op: String
) -> (windows: Windows, counts: Size2D) {
    x.requireImages(op)
    let windows = Windows(kernel, stride ?? kernel, padding, 1, op, [x])
    let counts = windows.requiredCounts(over: x, op)
    guard padding.height <= kernel.height / 2, padding.width <= kernel.width / 2 else {
        trap(op, "the padding must be at most half of the kernel", x)
    }
    return (windows, counts)
}

// MARK: averagePooling

extension Op {
    public static let averagePooling = Op("averagePooling", "the mean of each window", linearIn: [0]) {
        [
            OpSample("plain", [$0.uniform([2, 2, 4, 6])]) { $0[0].averagePooled(kernel: 2) },
            OpSample("padding", [$0.uniform([1, 2, 5, 6])]) {
                $0[0].averagePooled(kernel: Size2D(3, 2), stride: Size2D(2, 1), padding: 1)
            },
            OpSample("padding apart", [$0.uniform([1, 2, 5, 6])]) {
                $0[0].averagePooled(kernel: Size2D(3, 2), stride: Size2D(2, 1), padding: 1, countIncludePad: false)
            },
            OpSample("empty", [$0.uniform([0, 2, 4, 4])]) { $0[0].averagePooled(kernel: 2) },
        ]
    }
    public static let maxPooling = Op("maxPooling", "the largest element of each window") {
        [
            OpSample("plain", [$0.distinct([2, 2, 4, 6])]) { $0[0].maxPooled(kernel: 2) },
            OpSample("padding", [$0.distinct([1, 2, 5, 6])]) {
                $0[0].maxPooled(kernel: Size2D(3, 2), stride: Size2D(2, 1), padding: 1)
            },
            OpSample("empty", [$0.uniform([0, 2, 4, 4])]) { $0[0].maxPooled(kernel: 2) },
        ]
    }
    public static let adaptiveAveragePooling = Op(
        "adaptiveAveragePooling", "means of windows that make up a size", linearIn: [0]
    ) {
        [
            OpSample("even", [$0.uniform([2, 2, 4, 6])]) { $0[0].adaptiveAveragePooled(to: Size2D(2, 3)) },
            OpSample("uneven", [$0.uniform([1, 2, 5, 7])]) { $0[0].adaptiveAveragePooled(to: Size2D(3, 2)) },
            OpSample("larger", [$0.uniform([1, 1, 2, 3])]) { $0[0].adaptiveAveragePooled(to: Size2D(3, 5)) },
            OpSample("one", [$0.uniform([1, 2, 3, 4])]) { $0[0].adaptiveAveragePooled(to: 1) },
            OpSample("empty", [$0.uniform([0, 2, 4, 4])]) { $0[0].adaptiveAveragePooled(to: 2) },
        ]
    }
}

extension Tensor {
    /// The mean of each window: [B, C, H, W] → [B, C, (H + 2·padding − kernel) / stride + 1, …], rounded down. PyTorch's
    /// `avg_pool2d` without `ceil_mode` and `divisor_override`. NaN and infinities reach the windows that hold them.
    ///
    /// - Parameters:
    ///   - kernel: height and width of a window.
    ///   - stride: the kernel unless given.
    ///   - padding: zeros around the image, at most half of the kernel.
    ///   - countIncludePad: whether those zeros count in the mean, as PyTorch's default has it.
    public func averagePooled(
        kernel: Size2D, stride: Size2D? = nil, padding: Size2D = 0, countIncludePad: Bool = true
    ) -> Tensor {
        let (windows, counts) = poolingWindows(self, kernel, stride, padding, "averagePooling")
        let stride = windows.stride
        func along(_ length: Int, _ count: Int, _ kernel: Int, _ stride: Int, _ padding: Int) -> Resampling {
            Resampling(
                length: length,
                (0..<count).map { index in
                    let start = index * stride - padding
                    let held = Swift.max(0, start)..<Swift.min(length, start + kernel)
                    let weight = 1 / Double(countIncludePad ? kernel : held.count)
                    return (held.lowerBound, [Double](repeating: weight, count: held.count))
                })
        }
        return resampled(
            along(shape[2], counts.height, kernel.height, stride.height, padding.height),
            along(shape[3], counts.width, kernel.width, stride.width, padding.width), by: .averagePooling)
    }

    /// The mean of windows that make up a given size: output i takes the rows ⌊i·H/h⌋ ..< ⌈(i + 1)·H/h⌉, and columns
    /// likewise. [B, C, H, W] → [B, C, size].
    public func adaptiveAveragePooled(to size: Size2D) -> Tensor {
        requireImages("adaptiveAveragePooling")
        requirePixels(size, "adaptiveAveragePooling")
        func along(_ length: Int, _ count: Int) -> Resampling {
            .means(
                length: length,
                of: (0..<count).map { $0 * length / count..<(($0 + 1) * length + count - 1) / count })
        }
        return resampled(along(shape[2], size.height), along(shape[3], size.width), by: .adaptiveAveragePooling)
    }

    /// The largest element of each window: [B, C, H, W] → [B, C, (H + 2·padding − kernel) / stride + 1, …], rounded down.
    /// PyTorch's `max_pool2d` without `ceil_mode` and `dilation`. Of equal elements the first in row-major order takes the
    /// gradient; NaN wins, the first one (PyTorch takes the last).
    ///
    /// - Parameters:
    ///   - kernel: height and width of a window.
    ///   - stride: the kernel unless given.
    ///   - padding: at most half of the kernel; what is outside the image never wins.
    public func maxPooled(kernel: Size2D, stride: Size2D? = nil, padding: Size2D = 0) -> Tensor {
        let (windows, counts) = poolingWindows(self, kernel, stride, padding, "maxPooling")
        noteLabel()
        let x = contiguous()
        let y = Tensor(uninitialized: [shape[0], shape[1], counts.height, counts.width], dtype)
        let index = Tensor(uninitialized: y.shape, .int64)
        let planes = shape[0] * shape[1]
        let (pixels, outputs) = (shape[2] * shape[3], counts.area)
        let (size, type) = (dtype.size, Int32(dtype.kernelIndex))
        let image = Size2D(shape[2], shape[3])
        let (layout, grain) = (windows.layout(over: image), windows.grain(over: image))
        x.read { x in
            y.write { y in
                index.write { index in
                    parallelFor(planes, grain: grain) { range in
                        let first = range.lowerBound
                        withUnsafePointer(to: layout) {
                            ck_max_pool(
                                type, $0, x + first * pixels * size, y + first * outputs * size,
                                index.assumingMemoryBound(to: Int64.self) + first * outputs, range.count)
                        }
                    }
                }
            }
        }
        return y.derived(by: .maxPooling, from: self) { [shape] g in
            let dx = Tensor(uninitialized: shape, g.dtype)
            g.contiguous().read { g in
                index.read { index in
                    dx.write { dx in
                        parallelFor(planes, grain: grain) { range in
                            let first = range.lowerBound
                            withUnsafePointer(to: layout) {
                                ck_max_pool_gradient(
                                    type, $0, g + first * outputs * size,
                                    index.assumingMemoryBound(to: Int64.self) + first * outputs,
                                    dx + first * pixels * size, range.count)
                            }
                        }
                    }
                }
            }
            return dx
        }
    }
}
