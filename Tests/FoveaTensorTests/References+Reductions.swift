import Foundation

extension Reference {
    /// Reductions beside sum, mean and max, and running sums.
    static let reductions: [String: Reference] = [
        "min": moving { reduction($0, $1[0]) { $0.reduce(.infinity) { $0 < $1 ? $0 : $1 } } },
        "argmin": moving { label, inputs in
            guard let axis = ["last": 1, "first": 0, "no rows": 1][label] else { return nil }
            return inputs[0].reduced([axis], keeping: false) { line in
                Double(line.firstIndex { value in line.allSatisfy { $0 >= value } }!)
            }
        },
        "any": moving { maskReduction($0, $1[0]) { $0.contains { $0 > 0 } } },
        "all": moving { maskReduction($0, $1[0]) { $0.allSatisfy { $0 > 0 } } },
        // One rounding for each factor.
        "product": Reference((1e-12, 1e-280), (32, 1e-30)) { label, inputs in
            if label == "zeros" { return inputs[0].reduced([1], keeping: false) { $0.reduce(1, *) } }
            return reduction(label, inputs[0]) { $0.reduce(1, *) }
        },
        "cumulativeSum": summing(units: 4, floor: 8) { label, inputs in
            let axes = ["last": 1, "first": 0, "middle": 1, "one": 1, "transposed": 1, "empty": 0]
            guard let axis = axes[label] else { return nil }
            return inputs[0].lines(axis) { line in line.indices.map { line[...$0].reduce(0, +) } }
        },
        "variance": Reference((1e-10, 1), (16, 1)) { spread($0, $1[0]) },
        "standardDeviation": Reference((1e-10, 1), (16, 1)) { spread($0, $1[0])?.map { $0.squareRoot() } },
        "l2Norm": Reference((1e-12, 0), (8, 0)) {
            reduction($0, $1[0]) { $0.reduce(0) { hypot($0, $1) } }
        },
        "logSumExp": Reference((1e-12, 1), (8, 1)) {
            reduction($0, $1[0]) { Foundation.log($0.reduce(0) { $0 + Foundation.exp($1) }) }
        },
    ]

    private static func maskReduction(_ label: String, _ x: Grid, _ holds: ([Double]) -> Bool) -> Grid? {
        let reduce: ([Double]) -> Double = { holds($0) ? 1 : 0 }
        switch label {
        case "none true", "all true": return x.reduced([1], keeping: false, reduce)
        // Along the first axis of the transposed mask.
        case "a view of a mask": return x.reduced([1], keeping: false, reduce)
        default: return reduction(label, x, reduce)
        }
    }

    /// The variance from the pairs: Σᵢⱼ (xᵢ − xⱼ)² / (2n(n − correction)).
    private static func spread(_ label: String, _ x: Grid) -> Grid? {
        func variance(_ correction: Double) -> ([Double]) -> Double {
            { line in
                // All pairs of a long line are too many; there the definition has to do.
                let n = Double(line.count)
                if line.count > 2000 {
                    let mean = line.reduce(0, +) / n
                    return line.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / (n - correction)
                }
                var total = 0.0
                for (at, a) in line.enumerated() { for b in line[..<at] { total += (a - b) * (a - b) } }
                return total / (n * (n - correction))
            }
        }
        switch label {
        case "population": return x.reduced([1], keeping: false, variance(0))
        case "half a correction": return x.reduced([1], keeping: false, variance(1.5))
        case "no rows": return x.reduced([1], keeping: false, variance(1))
        default: return reduction(label, x, variance(1))
        }
    }
}
