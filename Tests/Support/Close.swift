import FoveaTensor
import Testing

/// Expects that a tensor has a shape and the values of another one.
///
/// An element passes when |actual − expected| ≤ tolerance · max(|expected|, floor). NaN equals NaN, and an infinity
/// equals itself. Both limits are constants that the caller states: a tolerance that came from the values could turn
/// out to allow anything.
///
/// - Parameters:
///   - tolerance: the relative error that passes; 0 asks for equal values.
///   - floor: the size below which the error is measured absolutely. 0 makes every error relative.
///   - comment: what the failure message starts with.
/// - Returns: whether all elements passed.
@discardableResult
public func expectClose(
    _ actual: Tensor, _ expected: Tensor, tolerance: Double, floor: Double = 1, _ comment: String = "",
    sourceLocation: SourceLocation = #_sourceLocation
) -> Bool {
    guard let problem = difference(actual, expected, tolerance: tolerance, floor: floor) else { return true }
    Issue.record(Comment(rawValue: (comment.isEmpty ? "" : comment + ": ") + problem), sourceLocation: sourceLocation)
    return false
}

/// What `expectClose` says about two tensors; nil when they are close.
public func difference(_ actual: Tensor, _ expected: Tensor, tolerance: Double, floor: Double = 1) -> String? {
    guard actual.shape == expected.shape else { return "the shape is \(actual.shape), not \(expected.shape)" }
    let (found, wanted) = (doubles(of: actual), doubles(of: expected))
    var worst: (position: Int, excess: Double)?
    var failures = 0
    for position in found.indices {
        let (a, e) = (found[position], wanted[position])
        if a == e || (a.isNaN && e.isNaN) { continue }
        let allowed = tolerance * Swift.max(e.magnitude, floor)
        let error = (a - e).magnitude
        // The negation counts NaN as a failure, and as the worst of all.
        guard !(error <= allowed) || e.isInfinite else { continue }
        failures += 1
        let excess = error.isNaN || allowed == 0 ? Double.infinity : error / allowed
        if worst == nil || excess > worst!.excess { worst = (position, excess) }
    }
    guard let worst else { return nil }
    let (a, e) = (found[worst.position], wanted[worst.position])
    return "\(failures) of \(found.count) elements differ, worst at \(index(worst.position, in: actual.shape)): "
        + "\(a) instead of \(e), error \((a - e).magnitude), allowed \(tolerance * Swift.max(e.magnitude, floor))"
}

/// Expects equal types, shapes and bits.
@discardableResult
public func expectSameBits(
    _ actual: Tensor, _ expected: Tensor, _ comment: String = "", sourceLocation: SourceLocation = #_sourceLocation
) -> Bool {
    guard let problem = bitDifference(actual, expected) else { return true }
    Issue.record(Comment(rawValue: (comment.isEmpty ? "" : comment + ": ") + problem), sourceLocation: sourceLocation)
    return false
}

/// What `expectSameBits` says about two tensors; nil when their types, shapes and bits are equal.
public func bitDifference(_ actual: Tensor, _ expected: Tensor) -> String? {
    guard actual.dtype == expected.dtype else { return "the type is \(actual.dtype), not \(expected.dtype)" }
    if actual.shape == expected.shape, actual.bytes() == expected.bytes() { return nil }
    return difference(actual, expected, tolerance: 0) ?? "only the signs of zeros or the bits of NaN differ"
}

/// The elements in row-major order as doubles, whatever their type.
public func doubles(of tensor: Tensor) -> [Double] { tensor.cast(to: .float64).scalars() }

/// The index of the element at a row-major position.
private func index(_ position: Int, in shape: [Int]) -> [Int] {
    var rest = position
    var index = [Int](repeating: 0, count: shape.count)
    for axis in shape.indices.reversed() {
        index[axis] = rest % shape[axis]
        rest /= shape[axis]
    }
    return index
}
