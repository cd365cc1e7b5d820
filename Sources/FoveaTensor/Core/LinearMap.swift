/// x·Wᵀ + b, its operands checked: what it writes, and its gradients.
struct LinearMap {
    let x: Tensor
    private let weight: Tensor
    private let bias: Tensor?
    /// Whether the weight is of a storage type, and with that a constant.
    private let isStored: Bool

    /// D.
    var outputs: Int { weight.shape[0] }

    /// - Parameters:
    ///   - op: names the caller in a trap.
    ///   - x: [..., C].
    ///   - weight: [D, C].
    ///   - bias: [D], or nil.
    init(_ op: String, _ x: Tensor, _ weight: Tensor, _ bias: Tensor?) {
        let operands = [x, weight] + (bias.map { [$0] } ?? [])
        guard weight.rank == 2, x.rank >= 1, x.shape[x.rank - 1] == weight.shape[1] else {
            weight.noteLabel()
            trap(op, "the input's last axis must be as long as the weight's second", operands)
        }
        guard bias == nil || bias!.shape == [weight.shape[0]] else {
            trap(op, "the bias must have one element for each row of the weight", operands)
        }
        x.requireDifferentiableType(op)
        isStored = [.bfloat16, .float16].contains(weight.dtype)
        guard isStored || weight.dtype == x.dtype, bias == nil || bias!.dtype == x.dtype else {
            trap(op, "the types differ; cast(to:) one of them", operands)
        }
        weight.noteLabel()
        (self.x, self.weight, self.bias) = (x, weight, bias)
    }

    /// Writes the result to y [..., D], whose features lie without gaps.
    func write(to y: Tensor) {
        let isRead = weight.dtype == .bfloat16 && x.dtype == .float32 && weight.stride(fromLast: 0) == 1
        let matrix = isStored && !isRead ? weight.cast(to: x.dtype) : weight
        let (row, column) = (matrix.stride(fromLast: 0), matrix.stride(fromLast: 1))
        let addend = bias?.contiguous()
        withExtendedLifetime(addend) {
            matrix.read { matrix in
                y.overwrite(
                    withRowsOf: x,
                    times: .init(pointer: matrix, row: row, column: column, isBFloat16: isRead),
                    addend: addend?.read { .init(pointer: $0, row: 0) })
            }
        }
    }

    /// The operands, and what their gradients are. Each captures what it needs itself: the others may be constants.
    ///
    /// - Parameter part: takes the gradient of the result out of that of what the result is a part of.
    func branches(_ part: @escaping (Tensor) -> Tensor = { $0 }) -> [(Tensor, Pullback)] {
        let (outputs, inputs) = (weight.shape[0], weight.shape[1])
        var branches: [(Tensor, Pullback)] = [
            (
                x,
                .into { [weight = weight.detached, shape = x.shape] g, sum in
                    let g = part(g)
                    Tensor.addProduct(
                        g.rank == 1 ? g.unsqueezed(0) : g, weight.cast(to: g.dtype), into: &sum, shape: shape)
                }
            )
        ]
        if !isStored {
            branches.append(
                (
                    weight,
                    .into { [x = x.detached] g, sum in
                        Tensor.addTransposedProduct(part(g), x, into: &sum, shape: [outputs, inputs])
                    }
                ))
        }
        if let bias {
            branches.append(
                (
                    bias,
                    .value { g in
                        let g = part(g)
                        return g.sum(axes: Array(0..<g.rank - 1)).reshaped(to: [outputs])
                    }
                ))
        }
        return branches
    }
}
