import CKernels

// Images to windows and back, as PyTorch's Unfold and Fold.

extension Op {
    /// Images to windows and back.
    static let windows: [Op] = [.unfold, .fold]
}

/// How a kernel goes over an image; each pair is height, then width.
public struct Windows: Sendable, Equatable {
    /// The kernel's height and width, at least 1.
    public let kernel: [Int]
    /// The distance from one window to the next, at least 1.
    public let stride: [Int]
    /// Zeros on each side of the image.
    public let padding: [Int]
    /// The distance from one element of the kernel to the next, at least 1.
    public let dilation: [Int]

    /// Traps unless each is a pair of numbers as large as stated.
    public init(
        kernel: [Int], stride: [Int] = [1, 1], padding: [Int] = [0, 0], dilation: [Int] = [1, 1]
    ) {
        let pairs = [(kernel, 1), (stride, 1), (padding, 0), (dilation, 1)]
        guard pairs.allSatisfy({ pair, least in pair.count == 2 && pair.allSatisfy { $0 >= least } }) else {
            trap(
                "Windows",
                "kernel \(kernel), stride \(stride), padding \(padding) and dilation \(dilation) must be pairs of "
                    + "positive numbers, the padding of 0 or more")
        }
        (self.kernel, self.stride, self.padding, self.dilation) = (kernel, stride, padding, dilation)
    }

    /// How many windows there are down and across an image [H, W]: ⌊(H + 2·padding − dilation·(kernel − 1) − 1) / stride⌋
    /// + 1, or none where the kernel does not fit.
    public func counts(over image: [Int]) -> [Int] {
        (0..<2).map { axis in
            let room = image[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1
            return room < 0 ? 0 : room / stride[axis] + 1
        }
    }

    fileprivate func layout(over image: [Int]) -> ck_unfolding {
        let counts = counts(over: image)
        func pair(_ values: [Int]) -> (Int, Int) { (values[0], values[1]) }
        return ck_unfolding(
            image: pair(image), kernel: pair(kernel), stride: pair(stride), padding: pair(padding),
            dilation: pair(dilation), windows: pair(counts))
    }
}

// MARK: unfold

extension Op {
    public static let unfold = Op("unfold", "the windows of an image as columns") {
        [
            OpSample("plain", [$0.uniform([2, 2, 4, 5])]) { $0[0].unfolded(Windows(kernel: [2, 3])) },
            OpSample("everything", [$0.uniform([1, 2, 5, 6])]) { $0[0].unfolded(Op.spread) },
            OpSample("of a view", [$0.uniform([1, 5, 4, 2]).permuted(to: [0, 3, 1, 2])]) { $0[0].unfolded(Op.spread) },
            OpSample("no images", [$0.uniform([0, 2, 3, 3])]) { $0[0].unfolded(Windows(kernel: [2, 2])) },
        ]
    }

    /// A kernel with everything at once.
    fileprivate static let spread = Windows(kernel: [3, 2], stride: [2, 1], padding: [1, 2], dilation: [1, 2])
}

extension Tensor {
    /// The windows of images [B, C, H, W] as columns [B, C·kh·kw, L]; zeros where a window leaves the image. L counts the
    /// windows row by row, the middle axis goes by channel, then the kernel's row, then its column. PyTorch's Unfold.
    ///
    /// Traps on other ranks and when no window fits.
    public func unfolded(_ windows: Windows) -> Tensor {
        guard rank == 4 else { trap("unfold", "images [B, C, H, W] are needed", self) }
        let image = [shape[2], shape[3]]
        let counts = windows.counts(over: image)
        guard !counts.contains(0) else { trap("unfold", "no window of \(windows.kernel) fits the image", self) }
        noteLabel()
        let x = detached.contiguous()
        let (places, pixels) = (windows.kernel.reduce(1, *) * counts.reduce(1, *), image.reduce(1, *))
        let y = Tensor(
            uninitialized: [shape[0], shape[1] * windows.kernel.reduce(1, *), counts.reduce(1, *)], dtype)
        let size = dtype.size
        x.read { x in
            y.write { y in
                parallelFor(shape[0] * shape[1], grain: Swift.max(1, Kernels.grain / places)) { planes in
                    var layout = windows.layout(over: image)
                    let first = planes.lowerBound
                    ck_unfold(size, &layout, x + first * pixels * size, y + first * places * size, planes.count)
                }
            }
        }
        return y.derived(by: .unfold, from: self) { g in g.folded(to: image, windows) }
    }
}

// MARK: fold

extension Op {
    public static let fold = Op("fold", "columns added up to the image whose windows they are") {
        [
            OpSample("plain", [$0.uniform([2, 12, 9])]) { $0[0].folded(to: [4, 5], Windows(kernel: [2, 3])) },
            OpSample("everything", [$0.uniform([1, 12, 24])]) { $0[0].folded(to: [5, 6], Op.spread) },
            OpSample("of a view", [$0.uniform([2, 4, 8]).permuted(to: [0, 2, 1])]) {
                $0[0].folded(to: [3, 3], Windows(kernel: [2, 2]))
            },
            OpSample("no images", [$0.uniform([0, 4, 4])]) { $0[0].folded(to: [3, 3], Windows(kernel: [2, 2])) },
        ]
    }
}

extension Tensor {
    /// Columns [B, C·kh·kw, L] added up to images [B, C, H, W], each element where `unfolded` read it; what lies on the
    /// padding is dropped. The adjoint of `unfolded`, not its inverse where windows overlap. PyTorch's Fold.
    ///
    /// - Parameters:
    ///   - windows: how the kernel went over the image.
    ///   - image: H and W. Traps when the shape is not that of such an image's windows.
    public func folded(to image: [Int], _ windows: Windows) -> Tensor {
        requireDifferentiableType("fold")
        let area = windows.kernel.reduce(1, *)
        guard image.count == 2, image.allSatisfy({ $0 >= 0 }), rank == 3, shape[1] % area == 0,
            shape[2] == windows.counts(over: image).reduce(1, *), shape[2] > 0
        else {
            trap("fold", "columns [B, C·\(area), L] of an image \(image) are needed", self)
        }
        noteLabel()
        let x = detached.contiguous()
        let y = Tensor(uninitialized: [shape[0], shape[1] / area] + image, dtype)
        let (places, pixels) = (area * shape[2], image.reduce(1, *))
        let (size, type, images) = (dtype.size, Int32(dtype.kernelIndex), shape[0] * shape[1] / area)
        x.read { x in
            y.write { y in
                parallelFor(images, grain: Swift.max(1, Kernels.grain / places)) { planes in
                    var layout = windows.layout(over: image)
                    let first = planes.lowerBound
                    ck_fold(type, &layout, x + first * places * size, y + first * pixels * size, planes.count)
                }
            }
        }
        return y.derived(by: .fold, from: self) { g in g.unfolded(windows) }
    }
}
