import CKernels

/// Elements that up to three operands share, without memory of its own: the axes of a shape, those merged that lie evenly
/// spaced in all operands, so that inner loops are long. Axes count from the innermost.
struct Box {
    private(set) var axes = ck_box()

    /// One element.
    init() {}

    /// The elements of `shape` in tensors that broadcast to it.
    ///
    /// - Parameter trailing: how many of the last axes are left out; the tensors have these too.
    init(_ shape: [Int], withoutLast trailing: Int = 0, _ a: Operand, _ b: Operand = .none, _ c: Operand = .none) {
        var (a, b, c) = (a, b, c)
        for back in 0..<trailing { _ = (a.step(back), b.step(back), c.step(back)) }
        for back in trailing..<max(trailing, shape.count) {
            add(shape[shape.count - 1 - back], a.step(back), b.step(back), c.step(back))
        }
    }

    /// A tensor's shape and strides, from the last axis on.
    struct Operand {
        private let shape: [Int]
        private let strides: [Int]?
        private var dense = 1

        /// An operand that is not there.
        static let none = Operand()

        private init() { (shape, strides) = ([], nil) }

        init(_ tensor: borrowing Tensor) { (shape, strides) = (tensor.shape, tensor.strides) }

        /// The elements from one index to the next along an axis, counted from the last; 0 where it is repeated.
        fileprivate mutating func step(_ back: Int) -> Int {
            guard back < shape.count else { return 0 }
            let axis = shape.count - 1 - back
            let step = strides?[axis] ?? dense
            dense *= shape[axis]
            return shape[axis] == 1 ? 0 : step
        }
    }

    /// Puts an axis around the box; it becomes part of the outermost where all operands go on in even steps.
    mutating func add(_ length: Int, _ a: Int, _ b: Int = 0, _ c: Int = 0) { ck_box_add(&axes, length, a, b, c) }

    /// How many axes there are; 0 for one element.
    var rank: Int { axes.rank }

    /// An axis; beyond the outermost one of length 1.
    subscript(axis: Int) -> ck_axis {
        guard axis < rank else { return ck_axis(length: 1, steps: (0, 0, 0)) }
        return withUnsafePointer(to: axes.axes) {
            $0.withMemoryRebound(to: ck_axis.self, capacity: rank) { $0[axis] }
        }
    }

    /// How many elements there are along the axes from `first` on.
    func count(from first: Int = 0) -> Int {
        var count = 1
        for axis in first..<max(first, rank) { count *= self[axis].length }
        return count
    }

    /// The axes around the innermost.
    var withoutInnermost: Box {
        var box = Box()
        for axis in 1..<max(1, rank) { box.add(self[axis]) }
        return box
    }

    /// The indices of `range` of the outermost axis alone.
    func outermost(_ range: Range<Int>) -> Box {
        guard rank > 0 else { return self }
        var part = Box()
        for axis in 0..<rank - 1 { part.add(self[axis]) }
        var outermost = self[rank - 1]
        outermost.length = range.count
        part.add(outermost)
        return part
    }

    private mutating func add(_ axis: ck_axis) { add(axis.length, axis.steps.0, axis.steps.1, axis.steps.2) }

    /// A walk along the axes from `first` on, in row-major order.
    func walk(from first: Int, startingAt position: Int) -> Walk { Walk(self, first, position) }

    /// Where a walk is: the offset in each operand.
    struct Walk {
        private var axes: ck_box
        private var walk = ck_walk()

        fileprivate init(_ box: Box, _ first: Int, _ position: Int) {
            axes = box.axes
            ck_walk_start(&walk, &axes, first, position)
        }

        var offsets: (Int, Int, Int) { walk.offsets }

        mutating func advance() { ck_walk_advance(&walk, &axes) }
    }
}
