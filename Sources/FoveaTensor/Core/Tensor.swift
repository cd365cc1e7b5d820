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

    /// The most axes that the loops in C walk.
    package static let maxRank = Int(CK_MAX_RANK)

    /// How many axes there are.
    public var rank: Int { shape.count }

    /// How many elements there are.
    public var count: Int {
        var count = 1
        for length in shape { count *= length }
        return count
    }

    /// Whether the elements lie in row-major order without gaps.
    public var isContiguous: Bool { strides == nil }

    /// The strides in elements, whatever the layout.
    package var layoutStrides: [Int] { strides ?? Tensor.rowMajorStrides(shape) }

    package static func rowMajorStrides(_ shape: [Int]) -> [Int] {
        // Of the shape's own kind: cheaper than a new array of ones.
        var strides = shape
        var stride = 1
        for axis in strides.indices.reversed() {
            let length = strides[axis]
            strides[axis] = stride
            stride *= length
        }
        return strides
    }

    /// The elements from one index of an axis to the next, counted from the last axis: 0 is the last.
    func stride(fromLast back: Int) -> Int {
        if let strides { return strides[rank - 1 - back] }
        var stride = 1
        for axis in rank - back..<rank { stride *= shape[axis] }
        return stride
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
    package var detached: Tensor { traced(Trace()) }

    /// The same memory, traced there and named so.
    func traced(_ trace: Trace, label: UInt32 = 0) -> Tensor {
        Tensor(
            dtype: dtype, shape: shape, storage: storage, strides: strides, offset: offset, trace: trace, label: label)
    }

    /// This tensor in row-major order: itself where it is so already, else a copy.
    package func contiguous() -> Tensor {
        guard strides != nil else { return self }
        var copy = Tensor(uninitialized: shape, dtype)
        copy.trace = trace
        copy.label = label
        read { source in
            forEachPart { part, dense, own in
                withUnsafePointer(to: part.axes) {
                    ck_gather_box(dtype.size, $0, source + own, copy.storage.pointer + dense)
                }
            }
        }
        return copy
    }

    /// Cuts a view along its outermost axis into parts that are worth a thread: with the offsets in bytes at which they begin in
    /// row-major order and in the view.
    func forEachPart(_ body: (_ part: Box, _ dense: Int, _ own: Int) -> Void) {
        let (box, size) = (Box(shape, .init(self)), dtype.size)
        let outermost = box[Swift.max(0, box.rank - 1)]
        let bytes = size * box.count() / Swift.max(1, outermost.length)
        parallelFor(outermost.length, grain: Swift.max(1, 65_536 / Swift.max(1, bytes))) { range in
            body(
                range.count == outermost.length ? box : box.outermost(range), range.lowerBound * bytes,
                range.lowerBound * outermost.steps.0 * size)
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

    /// The axis counted from the front; −1 is the last.
    func normalizedAxis(_ axis: Int, _ op: String) -> Int {
        let normalized = axis < 0 ? axis + rank : axis
        guard shape.indices.contains(normalized) else {
            trap(op, "axis \(axis) is outside the \(rank) axes", self)
        }
        return normalized
    }
}

// By way of the memberwise initializer: one that sets member after member makes a copy of them all at its end.
extension Tensor {
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
        Tensor.requireRank(shape)
        self.init(
            dtype: dtype, shape: shape, storage: Storage(byteCount: count * dtype.size), strides: nil, offset: 0)
    }

    package init(storage: Storage, shape: [Int], strides: [Int]? = nil, offset: Int = 0, dtype: DType) {
        Tensor.requireRank(shape)
        self.init(dtype: dtype, shape: shape, storage: storage, strides: strides, offset: offset)
    }

    private static func requireRank(_ shape: [Int]) {
        guard shape.count <= maxRank else { trap("Tensor", "the shape \(shape) has more than \(maxRank) axes") }
    }
}

extension Tensor: CustomStringConvertible {
    /// The type, the shape and the values of a small tensor.
    public var description: String {
        guard count > 0, count <= 64 else { return "Tensor(\(dtype) \(shape))" }
        let plain = detached
        let values =
            dtype.isFloatingPoint
            ? plain.cast(to: .float64).scalars(as: Double.self).map { "\($0)" }
            : plain.cast(to: .int64).scalars(as: Int64.self).map { "\($0)" }
        func text(_ axis: Int, _ start: Int, _ step: Int) -> String {
            guard axis < rank else { return values[start] }
            let inner = shape[axis] == 0 ? 0 : step / shape[axis]
            return "["
                + (0..<shape[axis]).map { text(axis + 1, start + $0 * inner, inner) }.joined(separator: ", ") + "]"
        }
        return "Tensor(\(dtype) \(shape), \(text(0, 0, count)))"
    }
}
