import FoveaTensor

extension MappedFile {
    /// The tensor whose little-endian elements stand at a place in the file, one after the other.
    ///
    /// It is a view of the mapping where its first element is aligned to its size, and a copy elsewhere.
    ///
    /// - Parameters:
    ///   - shape: its shape, whose elements must all be inside the file.
    ///   - dtype: its type.
    ///   - start: where its first element stands.
    ///   - isColumnMajor: whether the first axis is the one whose elements stand side by side, as in Fortran.
    ///   - error: makes an error of what is wrong with the tensor.
    /// - Throws: `FileError` when there are more axes than Fovea holds, or a byte of a `bool` tensor is neither 0 nor 1.
    func tensor(
        _ shape: [Int], _ dtype: DType, at start: Int, isColumnMajor: Bool = false, error: (String) -> FileError
    ) throws(FileError) -> Tensor {
        guard shape.count <= Tensor.maxRank else {
            throw error("has \(shape.count) axes, and Fovea holds no more than \(Tensor.maxRank)")
        }
        let byteCount = shape.reduce(1, *) * dtype.size
        guard byteCount > 0 else { return Tensor(uninitialized: shape, dtype) }
        let elements = UnsafeRawBufferPointer(rebasing: bytes[start..<(start + byteCount)])
        if dtype == .bool, let wrong = elements.firstIndex(where: { $0 > 1 }) {
            throw error("element \(wrong) of this bool tensor is the byte \(elements[wrong]); expected 0 or 1")
        }
        let stored = isColumnMajor ? shape.reversed() : shape
        let tensor: Tensor
        if let base = elements.baseAddress, UInt(bitPattern: base) % UInt(dtype.size) == 0 {
            let storage = Storage(borrowing: base, byteCount: byteCount, owner: self)
            tensor = Tensor(storage: storage, shape: stored, dtype: dtype)
        } else {
            try checkMemory(byteCount, path)
            tensor = Tensor(uninitialized: stored, dtype)
            tensor.write { UnsafeMutableRawBufferPointer(start: $0, count: byteCount).copyMemory(from: elements) }
        }
        return isColumnMajor ? tensor.withAxesReversed() : tensor
    }
}

extension Tensor {
    /// The view whose axes are in reverse order.
    func withAxesReversed() -> Tensor {
        view(shape: shape.reversed(), strides: layoutStrides.reversed(), offset: 0)
    }
}
