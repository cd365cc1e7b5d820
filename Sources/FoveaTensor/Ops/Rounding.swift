import CKernels

// Steps, element by element: constant between their jumps, so that their gradient is 0 everywhere, at the jumps and at
// NaN too. x: [any shape]; NaN and infinities stay.

extension Op {
    static let rounding: [Op] = [.sign, .floor, .ceil, .round]
}

extension Tensor {
    /// Zeros as the gradient of this result of `op`.
    fileprivate func flat(_ op: Op, from x: Tensor) -> Tensor {
        derived(by: op, from: x) { g in .zeros(g.shape, dtype: g.dtype) }
    }
}

// MARK: sign

extension Op {
    public static let sign = Op("sign", "−1, 0 or 1 after the sign") {
        $0.elementwise({ $0.awayFromZero($1) }) { $0.sign() }
    }
}

extension Tensor {
    /// −1 below 0, 0 at 0, 1 above, for each element; the gradient is 0. NaN stays NaN, so that it shows in what follows;
    /// PyTorch makes it 0.
    public func sign() -> Tensor { mapped(CK_SIGN, "sign").flat(.sign, from: self) }
}

// MARK: floor

extension Op {
    public static let floor = Op("floor", "the integer at or below") { $0.elementwise { $0.floor() } }
}

extension Tensor {
    /// The largest integer that is not above each element; the gradient is 0.
    public func floor() -> Tensor { mapped(CK_FLOOR, "floor").flat(.floor, from: self) }
}

// MARK: ceil

extension Op {
    public static let ceil = Op("ceil", "the integer at or above") { $0.elementwise { $0.ceil() } }
}

extension Tensor {
    /// The smallest integer that is not below each element; the gradient is 0.
    public func ceil() -> Tensor { mapped(CK_CEIL, "ceil").flat(.ceil, from: self) }
}

// MARK: round

extension Op {
    public static let round = Op("round", "the nearest integer, ties to even") { $0.elementwise { $0.round() } }
}

extension Tensor {
    /// The integer nearest to each element, the even one of two; the gradient is 0.
    public func round() -> Tensor { mapped(CK_ROUND, "round").flat(.round, from: self) }
}
