import CKernels

// Logic on bool tensors, element by element, and the choice by one. Shapes broadcast. Spelled as Swift spells pointwise
// logic on masks.

extension Op {
    static let logic: [Op] = [.logicalAnd, .logicalOr, .logicalXor, .logicalNot, .where]

    private static func masks(
        _ source: inout SampleSource, _ run: @escaping @Sendable (Tensor, Tensor) -> Tensor
    ) -> [OpSample] {
        source.broadcasting({ $0.mask($1) }, { $0.mask($1) }, run)
    }
}

extension SampleSource {
    /// true or false, each half of the time.
    fileprivate mutating func mask(_ shape: [Int]) -> Tensor { integers(shape, below: 2).cast(to: .bool) }
}

extension Tensor {
    fileprivate static func combinedLogically(
        _ a: Tensor, _ b: Tensor, _ function: ck_compare, _ op: String
    ) -> Tensor {
        guard a.dtype == .bool, b.dtype == .bool else { trap(op, "bool is needed; a comparison gives it", a, b) }
        return compared(a, b, function, op)
    }
}

// MARK: logicalAnd, logicalOr, logicalXor

extension Op {
    public static let logicalAnd = Op("logicalAnd", "whether both are true", differentiable: false) {
        masks(&$0) { $0 .& $1 }
    }
    public static let logicalOr = Op("logicalOr", "whether one is true, or both", differentiable: false) {
        masks(&$0) { $0 .| $1 }
    }
    public static let logicalXor = Op("logicalXor", "whether one is true, not both", differentiable: false) {
        masks(&$0) { $0 .^ $1 }
    }
}

extension Tensor {
    /// Whether a and b are both true. bool alone, where PyTorch takes any type and tests it for ≠ 0: `.!= 0` says so.
    public static func .& (a: Tensor, b: Tensor) -> Tensor { combinedLogically(a, b, CK_BOTH, ".&") }

    /// Whether a or b is true, or both. bool alone, as with `.&`.
    public static func .| (a: Tensor, b: Tensor) -> Tensor { combinedLogically(a, b, CK_EITHER, ".|") }

    /// Whether one of a and b is true and the other is not. bool alone, as with `.&`.
    public static func .^ (a: Tensor, b: Tensor) -> Tensor { combinedLogically(a, b, CK_ONE_OF, ".^") }
}

// MARK: logicalNot

extension Op {
    public static let logicalNot = Op("logicalNot", "whether x is false", differentiable: false) {
        $0.elementwise({ $0.mask($1) }) { .!$0 }
    }
}

extension Tensor {
    /// Whether x is false, for each element. bool alone, as with `.&`.
    public static prefix func .! (x: Tensor) -> Tensor {
        combinedLogically(x, Tensor([true], shape: []), CK_ONE_OF, ".!")
    }
}

// MARK: where

extension Op {
    public static let `where` = Op("where", "a where the mask is true, b elsewhere", linearIn: [1, 2]) { source in
        let shapes: [(String, [[Int]])] = [
            ("equal", [[3, 4], [3, 4], [3, 4]]), ("scalars", [[], [], []]), ("mask row", [[4], [3, 4], [3, 4]]),
            ("mask column", [[3, 1], [3, 4], [4]]), ("all broadcast", [[2, 1, 1], [3, 1], [4]]),
            ("scalar b", [[3, 4], [3, 4], []]), ("larger mask", [[2, 3], [3], [1]]),
            ("empty", [[0, 4], [4], [1, 4]]), ("tail", [[37], [37], [37]]),
        ]
        var samples = shapes.map { label, shapes in
            OpSample(label, [source.mask(shapes[0]), source.uniform(shapes[1]), source.uniform(shapes[2])]) {
                select($0[0], $0[1], else: $0[2])
            }
        }
        samples += [
            OpSample(
                "views",
                [
                    source.mask([4, 3]).transposed(0, 1), source.uniform([4, 3]).transposed(0, 1),
                    source.uniform([3, 8]).sliced(axis: 1, 0..<8, step: 2),
                ]
            ) { select($0[0], $0[1], else: $0[2]) },
            OpSample("else a number", [source.mask([7]), source.uniform([7])]) { select($0[0], $0[1], else: -1.5) },
            OpSample("a number", [source.mask([7]), source.uniform([7])]) { select($0[0], 2.5, else: $0[1]) },
        ]
        return samples
    }
}

/// a where the mask is true, b elsewhere: PyTorch's `where`, a keyword in Swift. Shapes broadcast; the mask is bool, a and
/// b are of one type, whichever.
///
/// What is not chosen counts for nothing: NaN and infinities there reach neither the result nor the gradient, which is 0
/// there. That does not mend a NaN that the gradient of an earlier op makes out of such a 0: choose before the division.
public func select(_ mask: Tensor, _ a: Tensor, else b: Tensor) -> Tensor {
    guard mask.dtype == .bool else { trap("where", "the mask must be bool; a comparison gives it", mask, a, b) }
    guard a.dtype == b.dtype else { trap("where", "the types differ; cast(to:) one of them", mask, a, b) }
    guard let both = broadcastShape(a.shape, b.shape), let shape = broadcastShape(mask.shape, both) else {
        trap("where", "the shapes do not broadcast: each pair of axes, from the last, must be equal or 1", mask, a, b)
    }
    a.noteLabel()
    b.noteLabel()
    return Tensor.selected(mask, a, b, shape).derived(
        by: .where, from: a,
        { [shape = a.shape] g in select(mask, g, else: 0).reduced(to: shape) }, and: b,
        { [shape = b.shape] g in select(mask, 0, else: g).reduced(to: shape) })
}

/// a where the mask is true, a number elsewhere.
public func select(_ mask: Tensor, _ a: Tensor, else b: Double) -> Tensor {
    select(mask, a, else: .full([], b, dtype: a.dtype))
}

/// A number where the mask is true, b elsewhere.
public func select(_ mask: Tensor, _ a: Double, else b: Tensor) -> Tensor {
    select(mask, .full([], a, dtype: b.dtype), else: b)
}

extension Tensor {
    fileprivate static func selected(_ mask: Tensor, _ a: Tensor, _ b: Tensor, _ shape: [Int]) -> Tensor {
        let y = Tensor(uninitialized: shape, a.dtype)
        guard y.count > 0 else { return y }
        let box = Box(shape, .init(mask), .init(a), .init(b))
        let (inner, steps) = (box[0].length, box[0].steps)
        let (size, loop) = (a.dtype.size, Kernels.table.pointee.select!)
        // A single row is cut in pieces, several are dealt out whole.
        let rows = box.count(from: 1)
        mask.read { mask in
            a.read { a in
                b.read { b in
                    y.write { y in
                        func run(_ row: Int, _ offsets: (Int, Int, Int), _ range: Range<Int>) {
                            let start = range.lowerBound
                            loop(
                                size,
                                mask.assumingMemoryBound(to: UInt8.self) + offsets.0 + start * steps.0, steps.0,
                                a + (offsets.1 + start * steps.1) * size, steps.1,
                                b + (offsets.2 + start * steps.2) * size, steps.2,
                                y + (row * inner + start) * size, range.count)
                        }
                        guard rows > 1 else {
                            parallelFor(inner, grain: Kernels.grain) { run(0, (0, 0, 0), $0) }
                            return
                        }
                        parallelFor(rows, grain: Swift.max(1, Kernels.grain / inner)) { range in
                            var walk = box.walk(from: 1, startingAt: range.lowerBound)
                            for row in range {
                                run(row, walk.offsets, 0..<inner)
                                walk.advance()
                            }
                        }
                    }
                }
            }
        }
        return y
    }
}
