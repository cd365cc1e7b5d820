import CKernels

// MARK: swiGLU

extension Op {
    public static let swiGLU = Op("swiGLU", "silu(a) · b, element by element", linearIn: [1]) {
        [
            OpSample("rows", [$0.uniform([3, 5]), $0.uniform([3, 5])]) { FoveaTensor.swiGLU($0[0], $0[1]) },
            OpSample("view", [$0.uniform([5, 3]).transposed(0, 1), $0.uniform([3, 5])]) {
                FoveaTensor.swiGLU($0[0], $0[1])
            },
            OpSample("scalar", [$0.uniform([]), $0.uniform([])]) { FoveaTensor.swiGLU($0[0], $0[1]) },
            OpSample("empty", [$0.uniform([0, 4]), $0.uniform([0, 4])]) { FoveaTensor.swiGLU($0[0], $0[1]) },
        ]
    }
}

/// silu(gate) · up for each element of two tensors of one shape: the inner function of a SwiGLU layer, in one pass forward
/// and one backward. The gradients take the operands' places in memory where nothing else needs them.
/// (Shazeer, "GLU variants improve transformer", 2020.)
///
/// Traps unless shapes and types agree.
public func swiGLU(_ gate: Tensor, _ up: Tensor) -> Tensor {
    gate.requireDifferentiableType("swiGLU")
    guard gate.shape == up.shape, gate.dtype == up.dtype else {
        trap("swiGLU", "two tensors of one shape and type are needed", gate, up)
    }
    gate.noteLabel()
    up.noteLabel()
    let (a, b) = (gate.detached.contiguous(), up.detached.contiguous())
    let y = Tensor(uninitialized: gate.shape, gate.dtype)
    let (count, size) = (y.count, y.dtype.size)
    let loop = pick(Kernels.table.pointee.swiglu, y.dtype)
    a.read { a in
        b.read { b in
            y.write { y in
                parallelFor(count, grain: Kernels.heavyGrain) { range in
                    let start = range.lowerBound * size
                    loop(a + start, b + start, y + start, range.count)
                }
            }
        }
    }
    let (savedGate, savedUp) = (Saved(a), Saved(b))
    return y.derived(by: .swiGLU, from: [gate, up]) { g, wanted in
        var (a, b) = (savedGate.take(), savedUp.take())
        let g = g.contiguous()
        if !a.isReusable() { a = a.copied() }
        if !b.isReusable() { b = b.copied() }
        let loop = pick(Kernels.table.pointee.swiglu_gradient, g.dtype)
        g.read { g in
            a.write { a in
                b.write { b in
                    parallelFor(count, grain: Kernels.heavyGrain) { range in
                        let start = range.lowerBound * size
                        loop(a + start, b + start, g + start, range.count)
                    }
                }
            }
        }
        return [wanted[0] ? a : nil, wanted[1] ? b : nil]
    }
}
