import CKernels

// MARK: crossEntropy

extension Op {
    public static let crossEntropy = Op("crossEntropy", "the mean of −log softmax(logits)[label]") {
        [
            OpSample("classes", [$0.uniform([4, 5]), $0.integers([4], below: 5)]) {
                FoveaTensor.crossEntropy($0[0], $0[1])
            },
            OpSample("sequence", [$0.uniform([2, 3, 4]), $0.integers([2, 3], below: 4)]) {
                FoveaTensor.crossEntropy($0[0], $0[1])
            },
            OpSample("smoothing", [$0.uniform([4, 5]), $0.integers([4], below: 5)]) {
                FoveaTensor.crossEntropy($0[0], $0[1], labelSmoothing: 0.1)
            },
            OpSample("ignored", [$0.uniform([3, 4]), Tensor([Int64(1), -100, 3])]) {
                FoveaTensor.crossEntropy($0[0], $0[1])
            },
            OpSample("all ignored", [$0.uniform([2, 4]), Tensor([Int64(-100), -100])]) {
                FoveaTensor.crossEntropy($0[0], $0[1])
            },
        ]
    }
}

/// The mean cross-entropy between softmax(logits) and class labels, one number.
///
/// With nothing but ignored labels the loss is 0 and so is its gradient, where PyTorch gives NaN: a batch without
/// answers teaches nothing, rather than breaking the run. An ignored row has gradient 0 whatever its logits are.
///
/// - Parameters:
///   - logits: [..., C].
///   - labels: int64 [...], in 0 ..< C or `ignored`. Traps on any other.
///   - labelSmoothing: the share of the target that is spread evenly over all classes.
///   - ignored: the label of rows that do not count.
public func crossEntropy(
    _ logits: Tensor, _ labels: Tensor, labelSmoothing: Double = 0, ignoring ignored: Int = -100
) -> Tensor {
    logits.requireDifferentiableType("crossEntropy")
    guard logits.rank >= 1, labels.dtype == .int64, labels.shape == Array(logits.shape.dropLast()) else {
        trap("crossEntropy", "logits [..., C] and int64 labels [...] are needed", logits, labels)
    }
    guard (0...1).contains(labelSmoothing) else {
        trap("crossEntropy", "label smoothing must be in 0 ... 1, not \(labelSmoothing)")
    }
    let columns = logits.shape[logits.rank - 1]
    let (dense, targets) = (logits.contiguous(), labels.contiguous())
    let classes: [Int64] = targets.scalars()
    let counted = classes.count { $0 != Int64(ignored) }
    if let stray = classes.first(where: { $0 != Int64(ignored) && !(0..<Int64(columns)).contains($0) }) {
        trap("crossEntropy", "label \(stray) is outside the \(columns) classes", logits, labels)
    }
    let rows = classes.count
    // Without classes all labels are left out, and nothing is written.
    let losses = columns > 0 ? Tensor(uninitialized: [rows], logits.dtype) : .zeros([rows], dtype: logits.dtype)
    let p = Tensor(uninitialized: logits.shape, logits.dtype)
    let forward = pick(Kernels.table.pointee.cross_entropy, logits.dtype)
    let size = logits.dtype.size
    dense.read { x in
        targets.read { labels in
            let labels = labels.assumingMemoryBound(to: Int64.self)
            losses.write { losses in
                p.write { target in
                    p.forEachBlock(columns: columns) { first, rows in
                        let start = first * columns * size
                        forward(
                            x + start, labels + first, Int64(ignored), labelSmoothing, losses + first * size,
                            target + start, rows, columns)
                    }
                }
            }
        }
    }
    let loss = losses.sum() * (counted == 0 ? 0 : 1 / Double(counted))
    return loss.derived(by: .crossEntropy, from: logits) { g in
        let rowGradients = (g * (counted == 0 ? 0 : 1 / Double(counted))).expanded(to: [rows]).contiguous()
        let dx = Tensor(uninitialized: p.shape, p.dtype)
        let backward = pick(Kernels.table.pointee.cross_entropy_gradient, p.dtype)
        p.read { p in
            targets.read { labels in
                let labels = labels.assumingMemoryBound(to: Int64.self)
                rowGradients.read { g in
                    dx.write { target in
                        dx.forEachBlock(columns: columns) { first, rows in
                            let start = first * columns * size
                            backward(
                                p + start, labels + first, Int64(ignored), labelSmoothing, g + first * size,
                                target + start, rows, columns)
                        }
                    }
                }
            }
        }
        return dx
    }
}
