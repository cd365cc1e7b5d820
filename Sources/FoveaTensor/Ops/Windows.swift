import CKernels

// Images to windows and back, as PyTorch's Unfold and Fold.

extension Op {
    /// Images to windows and back.
    static let windows: [Op] = [.unfold, .fold]
}

/// How a kernel goes over an image: for `unfolded`, `folded`, pooling and convolution alike.
public struct Windows: Sendable, Hashable {
    /// The kernel's height and width, at least 1.
    public let kernel: Size2D
    /// The distance from one window to the next, at least 1.
    public let stride: Size2D
    /// Zeros on each side of the image.
    public let padding: Size2D
    /// The distance from one element of the kernel to the next, at least 1.
    public let dilation: Size2D

    /// Traps unless each is as large as stated.
    ///
    /// - Parameters:
    ///   - kernel: height and width.
    ///   - stride: from one window to the next.
    ///   - padding: on each side.
    ///   - dilation: from one element of the kernel to the next.
    public init(kernel: Size2D, stride: Size2D = 1, padding: Size2D = 0, dilation: Size2D = 1) {
        self.init(kernel, stride, padding, dilation, "Windows", [])
    }

    /// The same for an op, which the trap names.
    init(
        _ kernel: Size2D, _ stride: Size2D, _ padding: Size2D, _ dilation: Size2D, _ op: String, _ operands: [Tensor]
    ) {
        guard [(kernel, 1), (stride, 1), (padding, 0), (dilation, 1)].allSatisfy({ $0.height >= $1 && $0.width >= $1 })
        else { trap(op, "kernel, stride and dilation must be positive and padding not negative", operands) }
        (self.kernel, self.stride, self.padding, self.dilation) = (kernel, stride, padding, dilation)
    }

    /// How many windows there are down and across an image: ⌊(H + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1,
    /// or none where the kernel does not fit.
    public func counts(over image: Size2D) -> Size2D {
        func along(_ axis: KeyPath<Size2D, Int>) -> Int {
            let span = dilation[keyPath: axis] * (kernel[keyPath: axis] - 1) + 1
            let room = image[keyPath: axis] + 2 * padding[keyPath: axis] - span
            return room < 0 ? 0 : room / stride[keyPath: axis] + 1
        }
        return Size2D(along(\.height), along(\.width))
    }

    /// The counts over images [B, C, H, W]. Traps where no window fits.
    func requiredCounts(over x: Tensor, _ op: String) -> Size2D {
        let counts = counts(over: Size2D(x.shape[2], x.shape[3]))
        guard counts.area > 0 else {
            trap(
                op,
                "no window of \(kernel.height) × \(kernel.width) fits with a dilation of \(dilation.height) × "
                    + "\(dilation.width) and a padding of \(padding.height) × \(padding.width)", x)
        }
        return counts
    }

    /// The description that C reads.
    func layout(over image: Size2D) -> ck_windows {
        func pair(_ size: Size2D) -> (Int, Int) { (size.height, size.width) }
        return ck_windows(
            image: pair(image), kernel: pair(kernel), stride: pair(stride), padding: pair(padding),
            dilation: pair(dilation), counts: pair(counts(over: image)))
    }

    /// Planes in one piece of work.
    func grain(over image: Size2D) -> Int {
        Swift.max(1, Kernels.grain / Swift.max(1, kernel.area * counts(over: image).area))
    }
}

// MARK: unfold

extension Op {
    public static let unfold = Op("unfold", "the windows of an image as columns", linearIn: [0]) {
        [
            OpSample("plain", [$0.uniform([2, 2, 4, 5])]) { $0[0].unfolded(Windows(kernel: Size2D(2, 3))) },
            OpSample("everything", [$0.uniform([1, 2, 5, 6])]) { $0[0].unfolded(Op.spread) },
            OpSample("of a view", [$0.uniform([1, 5, 4, 2]).permuted(to: [0, 3, 1, 2])]) { $0[0].unfolded(Op.spread) },
            OpSample("no images", [$0.uniform([0, 2, 3, 3])]) { $0[0].unfolded(Windows(kernel: 2)) },
        ]
    }

    /// A kernel with everything at once.
    fileprivate static let spread = Windows(
        kernel: Size2D(3, 2), stride: Size2D(2, 1), padding: Size2D(1, 2), dilation: Size2D(1, 2))
}

extension Tensor {
    /// The windows of images [B, C, H, W] as columns [B, C·kh·kw, L]; zeros where a window leaves the image. L counts the
    /// windows row by row, the middle axis goes by channel, then the kernel's row, then its column. PyTorch's Unfold.
    ///
    /// Traps on other ranks and when no window fits.
    public func unfolded(_ windows: Windows) -> Tensor {
        guard rank == 4 else { trap("unfold", "images [B, C, H, W] are needed", self) }
        let image = Size2D(shape[2], shape[3])
        let counts = windows.requiredCounts(over: self, "unfold")
        noteLabel()
        let x = detached.contiguous()
        let (places, pixels) = (windows.kernel.area * counts.area, image.area)
        let y = Tensor(uninitialized: [shape[0], shape[1] * windows.kernel.area, counts.area], dtype)
        let size = dtype.size
        x.read { x in
            y.write { y in
                parallelFor(shape[0] * shape[1], grain: windows.grain(over: image)) { planes in
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
    public static let fold = Op("fold", "columns added up to the image whose windows they are", linearIn: [0]) {
        [
            OpSample("plain", [$0.uniform([2, 12, 9])]) {
                $0[0].folded(to: Size2D(4, 5), Windows(kernel: Size2D(2, 3)))
            },
            OpSample("everything", [$0.uniform([1, 12, 24])]) { $0[0].folded(to: Size2D(5, 6), Op.spread) },
            OpSample("of a view", [$0.uniform([2, 4, 8]).permuted(to: [0, 2, 1])]) {
                $0[0].folded(to: 3, Windows(kernel: 2))
            },
            OpSample("no images", [$0.uniform([0, 4, 4])]) { $0[0].folded(to: 3, Windows(kernel: 2)) },
        ]
    }
}

extension Tensor {
    /// Columns [B, C·kh·kw, L] added up to images [B, C, H, W], each element where `unfolded` read it; what lies on the
    /// padding is dropped. The adjoint of `unfolded`, not its inverse where windows overlap. PyTorch's Fold.
    ///
    /// - Parameters:
    ///   - windows: how the kernel went over the image.
    ///   - image: its height and width. Traps when the shape is not that of such an image's windows.
    public func folded(to image: Size2D, _ windows: Windows) -> Tensor {
        requireDifferentiableType("fold")
        let area = windows.kernel.area
        guard image.height >= 0, image.width >= 0, rank == 3, shape[1] % area == 0,
            shape[2] == windows.counts(over: image).area, shape[2] > 0
        else {
            trap("fold", "columns [B, C·\(area), L] of an image \(image.height) × \(image.width) are needed", self)
        }
        noteLabel()
        let x = detached.contiguous()
        let y = Tensor(uninitialized: [shape[0], shape[1] / area, image.height, image.width], dtype)
        let (places, pixels) = (area * shape[2], image.area)
        let (size, type, images) = (dtype.size, Int32(dtype.kernelIndex), shape[0] * shape[1] / area)
        x.read { x in
            y.write { y in
                parallelFor(images, grain: windows.grain(over: image)) { planes in
                    var layout = windows.layout(over: image)
                    let first = planes.lowerBound
                    ck_fold(type, &layout, x + first * places * size, y + first * pixels * size, planes.count)
                }
            }
        }
        return y.derived(by: .fold, from: self) { g in g.unfolded(windows) }
    }
}
