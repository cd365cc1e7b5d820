import Foundation

@testable import FoveaTensor

/// What an op computes, written from its definition with loops over doubles.
struct Reference: Sendable {
    /// How far a float64 result may be off: the relative error, and the size below which it counts absolutely.
    let float64: (tolerance: Double, floor: Double)
    /// The same for float32, the error in units of 2⁻²⁴: a correctly rounded operation is off by one unit at most.
    let float32: (units: Double, floor: Double)
    /// The result of the sample with this label on these inputs; nil for a label that the reference does not know.
    let compute: @Sendable (_ label: String, _ inputs: [Grid]) -> Grid?

    /// The difference between 1 and the float32 numbers around it, halved: what one rounding costs.
    static let unit = 0x1p-24

    init(
        _ float64: (Double, Double), _ float32: (Double, Double),
        _ compute: @escaping @Sendable (String, [Grid]) -> Grid?
    ) {
        (self.float64, self.float32, self.compute) = (float64, float32, compute)
    }

    /// Element by element: every error is relative, unless the function itself cancels near `floor`.
    static func elementwise(
        units: Double, floor: Double = 0, _ compute: @escaping @Sendable (String, [Grid]) -> Grid?
    ) -> Reference {
        Reference((1e-12, floor), (units, floor), compute)
    }

    /// The same numbers elsewhere: nothing may be rounded.
    static func moving(_ compute: @escaping @Sendable (String, [Grid]) -> Grid?) -> Reference {
        Reference((0, 0), (0, 0), compute)
    }

    /// Sums of products of inputs in −2 … 2.
    static func summing(
        units: Double, floor: Double, _ compute: @escaping @Sendable (String, [Grid]) -> Grid?
    ) -> Reference {
        Reference((1e-10, 1), (units, floor), compute)
    }

    /// Whether dropout with a rate of one half drops an element: the words of its key in order, each below 2³¹.
    static func dropsHalf(_ key: RandomKey, _ index: Int) -> Bool {
        let words = key.words(inGroup: index / 4)
        return [words.0, words.1, words.2, words.3][index % 4] < 1 << 31
    }

    /// The reference of each op of the catalogue, by name; a family of ops in each file.
    static let table: [String: Reference] = [
        first, indexing, reductions, neural, images, elementwiseMore, linearAlgebra,
    ].reduce(into: [:]) { $0.merge($1) { _, twice in twice } }

    /// The ops of the first training runs.
    private static let first: [String: Reference] = [
        // arithmetic
        "add": elementwise(units: 1) { Grid.combine($1[0], $1[1], +) },
        "subtract": elementwise(units: 1) { Grid.combine($1[0], $1[1], -) },
        "multiply": elementwise(units: 1) { Grid.combine($1[0], $1[1], *) },
        "divide": elementwise(units: 1) { Grid.combine($1[0], $1[1], /) },
        "negate": elementwise(units: 0) { $1[0].map { 0 - $0 } },
        "maximum": elementwise(units: 0) { Grid.combine($1[0], $1[1]) { $0 < $1 ? $1 : $0 } },
        "minimum": elementwise(units: 0) { Grid.combine($1[0], $1[1]) { $0 < $1 ? $0 : $1 } },
        // element by element
        "exp": elementwise(units: 3) { $1[0].map { Foundation.exp($0) } },
        "log": elementwise(units: 3) { $1[0].map { Foundation.log($0) } },
        "sqrt": elementwise(units: 1) { $1[0].map { $0.squareRoot() } },
        "square": elementwise(units: 1) { $1[0].map { $0 * $0 } },
        "abs": elementwise(units: 0) { $1[0].map { $0.magnitude } },
        // (e²ˣ − 1) / (e²ˣ + 1)
        "tanh": elementwise(units: 5) { $1[0].map { Foundation.expm1(2 * $0) / (Foundation.expm1(2 * $0) + 2) } },
        "sigmoid": elementwise(units: 5) { $1[0].map { 0.5 + 0.5 * Foundation.tanh($0 / 2) } },
        // 1 − erfc x, which loses digits near 0: the floor says where.
        "erf": elementwise(units: 5, floor: 0.01) { $1[0].map { 1 - Foundation.erfc($0) } },
        "relu": elementwise(units: 0) { $1[0].map { $0 > 0 ? $0 : 0 } },
        // 1 + erf x cancels on the negative side; the value is then small against x.
        "gelu": elementwise(units: 8, floor: 1) { $1[0].map { 0.5 * $0 * Foundation.erfc(-$0 / 2.0.squareRoot()) } },
        // reductions
        "sum": summing(units: 4, floor: 8) { reduction($0, $1[0]) { $0.reduce(0, +) } },
        "mean": summing(units: 4, floor: 2) { reduction($0, $1[0]) { $0.reduce(0, +) / Double($0.count) } },
        "max": moving { reduction($0, $1[0]) { $0.reduce(-.infinity) { $0 < $1 ? $1 : $0 } } },
        "argmax": moving { label, inputs in
            guard let axis = ["last": 1, "first": 0][label] else { return nil }
            return inputs[0].reduced([axis], keeping: false) { line in
                Double(line.firstIndex { value in line.allSatisfy { $0 <= value } }!)
            }
        },
        // shape
        "reshape": moving { label, inputs in
            let count = inputs[0].values.count
            let shapes = [
                "split": [2, 3, 2], "inferred": [count / 4, 4], "transposed": [count], "to scalar": [],
                "empty": [3, 0],
            ]
            return shapes[label].map { Grid($0, inputs[0].values) }
        },
        "permute": moving { label, inputs in
            let orders = ["rotated": [2, 0, 1], "swapped": [0, 2, 1], "twice": [1, 2, 0], "empty": [1, 0]]
            guard let order = orders[label] else { return nil }
            let x = inputs[0]
            return Grid(order.map { x.shape[$0] }) { index in
                var source = index
                for (position, axis) in order.enumerated() { source[axis] = index[position] }
                return x[source]
            }
        },
        "expand": moving { label, inputs in
            let shapes = ["rows": [4, 3], "ranks": [2, 3, 2], "scalar": [2, 2], "to nothing": [0, 2]]
            return shapes[label].map { shape in Grid(shape) { inputs[0][broadcast: $0] } }
        },
        "slice": moving { label, inputs in
            let x = inputs[0]
            switch label {
            case "range": return Grid([3] + x.shape.dropFirst()) { x[[$0[0] + 1, $0[1]]] }
            case "steps": return Grid([x.shape[0], 2]) { x[[$0[0], 1 + 3 * $0[1]]] }
            case "one": return Grid(Array(x.shape.dropFirst())) { x[[2, $0[0]]] }
            case "none": return Grid([0, x.shape[1]], [])
            case "of a view": return Grid([3, x.shape[1]]) { x[[2 * $0[0], $0[1]]] }
            default: return nil
            }
        },
        "concatenate": moving { label, inputs in
            guard let axis = ["rows": 0, "columns": 1, "with nothing": 0, "views": 1][label] else { return nil }
            var shape = inputs[0].shape
            shape[axis] = inputs.reduce(0) { $0 + $1.shape[axis] }
            return Grid(shape) { index in
                var index = index
                for input in inputs {
                    if index[axis] < input.shape[axis] { return input[index] }
                    index[axis] -= input.shape[axis]
                }
                return .nan
            }
        },
        "cast": moving { label, inputs in inputs[0].map { Double(Float($0)) } },
        // products
        "matmul": summing(units: 4, floor: 16) { _, inputs in product(inputs[0], inputs[1]) },
        "linear": summing(units: 4, floor: 16) { _, inputs in
            let (x, weight) = (inputs[0], inputs[1])
            let transposed = Grid([weight.shape[1], weight.shape[0]]) { weight[[$0[1], $0[0]]] }
            let y = product(x, transposed)
            return inputs.count == 3 ? Grid.combine(y, inputs[2], +) : y
        },
        "joinedLinear": summing(units: 4, floor: 16) { label, inputs in
            let operands = label == "without biases, views" ? 2 : 3
            let parts = stride(from: 0, to: inputs.count, by: operands).map { first in
                let weight = inputs[first + 1]
                let transposed = Grid([weight.shape[1], weight.shape[0]]) { weight[[$0[1], $0[0]]] }
                let y = product(inputs[first], transposed)
                return operands == 3 ? Grid.combine(y, inputs[first + 2], +) : y
            }
            return joined(parts)
        },
        "joinedAffine": summing(units: 4, floor: 4) { label, inputs in
            if label == "scaled, shifted and as it is" {
                let scaled = Grid.combine(inputs[0], inputs[1], *)
                return joined([scaled, Grid.combine(inputs[2], inputs[3], +), inputs[4]])
            }
            let affine = Grid.combine(Grid.combine(inputs[0], inputs[1], *), inputs[2], +)
            return joined(label == "views and nothing" ? [inputs[3], affine] : [affine] + inputs.dropFirst(3))
        },
        "groupedLinear": summing(units: 4, floor: 16) { label, inputs in
            let (x, weight) = (inputs[0], inputs[1])
            let (outer, inner) = (weight.shape[0] / 2, weight.shape[1])
            let isTurned = label.contains("transposed")
            return Grid(x.shape.dropLast() + [2 * (isTurned ? inner : outer)]) { index in
                let (group, feature) = index.last!.quotientAndRemainder(dividingBy: isTurned ? inner : outer)
                let own = x.row(broadcast: index.dropLast())
                let width = isTurned ? outer : inner
                return own.dropFirst(group * width).prefix(width).enumerated().reduce(0) { sum, next in
                    let (row, column) =
                        isTurned ? (group * outer + next.offset, feature) : (group * outer + feature, next.offset)
                    return sum + next.element * weight.values[row * inner + column]
                }
            }
        },
        // neural
        "softmax": Reference((1e-12, 1e-3), (8, 1e-3)) { label, inputs in
            inputs[0].lines(axis(label)) { line in
                let weights = line.map { Foundation.exp($0) }
                return weights.map { $0 / weights.reduce(0, +) }
            }
        },
        "logSoftmax": Reference((1e-12, 1), (8, 1)) { label, inputs in
            inputs[0].lines(axis(label)) { line in
                let total = Foundation.log(line.reduce(0) { $0 + Foundation.exp($1) })
                return line.map { $0 - total }
            }
        },
        "layerNorm": Reference((1e-10, 1), (16, 1)) { label, inputs in
            let x = inputs[0]
            let normal = x.lines(x.shape.count - 1) { line in
                let count = Double(line.count)
                let mean = line.reduce(0, +) / count
                let variance = line.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / count
                return line.map { ($0 - mean) / (variance + 1e-5).squareRoot() }
            }
            switch label {
            case "plain": return normal
            case "weight alone": return Grid.combine(normal, inputs[1], *)
            case "affine", "tail", "view", "empty":
                return Grid.combine(Grid.combine(normal, inputs[1], *), inputs[2], +)
            default: return nil
            }
        },
        "dropout": elementwise(units: 1) { label, inputs in
            let x = inputs[0]
            guard label == "half" else { return label == "none" ? x : nil }
            let key = RandomKey(seed: 3)
            return Grid(x.shape, x.values.indices.map { dropsHalf(key, $0) ? 0 : x.values[$0] * 2 })
        },
        "crossEntropy": Reference((1e-10, 1), (8, 1)) { label, inputs in
            let (x, labels) = (inputs[0], inputs[1])
            let classes = x.shape.last!
            let smoothing = label == "smoothing" ? 0.1 : 0
            var (total, counted) = (0.0, 0)
            for (row, label) in labels.values.enumerated() where label != -100 {
                let line = x.values[row * classes..<(row + 1) * classes]
                let normalizer = Foundation.log(line.reduce(0) { $0 + Foundation.exp($1) })
                for (index, logit) in line.enumerated() {
                    let target = smoothing / Double(classes) + (index == Int(label) ? 1 - smoothing : 0)
                    total -= target * (logit - normalizer)
                }
                counted += 1
            }
            return Grid([], [counted == 0 ? 0 : total / Double(counted)])
        },
    ]

    /// The axis of a softmax sample, which all have two axes or count from the end.
    static func axis(_ label: String) -> Int { label == "first" ? 0 : 1 }

    /// The axes that the samples of the reductions name.
    static func reduction(_ label: String, _ x: Grid, _ reduce: ([Double]) -> Double) -> Grid? {
        let cases: [String: (axes: [Int], keeping: Bool)] = [
            "all": (Array(x.shape.indices), false), "last": ([x.shape.count - 1], false), "first": ([0], true),
            "middle": ([1], false), "several": ([0, 2], true), "scalar": ([], false), "transposed": ([1], false),
            "empty": ([0], false),
        ]
        return cases[label].map { x.reduced($0.axes, keeping: $0.keeping, reduce) }
    }

    /// Parts one after another along the last axis but one; the axes before it broadcast.
    static func joined(_ parts: [Grid]) -> Grid {
        let axis = parts.map(\.shape.count).max()! - 2
        var shape = parts.reduce([]) { Grid.broadcast($0, Array($1.shape.dropLast(2))) }
        shape += [parts.reduce(0) { $0 + $1.shape[$1.shape.count - 2] }, parts[0].shape.last!]
        return Grid(shape) { index in
            var index = index
            for part in parts {
                let length = part.shape[part.shape.count - 2]
                if index[axis] < length { return part[broadcast: index] }
                index[axis] -= length
            }
            return .nan
        }
    }

    /// a [..., m, k] · b [..., k, n]; a vector counts as a row on the left, as a column on the right.
    static func product(_ a: Grid, _ b: Grid) -> Grid {
        if a.shape.count == 1 {
            let y = product(Grid([1] + a.shape, a.values), b)
            let dropped = b.shape.count == 1 ? 0 : y.shape.count - 2
            return Grid(y.shape.enumerated().filter { $0.offset != dropped }.map(\.element), y.values)
        }
        if b.shape.count == 1 {
            let y = product(a, Grid(b.shape + [1], b.values))
            return Grid(Array(y.shape.dropLast()), y.values)
        }
        let (m, k, n) = (a.shape[a.shape.count - 2], a.shape.last!, b.shape.last!)
        let (batchA, batchB) = (Array(a.shape.dropLast(2)), Array(b.shape.dropLast(2)))
        // Numbers the matrices of a batch, so that broadcasting finds the operands' positions.
        let matricesA = Grid(batchA, (0..<batchA.reduce(1, *)).map(Double.init))
        let matricesB = Grid(batchB, (0..<batchB.reduce(1, *)).map(Double.init))
        let batch = Grid.broadcast(batchA, batchB)
        var values: [Double] = []
        values.reserveCapacity(batch.reduce(1, *) * m * n)
        a.values.withUnsafeBufferPointer { left in
            b.values.withUnsafeBufferPointer { right in
                Grid.forEachIndex(in: batch) { index in
                    let startA = Int(matricesA[broadcast: index]) * m * k
                    let startB = Int(matricesB[broadcast: index]) * k * n
                    for row in 0..<m {
                        for column in 0..<n {
                            var sum = 0.0
                            var at = 0
                            while at < k {
                                sum += left[startA + row * k + at] * right[startB + at * n + column]
                                at += 1
                            }
                            values.append(sum)
                        }
                    }
                }
            }
        }
        return Grid(batch + [m, n], values)
    }
}
