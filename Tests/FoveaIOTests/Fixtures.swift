import FoveaTensor

/// The files that other libraries wrote: Tests/Reference/formats.py.
enum Fixtures {
    static let folder =
        #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2).joined(separator: "/")
        + "/Fixtures/formats"

    static func path(_ name: String) -> String { "\(folder)/\(name)" }

    /// What every array there holds: counts from 0 on; of a bool, whether they are odd.
    static func counting(_ shape: [Int], _ dtype: DType) -> Tensor {
        let counts = (0..<shape.reduce(1, *)).map { Double(dtype == .bool ? $0 % 2 : $0) }
        return Tensor(counts, shape: shape).cast(to: dtype)
    }

    /// NumPy's names of the types that are read, and the tensor's type.
    static let types: [(name: String, dtype: DType)] = [
        ("b1", .bool), ("u1", .uint8), ("i1", .int32), ("u2", .int32), ("i2", .int32), ("u4", .int64), ("i4", .int32),
        ("u8", .int64), ("i8", .int64), ("f2", .float16), ("f4", .float32), ("f8", .float64),
    ]
}
