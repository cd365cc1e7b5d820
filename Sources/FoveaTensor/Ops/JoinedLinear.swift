// MARK: joinedLinear

extension Op {
    public static let joinedLinear = Op(
        "joinedLinear", "several x · Wᵀ + b, one after another", linearIn: [0, 1, 2, 3, 4, 5]
    ) {
        // x, weight and bias of each part.
        let biased: @Sendable ([Tensor]) -> Tensor = { x in
            FoveaTensor.joinedLinear(stride(from: 0, to: x.count, by: 3).map { (x[$0], x[$0 + 1], x[$0 + 2]) })
        }
        return [
            OpSample(
                "two parts",
                [
                    $0.uniform([2, 3, 4]), $0.uniform([5, 4]), $0.uniform([5]), $0.uniform([2, 2, 3]),
                    $0.uniform([5, 3]), $0.uniform([5]),
                ], run: biased),
            OpSample(
                "broadcast",
                [
                    $0.uniform([3, 2, 4]), $0.uniform([2, 4]), $0.uniform([2]), $0.uniform([1, 3, 4]),
                    $0.uniform([2, 4]), $0.uniform([2]),
                ], run: biased),
            OpSample(
                "one part of one sample", [$0.uniform([3, 4]), $0.uniform([2, 4]), $0.uniform([2])], run: biased),
            OpSample(
                "without biases, views",
                [
                    $0.uniform([3, 2, 4]).transposed(0, 1), $0.uniform([4, 2]).transposed(0, 1),
                    $0.uniform([2, 1, 4]), $0.uniform([2, 4]),
                ]
            ) { FoveaTensor.joinedLinear([($0[0], $0[1], nil), ($0[2], $0[3], nil)]) },
            OpSample(
                "with nothing",
                [
                    $0.uniform([2, 3, 4]), $0.uniform([2, 4]), $0.uniform([2]), $0.uniform([2, 0, 4]),
                    $0.uniform([2, 4]), $0.uniform([2]),
                ], run: biased),
        ]
    }
}

/// What `concatenated` makes along the last axis but one of the results of `linear`, written where it shall stand: nothing
/// is copied. Axes before that one broadcast; what is repeated is computed once.
///
/// Traps where `linear` does, unless all parts have the same D and type, and unless their leading axes broadcast.
///
/// - Parameters:
///   - parts: for each part x [..., N, C], a weight [D, C] and a bias [D] or nil; N and C may differ.
/// - Returns: [..., Σ N, D].
public func joinedLinear(_ parts: [(x: Tensor, weight: Tensor, bias: Tensor?)]) -> Tensor {
    guard let type = parts.first?.x.dtype else { trap("joinedLinear", "no parts were given") }
    let maps = parts.map { LinearMap("joinedLinear", $0.x, $0.weight, $0.bias) }
    let (inputs, outputs) = (parts.map(\.x), maps[0].outputs)
    guard inputs.allSatisfy({ $0.rank >= 2 && $0.dtype == type }), maps.allSatisfy({ $0.outputs == outputs }) else {
        trap("joinedLinear", "inputs [..., N, C] of one type and weights with as many rows are needed", inputs)
    }
    let (y, ranges) = Tensor.joined("joinedLinear", inputs, features: outputs) { maps[$0].write(to: $1) }
    var branches: [(Tensor, Pullback)] = []
    for (map, range) in zip(maps, ranges) {
        let own = Array(map.x.shape.dropLast()) + [outputs]
        branches += map.branches { g in g.sliced(axis: -2, range).reduced(to: own) }
    }
    return y.recorded(.joinedLinear, branches)
}

extension Tensor {
    /// What is made of inputs [..., N, C], each [..., N, D], one after another: [..., Σ N, D], and where each part stands. Traps unless
    /// the axes before the last two broadcast.
    ///
    /// - Parameters:
    ///   - op: names the caller in a trap.
    ///   - inputs: at least one, of one type.
    ///   - features: D.
    ///   - write: writes a part, by its index, to a tensor whose features lie without gaps; once, if it is to be repeated.
    static func joined(
        _ op: String, _ inputs: [Tensor], features: Int, _ write: (_ part: Int, _ place: Tensor) -> Void
    ) -> (y: Tensor, ranges: [Range<Int>]) {
        var lead: [Int] = []
        for input in inputs {
            guard let both = broadcastShape(lead, Array(input.shape.dropLast(2))) else {
                trap(op, "the axes before the last two do not broadcast", inputs)
            }
            lead = both
        }
        let type = inputs[0].dtype
        let y = Tensor(uninitialized: lead + [inputs.reduce(0) { $0 + $1.shape[$1.rank - 2] }, features], type)
        var ranges: [Range<Int>] = []
        for (part, input) in inputs.enumerated() {
            let own = Array(input.shape.dropLast()) + [features]
            let start = ranges.last?.upperBound ?? 0
            ranges.append(start..<start + own[own.count - 2])
            let place = y.sliced(axis: -2, ranges[part])
            if own == place.shape {
                write(part, place)
            } else {
                let once = Tensor(uninitialized: own, type)
                write(part, once)
                place.overwrite(with: once.expanded(to: place.shape))
            }
        }
        return (y, ranges)
    }
}
