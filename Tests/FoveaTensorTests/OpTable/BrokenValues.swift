import FoveaTensor
import Synchronization

extension BrokenOp {
    /// Wrong values, or values that are right only now and then; their gradients fit what they compute.
    static let values: [BrokenOp] = [
        BrokenOp("the tanh form", .gelu) { isBroken, inputs in isBroken ? inputs[0].geluTanh() : inputs[0].gelu() },
        BrokenOp("in float32 alone", .sqrt) { isBroken, inputs in
            isBroken ? inputs[0].cast(to: .float32).sqrt().cast(to: inputs[0].dtype) : inputs[0].sqrt()
        },
        BrokenOp("float32 widened", .erf) { isBroken, inputs in
            isBroken ? inputs[0].erf().cast(to: .float64) : inputs[0].erf()
        },
        BrokenOp("the elements after full vectors", .log) { isBroken, inputs in
            let y = inputs[0].log()
            guard isBroken, y.rank == 1, y.count > 8, y.count % 8 != 0 else { return y }
            let full = y.count / 8 * 8
            return concatenated([y.sliced(axis: 0, 0..<full), inputs[0].sliced(axis: 0, full..<y.count)], axis: 0)
        },
        BrokenOp("the last chunk", .tanh) { isBroken, inputs in
            let y = inputs[0].tanh()
            guard isBroken, y.rank == 1, y.count > 65_536 else { return y }
            return concatenated(
                [y.sliced(axis: 0, 0..<65_536), y.sliced(axis: 0, 65_536..<y.count) * 1.01], axis: 0)
        },
        BrokenOp("views read as if they were dense", .exp) { isBroken, inputs in
            let x = inputs[0]
            // The storage of a transposed matrix in its own order.
            guard isBroken, x.rank == 2, !x.isContiguous, x.transposed(0, 1).isContiguous else { return x.exp() }
            return x.transposed(0, 1).reshaped(to: x.shape).exp()
        },
        BrokenOp("the last bits of another run", .sigmoid) { isBroken, inputs in
            let runs = runCounter.add(1, ordering: .relaxed).newValue
            return isBroken ? inputs[0].sigmoid() * (1 + 0x1p-50 * Double(runs % 2)) : inputs[0].sigmoid()
        },
        BrokenOp("rounded away from zero at ties", .round, samples: ["tail"]) { isBroken, inputs in
            isBroken ? (inputs[0].abs() + 0.51).floor() * inputs[0].sign() : inputs[0].round()
        },
        BrokenOp("a gradient where there is none", .floor, samples: ["matrix", "tail"]) { isBroken, inputs in
            isBroken ? straightThrough(inputs[0].floor(), gradientOf: inputs[0]) : inputs[0].floor()
        },
        BrokenOp("an additive constant in a linear operand's slope", .subtract) { isBroken, inputs in
            isBroken ? inputs[0] - inputs[1] + 1e-9 * inputs[0].square() : inputs[0] - inputs[1]
        },

        // reductions and norms
        BrokenOp("the other axis", .softmax, samples: ["last"]) { isBroken, inputs in
            inputs[0].softmax(axis: isBroken ? 0 : -1)
        },
        BrokenOp("without Bessel's correction", .variance, samples: ["all"]) { isBroken, inputs in
            inputs[0].variance(correction: isBroken ? 0 : 1)
        },
        BrokenOp("another epsilon", .layerNorm, samples: ["plain"]) { isBroken, inputs in
            layerNorm(inputs[0], epsilon: isBroken ? 1e-4 : 1e-5)
        },
        BrokenOp("the mean subtracted", .rmsNorm, samples: ["plain"]) { isBroken, inputs in
            rmsNorm(isBroken ? inputs[0] - inputs[0].mean(axes: [-1], keepingAxes: true) : inputs[0])
        },
        BrokenOp("not scaled up", .dropout, samples: ["half"]) { isBroken, inputs in
            inputs[0].droppingOut(0.5, key: RandomKey(seed: 3)) * (isBroken ? 0.5 : 1)
        },

        // attention and losses
        BrokenOp("the mask forgotten", .attention, samples: ["mask"]) { isBroken, inputs in
            let visible = Tensor([true, false, false, true, true, false, false, false, false], shape: [3, 3])
            return attention(
                query: inputs[0], keys: inputs[1], values: inputs[2], mask: isBroken ? nil : visible, scale: 0.3)
        },
        BrokenOp("causal by one too many", .attention, samples: ["causal"]) { isBroken, inputs in
            let (queries, keys) = (inputs[0].shape[1], inputs[1].shape[1])
            let reach = isBroken ? 1 : 0
            let visible = Tensor(
                (0..<queries * keys).map { $0 % keys <= $0 / keys + reach }, shape: [queries, keys])
            return attention(query: inputs[0], keys: inputs[1], values: inputs[2], mask: visible)
        },
        BrokenOp("scaled by 1 / d", .attention, samples: ["heads"]) { isBroken, inputs in
            let width = Double(inputs[0].shape.last!)
            return attention(
                query: inputs[0], keys: inputs[1], values: inputs[2], scale: isBroken ? 1 / width : nil)
        },
        BrokenOp("divided by the ignored rows too", .crossEntropy, samples: ["ignored"]) { isBroken, inputs in
            crossEntropy(inputs[0], inputs[1]) * (isBroken ? 2.0 / 3 : 1)
        },
        BrokenOp("smoothing over the wrong classes alone", .crossEntropy, samples: ["smoothing"]) { isBroken, inputs in
            let classes = Double(inputs[0].shape.last!)
            return crossEntropy(
                inputs[0], inputs[1], labelSmoothing: isBroken ? 0.1 * classes / (classes - 1) : 0.1)
        },

        // windows
        BrokenOp("windows off by one", .unfold, samples: ["plain"]) { isBroken, inputs in
            inputs[0].rolled(by: isBroken ? -1 : 0, axis: 3).unfolded(Windows(kernel: Size2D(2, 3)))
        },
        BrokenOp("channels and places swapped", .pixelShuffle, samples: ["twice"]) { isBroken, inputs in
            let x = inputs[0]
            guard isBroken else { return x.pixelShuffled(by: 2) }
            let (b, c, h, w) = (x.shape[0], x.shape[1] / 4, x.shape[2], x.shape[3])
            return x.reshaped(to: [b, c, 2, 2, h, w]).permuted(to: [0, 1, 4, 3, 5, 2])
                .reshaped(to: [b, c, 2 * h, 2 * w])
        },
    ]

    private static let runCounter = Atomic<Int>(0)
}
