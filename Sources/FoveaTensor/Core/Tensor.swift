import CKernels

/// An array of numbers of any rank, with its element type known at run time.
///
/// A tensor is a value: copies are free and independent, and can be sent to other threads. Ops return new tensors and
/// are evaluated at once; transposes, slices and expansions are views of the same memory. Inside
/// `valueAndGradient(of:)` or `gradient(of:at:)` the ops that a traced tensor goes through are recorded, and so is
/// what their gradients need.
///
/// Shapes in the documentation use the same letters everywhere: B batch, T text length, N tokens, M memory tokens,
/// R latents, C and D widths, H heads, d width of a head.
public struct Tensor: Sendable {
    /// The element type.
    public let dtype: DType
    /// The length of each axis; empty for a scalar.
    public internal(set) var shape: [Int]
    package var storage: Storage
    /// Elements from one index to the next along each axis; nil when row-major without gaps.
    var strides: [Int]?
    /// The first element's index in the storage.
    var offset: Int
    /// Where on which tape this tensor was computed.
    var trace = Trace()
    /// The parameter that this tensor is; see `ParameterName`.
    package var label: UInt32 = 0

    /// Uninitialised, row-major.
    package init(uninitialized shape: [Int], _ dtype: DType) {
        var count = 1
        for length in shape {
            guard length >= 0 else { trap("Tensor", "a length in the shape \(shape) is negative") }
            let (product, overflow) = count.multipliedReportingOverflow(by: length)
            guard !overflow, product <= Int.max >> 3 else {
                trap("Tensor", "the shape \(shape) has more elements than any memory")
            }
            count = product
        }
        guard shape.count <= Tensor.maxRank else {
            trap("Tensor", "the shape \(shape) has more than \(Tensor.maxRank) axes")
        }
        self.init(storage: Storage(byteCount: count * dtype.size), shape: shape, dtype: dtype)
    }

    package init(storage: Storage, shape: [Int], strides: [Int]? = nil, offset: Int = 0, dtype: DType) {
        self.storage = storage
        self.shape = shape
        self.strides = strides
        self.offset = offset
        self.dtype = dtype
    }

    /// The most axes that the loops in C walk.
    package static let maxRank = 32

    /// How many axes there are.
    public var rank: Int { shape.count }

    /// How many elements there are.
    public var count: Int { shape.reduce(1, *) }

    /// Whether the elements lie in row-major order without gaps.
    public var isContiguous: Bool { strides == nil }

    /// The strides in elements, whatever the layout.
    package var layoutStrides: [Int] { strides ?? Tensor.rowMajorStrides(shape) }

    package static func rowMajorStrides(_ shape: [Int]) -> [Int] {
        var strides = [Int](repeating: 1, count: shape.count)
        var stride = 1
        for axis in shape.indices.reversed() {
            strides[axis] = stride
            stride *= shape[axis]
        }
        return strides
    }

    /// A view of the same storage. Strides that turn out row-major are dropped.
    package func view(shape: [Int], strides: [Int], offset: Int) -> Tensor {
        var dense = true
        var expected = 1
        for axis in shape.indices.reversed() where shape[axis] != 1 {
            if strides[axis] != expected { dense = false }
            expected *= shape[axis]
        }
        if shape.contains(0) { dense = true }
        return Tensor(storage: storage, shape: shape, strides: dense ? nil : strides, offset: offset, dtype: dtype)
    }

    /// The same memory without trace or name: a constant to any tape.
    package var detached: Tensor {
        Tensor(storage: storage, shape: shape, strides: strides, offset: offset, dtype: dtype)
    }

    /// This tensor in row-major order: itself where it is so already, else a copy.
    package func contiguous() -> Tensor {
        guard let strides else { return self }
        var copy = Tensor(uninitialized: shape, dtype)
        copy.trace = trace
        copy.label = label
        read { source in
            Tensor.forEachPart(shape, strides, dtype.size) { shape, strides, dense, own in
                ck_gather_box(dtype.size, shape.count, shape, strides, source + own, copy.storage.pointer + dense)
            }
        }
        return copy
    }

    /// Cuts a view along its first axis into parts that are worth a thread: their shape and strides, and the offsets in
    /// bytes at which they begin in row-major order and in the view.
    static func forEachPart(
        _ shape: [Int], _ strides: [Int], _ size: Int,
        _ body: (_ shape: [Int], _ strides: [Int], _ dense: Int, _ own: Int) -> Void
    ) {
        let (box, boxStrides) = coalesced(shape, [strides])
        let bytes = box.dropFirst().reduce(size, *)
        parallelFor(box[0], grain: Swift.max(1, 65_536 / Swift.max(1, bytes))) { range in
            var part = box
            part[0] = range.count
            body(part, boxStrides[0], range.lowerBound * bytes, range.lowerBound * boxStrides[0][0] * size)
        }
    }

    // MARK: Memory

    /// Calls `body` with the address of the first element.
    @inline(__always)
    package func read<Result>(_ body: (UnsafeRawPointer) throws -> Result) rethrows -> Result {
        defer { withExtendedLifetime(storage) {} }
        return try body(UnsafeRawPointer(storage.pointer + offset * dtype.size))
    }

    /// Calls `body` with the address to write to. Only for tensors that were just made, or that are unique.
    @inline(__always)
    package func write<Result>(_ body: (UnsafeMutableRawPointer) throws -> Result) rethrows -> Result {
        defer { withExtendedLifetime(storage) {} }
        return try body(storage.pointer + offset * dtype.size)
    }

    /// Whether the memory may be overwritten: nobody else refers to it, and it is ours and dense.
    package mutating func isReusable() -> Bool {
        strides == nil && !storage.isForeign && isKnownUniquelyReferenced(&storage)
    }

    /// Merges neighbouring axes that are evenly spaced in every operand, so that inner loops are long.
    static func coalesced(_ shape: [Int], _ operands: [[Int]]) -> (shape: [Int], strides: [[Int]]) {
        var merged: [Int] = []
        var strides = [[Int]](repeating: [], count: operands.count)
        for axis in shape.indices where shape[axis] != 1 {
            if let last = merged.last,
                operands.indices.allSatisfy({ strides[$0].last! == operands[$0][axis] * shape[axis] })
            {
                merged[merged.count - 1] = last * shape[axis]
                for operand in operands.indices { strides[operand][merged.count - 1] = operands[operand][axis] }
            } else {
                merged.append(shape[axis])
                for operand in operands.indices { strides[operand].append(operands[operand][axis]) }
            }
        }
        if merged.isEmpty {
            merged = [1]
            for operand in operands.indices { strides[operand] = [0] }
        }
        return (merged, strides)
    }

    /// The axis counted from the front; −1 is the last.
    func normalizedAxis(_ axis: Int, _ op: String) -> Int {
        let normalized = axis < 0 ? axis + rank : axis
        guard shape.indices.contains(normalized) else {
            trap(op, "axis \(axis) is outside the \(rank) axes", self)
        }
        return normalized
    }
}

extension Tensor: CustomStringConvertible {
    /// The type, the shape and the values of a small tensor.
    public var description: String {
        guard count > 0, count <= 64 else { return "Tensor(\(dtype) \(shape))" }
        let values = cast(to: .float64).scalars(as: Double.self)
        func text(_ axis: Int, _ start: Int, _ step: Int) -> String {
            guard axis < rank else { return dtype.isFloatingPoint ? "\(values[start])" : "\(Int(values[start]))" }
            let inner = shape[axis] == 0 ? 0 : step / shape[axis]
            return "["
                + (0..<shape[axis]).map { text(axis + 1, start + $0 * inner, inner) }.joined(separator: ", ") + "]"
        }
        return "Tensor(\(dtype) \(shape), \(text(0, 0, count)))"
    }
}
