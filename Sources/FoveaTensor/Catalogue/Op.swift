/// The catalogue entry of an op: its name, what it computes, and inputs to try it on.
///
/// An op stands in one place: its documentation, its forward, its gradient and this entry. Recording an op takes its
/// entry, so that a differentiable op without one does not compile. Tests, documentation and `fovea gradcheck` walk
/// `Op.catalogue`.
public final class Op: Sendable {
    /// The name in the catalogue: the field's term, in camel case.
    public let name: String
    /// What it computes, in one line.
    public let summary: String
    /// Whether gradients flow through it. The others return constants.
    public let isDifferentiable: Bool
    /// The operands in each of which it is linear up to a constant, the others fixed.
    public let linearOperands: [Int]
    /// How the check of its gradient differs from the others', and why; nil for most.
    public let exception: String?
    private let makeSamples: @Sendable (inout SampleSource) -> [OpSample]

    /// - Parameters:
    ///   - name: the field's term, in camel case.
    ///   - summary: what it computes, in one line.
    ///   - differentiable: whether gradients flow through it.
    ///   - linearIn: the operands in each of which it is linear up to a constant, the others fixed, counted through the
    ///     inputs of the samples; positions that a sample does not have are ignored. Tests check that such a gradient is
    ///     the adjoint to the last digits, and that no op is linear without saying so.
    ///   - exception: how the check of its gradient differs from the others', and why.
    ///   - samples: calls of the op on small inputs, at least one; its floating-point inputs are the ones
    ///     differentiated.
    public init(
        _ name: String, _ summary: String, differentiable: Bool = true, linearIn linearOperands: [Int] = [],
        exception: String? = nil,
        samples: @escaping @Sendable (inout SampleSource) -> [OpSample]
    ) {
        self.name = name
        self.summary = summary
        isDifferentiable = differentiable
        self.linearOperands = linearOperands
        self.exception = exception
        makeSamples = samples
    }

    /// The op on small inputs that cover its cases; the same each time for one seed.
    public func samples(seed: UInt64 = 0) -> [OpSample] {
        var source = SampleSource(key: RandomKey(seed: seed).folding(name))
        return makeSamples(&source)
    }
}

/// One call of an op on inputs to try it on.
public struct OpSample: Sendable {
    /// What is special about this call.
    public let label: String
    /// The operands, float64 where they are floating-point.
    public let inputs: [Tensor]
    /// The step of finite differences, where the usual one does not fit.
    public let step: Double?
    /// The op applied to operands of the inputs' shapes and types.
    public let run: @Sendable ([Tensor]) -> Tensor

    /// A call of an op.
    public init(
        _ label: String, _ inputs: [Tensor], step: Double? = nil, run: @escaping @Sendable ([Tensor]) -> Tensor
    ) {
        self.label = label
        self.inputs = inputs
        self.step = step
        self.run = run
    }
}

/// Draws the inputs of samples.
public struct SampleSource {
    private let key: RandomKey
    private var drawn: UInt64 = 0

    /// A source whose draws depend on the key alone.
    public init(key: RandomKey) { self.key = key }

    private mutating func nextKey() -> RandomKey {
        drawn += 1
        return key.folding(drawn)
    }

    /// float64 numbers spread evenly over a range.
    public mutating func uniform(_ shape: [Int], _ range: ClosedRange<Double> = -2...2) -> Tensor {
        .uniform(shape, in: range, key: nextKey(), dtype: .float64)
    }

    /// Numbers at least `gap` away from zero on either side, for ops with a kink or a pole there.
    public mutating func awayFromZero(_ shape: [Int], gap: Double = 0.3) -> Tensor {
        let size = Tensor.uniform(shape, in: gap...2, key: nextKey(), dtype: .float64)
        let side = nextKey()
        let signs = (0..<size.count).map { side.uniform(at: $0) < 0.5 ? -1.0 : 1.0 }
        return size * Tensor(signs, shape: shape)
    }

    /// Numbers no two of which are closer than `gap`, for ops that choose among their inputs.
    public mutating func distinct(_ shape: [Int], gap: Double = 0.1) -> Tensor {
        let count = shape.reduce(1, *)
        let order = nextKey().permutation(of: count)
        return Tensor(order.map { (Double($0) - Double(count) / 2) * gap }, shape: shape)
    }

    /// int64 numbers in 0 ..< bound.
    public mutating func integers(_ shape: [Int], below bound: Int) -> Tensor {
        let key = nextKey()
        return Tensor((0..<shape.reduce(1, *)).map { Int64(key.integer(below: bound, at: $0)) }, shape: shape)
    }

    /// The calls that every op of one operand, element by element, must pass: scalar, vector, empty, a tail after full
    /// vectors, a transposed and a sliced view.
    public mutating func elementwise(
        _ draw: (inout SampleSource, [Int]) -> Tensor = { $0.uniform($1) },
        _ run: @escaping @Sendable (Tensor) -> Tensor
    ) -> [OpSample] {
        let body: @Sendable ([Tensor]) -> Tensor = { run($0[0]) }
        return [
            OpSample("matrix", [draw(&self, [3, 4])], run: body),
            OpSample("scalar", [draw(&self, [])], run: body),
            OpSample("empty", [draw(&self, [0, 3])], run: body),
            OpSample("tail", [draw(&self, [19])], run: body),
            OpSample("transposed", [draw(&self, [4, 3]).transposed(0, 1)], run: body),
            OpSample("sliced", [draw(&self, [5, 6]).sliced(axis: 1, 1..<6, step: 2)], run: body),
        ]
    }

    /// The calls that every op of two operands, element by element, must pass: equal shapes, each way of broadcasting,
    /// views and empties.
    public mutating func broadcasting(
        _ drawA: (inout SampleSource, [Int]) -> Tensor = { $0.uniform($1) },
        _ drawB: (inout SampleSource, [Int]) -> Tensor = { $0.uniform($1) },
        _ run: @escaping @Sendable (Tensor, Tensor) -> Tensor
    ) -> [OpSample] {
        let body: @Sendable ([Tensor]) -> Tensor = { run($0[0], $0[1]) }
        let shapes: [(String, [Int], [Int])] = [
            ("equal", [3, 4], [3, 4]), ("scalars", [], []), ("row", [3, 4], [4]), ("column", [3, 1], [3, 4]),
            ("outer", [3, 1], [1, 4]), ("scalar and tensor", [], [2, 3]), ("ranks", [2, 1, 3], [4, 1]),
            ("empty", [0, 4], [1, 4]), ("tail", [37], [37]),
        ]
        var samples = shapes.map { OpSample($0.0, [drawA(&self, $0.1), drawB(&self, $0.2)], run: body) }
        samples.append(
            OpSample(
                "views",
                [drawA(&self, [4, 3]).transposed(0, 1), drawB(&self, [3, 8]).sliced(axis: 1, 0..<8, step: 2)], run: body
            ))
        return samples
    }
}
