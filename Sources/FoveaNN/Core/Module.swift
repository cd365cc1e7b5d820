import FoveaTensor
import OrderedCollections

/// A part of a model: a struct that holds parameters, other modules, and how they compute.
///
/// Modules are values. A copy is a snapshot, so that averages of weights, a best-so-far and inference from several
/// threads need no locks. A module keeps no state of its own between calls, and no parameter carries a flag: what is
/// trained is said where the gradient is taken.
///
/// The one requirement lists the members, each once, with its key:
///
/// ```swift
/// struct Gate: Module {
///     var scale: Tensor  // [C]
///     var projection: Linear
///
///     mutating func visit(_ visitor: inout ModuleVisitor) {
///         visitor.parameter("scale", &scale)
///         visitor.module("projection", &projection)
///     }
/// }
/// ```
///
/// That one walk serves counting, freezing, optimizers, averages, summaries, checkpoints and gradients. The path of a
/// parameter is the keys on the way to it, joined by dots: `gate.projection.weight`.
public protocol Module: Sendable {
    /// Shows each member to the visitor, always in the same order.
    mutating func visit(_ visitor: inout ModuleVisitor)
}

/// Walks a module and does something with each parameter.
public struct ModuleVisitor {
    private let visitParameter: (String, inout Tensor) -> Void
    private let enterModule: ((String, any Module.Type) -> Void)?
    private let streamKey: RandomKey?
    private var prefix = ""

    /// - Parameters:
    ///   - enterModule: called before a module's members, with its path and type.
    ///   - streamKey: what the random streams of the modules get; nil turns them off.
    ///   - parameter: called with each parameter's path.
    init(
        enterModule: ((String, any Module.Type) -> Void)? = nil, streamKey: RandomKey? = nil,
        parameter: @escaping (String, inout Tensor) -> Void
    ) {
        visitParameter = parameter
        self.enterModule = enterModule
        self.streamKey = streamKey
    }

    /// A trainable tensor.
    public mutating func parameter(_ key: String, _ tensor: inout Tensor) {
        visitParameter(prefix + key, &tensor)
    }

    /// A trainable tensor that some configurations do without.
    public mutating func parameter(_ key: String, _ tensor: inout Tensor?) {
        guard var value = tensor else { return }
        // Empties the member first, so that the walk holds the only reference to the memory.
        tensor = nil
        visitParameter(prefix + key, &value)
        tensor = value
    }

    /// A module inside this one.
    public mutating func module<Member: Module>(_ key: String, _ member: inout Member) {
        let outer = prefix
        enterModule?(outer + key, Member.self)
        prefix += key + "."
        member.visit(&self)
        prefix = outer
    }

    /// A module that some configurations do without.
    public mutating func module<Member: Module>(_ key: String, _ member: inout Member?) {
        guard var value = member else { return }
        member = nil
        module(key, &value)
        member = value
    }

    /// A layer of any kind that some configurations do without.
    public mutating func module(_ key: String, _ member: inout (any UnaryLayer)?) {
        guard var value = member else { return }
        member = nil
        module(key, &value)
        member = value
    }

    /// Modules in a row: `key.0`, `key.1`, …
    public mutating func modules<Member: Module>(_ key: String, _ members: inout [Member]) {
        for index in members.indices { module("\(key).\(index)", &members[index]) }
    }

    /// The random numbers that a module draws in training.
    public mutating func randomStream(_ key: String, _ stream: inout RandomStream) {
        stream.key = streamKey?.folding(prefix + key)
    }
}

/// Random numbers for a module, such as dropout's: a key made of the run's seed, the step and the module's path.
///
/// Off (nil) except in the copy of the model that a gradient with `randomness` is taken of: inference needs no switch
/// to turn dropout off.
public struct RandomStream: Sendable {
    /// The key of this call's numbers, nil when nothing random shall happen.
    public fileprivate(set) var key: RandomKey?

    /// A stream that is off.
    public init() {}
}

extension Module {
    /// Calls `body` with each parameter and its path, in the order of `visit`; changes stay.
    public mutating func forEachParameter(_ body: (String, inout Tensor) -> Void) {
        withoutActuallyEscaping(body) { body in
            var visitor = ModuleVisitor(parameter: body)
            visit(&visitor)
        }
    }

    /// The parameters by path, in the order of `visit`.
    public var parameters: OrderedDictionary<String, Tensor> {
        var parameters: OrderedDictionary<String, Tensor> = [:]
        var copy = self
        copy.forEachParameter { path, tensor in
            if parameters.updateValue(tensor, forKey: path) != nil {
                trap("visit", "two parameters of \(Self.self) have the path \(path)", tensor)
            }
        }
        return parameters
    }

    /// How many numbers the parameters hold.
    public var parameterCount: Int { parameters.values.reduce(0) { $0 + $1.count } }

    /// Bytes that the parameters take.
    package var parameterBytes: Int { parameters.values.reduce(0) { $0 + $1.count * $1.dtype.size } }

    /// The same module with its parameters in another type: float64 to check gradients.
    public func cast(to dtype: DType) -> Self {
        var copy = self
        copy.forEachParameter { _, tensor in tensor = tensor.cast(to: dtype) }
        return copy
    }

    /// The same module whose parameters know their paths, so that shape errors can name them.
    public func named() -> Self {
        var copy = self
        copy.forEachParameter { path, tensor in tensor.label = ParameterName.intern(path) }
        return copy
    }

    /// The copy that a gradient is taken of: parameters that pass the filter are leaves of the tape.
    func traced(
        on tape: Tape, where filter: ParameterFilter, randomness: RandomKey?,
        _ leaf: (String, Tensor) -> Void
    ) -> Self {
        var copy = self
        withoutActuallyEscaping(leaf) { leaf in
            var visitor = ModuleVisitor(streamKey: randomness) { path, tensor in
                tensor.label = ParameterName.intern(path)
                guard tensor.dtype.isDifferentiable, filter.accepts(path, tensor) else { return }
                tape.refuseTracedOutside(tensor, "valueAndGradient")
                tensor = tape.leaf(tensor)
                leaf(path, tensor)
            }
            copy.visit(&visitor)
        }
        return copy
    }

    /// A table of the modules and parameters with shapes and counts, for people.
    public func summary() -> String {
        var lines: [(name: String, shape: String, count: Int?)] = []
        var total = 0
        var copy = self
        var visitor = ModuleVisitor(
            enterModule: { path, type in
                let depth = path.split(separator: ".").count - 1
                lines.append((String(repeating: "  ", count: depth) + path + ": \(type)", "", nil))
            },
            parameter: { path, tensor in
                let depth = path.split(separator: ".").count - 1
                let name = path.split(separator: ".").last.map(String.init) ?? path
                total += tensor.count
                lines.append((String(repeating: "  ", count: depth) + name, "\(tensor.shape)", tensor.count))
            })
        copy.visit(&visitor)
        let nameWidth = lines.map(\.name.count).max() ?? 0
        let shapeWidth = lines.map(\.shape.count).max() ?? 0
        func padded(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(0, width - text.count))
        }
        let rows = lines.map { line in
            line.count.map {
                "\(padded(line.name, nameWidth))  \(padded(line.shape, shapeWidth))  \($0)"
            } ?? line.name
        }
        return (rows + ["\(Self.self): \(total) parameters"]).joined(separator: "\n")
    }
}
