import CKernels

extension Tensor {
    /// A tensor with these elements in row-major order.
    ///
    /// Traps when their number is not the shape's.
    public init<Scalar: TensorScalar>(_ scalars: [Scalar], shape: [Int]) {
        self.init(uninitialized: shape, Scalar.dtype)
        guard scalars.count == count else {
            trap("Tensor(_:shape:)", "\(scalars.count) scalars do not fill the shape \(shape)")
        }
        guard !ThreadState.isPlanning else { return }
        write { target in
            scalars.withUnsafeBytes { source in
                if source.count > 0 { target.copyMemory(from: source.baseAddress!, byteCount: source.count) }
            }
        }
    }

    /// A vector with these elements, shape [count].
    public init<Scalar: TensorScalar>(_ scalars: [Scalar]) {
        self.init(scalars, shape: [scalars.count])
    }

    /// A tensor filled with one value.
    public static func full(_ shape: [Int], _ value: Double, dtype: DType = .float32) -> Tensor {
        guard dtype.isDifferentiable else {
            return Tensor.full(shape, value, dtype: .float64).cast(to: dtype)
        }
        let filled = Tensor(uninitialized: shape, dtype)
        guard !ThreadState.isPlanning else { return filled }
        filled.write { pick(Kernels.table.pointee.fill, dtype)($0, filled.count, value) }
        return filled
    }

    /// Zeros.
    public static func zeros(_ shape: [Int], dtype: DType = .float32) -> Tensor { full(shape, 0, dtype: dtype) }

    /// Ones.
    public static func ones(_ shape: [Int], dtype: DType = .float32) -> Tensor { full(shape, 1, dtype: dtype) }

    /// The integers 0, 1, … `count` − 1 as a vector.
    public static func arange(_ count: Int, dtype: DType = .float32) -> Tensor {
        Tensor((0..<count).map(Int64.init)).cast(to: dtype)
    }

    /// The elements in row-major order. Traps when the type is another one: cast first.
    public func scalars<Scalar: TensorScalar>(as type: Scalar.Type = Scalar.self) -> [Scalar] {
        guard dtype == Scalar.dtype else {
            trap("scalars(as:)", "the elements are \(dtype), not \(Scalar.dtype); cast(to:) converts", self)
        }
        let dense = contiguous()
        return dense.read { source in
            Array(UnsafeBufferPointer(start: source.assumingMemoryBound(to: Scalar.self), count: count))
        }
    }

    /// The one element as a number. Traps when there are more or none.
    public func item() -> Double {
        guard count == 1 else { trap("item()", "one element is needed", self) }
        return cast(to: .float64).scalars(as: Double.self)[0]
    }

    /// The elements as row-major bytes in the machine's order, without conversion.
    package func bytes() -> [UInt8] {
        let dense = contiguous()
        return dense.read { Array(UnsafeRawBufferPointer(start: $0, count: count * dtype.size)) }
    }
}
