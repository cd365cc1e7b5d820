import FoveaTensor

extension BrokenOp {
    /// Right values, wrong gradients.
    static let gradients: [BrokenOp] = [
        // element by element
        slope("the sign", .exp, { $0.exp() }, sound: { g, _, y in g * y }, broken: { g, _, y in -(g * y) }),
        slope("a factor", .square, { $0.square() }, sound: { g, x, _ in g * x * 2 }, broken: { g, x, _ in g * x }),
        slope(
            "not multiplied by the cotangent", .tanh, { $0.tanh() }, sound: { g, _, y in g * (1 - y * y) },
            broken: { _, _, y in 1 - y * y }),
        slope(
            "a stale save: the input for the output", .sigmoid, { $0.sigmoid() },
            sound: { g, _, y in g * y * (1 - y) }, broken: { g, x, _ in g * x * (1 - x) }),
        slope(
            "the positive side's slope everywhere", .abs, { $0.abs() }, sound: { g, x, _ in g * x.sign() },
            broken: { g, _, _ in g }),
        slope(
            "open at the bounds", .clamp, samples: ["matrix", "scalar", "empty", "tail", "transposed", "sliced"],
            { $0.clamped(min: -0.5, max: 1.25) },
            sound: { g, x, _ in g * ((x .>= -0.5) .& (x .<= 1.25)).cast(to: x.dtype) }, broken: { g, _, _ in g }),
        slope(
            "one forgotten element", .negate, { -$0 }, sound: { g, _, _ in -g },
            broken: { g, _, _ in
                let kept = Tensor((0..<g.count).map { $0 == g.count - 1 ? 0.0 : -1 }, shape: g.shape)
                return g * kept.cast(to: g.dtype)
            }),
        slope(
            "squared cotangent", .sin, { $0.sin() }, sound: { g, x, _ in g * x.cos() },
            broken: { g, x, _ in g * g.abs() * x.cos() }),
        slope(
            "in float32 alone", .expm1, { $0.expm1() }, sound: { g, x, _ in g * x.exp() },
            broken: { g, x, _ in (g * x.exp()).cast(to: .float32).cast(to: g.dtype) }),
        slope(
            "the type of float32", .cos, { $0.cos() }, sound: { g, x, _ in -(g * x.sin()) },
            broken: { g, x, _ in -(g * x.sin()).cast(to: .float32) }),

        // broadcasting, two operands
        BrokenOp("not summed over broadcast axes", .multiply) { isBroken, inputs in
            let (a, b) = (inputs[0], inputs[1])
            return withoutGradient { a * b }.derived(
                by: .multiply, from: a, { g in isBroken ? g * b : (g * b).summed(to: a.shape) }, and: b,
                { g in isBroken ? g * a : (g * a).summed(to: b.shape) })
        },
        BrokenOp("averaged over broadcast axes", .add) { isBroken, inputs in
            let (a, b) = (inputs[0], inputs[1])
            func back(_ g: Tensor, _ shape: [Int]) -> Tensor {
                let sum = g.summed(to: shape)
                return isBroken && g.count > 0 ? sum * (Double(sum.count) / Double(g.count)) : sum
            }
            return withoutGradient { a + b }.derived(
                by: .add, from: a, { back($0, a.shape) }, and: b, { back($0, b.shape) })
        },
        BrokenOp("the second operand's sign", .divide) { isBroken, inputs in
            let (a, b) = (inputs[0], inputs[1])
            return withoutGradient { a / b }.derived(
                by: .divide, from: a, { g in (g / b).summed(to: a.shape) }, and: b,
                { g in
                    let slope = (g * a / (b * b)).summed(to: b.shape)
                    return isBroken ? slope : -slope
                })
        },
        BrokenOp("the second operand gets none", .subtract) { isBroken, inputs in
            let (a, b) = (inputs[0], inputs[1])
            let difference = withoutGradient { a - b }
            guard !isBroken else { return difference.derived(by: .subtract, from: a) { $0.summed(to: a.shape) } }
            return difference.derived(
                by: .subtract, from: a, { $0.summed(to: a.shape) }, and: b, { -$0.summed(to: b.shape) })
        },
        BrokenOp("ties give each operand everything", .maximum) { isBroken, inputs in
            let (a, b) = (inputs[0], inputs[1])
            func share(_ mine: Tensor, _ other: Tensor) -> Tensor {
                let wins = (mine .> other).cast(to: mine.dtype)
                return wins + (mine .== other).cast(to: mine.dtype) * (isBroken ? 1 : 0.5)
            }
            return withoutGradient { maximum(a, b) }.derived(
                by: .maximum, from: a, { g in (g * share(a, b)).summed(to: a.shape) }, and: b,
                { g in (g * share(b, a)).summed(to: b.shape) })
        },
        BrokenOp("another gradient when it is alone", .minimum) { isBroken, inputs in
            let (a, b) = (inputs[0], inputs[1])
            return withoutGradient { minimum(a, b) }.derived(by: .minimum, from: [a, b]) { g, wanted in
                let alone = isBroken && wanted != [true, true] ? 1.5 : 1
                func share(_ mine: Tensor, _ other: Tensor) -> Tensor {
                    (mine .< other).cast(to: mine.dtype) + (mine .== other).cast(to: mine.dtype) * 0.5
                }
                return [
                    wanted[0] ? (g * share(a, b)).summed(to: a.shape) * alone : nil,
                    wanted[1] ? (g * share(b, a)).summed(to: b.shape) * alone : nil,
                ]
            }
        },
        BrokenOp("the branches swapped", .where, samples: ["equal", "tail"]) { isBroken, inputs in
            let (mask, a, b) = (inputs[0], inputs[1], inputs[2])
            return withoutGradient { select(mask, a, else: b) }.derived(
                by: .where, from: a,
                { g in isBroken ? select(mask, 0, else: g) : select(mask, g, else: 0) }, and: b,
                { g in isBroken ? select(mask, g, else: 0) : select(mask, 0, else: g) })
        },

        // reductions
        slope(
            "divided by the count", .sum, samples: ["all"], { $0.sum() }, sound: { g, x, _ in g.expanded(to: x.shape) },
            broken: { g, x, _ in (g / Double(x.count)).expanded(to: x.shape) }),
        slope(
            "not divided by the count", .mean, samples: ["all"], { $0.mean() },
            sound: { g, x, _ in (g / Double(x.count)).expanded(to: x.shape) },
            broken: { g, x, _ in g.expanded(to: x.shape) }),
        slope(
            "ties give each element everything", .max, samples: ["all"], { $0.max() },
            sound: { g, x, y in
                let largest = (x .== y).cast(to: x.dtype)
                return largest * (g / largest.sum())
            }, broken: { g, x, y in (x .== y).cast(to: x.dtype) * g }),
        slope(
            "forward instead of backward", .cumulativeSum, samples: ["last"], { $0.cumulativeSum(axis: -1) },
            sound: { g, _, _ in g.flipped([-1]).cumulativeSum(axis: -1).flipped([-1]) },
            broken: { g, _, _ in g.cumulativeSum(axis: -1) }),

        // shape and indexing
        slope(
            "one row instead of their sum", .expand, samples: ["rows"], { $0.expanded(to: [4, 3]) },
            sound: { g, _, _ in g.sum(axes: [0], keepingAxes: true) },
            broken: { g, _, _ in g.sliced(axis: 0, 0..<1) }),
        slope(
            "the permutation instead of its inverse", .permute, samples: ["twice"], { $0.permuted(to: [1, 2, 0]) },
            sound: { g, _, _ in g.permuted(to: [2, 0, 1]) },
            broken: { g, x, _ in g.permuted(to: [1, 2, 0]).reshaped(to: x.shape) }),
        slope(
            "rolled the same way", .roll, samples: ["forward"], { $0.rolled(by: 2, axis: -1) },
            sound: { g, _, _ in g.rolled(by: -2, axis: -1) }, broken: { g, _, _ in g.rolled(by: 2, axis: -1) }),
        BrokenOp("the parts in another order", .concatenate, samples: ["rows"]) { isBroken, inputs in
            let y = withoutGradient { concatenated(inputs, axis: 0) }
            let (rows, all) = (inputs[0].shape[0], y.shape[0])
            return y.derived(by: .concatenate, from: inputs) { g, wanted in
                let first = isBroken ? all - rows..<all : 0..<rows
                let second = isBroken ? 0..<all - rows : rows..<all
                return [
                    wanted[0] ? g.sliced(axis: 0, first) : nil, wanted[1] ? g.sliced(axis: 0, second) : nil,
                ]
            }
        },
        BrokenOp("averaged where an index repeats", .gather, samples: ["last"]) { isBroken, inputs in
            let (x, indices) = (inputs[0], inputs[1])
            return withoutGradient { x.gathered(axis: -1, indices) }.derived(by: .gather, from: x) { g in
                let zero = Tensor.zeros(x.shape, dtype: x.dtype)
                let sum = zero.addingAt(axis: -1, indices, g)
                guard isBroken else { return sum }
                return sum / maximum(zero.addingAt(axis: -1, indices, .ones(g.shape, dtype: g.dtype)), zero + 1)
            }
        },

        // products, norms, losses
        BrokenOp("a transposed operand", .matmul, samples: ["matrices"]) { isBroken, inputs in
            let (a, b) = (inputs[0], inputs[1])
            return withoutGradient { matmul(a, b) }.derived(
                by: .matmul, from: a,
                { g in
                    isBroken
                        ? matmul(b, g.transposed(0, 1)).reshaped(to: a.shape) : matmul(g, b.transposed(0, 1))
                }, and: b, { g in matmul(a.transposed(0, 1), g) })
        },
        BrokenOp("the bias of one row", .linear, samples: ["rows"]) { isBroken, inputs in
            let (x, weight, bias) = (inputs[0], inputs[1], inputs[2])
            return withoutGradient { linear(x, weight: weight, bias: bias) }.derived(by: .linear, from: inputs) {
                g, wanted in
                [
                    wanted[0] ? matmul(g, weight) : nil, wanted[1] ? matmul(g.transposed(0, 1), x) : nil,
                    wanted[2]
                        ? isBroken && g.shape[0] > 0 ? g[0] * Double(g.shape[0]) : g.sum(axes: [0]) : nil,
                ]
            }
        },
        slope(
            "without the sum over the row", .softmax, samples: ["last"], { $0.softmax(axis: -1) },
            sound: { g, _, y in (g - (g * y).sum(axes: [-1], keepingAxes: true)) * y },
            broken: { g, _, y in g * y }),
        slope(
            "the variance taken for a constant", .layerNorm, samples: ["plain"], { layerNorm($0) },
            sound: { g, x, y in
                let mean = g.mean(axes: [-1], keepingAxes: true)
                let along = y * (g * y).mean(axes: [-1], keepingAxes: true)
                return (g - mean - along) / deviation(x)
            }, broken: { g, x, _ in (g - g.mean(axes: [-1], keepingAxes: true)) / deviation(x) }),
        slope(
            "dropped elements get one too", .dropout, samples: ["half"],
            { $0.droppingOut(0.5, key: RandomKey(seed: 3)) },
            sound: { g, x, _ in g * Tensor.ones(x.shape, dtype: x.dtype).droppingOut(0.5, key: RandomKey(seed: 3)) },
            broken: { g, _, _ in g * 2 }),
        slope(
            "windows off by one", .averagePooling, samples: ["plain"], { $0.averagePooled(kernel: 2) },
            sound: { g, x, _ in quarters(g, x) }, broken: { g, x, _ in quarters(g, x).rolled(by: 1, axis: 3) }),
    ]

    /// √(variance + ε) of each row.
    private static func deviation(_ x: Tensor) -> Tensor {
        (x.variance(axes: [-1], correction: 0, keepingAxes: true) + 1e-5).sqrt()
    }

    /// Each element's gradient from its window of 2 × 2.
    private static func quarters(_ g: Tensor, _ x: Tensor) -> Tensor {
        (g * 0.25).repeated(2, axis: 2).repeated(2, axis: 3)
    }
}

extension Tensor {
    /// Summed over the axes that broadcasting repeated.
    fileprivate func summed(to shape: [Int]) -> Tensor {
        let leading = rank - shape.count
        let repeated = (0..<rank).filter { $0 < leading || shape[$0 - leading] == 1 && self.shape[$0] != 1 }
        return sum(axes: repeated, keepingAxes: true).reshaped(to: shape)
    }
}
