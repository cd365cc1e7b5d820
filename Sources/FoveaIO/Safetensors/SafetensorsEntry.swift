import FoveaTensor

/// One tensor of a safetensors file, as the header describes it.
public struct SafetensorsEntry: Sendable, Equatable {
    /// The tensor's name.
    public let name: String
    /// The element type as the format spells it, such as `"F32"`.
    public let dtypeName: String
    /// The element type, or nil for a type of the format that Fovea lists but does not hold.
    public let dtype: DType?
    /// The length of each axis; empty for a scalar.
    public let shape: [Int]
    /// Where the elements stand, counted from the beginning of the file.
    public let byteRange: Range<Int>

    /// How many bytes the elements take.
    public var byteCount: Int { byteRange.count }

    /// How many elements there are.
    public var count: Int { shape.reduce(1, *) }
}

/// An element type of the format.
struct SafetensorsType {
    let name: String
    let bits: Int
    /// The type that holds it, where there is one.
    let dtype: DType?

    /// All types in the order of the format's own implementation (`safetensors/src/tensor.rs`, `Dtype`), which is
    /// also the order, last first, in which it writes tensors. The sizes of whole bytes ascend along it.
    static let all: [SafetensorsType] = [
        .init(name: "BOOL", bits: 8, dtype: .bool),
        .init(name: "F4", bits: 4, dtype: nil),
        .init(name: "F6_E2M3", bits: 6, dtype: nil),
        .init(name: "F6_E3M2", bits: 6, dtype: nil),
        .init(name: "U8", bits: 8, dtype: .uint8),
        .init(name: "I8", bits: 8, dtype: nil),
        .init(name: "F8_E5M2", bits: 8, dtype: nil),
        .init(name: "F8_E4M3", bits: 8, dtype: nil),
        .init(name: "F8_E8M0", bits: 8, dtype: nil),
        .init(name: "F8_E4M3FNUZ", bits: 8, dtype: nil),
        .init(name: "F8_E5M2FNUZ", bits: 8, dtype: nil),
        .init(name: "I16", bits: 16, dtype: nil),
        .init(name: "U16", bits: 16, dtype: nil),
        .init(name: "F16", bits: 16, dtype: .float16),
        .init(name: "BF16", bits: 16, dtype: .bfloat16),
        .init(name: "I32", bits: 32, dtype: .int32),
        .init(name: "U32", bits: 32, dtype: nil),
        .init(name: "F32", bits: 32, dtype: .float32),
        .init(name: "C64", bits: 64, dtype: nil),
        .init(name: "F64", bits: 64, dtype: .float64),
        .init(name: "I64", bits: 64, dtype: .int64),
        .init(name: "U64", bits: 64, dtype: nil),
    ]

    static func named(_ name: String) -> SafetensorsType? { all.first { $0.name == name } }

    /// The type's place in `all`.
    static func rank(of dtype: DType) -> Int { all.firstIndex { $0.dtype == dtype } ?? 0 }
}
