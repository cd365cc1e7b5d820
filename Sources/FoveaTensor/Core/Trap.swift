#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Stops the program over a mistake in the calling code, saying which op was given what.
///
/// `precondition` prints nothing in release builds; this prints always. The line ends with the parameter that was
/// used last on this thread, which tells the module when the operands themselves have no name.
///
/// - Parameters:
///   - op: the op as the caller spells it.
///   - problem: what does not fit and what would.
///   - operands: the tensors that were given.
package func trap(_ op: String, _ problem: String, _ operands: Tensor...) -> Never {
    trap(op, problem, operands)
}

package func trap(_ op: String, _ problem: String, _ operands: [Tensor]) -> Never {
    var message = "Fovea: \(op): \(problem)"
    if !operands.isEmpty {
        message += " (got " + operands.map(\.signature).joined(separator: ", ") + ")"
    }
    if let nearby = ParameterName.lastUsed {
        message += " [near parameter \(nearby)]"
    }
    fatalError(message)
}

extension Tensor {
    /// The type, the shape and, for a parameter, the path: `float32 [4, 8] "encoder.norm.weight"`.
    package var signature: String {
        let name = ParameterName.text(of: label).map { " \"\($0)\"" } ?? ""
        return "\(dtype) \(shape)\(name)"
    }
}
