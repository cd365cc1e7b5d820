import Foundation
import FoveaNN
import FoveaTensor
import Testing

extension Tensor {
    /// The elements in row-major order, whatever their type.
    var doubles: [Double] { cast(to: .float64).scalars() }

    /// float64 numbers that look random and depend on the name alone.
    static func sample(_ shape: [Int], _ name: String) -> Tensor {
        .uniform(shape, in: -2...2, key: RandomKey(seed: 41).folding(name), dtype: .float64)
    }
}

/// The largest absolute difference; infinite where the lengths differ or a number is NaN.
func difference(_ a: [Double], _ b: [Double]) -> Double {
    guard a.count == b.count else { return .infinity }
    return zip(a, b).reduce(0) { largest, pair in
        let distance = abs(pair.0 - pair.1)
        return distance.isNaN ? .infinity : max(largest, distance)
    }
}

func difference(_ a: Tensor, _ b: Tensor) -> Double {
    a.shape == b.shape ? difference(a.doubles, b.doubles) : .infinity
}

/// The parameters' bytes by path: equal only for equal bits.
func bits(_ module: some Module) -> [String: [UInt8]] {
    var bits: [String: [UInt8]] = [:]
    for (path, tensor) in module.parameters { bits[path] = tensor.bytes() }
    return bits
}

/// What a process that was expected to fail wrote to standard error.
func message(_ result: ExitTest.Result?) -> String {
    String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
}

/// A folder that is gone after `body`.
func withTemporaryFolder<Result>(_ body: (String) throws -> Result) throws -> Result {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    return try body(folder.path)
}

/// A module with every kind of member: tensors, modules, optional ones of both, modules in a row.
struct Probe: Module {
    var gate: Tensor
    var offset: Tensor?
    var head: Linear
    var tail: Linear?
    var norms: [LayerNorm]

    init(complete: Bool = true) {
        let key = RandomKey(seed: 7)
        gate = .normal([3], key: key.folding("gate"))
        offset = complete ? .normal([2, 2], key: key.folding("offset")) : nil
        head = Linear(3, 2, key: key.folding("head"))
        tail = complete ? Linear(2, 1, bias: false, key: key.folding("tail")) : nil
        norms = [LayerNorm(2), LayerNorm(2, bias: false)]
    }

    mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("gate", &gate)
        visitor.parameter("offset", &offset)
        visitor.module("head", &head)
        visitor.module("tail", &tail)
        visitor.modules("norms", &norms)
    }
}
