/// Where the first value came up that is not finite.
public struct Anomaly: Sendable, Equatable, CustomStringConvertible {
    /// What it is a value of.
    public enum Kind: Sendable, Equatable {
        /// A parameter, before anything was computed with it.
        case parameter
        /// The output of an op.
        case output
        /// The gradient that an op hands to its operands.
        case gradient
    }

    public let kind: Kind
    /// Whether it is NaN; infinite otherwise.
    public let isNaN: Bool
    /// The op's name in the catalogue, or "checkpointed" for a stretch of them; empty for a parameter.
    public let op: String
    /// The path of the parameter, or of one that the op's operands were computed with; nil where there is none.
    public let parameter: String?

    /// The path of the module: that of the parameter without its last component.
    public var module: String? {
        parameter.map { $0.split(separator: ".").dropLast().joined(separator: ".") }
    }

    /// What and where, as the rest of a sentence.
    public var description: String {
        let value = isNaN ? "NaN" : "infinite"
        let place = module.map { $0.isEmpty ? "" : " in module \($0)" } ?? ""
        switch kind {
        case .parameter: return "the parameter \(parameter ?? "") is \(value) itself"
        case .output: return "the first value that is \(value) is an output of \(op)\(place)"
        case .gradient: return "the first gradient that is \(value) comes out of \(op)\(place)"
        }
    }
}

/// Runs `body` and looks at every value that its gradients compute with: parameters, the ops' outputs, and the
/// gradients on the way back. Takes several times as long as without.
///
/// Infinities that `maskedFill` and `where` put in place are meant, and pass.
///
/// - Returns: what `body` returns, and the first value that is not finite, in the order of the computation.
public func detectingAnomalies<Result>(_ body: () throws -> Result) rethrows -> (result: Result, anomaly: Anomaly?) {
    let log = AnomalyLog()
    let result = try AnomalyLog.$current.withValue(log, operation: body)
    return (result, log.first)
}

/// The first anomaly that tapes of a thread found.
final class AnomalyLog: Sendable {
    /// What tapes that are opened now report to.
    @TaskLocal static var current: AnomalyLog?

    private let found = Lock<Anomaly?>(nil)

    var first: Anomaly? { found.withLock { $0 } }

    /// Looks at a tensor, unless something was found before.
    func inspect(_ tensor: Tensor, _ kind: Anomaly.Kind, _ op: Op?, label: UInt32) {
        guard first == nil, let isNaN = tensor.detached.nonFiniteValue(infinitiesPass: op.map(isMeant) ?? false)
        else { return }
        let anomaly = Anomaly(
            kind: kind, isNaN: isNaN, op: op?.name ?? (kind == .output ? "checkpointed" : ""),
            parameter: ParameterName.text(of: label))
        found.withLock { $0 = anomaly }
    }

    private func isMeant(_ op: Op) -> Bool { op === Op.maskedFill || op === Op.where }
}

extension Tensor {
    /// Whether the first value that is not finite is NaN; nil where all are finite.
    fileprivate func nonFiniteValue(infinitiesPass: Bool) -> Bool? {
        func search<Scalar: BinaryFloatingPoint>(_: Scalar.Type) -> Bool? {
            let dense = contiguous()
            return dense.read { start in
                UnsafeRawBufferPointer(start: start, count: count * dtype.size).bindMemory(to: Scalar.self)
                    .first { infinitiesPass ? $0.isNaN : !$0.isFinite }?.isNaN
            }
        }
        return switch dtype {
        case .float32: search(Float.self)
        case .float64: search(Double.self)
        // No gradients flow through the others.
        default: nil
        }
    }
}

/// The parameter that a record belongs to: its own, that of a parameter among its operands, or that of what its last
/// operand was computed with.
struct RecordLabel {
    let label: UInt32
    /// Whether it was computed from parameters alone.
    private let isParameter: Bool

    /// - Parameters:
    ///   - record: the record.
    ///   - own: the label of a parameter; 0 for what is none.
    ///   - earlier: the labels of the records before it.
    init(of record: Tape.Record, _ own: UInt32, _ earlier: [RecordLabel]) {
        switch record {
        case .leaf: (label, isParameter) = (own, true)
        case .further: self = earlier.last ?? RecordLabel(of: .leaf, own, [])
        default:
            let operands = (record.source?.operands ?? []).map { earlier[Int($0)] }
            let nearest = operands.first { $0.isParameter && $0.label != 0 } ?? operands.last
            label = nearest?.label ?? ThreadState.lastLabel
            isParameter = !operands.isEmpty && operands.allSatisfy(\.isParameter)
        }
    }
}

extension Tape.Record {
    /// The op, and what it was applied to.
    var source: (op: Op, operands: [Int32])? {
        switch self {
        case .one(let op, let operand, _): (op, [operand])
        case .two(let op, let a, _, let b, _): (op, [a, b])
        case .many(let op, let branches): (op, branches.map(\.operand))
        case .joint(let op, let operands, _), .several(let op, let operands, _, _):
            (op, operands.filter { $0 >= 0 })
        case .further(let op): (op, [])
        case .leaf, .recomputed, .spent: nil
        }
    }
}
