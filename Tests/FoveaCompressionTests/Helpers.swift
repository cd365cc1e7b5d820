import FoveaTensor
import Testing

extension Tensor {
    /// The elements in row-major order, whatever their type.
    var doubles: [Double] { cast(to: .float64).scalars() }

    /// float64 numbers that look random and depend on the name alone.
    static func sample(_ shape: [Int], _ name: String) -> Tensor {
        .uniform(shape, in: -2...2, key: RandomKey(seed: 23).folding(name), dtype: .float64)
    }
}

/// What a process that was expected to fail wrote to standard error.
func message(_ result: ExitTest.Result?) -> String {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
}
