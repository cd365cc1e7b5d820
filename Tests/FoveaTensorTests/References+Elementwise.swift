import Foundation
import FoveaTensor

extension Reference {
    /// Powers, angles, steps, activations, comparisons and logic.
    static let elementwiseMore: [String: Reference] = [
        // powers
        "power": elementwise(units: 3) { label, inputs in
            if inputs.count == 2 { return Grid.combine(inputs[0], inputs[1]) { Foundation.pow($0, $1) } }
            let exponents = ["cubed": 3, "to the −2": -2, "to the 0": 0, "to the 1": 1, "negative base": 3]
            switch label {
            case "2 to the x": return inputs[0].map { Foundation.exp2($0) }
            case "to the 2.5": return inputs[0].map { $0 * $0 * $0.squareRoot() }
            default:
                guard let exponent = exponents[label] else { return nil }
                return inputs[0].map { x in
                    let size = (0..<Swift.abs(exponent)).reduce(1.0) { product, _ in product * x }
                    return exponent < 0 ? 1 / size : size
                }
            }
        },
        "reciprocal": elementwise(units: 1) { $1[0].map { 1 / $0 } },
        "rsqrt": elementwise(units: 2) { $1[0].map { (1 / $0).squareRoot() } },
        "log1p": elementwise(units: 3) { $1[0].map { 2 * Foundation.atanh($0 / (2 + $0)) } },
        "expm1": elementwise(units: 3) { $1[0].map { 2 * Foundation.exp($0 / 2) * Foundation.sinh($0 / 2) } },
        // angles
        "sin": elementwise(units: 2) {
            $1[0].map { 2 * Foundation.sin($0 / 2) * Foundation.cos($0 / 2) }
        },
        // cos²(x/2) − sin²(x/2) cancels around π / 2.
        "cos": elementwise(units: 2, floor: 0.01) {
            $1[0].map { 1 - 2 * Foundation.sin($0 / 2) * Foundation.sin($0 / 2) }
        },
        // steps
        "sign": elementwise(units: 0) { $1[0].map { $0 > 0 ? 1 : -1 } },
        "floor": elementwise(units: 0) { $1[0].map { Double(Int($0 + 100)) - 100 } },
        "ceil": elementwise(units: 0) { $1[0].map { 100 - Double(Int(100 - $0)) } },
        "round": elementwise(units: 0) { $1[0].map { Double(Int($0 + 100.5)) - 100 } },
        // activations
        "squaredRelu": elementwise(units: 1) { $1[0].map { $0 > 0 ? $0 * $0 : 0 } },
        "leakyRelu": elementwise(units: 2) { label, inputs in
            let slope = label == "slope" ? 0.25 : 0.01
            return inputs[0].map { Swift.max($0, 0) + slope * Swift.min($0, 0) }
        },
        "geluTanh": elementwise(units: 8, floor: 0.1) {
            $1[0].map {
                0.5 * $0 * (1 + Foundation.tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0)))
            }
        },
        "silu": elementwise(units: 6) { $1[0].map { $0 * (0.5 + 0.5 * Foundation.tanh($0 / 2)) } },
        "swiGLU": elementwise(units: 8) {
            Grid.combine($1[0].map { $0 * (0.5 + 0.5 * Foundation.tanh($0 / 2)) }, $1[1], *)
        },
        "softplus": elementwise(units: 8) { label, inputs in
            let betas: [String: Double] = ["beta": 4, "threshold": 2]
            let beta = betas[label] ?? 1
            return inputs[0].map {
                label == "threshold" && beta * $0 > 1 ? $0 : Foundation.log(1 + Foundation.exp(beta * $0)) / beta
            }
        },
        "elu": elementwise(units: 8) { label, inputs in
            let alpha = label == "alpha" ? 0.5 : 1.0
            return inputs[0].map { $0 > 0 ? $0 : 2 * alpha * Foundation.exp($0 / 2) * Foundation.sinh($0 / 2) }
        },
        "clamp": elementwise(units: 0) { label, inputs in
            let cases: [String: (low: Double, high: Double)] = ["below": (0.25, 1e9), "above": (-1e9, 0.25)]
            let (low, high) = cases[label] ?? (-0.5, 1.25)
            return inputs[0].map { Swift.min(Swift.max($0, low), high) }
        },
        // comparisons
        "equal": relation { $0 == $1 }, "notEqual": relation { $0 != $1 }, "less": relation { $0 < $1 },
        "lessOrEqual": relation { $0 <= $1 }, "greater": relation { $0 > $1 }, "greaterOrEqual": relation { $0 >= $1 },
        "isNaN": moving { $1[0].map { $0.isNaN ? 1 : 0 } },
        "isFinite": moving { $1[0].map { $0.isFinite ? 1 : 0 } },
        // logic
        "logicalAnd": relation { $0 == 1 && $1 == 1 }, "logicalOr": relation { $0 == 1 || $1 == 1 },
        "logicalXor": relation { $0 != $1 }, "logicalNot": moving { $1[0].map { 1 - $0 } },
        "where": moving { label, inputs in
            let constant = ["else a number": -1.5, "a number": 2.5][label].map { Grid([], [$0]) }
            let a = label == "a number" ? constant! : inputs[1]
            let b = label == "a number" ? inputs[1] : constant ?? inputs[2]
            let shape = Grid.broadcast(inputs[0].shape, Grid.broadcast(a.shape, b.shape))
            return Grid(shape) { inputs[0][broadcast: $0] == 1 ? a[broadcast: $0] : b[broadcast: $0] }
        },
    ]

    /// 1 or 0 after a relation of two operands, or of one and the number 1.
    private static func relation(_ holds: @escaping @Sendable (Double, Double) -> Bool) -> Reference {
        moving { label, inputs in
            let other = label == "number" ? Grid([], [1]) : inputs[1]
            return Grid.combine(inputs[0], other) { holds($0, $1) ? 1 : 0 }
        }
    }
}
