extension Tensor {
    /// Records that this tensor was computed from `x`, so that gradients flow back through it.
    ///
    /// This is what every op of the library ends with, and what a user's own op needs:
    ///
    /// ```swift
    /// func cube(_ x: Tensor) -> Tensor {
    ///     withoutGradient { x * x * x }.derived(by: .cubed, from: x) { g in g * (x * x) * 3 }
    /// }
    /// ```
    ///
    /// Its entry, `cubed` of `Op`, has samples that call it. (A function of the entry's own name would be taken for the entry in
    /// that closure.)
    ///
    /// Without an open tape, or when `x` is not traced by it, the tensor comes back as it is and the closure is dropped
    /// with everything it captured.
    ///
    /// - Parameters:
    ///   - op: the catalogue entry of the op.
    ///   - x: the operand.
    ///   - pullback: from the gradient of the output, of this tensor's shape, to the gradient of `x`, of its shape.
    public func derived(by op: Op, from x: Tensor, _ pullback: @escaping (Tensor) -> Tensor) -> Tensor {
        guard let tape = Tape.recording(x) else { return self }
        return tape.recorded(self, .one(op, x.trace.index, .value(pullback)))
    }

    /// Records that this tensor was computed from two operands, each with its own pullback. One that is not traced
    /// costs nothing: its pullback is dropped, never called, and what it alone captured is not kept.
    public func derived(
        by op: Op, from a: Tensor, _ pullbackA: @escaping (Tensor) -> Tensor, and b: Tensor,
        _ pullbackB: @escaping (Tensor) -> Tensor
    ) -> Tensor {
        recorded(op, a, .value(pullbackA), b, .value(pullbackB))
    }

    func recorded(_ op: Op, _ a: Tensor, _ pullbackA: Pullback, _ b: Tensor, _ pullbackB: Pullback) -> Tensor {
        switch (Tape.recording(a), Tape.recording(b)) {
        case (nil, nil): self
        case (let tape?, nil): tape.recorded(self, .one(op, a.trace.index, pullbackA))
        case (nil, let tape?): tape.recorded(self, .one(op, b.trace.index, pullbackB))
        case (let tape?, _?): tape.recorded(self, .two(op, a.trace.index, pullbackA, b.trace.index, pullbackB))
        }
    }

    /// Records that this tensor was computed from any number of operands, each with a pullback that may add to its sum
    /// in place.
    package func recorded(_ op: Op, _ operands: [(Tensor, Pullback)]) -> Tensor {
        var tape: Tape?
        var branches: [(operand: Int32, pullback: Pullback)] = []
        for (operand, pullback) in operands {
            guard let recording = Tape.recording(operand) else { continue }
            tape = recording
            branches.append((operand.trace.index, pullback))
        }
        guard let tape else { return self }
        return tape.recorded(self, .many(op, branches))
    }

    /// Records that this tensor was computed from operands whose gradients share their work.
    ///
    /// - Parameters:
    ///   - op: the catalogue entry of the op.
    ///   - operands: the tensors that gradients flow back to.
    ///   - pullback: from the gradient of the output, and which operands want theirs, to the gradients in the
    ///     operands' order; nil for those not wanted.
    public func derived(
        by op: Op, from operands: [Tensor], _ pullback: @escaping (Tensor, [Bool]) -> [Tensor?]
    ) -> Tensor {
        var tape: Tape?
        let indices = operands.map { operand -> Int32 in
            guard let recording = Tape.recording(operand) else { return -1 }
            tape = recording
            return operand.trace.index
        }
        guard let tape else { return self }
        return tape.recorded(self, .joint(op, indices, pullback))
    }

    /// Records that several tensors were computed by one op from the same operands.
    ///
    /// - Parameters:
    ///   - outputs: what the op computed.
    ///   - op: the catalogue entry of the op.
    ///   - operands: what it computed them from.
    ///   - pullback: from the gradients of the outputs, nil for those that nothing depends on, and which operands want
    ///     theirs, to the gradients in the operands' order.
    /// - Returns: the outputs, traced where an operand is.
    public static func derived(
        _ outputs: [Tensor], by op: Op, from operands: [Tensor],
        _ pullback: @escaping ([Tensor?], [Bool]) -> [Tensor?]
    ) -> [Tensor] {
        var tape: Tape?
        let indices = operands.map { operand -> Int32 in
            guard let recording = Tape.recording(operand) else { return -1 }
            tape = recording
            return operand.trace.index
        }
        guard let tape, let first = outputs.first else { return outputs }
        let head = tape.recorded(first, .several(op, indices, outputs: outputs.count, pullback))
        return [head] + outputs.dropFirst().map { tape.recorded($0, .further(op)) }
    }
}

/// A tensor that a pullback needs once and may overwrite: taken out when the gradient is computed, so that its memory can
/// become the gradient's.
final class Saved {
    private var tensor: Tensor?

    init(_ tensor: Tensor) { self.tensor = tensor }

    /// The tensor; a pullback runs once, and so this is called once.
    func take() -> Tensor {
        defer { tensor = nil }
        return tensor!
    }
}
