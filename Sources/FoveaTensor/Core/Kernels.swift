import CKernels

/// The seam between Swift and the loops in C: which table is used, and how tensors become pointers and lengths.
package enum Kernels {
    /// The loops of the instruction set that was chosen at the start.
    nonisolated(unsafe) package static var table: UnsafePointer<ck_table> = ck_table()

    /// Elements in one piece of work for cheap loops, and for those with an exponential in each element.
    static let grain = 32_768
    static let heavyGrain = 8_192

    /// The bytes of the last cache. What is larger is not found there by whoever reads it next.
    nonisolated(unsafe) package static var lastCache = Int(clamping: ck_last_cache())

    /// Lets `make` write some pieces of a result that has `total` of them, of so many bytes each: where they belong, or, if the
    /// result is larger than the last cache, a few at a time in the first one, from where they are stored past the others. That
    /// saves fetching what is overwritten: a third of what a product of two such tensors moves. For loops that wait for memory.
    @inline(__always)
    static func fill(
        _ target: UnsafeMutableRawPointer, _ pieces: Range<Int>, of total: Int, bytes: Int,
        _ make: (Range<Int>, UnsafeMutableRawPointer) -> Void
    ) {
        guard total > lastCache / Swift.max(1, bytes), bytes <= firstCachePart else {
            return make(pieces, target + pieces.lowerBound * bytes)
        }
        let step = firstCachePart / bytes
        withScratch(step * bytes) { scratch in
            for first in stride(from: pieces.lowerBound, to: pieces.upperBound, by: step) {
                let some = first..<Swift.min(first + step, pieces.upperBound)
                make(some, scratch)
                ck_store_past_caches(target + first * bytes, scratch, some.count * bytes)
            }
        }
        ck_finish_stores()
    }

    private static let firstCachePart = 8_192
}

/// The instruction set that the loops use: `base`, `v3` (AVX2), `v4` (AVX-512) or `amx`, which is `v4` with large products of
/// float32 on the tiles of AMX. The widest that the machine has, unless the environment variable `FOVEA_ISA` names a lower one.
public var instructionSet: String { String(cString: Kernels.table.pointee.name) }

extension DType {
    /// The index of this type in the kernel tables. Traps for types that do not compute.
    @usableFromInline
    package var kernelIndex: Int {
        switch self {
        case .float32: 0
        case .float64: 1
        default: trap("\(self)", "this type does not compute; cast(to: .float32) first")
        }
    }
}

/// The loop for a type, out of a pair for float32 and float64.
@inlinable
@inline(__always)
package func pick<Function>(_ pair: (Function?, Function?), _ dtype: DType) -> Function {
    (dtype.kernelIndex == 0 ? pair.0 : pair.1)!
}

// MARK: Element by element

extension Tensor {
    /// y = f(x) for each element. `op` names the caller in a trap.
    func mapped(_ function: ck_unary, _ op: String, grain: Int = Kernels.grain) -> Tensor {
        requireDifferentiableType(op)
        noteLabel()
        let x = contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        let loop = ck_unary_loop(Kernels.table, Int32(dtype.kernelIndex), function)!
        let size = dtype.size
        x.read { source in
            y.write { target in
                let total = grain == Kernels.grain ? y.count : 0  // those of a finer grain wait for arithmetic
                parallelFor(y.count, grain: grain) { range in
                    Kernels.fill(target, range, of: total, bytes: size) { some, target in
                        loop(source + some.lowerBound * size, 1, target, some.count)
                    }
                }
            }
        }
        return y
    }

    /// y = f(x) for each element, with its gradient. Where that is wanted, the slope is computed along with the value and
    /// kept in place of x: the same memory, and a gradient that costs one product.
    func mapped(_ function: ck_unary, keepingSlope sloped: ck_sloped, _ op: Op) -> Tensor {
        guard Tape.recording(self) != nil else { return mapped(function, op.name, grain: Kernels.heavyGrain) }
        requireDifferentiableType(op.name)
        noteLabel()
        let x = contiguous()
        let (y, slope) = (Tensor(uninitialized: shape, dtype), Tensor(uninitialized: shape, dtype))
        let loop = ck_sloped_loop(Kernels.table, Int32(dtype.kernelIndex), sloped)!
        let size = dtype.size
        x.read { x in
            y.write { y in
                slope.write { slope in
                    parallelFor(count, grain: Kernels.heavyGrain) { range in
                        let start = range.lowerBound * size
                        loop(x + start, y + start, slope + start, range.count)
                    }
                }
            }
        }
        let saved = Saved(slope)
        return y.derived(by: op, from: self) { g in
            var slope = saved.take()
            slope.multiply(by: g)
            return slope
        }
    }

    /// self *= other, both dense and of one shape and type, in place where the memory is not shared.
    private mutating func multiply(by other: Tensor) {
        guard isReusable() else {
            self = Tensor.combined(self, other, CK_MULTIPLY, "*")
            return
        }
        let other = other.contiguous()
        let loop: @convention(c) (UnsafeRawPointer?, UnsafeMutableRawPointer?, Int) -> Void =
            pick(Kernels.table.pointee.multiply_by, dtype)
        let (size, count) = (dtype.size, count)
        other.read { source in
            write { target in
                parallelFor(count, grain: Kernels.grain) { range in
                    loop(source + range.lowerBound * size, target + range.lowerBound * size, range.count)
                }
            }
        }
    }

    /// y = f(a, b) for each element, with the shapes broadcast.
    static func combined(
        _ a: Tensor, _ b: Tensor, _ function: ck_binary, _ op: String, grain: Int = Kernels.grain
    ) -> Tensor {
        guard a.dtype == b.dtype else { trap(op, "the types differ; cast(to:) one of them", a, b) }
        a.requireDifferentiableType(op)
        let loop = ck_binary_loop(Kernels.table, Int32(a.dtype.kernelIndex), function)!
        return zipped(a, b, to: a.dtype, loop, op, grain: grain)
    }

    /// y = a relation b for each element as bool, with the shapes broadcast, for all types that have loops.
    static func compared(_ a: Tensor, _ b: Tensor, _ function: ck_compare, _ op: String) -> Tensor {
        guard a.dtype == b.dtype else { trap(op, "the types differ; cast(to:) one of them", a, b) }
        let index: Int32
        switch a.dtype {
        case .float32: index = 0
        case .float64: index = 1
        case .int64: index = 2
        case .int32: index = 3
        case .uint8, .bool: index = 4
        case .float16, .bfloat16: trap(op, "\(a.dtype) does not compute; cast(to: .float32) first", a, b)
        }
        return zipped(a, b, to: .bool, ck_compare_loop(Kernels.table, index, function)!, op, grain: Kernels.grain)
    }

    /// y = loop(a, b) in a type of its own, with the shapes broadcast.
    private static func zipped(
        _ a: Tensor, _ b: Tensor, to type: DType, _ loop: ck_binary_fn, _ op: String, grain: Int
    ) -> Tensor {
        a.noteLabel()
        b.noteLabel()
        let (size, width) = (a.dtype.size, type.size)
        if a.shape == b.shape, a.isContiguous, b.isContiguous {
            let y = Tensor(uninitialized: a.shape, type)
            a.read { a in
                b.read { b in
                    y.write { target in
                        parallelFor(y.count, grain: grain) { range in
                            Kernels.fill(target, range, of: y.count, bytes: width) { some, target in
                                let start = some.lowerBound * size
                                loop(a + start, 1, b + start, 1, target, some.count)
                            }
                        }
                    }
                }
            }
            return y
        }
        guard let shape = broadcastShape(a.shape, b.shape) else {
            trap(op, "the shapes do not broadcast: each pair of axes, from the last, must be equal or 1", a, b)
        }
        let y = Tensor(uninitialized: shape, type)
        guard y.count > 0 else { return y }
        let box = Box(shape, .init(a), .init(b))
        let (inner, rows) = (box[0].length, box.count(from: 1))
        let (sa, sb, _) = box[0].steps
        let rowGrain = Swift.max(1, grain / Swift.max(1, inner))
        a.read { a in
            b.read { b in
                y.write { y in
                    guard rows > 1 else {
                        parallelFor(inner, grain: grain) { range in
                            let start = range.lowerBound
                            loop(
                                a + start * sa * size, sa, b + start * sb * size, sb, y + start * width, range.count)
                        }
                        return
                    }
                    parallelFor(rows, grain: rowGrain) { range in
                        var walk = box.walk(from: 1, startingAt: range.lowerBound)
                        for row in range {
                            loop(
                                a + walk.offsets.0 * size, sa, b + walk.offsets.1 * size, sb,
                                y + row * inner * width, inner)
                            walk.advance()
                        }
                    }
                }
            }
        }
        return y
    }

    /// y = f(x, s) for each element, or f(s, x).
    func combined(
        with scalar: Double, scalarFirst: Bool = false, _ function: ck_binary, _ op: String
    ) -> Tensor {
        requireDifferentiableType(op)
        noteLabel()
        let x = contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        let loop = ck_binary_loop(Kernels.table, Int32(dtype.kernelIndex), function)!
        let size = dtype.size
        func run(_ s: UnsafeRawPointer) {
            x.read { x in
                y.write { target in
                    parallelFor(y.count, grain: Kernels.grain) { range in
                        Kernels.fill(target, range, of: y.count, bytes: size) { some, target in
                            let from = x + some.lowerBound * size
                            if scalarFirst {
                                loop(s, 0, from, 1, target, some.count)
                            } else {
                                loop(from, 1, s, 0, target, some.count)
                            }
                        }
                    }
                }
            }
        }
        if dtype == .float32 {
            withUnsafeBytes(of: Float(scalar)) { run($0.baseAddress!) }
        } else {
            withUnsafeBytes(of: scalar) { run($0.baseAddress!) }
        }
        return y
    }

    /// y = f(x; p, q) for each element.
    func mapped(
        _ function: ck_parametric, _ op: String, _ p: Double, _ q: Double = 0, grain: Int = Kernels.grain
    ) -> Tensor {
        requireDifferentiableType(op)
        noteLabel()
        let x = contiguous()
        let y = Tensor(uninitialized: shape, dtype)
        let loop = ck_parametric_loop(Kernels.table, Int32(dtype.kernelIndex), function)!
        let size = dtype.size
        x.read { x in
            y.write { y in
                parallelFor(count, grain: grain) { range in
                    loop(x + range.lowerBound * size, y + range.lowerBound * size, range.count, p, q)
                }
            }
        }
        return y
    }

    /// f'(x; p, q) · g for each element, g of this tensor's shape and type.
    func slope(
        _ function: ck_parametric, _ p: Double, _ q: Double = 0, times g: Tensor, grain: Int = Kernels.grain
    ) -> Tensor {
        let (x, g) = (contiguous(), g.contiguous())
        let dx = Tensor(uninitialized: shape, dtype)
        let loop = ck_parametric_gradient_loop(Kernels.table, Int32(dtype.kernelIndex), function)!
        let size = dtype.size
        x.read { x in
            g.read { g in
                dx.write { dx in
                    parallelFor(count, grain: grain) { range in
                        let start = range.lowerBound * size
                        loop(x + start, g + start, dx + start, range.count, p, q)
                    }
                }
            }
        }
        return dx
    }

    /// The strides of this tensor seen as one of `shape`, which it broadcasts to: 0 along repeated axes.
    func expandedStrides(to shape: [Int]) -> [Int] {
        let own = layoutStrides
        let lead = shape.count - rank
        return shape.indices.map { axis in
            axis < lead || self.shape[axis - lead] == 1 ? 0 : own[axis - lead]
        }
    }

    @inline(__always)
    func requireDifferentiableType(_ op: String) {
        if !dtype.isDifferentiable { trap(op, "float32 or float64 is needed; cast(to:) converts", self) }
    }

    /// Remembers the parameter for error messages.
    @inline(__always)
    func noteLabel() {
        if label != 0 { ThreadState.lastLabel = label }
    }
}

/// The shape that two shapes broadcast to, or nil.
package func broadcastShape(_ a: [Int], _ b: [Int]) -> [Int]? {
    let (longer, shorter) = a.count >= b.count ? (a, b) : (b, a)
    var shape = longer
    let lead = longer.count - shorter.count
    for axis in shorter.indices where shorter[axis] != longer[lead + axis] && shorter[axis] != 1 {
        guard longer[lead + axis] == 1 else { return nil }
        shape[lead + axis] = shorter[axis]
    }
    return shape
}
