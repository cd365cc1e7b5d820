import CKernels

// MARK: convolution

extension Op {
    public static let convolution = Op("convolution", "images with a kernel slid over them", linearIn: [0, 1, 2]) {
        [
            OpSample("plain", [$0.uniform([2, 2, 4, 5]), $0.uniform([3, 2, 2, 3]), $0.uniform([3])]) {
                FoveaTensor.convolution($0[0], weight: $0[1], bias: $0[2])
            },
            OpSample("patches", [$0.uniform([1, 3, 4, 4]), $0.uniform([2, 3, 2, 2]), $0.uniform([2])]) {
                FoveaTensor.convolution($0[0], weight: $0[1], bias: $0[2], stride: 2)
            },
            OpSample("padding and dilation", [$0.uniform([1, 2, 5, 6]), $0.uniform([2, 2, 3, 2])]) {
                FoveaTensor.convolution(
                    $0[0], weight: $0[1], stride: Size2D(2, 1), padding: Size2D(2, 1), dilation: Size2D(2, 3))
            },
            OpSample("groups", [$0.uniform([2, 4, 3, 3]), $0.uniform([6, 2, 2, 2]), $0.uniform([6])]) {
                FoveaTensor.convolution($0[0], weight: $0[1], bias: $0[2], groups: 2)
            },
            OpSample("depthwise", [$0.uniform([1, 3, 4, 4]), $0.uniform([3, 1, 3, 3]), $0.uniform([3])]) {
                FoveaTensor.convolution($0[0], weight: $0[1], bias: $0[2], padding: 1, groups: 3)
            },
            OpSample("pointwise", [$0.uniform([2, 3, 2, 2]), $0.uniform([4, 3, 1, 1])]) {
                FoveaTensor.convolution($0[0], weight: $0[1])
            },
            OpSample("view", [$0.uniform([4, 4, 2, 1]).permuted(to: [3, 2, 1, 0]), $0.uniform([3, 2, 2, 3])]) {
                FoveaTensor.convolution($0[0], weight: $0[1])
            },
            OpSample("empty", [$0.uniform([0, 2, 3, 3]), $0.uniform([3, 2, 2, 2]), $0.uniform([3])]) {
                FoveaTensor.convolution($0[0], weight: $0[1], bias: $0[2])
            },
        ]
    }
}

/// The convolution (without flipping the kernel) of images: x [B, C, H, W] → [B, D, (H + 2·padding − span) / stride + 1, …],
/// rounded down, with span = dilation · (kernel − 1) + 1. PyTorch's `conv2d`.
///
/// NaN and infinities reach the windows that hold them; a weight that is one makes the padding's zeros NaN.
///
/// - Parameters:
///   - x: [B, C, H, W].
///   - weight: [D, C / groups, kernel height, kernel width].
///   - bias: [D], or nil.
///   - stride: pixels from one window to the next.
///   - padding: zeros on each side.
///   - dilation: pixels from one element of the kernel to the next.
///   - groups: D and C are cut in as many consecutive parts, each convolved by itself; C of them make it depthwise.
public func convolution(
    _ x: Tensor, weight: Tensor, bias: Tensor? = nil, stride: Size2D = 1, padding: Size2D = 0, dilation: Size2D = 1,
    groups: Int = 1
) -> Tensor {
    let operands = [x, weight] + (bias.map { [$0] } ?? [])
    weight.noteLabel()
    guard operands.allSatisfy({ $0.dtype == x.dtype }) else {
        trap("convolution", "the types differ; cast(to:) one of them", operands)
    }
    guard weight.rank == 4, x.rank == 4, groups > 0, weight.shape[0] % groups == 0,
        x.shape[1] == weight.shape[1] * groups, bias == nil || bias!.shape == [weight.shape[0]]
    else {
        trap(
            "convolution", "x [B, C, H, W], weight [D, C / groups, h, w] and bias [D] are needed; groups = \(groups)",
            operands)
    }
    x.requireImages("convolution")
    let windows = Windows(
        Size2D(weight.shape[2], weight.shape[3]), stride, padding, dilation, "convolution", operands)
    let counts = windows.requiredCounts(over: x, "convolution")
    let (batch, outputs, image) = (x.shape[0], weight.shape[0], Size2D(x.shape[2], x.shape[3]))
    let length = weight.shape[1] * windows.kernel.area
    let dense = x.detached.contiguous()
    // [groups, D / groups, C / groups · h · w]
    let matrices = weight.detached.reshaped(to: [groups, outputs / groups, length])

    // The columns of an image are h · w times as large: only those of a few images are there at a time.
    let share = Swift.max(1, columnLimit / Swift.max(1, groups * length * counts.area))
    let parts = Swift.stride(from: 0, to: batch, by: share).map { $0..<Swift.min(batch, $0 + share) }
    func columns(_ part: Range<Int>) -> Tensor {
        dense.sliced(axis: 0, part).unfolded(windows).reshaped(to: [part.count, groups, length, counts.area])
    }
    func grouped(_ g: Tensor, _ part: Range<Int>) -> Tensor {
        g.sliced(axis: 0, part).reshaped(to: [part.count, groups, outputs / groups, counts.area])
    }
    func joined(_ images: [Tensor], channels: Int, _ size: Size2D) -> Tensor {
        images.isEmpty
            ? .zeros([batch, channels, size.height, size.width], dtype: x.dtype) : concatenated(images, axis: 0)
    }

    var y = withoutGradient {
        joined(
            parts.map {
                Tensor.product(matrices, columns($0)).reshaped(
                    to: [$0.count, outputs, counts.height, counts.width])
            }, channels: outputs, counts)
    }
    if let bias { y = withoutGradient { y + bias.detached.reshaped(to: [outputs, 1, 1]) } }
    return y.derived(by: .convolution, from: operands) { g, wanted in
        let g = g.contiguous()
        var gradients: [Tensor?] = [nil, nil]
        if wanted[0] {
            gradients[0] = joined(
                parts.map {
                    Tensor.product(matrices.transposed(-1, -2), grouped(g, $0))
                        .reshaped(to: [$0.count, groups * length, counts.area]).folded(to: image, windows)
                }, channels: dense.shape[1], image)
        }
        if wanted[1] {
            // The columns are made anew rather than kept.
            var sum = Tensor.zeros([groups, outputs / groups, length], dtype: x.dtype)
            for part in parts {
                sum += Tensor.product(grouped(g, part), columns(part).transposed(-1, -2)).sum(axes: [0])
            }
            gradients[1] = sum.reshaped(to: weight.shape)
        }
        if bias != nil { gradients.append(wanted[2] ? g.sum(axes: [0, 2, 3]) : nil) }
        return gradients
    }
}

/// About how many elements the columns of a convolution have at a time.
private let columnLimit = 1 << 16
