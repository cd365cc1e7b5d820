import CKernels

// Sums, differences, products and quotients, with broadcasting: shapes are aligned at their last axes, and an axis of
// length 1 repeats. The gradient of a repeated operand is the sum over its repetitions. NaN and infinities follow
// IEEE 754.

extension Tensor {
    /// The gradient of an operand of `shape` that was broadcast to this gradient's shape.
    func reduced(to shape: [Int]) -> Tensor {
        guard self.shape != shape else { return self }
        let lead = rank - shape.count
        let axes = (0..<rank).filter { $0 < lead || (shape[$0 - lead] == 1 && self.shape[$0] != 1) }
        return sum(axes: axes, keepingAxes: true).reshaped(to: shape)
    }
}

// MARK: add

extension Op {
    public static let add = Op("add", "a + b", linearIn: [0, 1]) { $0.broadcasting { $0 + $1 } }
}

extension Tensor {
    /// a + b, shapes broadcast.
    public static func + (a: Tensor, b: Tensor) -> Tensor {
        combined(a, b, CK_ADD, "+").derived(
            by: .add, from: a, { [shape = a.shape] g in g.reduced(to: shape) }, and: b,
            { [shape = b.shape] g in g.reduced(to: shape) })
    }

    /// a + s for each element.
    public static func + (a: Tensor, s: Double) -> Tensor {
        a.combined(with: s, CK_ADD, "+").derived(by: .add, from: a) { g in g }
    }

    /// s + a for each element.
    public static func + (s: Double, a: Tensor) -> Tensor { a + s }

    /// a becomes a + b, in place where nothing else refers to its memory.
    public static func += (a: inout Tensor, b: Tensor) {
        if a.trace.tape == 0, b.trace.tape == 0, a.shape == b.shape, a.dtype == b.dtype, a.dtype.isDifferentiable {
            a.accumulate(b)
        } else {
            a = a + b
        }
    }
}

// MARK: subtract

extension Op {
    public static let subtract = Op("subtract", "a − b", linearIn: [0, 1]) { $0.broadcasting { $0 - $1 } }
}

extension Tensor {
    /// a − b, shapes broadcast.
    public static func - (a: Tensor, b: Tensor) -> Tensor {
        combined(a, b, CK_SUBTRACT, "-").derived(
            by: .subtract, from: a, { [shape = a.shape] g in g.reduced(to: shape) }, and: b,
            { [shape = b.shape] g in -g.reduced(to: shape) })
    }

    /// a − s for each element.
    public static func - (a: Tensor, s: Double) -> Tensor {
        a.combined(with: s, CK_SUBTRACT, "-").derived(by: .subtract, from: a) { g in g }
    }

    /// s − a for each element.
    public static func - (s: Double, a: Tensor) -> Tensor {
        a.combined(with: s, scalarFirst: true, CK_SUBTRACT, "-").derived(by: .subtract, from: a) { g in -g }
    }
}

// MARK: multiply

extension Op {
    public static let multiply = Op("multiply", "a · b, element by element", linearIn: [0, 1]) {
        $0.broadcasting { $0 * $1 }
    }
}

extension Tensor {
    /// a · b element by element, shapes broadcast.
    public static func * (a: Tensor, b: Tensor) -> Tensor {
        combined(a, b, CK_MULTIPLY, "*").derived(
            by: .multiply, from: a, { [shape = a.shape] g in (g * b).reduced(to: shape) }, and: b,
            { [shape = b.shape] g in (g * a).reduced(to: shape) })
    }

    /// a · s for each element.
    public static func * (a: Tensor, s: Double) -> Tensor {
        a.combined(with: s, CK_MULTIPLY, "*").derived(by: .multiply, from: a) { g in g * s }
    }

    /// s · a for each element.
    public static func * (s: Double, a: Tensor) -> Tensor { a * s }
}

// MARK: divide

extension Op {
    public static let divide = Op("divide", "a / b, element by element", linearIn: [0]) {
        $0.broadcasting({ $0.uniform($1) }, { $0.awayFromZero($1) }) { $0 / $1 }
    }
}

extension Tensor {
    /// a / b element by element, shapes broadcast.
    public static func / (a: Tensor, b: Tensor) -> Tensor {
        let y = combined(a, b, CK_DIVIDE, "/")
        return y.derived(
            by: .divide, from: a, { [shape = a.shape] g in (g / b).reduced(to: shape) }, and: b,
            { [shape = b.shape] g in -(g * y / b).reduced(to: shape) })
    }

    /// a / s for each element.
    public static func / (a: Tensor, s: Double) -> Tensor {
        a.combined(with: s, CK_DIVIDE, "/").derived(by: .divide, from: a) { g in g / s }
    }

    /// s / a for each element.
    public static func / (s: Double, a: Tensor) -> Tensor {
        let y = a.combined(with: s, scalarFirst: true, CK_DIVIDE, "/")
        return y.derived(by: .divide, from: a) { g in -(g * y / a) }
    }
}

// MARK: negate

extension Op {
    public static let negate = Op("negate", "−x", linearIn: [0]) { $0.elementwise { -$0 } }
}

extension Tensor {
    /// −x for each element.
    public static prefix func - (x: Tensor) -> Tensor {
        x.mapped(CK_NEGATE, "-").derived(by: .negate, from: x) { g in -g }
    }
}

// MARK: maximum, minimum

extension Op {
    public static let maximum = Op("maximum", "the larger of a and b, element by element") {
        $0.broadcasting({ $0.distinct($1) }, { $0.distinct($1) + 0.05 }) { FoveaTensor.maximum($0, $1) }
    }
    public static let minimum = Op("minimum", "the smaller of a and b, element by element") {
        $0.broadcasting({ $0.distinct($1) }, { $0.distinct($1) + 0.05 }) { FoveaTensor.minimum($0, $1) }
    }
}

/// The larger of a and b element by element, shapes broadcast. NaN wins, and the gradient then goes to both; a
/// tie splits it in halves.
public func maximum(_ a: Tensor, _ b: Tensor) -> Tensor {
    let y = Tensor.combined(a, b, CK_MAXIMUM, "maximum")
    return y.derived(
        by: .maximum, from: a, { g in (g * share(of: a, over: b)).reduced(to: a.shape) }, and: b,
        { g in (g * share(of: b, over: a)).reduced(to: b.shape) })
}

/// The smaller of a and b element by element, shapes broadcast. NaN wins, and the gradient then goes to both; a
/// tie splits it in halves.
public func minimum(_ a: Tensor, _ b: Tensor) -> Tensor {
    let y = Tensor.combined(a, b, CK_MINIMUM, "minimum")
    return y.derived(
        by: .minimum, from: a, { g in (g * share(of: b, over: a)).reduced(to: a.shape) }, and: b,
        { g in (g * share(of: a, over: b)).reduced(to: b.shape) })
}

/// 0 where high < low, ½ where they are equal, else 1: also where one is NaN, and so the result.
private func share(of high: Tensor, over low: Tensor) -> Tensor {
    1 - Tensor.combined(high, low, CK_LESS, "maximum") - Tensor.combined(high, low, CK_EQUAL, "maximum") * 0.5
}
