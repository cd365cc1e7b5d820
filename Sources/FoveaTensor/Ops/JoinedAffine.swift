// MARK: joinedAffine

extension Op {
    public static let joinedAffine = Op(
        "joinedAffine", "several x · weight + bias, one after another", linearIn: [0, 1, 2, 3, 4, 5]
    ) {
        [
            OpSample(
                "scaled, shifted and as it is",
                [
                    $0.uniform([2, 3, 4]), $0.uniform([4]), $0.uniform([2, 1, 4]), $0.uniform([4]),
                    $0.uniform([2, 2, 4]),
                ]
            ) { FoveaTensor.joinedAffine([($0[0], $0[1], nil), ($0[2], nil, $0[3]), ($0[4], nil, nil)]) },
            OpSample("one part", [$0.uniform([3, 19]), $0.uniform([19]), $0.uniform([19])]) {
                FoveaTensor.joinedAffine([($0[0], $0[1], $0[2])])
            },
            OpSample(
                "broadcast",
                [$0.uniform([2, 1, 2, 4]), $0.uniform([4]), $0.uniform([4]), $0.uniform([3, 3, 4])]
            ) { FoveaTensor.joinedAffine([($0[0], $0[1], $0[2]), ($0[3], nil, nil)]) },
            OpSample(
                "views and nothing",
                [$0.uniform([3, 2, 4]).transposed(0, 1), $0.uniform([4]), $0.uniform([4]), $0.uniform([2, 0, 4])]
            ) { FoveaTensor.joinedAffine([($0[3], $0[1], nil), ($0[0], $0[1], $0[2])]) },
        ]
    }
}

/// What `concatenated` makes along the last axis but one of x · weight + bias for each part, feature by feature, written where it
/// shall stand. Axes before that one broadcast; what is repeated is computed once.
///
/// Traps unless all parts have the same D and type, with vectors of D numbers, and unless their leading axes broadcast.
///
/// - Parameter parts: for each part x [..., N, D], a weight [D] or nil for 1 and a bias [D] or nil; N may differ.
/// - Returns: [..., Σ N, D].
public func joinedAffine(_ parts: [(x: Tensor, weight: Tensor?, bias: Tensor?)]) -> Tensor {
    guard let first = parts.first?.x else { trap("joinedAffine", "no parts were given") }
    first.requireDifferentiableType("joinedAffine")
    let (type, inputs) = (first.dtype, parts.map(\.x))
    let vectors = parts.flatMap { [$0.weight, $0.bias] }.compactMap { $0 }
    guard inputs.allSatisfy({ $0.rank >= 2 && $0.shape.last == first.shape.last && $0.dtype == type }),
        vectors.allSatisfy({ $0.shape == [first.shape[first.rank - 1]] && $0.dtype == type })
    else {
        trap(
            "joinedAffine", "inputs [..., N, D], weights [D] and biases [D] of one type are needed", inputs + vectors)
    }
    for tensor in inputs + vectors { tensor.noteLabel() }
    let (y, ranges) = Tensor.joined("joinedAffine", inputs, features: first.shape[first.rank - 1]) { index, place in
        let (x, weight, bias) = parts[index]
        if weight == nil && bias == nil {
            place.overwrite(with: x.detached)
        } else {
            place.overwrite(withAffine: x, weight, bias)
        }
    }
    let operands = parts.flatMap { [$0.x, $0.weight, $0.bias].compactMap { $0 } }
    let kept = parts.map { (x: $0.x.detached, weight: $0.weight?.detached, hasBias: $0.bias != nil) }
    return y.derived(by: .joinedAffine, from: operands) { g, wanted in
        var gradients: [Tensor?] = []
        for (part, range) in zip(kept, ranges) {
            let g = g.sliced(axis: -2, range).reduced(to: part.x.shape)
            let place = gradients.count
            let wantsWeight = part.weight != nil && wanted[place + 1]
            let wantsBias = part.hasBias && wanted[place + (part.weight == nil ? 1 : 2)]
            gradients.append(wanted[place] ? (part.weight.map { g * $0 } ?? g).contiguous() : nil)
            let sums = wantsWeight || wantsBias ? g.affineSums(part.x, weight: wantsWeight, bias: wantsBias) : nil
            if part.weight != nil { gradients.append(wantsWeight ? sums?.weight : nil) }
            if part.hasBias { gradients.append(wantsBias ? sums?.bias : nil) }
        }
        return gradients
    }
}

extension Tensor {
    /// This tensor [..., N, D] in samples whose rows have no gaps, and the elements from one sample to the next.
    private func inSamples() -> (tensor: Tensor, step: Int) {
        let box = Box(shape, withoutLast: 2, .init(self))
        let (rows, columns) = (shape[rank - 2], shape[rank - 1])
        let isDense =
            box.rank <= 1 && (columns == 1 || stride(fromLast: 0) == 1) && (rows == 1 || stride(fromLast: 1) == columns)
        return isDense ? (detached, box[0].steps.0) : (detached.contiguous(), rows * columns)
    }

    /// Calls `body` with runs of rows of [..., N, D] that lie in one sample each, a block of so many rows after another.
    private func forEachRun(
        inBlocksOf block: Int, _ body: (_ block: Int, _ sample: Int, _ first: Int, _ rows: Int) -> Void
    ) {
        let length = shape[rank - 2]
        let rows = count / Swift.max(1, shape[rank - 1])
        parallelFor((rows + block - 1) / block) { index in
            let end = Swift.min(rows, (index + 1) * block)
            var row = index * block
            while row < end {
                let run = Swift.min(end - row, length - row % length)
                body(index, row / length, row % length, run)
                row += run
            }
        }
    }

    /// Writes x · weight + bias to this tensor of the same shape [..., N, D], whose rows have no gaps.
    fileprivate func overwrite(withAffine x: Tensor, _ weight: Tensor?, _ bias: Tensor?) {
        let (from, to) = (x.inSamples(), inSamples())
        let (weight, bias) = (weight?.contiguous(), bias?.contiguous())
        let (columns, size) = (shape[rank - 1], dtype.size)
        let loop = pick(Kernels.table.pointee.affine, dtype)
        withExtendedLifetime((weight, bias)) {
            let (weight, bias) = (weight?.read { $0 }, bias?.read { $0 })
            from.tensor.read { x in
                to.tensor.write { y in
                    forEachRun(inBlocksOf: Swift.max(1, Kernels.grain / Swift.max(1, columns))) {
                        _, sample, first, rows in
                        loop(
                            x + (sample * from.step + first * columns) * size, weight, bias,
                            y + (sample * to.step + first * columns) * size, rows, columns)
                    }
                }
            }
        }
    }

    /// Σ g·x and Σ g over all rows of this gradient g [..., N, D]; each piece has its own sums, which are added in order.
    fileprivate func affineSums(_ x: Tensor, weight: Bool, bias: Bool) -> (weight: Tensor, bias: Tensor) {
        let (left, right) = (x.inSamples(), inSamples())
        let (columns, size) = (shape[rank - 1], dtype.size)
        let loop = pick(Kernels.table.pointee.affine_gradient, dtype)
        // At most 32 parts: they are memory to clear, to write and to read again.
        let rows = count / Swift.max(1, columns)
        let block = Swift.max(16, (rows + 31) / 32, Kernels.heavyGrain / Swift.max(1, columns))
        let parts = Tensor.zeros([2, Swift.max(1, (rows + block - 1) / block), columns], dtype: dtype)
        let step = parts.shape[1] * columns * size
        left.tensor.read { x in
            right.tensor.read { g in
                parts.write { parts in
                    forEachRun(inBlocksOf: block) { index, sample, first, rows in
                        let target = parts + index * columns * size
                        loop(
                            x + (sample * left.step + first * columns) * size,
                            g + (sample * right.step + first * columns) * size, weight ? target : nil,
                            bias ? target + step : nil, rows, columns)
                    }
                }
            }
        }
        func total(_ part: Int) -> Tensor {
            parts[part].columnSummed(rows: parts.shape[1], columns: columns).reshaped(to: [columns])
        }
        return (total(0), total(1))
    }
}
