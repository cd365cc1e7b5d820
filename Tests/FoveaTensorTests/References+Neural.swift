import Foundation
import FoveaTensor

extension Reference {
    /// Norms, losses, choices and attention.
    static let neural: [String: Reference] = [norms, losses, choices].reduce(into: [:]) { $0.merge($1) { $1 } }

    /// (x − mean) / √(variance + ε) of the elements that share a key.
    private static func normalized(_ x: Grid, by key: ([Int]) -> Int) -> (
        y: Grid, mean: [Int: Double], variance: [Int: Double]
    ) {
        var groups: [Int: [Double]] = [:]
        Grid.forEachIndex(in: x.shape) { groups[key($0), default: []].append(x[$0]) }
        let mean = groups.mapValues { $0.reduce(0, +) / Double($0.count) }
        var variance: [Int: Double] = [:]
        for (key, values) in groups {
            variance[key] = values.reduce(0) { $0 + ($1 - mean[key]!) * ($1 - mean[key]!) } / Double(values.count)
        }
        let y = Grid(x.shape) { (x[$0] - mean[key($0)]!) / (variance[key($0)]! + 1e-5).squareRoot() }
        return (y, mean, variance)
    }

    /// y · weight + bias for each channel, where they are given.
    private static func scaled(_ y: Grid, _ vectors: [Grid]) -> Grid {
        Grid(y.shape) { index in
            var value = y[index]
            if vectors.count > 0 { value *= vectors[0].values[index[1]] }
            if vectors.count > 1 { value += vectors[1].values[index[1]] }
            return value
        }
    }

    private static let norms: [String: Reference] = [
        "rmsNorm": Reference((1e-10, 1), (16, 1)) { _, inputs in
            let x = inputs[0]
            let normal = x.lines(x.shape.count - 1) { line in
                let square = line.reduce(0) { $0 + $1 * $1 } / Double(line.count)
                return line.map { $0 / (square + 1e-6).squareRoot() }
            }
            return inputs.count > 1 ? Grid.combine(normal, inputs[1], *) : normal
        },
        "groupNorm": Reference((1e-10, 1), (32, 1)) { _, inputs in
            let x = inputs[0]
            let normal = normalized(x) { $0[0] * 2 + $0[1] / (x.shape[1] / 2) }.y
            return scaled(normal, Array(inputs.dropFirst()))
        },
        "batchNorm": Reference((1e-10, 1), (32, 1)) { _, inputs in
            let (normal, mean, variance) = normalized(inputs[0]) { $0[1] }
            let channels = inputs[0].shape[1]
            let values =
                scaled(normal, Array(inputs.dropFirst())).values + (0..<channels).map { mean[$0]! }
                + (0..<channels).map { variance[$0]! }
            return Grid([values.count], values)
        },
        "batchNormInference": Reference((1e-10, 1), (32, 1)) { _, inputs in
            let x = inputs[0]
            let normal = Grid(x.shape) { index in
                let channel = index[1]
                return (x[index] - inputs[1].values[channel]) / (inputs[2].values[channel] + 1e-5).squareRoot()
            }
            return scaled(normal, Array(inputs.dropFirst(3)))
        },
    ]

    /// The losses of pairs of elements, reduced as the sample's label says.
    private static func reduced(_ label: String, _ inputs: [Grid], _ f: (Double, Double) -> Double) -> Grid? {
        let values = zip(inputs[0].values, inputs[1].values).map(f)
        let sum = values.reduce(0, +)
        switch label {
        case "none": return Grid(inputs[0].shape, values)
        case "sum": return Grid([], [sum])
        case "batch mean": return Grid([], [sum / Double(inputs[0].shape[0])])
        default: return Grid([], [values.isEmpty ? 0 : sum / Double(values.count)])
        }
    }

    private static let losses: [String: Reference] = [
        "meanSquaredError": Reference((1e-12, 1), (8, 8)) { label, inputs in
            reduced(label, inputs) { ($0 - $1) * ($0 - $1) }
        },
        "huberLoss": Reference((1e-12, 1), (8, 8)) { label, inputs in
            reduced(label, inputs) { x, t in
                let size = (x - t).magnitude
                return size <= 0.7 ? size * size / 2 : 0.7 * (size - 0.35)
            }
        },
        "binaryCrossEntropy": Reference((1e-12, 1), (8, 8)) { label, inputs in
            if label == "positive weight" {
                let weights = [0.5, 1, 3]
                let x = inputs[0]
                var sum = 0.0
                Grid.forEachIndex(in: x.shape) { index in
                    let (p, t) = (1 / (1 + Foundation.exp(-x[index])), inputs[1][index])
                    sum -= weights[index[1]] * t * Foundation.log(p) + (1 - t) * Foundation.log(1 - p)
                }
                return Grid([], [sum / Double(x.values.count)])
            }
            return reduced(label, inputs) { x, t in
                let p = 1 / (1 + Foundation.exp(-x))
                return -t * Foundation.log(p) - (1 - t) * Foundation.log(1 - p)
            }
        },
        "klDivergence": Reference((1e-12, 1), (8, 8)) { label, inputs in
            reduced(label, inputs) { x, t in
                label == "log target" ? Foundation.exp(t) * (t - x) : t * (Foundation.log(t) - x)
            }
        },
        "softCrossEntropy": Reference((1e-10, 1), (8, 8)) { label, inputs in
            let (x, targets) = (inputs[0], inputs[1])
            let classes = x.shape.last!
            let smoothing = label == "smoothing" ? 0.1 : 0
            var (total, rows) = (0.0, 0)
            for start in stride(from: 0, to: x.values.count, by: classes) {
                let line = x.values[start..<start + classes]
                let normalizer = Foundation.log(line.reduce(0) { $0 + Foundation.exp($1) })
                for position in line.indices {
                    let target = (1 - smoothing) * targets.values[position] + smoothing / Double(classes)
                    total -= target * (x.values[position] - normalizer)
                }
                rows += 1
            }
            return Grid([], [rows == 0 ? 0 : total / Double(rows)])
        },
        "cosineSimilarity": Reference((1e-12, 1), (16, 1)) { label, inputs in
            let shape = Grid.broadcast(inputs[0].shape, inputs[1].shape)
            let axis = label == "first" ? 0 : shape.count - 1
            let products = Grid(shape) { inputs[0][broadcast: $0] * inputs[1][broadcast: $0] }
            let (a, b) = (Grid(shape) { inputs[0][broadcast: $0] }, Grid(shape) { inputs[1][broadcast: $0] })
            func summed(_ x: Grid) -> Grid { x.reduced([axis], keeping: false) { $0.reduce(0, +) } }
            let squares = Grid.combine(summed(a.map { $0 * $0 }), summed(b.map { $0 * $0 }), *)
            return Grid.combine(summed(products), squares) { $0 / $1.squareRoot() }
        },
    ]

    private static let choices: [String: Reference] = [
        "straightThrough": elementwise(units: 1) { label, inputs in
            label == "square" ? inputs[0].map { $0 * $0 } : inputs[0]
        },
        "gumbelSoftmax": Reference((1e-12, 1e-3), (32, 1e-3)) { label, inputs in
            let key = RandomKey(seed: 4)
            var x = inputs[0]
            for position in x.values.indices {
                let exponential = -Foundation.log(key.uniform(at: position))
                x.values[position] = (x.values[position] - Foundation.log(exponential)) / (label == "first" ? 0.7 : 1)
            }
            return x.lines(axis(label)) { line in
                let total = line.reduce(0) { $0 + Foundation.exp($1) }
                return line.map { Foundation.exp($0) / total }
            }
        },
        "attention": Reference((1e-10, 1), (16, 1)) { label, inputs in attention(label, inputs) },
    ]

    /// softmax(q·kᵀ·scale + mask)·v of the samples, one weight after the other.
    private static func attention(_ label: String, _ inputs: [Grid]) -> Grid {
        let (query, keys, values) = (inputs[0], inputs[1], inputs[label == "keys are values" ? 1 : 2])
        let (rank, width, columns) = (query.shape.count, query.shape.last!, keys.shape[keys.shape.count - 2])
        let scale = label == "mask" ? 0.3 : 1 / Double(width).squareRoot()
        var outer = Grid.broadcast(Array(keys.shape.dropLast(2)), Array(values.shape.dropLast(2)))
        let share = rank > 2 ? max(1, query.shape[rank - 3] / outer[rank - 3]) : 1
        if rank > 2 { outer[rank - 3] *= share }
        let lines = Grid.broadcast(Array(query.shape.dropLast(2)), outer) + [query.shape[rank - 2]]
        var results: [Double] = []
        var line = 0
        Grid.forEachIndex(in: lines) { index in
            let row = index[rank - 2]
            var batch = Array(index.dropLast())
            if rank > 2 { batch[rank - 3] /= share }
            let seen = (0..<columns).filter { key in
                if label.contains("causal"), key > row { return false }
                switch label {
                case "mask": return [[0], [0, 1], []][row].contains(key)
                case "grouped and masked":
                    let place = (index[0] * lines[rank - 2] + row) * columns + key
                    return place % 5 != 0 && place % 7 != 3
                case "padding and causal": return (index[0] * columns + key) % 4 != 1
                default: return true
                }
            }
            let asked = query.row(broadcast: index)
            let weights = seen.map { key in
                let product = zip(asked, keys.row(broadcast: batch + [key])).reduce(0) { $0 + $1.0 * $1.1 }
                let bias = inputs.count > 3 ? inputs[3][broadcast: index + [key]] : 0
                return Foundation.exp(scale * product + bias)
            }
            let total = weights.reduce(0, +)
            var sums = [Double](repeating: 0, count: values.shape.last!)
            for (key, weight) in zip(seen, weights) {
                let isDropped =
                    label.contains("dropout") && Reference.dropsHalf(RandomKey(seed: 3), line * columns + key)
                let kept = !label.contains("dropout") ? 1 : isDropped ? 0 : 2.0
                for (column, value) in values.row(broadcast: batch + [key]).enumerated() {
                    sums[column] += kept * weight * value
                }
            }
            results += sums.map { total == 0 ? 0 : $0 / total }
            line += 1
        }
        return Grid(lines + [values.shape.last!], results)
    }
}
