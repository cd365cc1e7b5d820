import CKernels

/// The type of a tensor's elements, known at run time.
///
/// `float32` trains and `float64` checks; only these two compute and carry gradients. The integers index, `bool`
/// masks, and `float16` and `bfloat16` are for storage: cast them before computing. (`linear` takes weights of these as
/// they are, as constants.)
public enum DType: String, Sendable, CaseIterable, Codable {
    case float32, float64, float16, bfloat16, int64, int32, uint8, bool

    /// Bytes of one element.
    public var size: Int {
        switch self {
        case .float64, .int64: 8
        case .float32, .int32: 4
        case .float16, .bfloat16: 2
        case .uint8, .bool: 1
        }
    }

    /// Whether tensors of this type compute and carry gradients.
    public var isDifferentiable: Bool { self == .float32 || self == .float64 }

    /// Whether this is one of the floating-point types, the storage ones among them.
    public var isFloatingPoint: Bool {
        switch self {
        case .float32, .float64, .float16, .bfloat16: true
        case .int64, .int32, .uint8, .bool: false
        }
    }

    package var kernelType: ck_type {
        switch self {
        case .float32: CK_F32
        case .float64: CK_F64
        case .float16: CK_F16
        case .bfloat16: CK_BF16
        case .int64: CK_I64
        case .int32: CK_I32
        case .uint8: CK_U8
        case .bool: CK_BOOL
        }
    }
}

/// A Swift type that a tensor's elements can be read and written as.
public protocol TensorScalar: Sendable {
    static var dtype: DType { get }
}

extension Float: TensorScalar { public static var dtype: DType { .float32 } }
extension Double: TensorScalar { public static var dtype: DType { .float64 } }
extension Int64: TensorScalar { public static var dtype: DType { .int64 } }
extension Int32: TensorScalar { public static var dtype: DType { .int32 } }
extension UInt8: TensorScalar { public static var dtype: DType { .uint8 } }
extension Bool: TensorScalar { public static var dtype: DType { .bool } }
