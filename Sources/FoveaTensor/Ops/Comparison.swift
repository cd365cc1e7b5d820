import CKernels

// Comparisons, element by element: bool, a constant to any gradient. The operands are of one type, float32, float64,
// int64, int32, uint8 or bool, and broadcast. Like IEEE 754: a comparison with NaN is false, but `.!=`, which is true.
//
// They are spelled as Swift spells pointwise comparisons; `==` and `<` would promise a single Bool.

extension Op {
    static let comparisons: [Op] = [
        .equal, .notEqual, .less, .lessOrEqual, .greater, .greaterOrEqual, .isNaN, .isFinite,
    ]

    /// A comparison, on numbers that are often equal.
    private static func comparison(
        _ source: inout SampleSource, _ run: @escaping @Sendable (Tensor, Tensor) -> Tensor,
        number: @escaping @Sendable (Tensor) -> Tensor
    ) -> [OpSample] {
        var samples = source.broadcasting(
            { $0.integers($1, below: 3).cast(to: .float64) }, { $0.integers($1, below: 3).cast(to: .float64) }, run)
        for type in [DType.int64, .int32, .uint8, .bool] {
            let (a, b) = (source.integers([5, 4], below: 3), source.integers([4], below: 3))
            samples.append(OpSample("\(type)", [a.cast(to: type), b.cast(to: type)]) { run($0[0], $0[1]) })
        }
        samples.append(OpSample("number", [source.integers([11], below: 3)]) { number($0[0]) })
        return samples
    }
}

extension Tensor {
    /// A number as a scalar of this tensor's type.
    fileprivate func scalar(_ s: Double, _ op: String) -> Tensor {
        let scalar = Tensor.full([], s, dtype: dtype)
        guard dtype.isFloatingPoint || scalar.item() == s else { trap(op, "\(s) is no \(dtype) number", self) }
        return scalar
    }
}

// MARK: equal

extension Op {
    public static let equal = Op("equal", "whether a = b", differentiable: false) {
        comparison(&$0, { $0 .== $1 }, number: { $0 .== 1 })
    }
}

extension Tensor {
    /// Whether a = b, for each element: bool, shapes broadcast.
    public static func .== (a: Tensor, b: Tensor) -> Tensor { compared(a, b, CK_IS_EQUAL, ".==") }

    /// Whether a = s, for each element. Traps when s is no number of a's integer type.
    public static func .== (a: Tensor, s: Double) -> Tensor { compared(a, a.scalar(s, ".=="), CK_IS_EQUAL, ".==") }
}

// MARK: notEqual

extension Op {
    public static let notEqual = Op("notEqual", "whether a ≠ b", differentiable: false) {
        comparison(&$0, { $0 .!= $1 }, number: { $0 .!= 1 })
    }
}

extension Tensor {
    /// Whether a ≠ b, for each element: bool, shapes broadcast.
    public static func .!= (a: Tensor, b: Tensor) -> Tensor { compared(a, b, CK_IS_NOT_EQUAL, ".!=") }

    /// Whether a ≠ s, for each element. Traps when s is no number of a's integer type.
    public static func .!= (a: Tensor, s: Double) -> Tensor { compared(a, a.scalar(s, ".!="), CK_IS_NOT_EQUAL, ".!=") }
}

// MARK: less

extension Op {
    public static let less = Op("less", "whether a < b", differentiable: false) {
        comparison(&$0, { $0 .< $1 }, number: { $0 .< 1 })
    }
}

extension Tensor {
    /// Whether a < b, for each element: bool, shapes broadcast.
    public static func .< (a: Tensor, b: Tensor) -> Tensor { compared(a, b, CK_IS_LESS, ".<") }

    /// Whether a < s, for each element. Traps when s is no number of a's integer type.
    public static func .< (a: Tensor, s: Double) -> Tensor { compared(a, a.scalar(s, ".<"), CK_IS_LESS, ".<") }
}

// MARK: lessOrEqual

extension Op {
    public static let lessOrEqual = Op("lessOrEqual", "whether a ≤ b", differentiable: false) {
        comparison(&$0, { $0 .<= $1 }, number: { $0 .<= 1 })
    }
}

extension Tensor {
    /// Whether a ≤ b, for each element: bool, shapes broadcast.
    public static func .<= (a: Tensor, b: Tensor) -> Tensor { compared(a, b, CK_IS_LESS_OR_EQUAL, ".<=") }

    /// Whether a ≤ s, for each element. Traps when s is no number of a's integer type.
    public static func .<= (a: Tensor, s: Double) -> Tensor {
        compared(a, a.scalar(s, ".<="), CK_IS_LESS_OR_EQUAL, ".<=")
    }
}

// MARK: greater

extension Op {
    public static let greater = Op("greater", "whether a > b", differentiable: false) {
        comparison(&$0, { $0 .> $1 }, number: { $0 .> 1 })
    }
}

extension Tensor {
    /// Whether a > b, for each element: bool, shapes broadcast.
    public static func .> (a: Tensor, b: Tensor) -> Tensor { compared(b, a, CK_IS_LESS, ".>") }

    /// Whether a > s, for each element. Traps when s is no number of a's integer type.
    public static func .> (a: Tensor, s: Double) -> Tensor { compared(a.scalar(s, ".>"), a, CK_IS_LESS, ".>") }
}

// MARK: greaterOrEqual

extension Op {
    public static let greaterOrEqual = Op("greaterOrEqual", "whether a ≥ b", differentiable: false) {
        comparison(&$0, { $0 .>= $1 }, number: { $0 .>= 1 })
    }
}

extension Tensor {
    /// Whether a ≥ b, for each element: bool, shapes broadcast.
    public static func .>= (a: Tensor, b: Tensor) -> Tensor { compared(b, a, CK_IS_LESS_OR_EQUAL, ".>=") }

    /// Whether a ≥ s, for each element. Traps when s is no number of a's integer type.
    public static func .>= (a: Tensor, s: Double) -> Tensor {
        compared(a.scalar(s, ".>="), a, CK_IS_LESS_OR_EQUAL, ".>=")
    }
}

// MARK: isNaN, isFinite

extension Op {
    public static let isNaN = Op("isNaN", "whether x is NaN", differentiable: false) { source in
        source.elementwise { $0.isNaN() }
            + [OpSample("special", [Tensor([1, -Double.infinity, .nan, .infinity, 0])]) { $0[0].isNaN() }]
    }
    public static let isFinite = Op("isFinite", "whether x is neither infinite nor NaN", differentiable: false) {
        source in
        source.elementwise { $0.isFinite() }
            + [OpSample("special", [Tensor([1, -Double.infinity, .nan, .infinity, 0])]) { $0[0].isFinite() }]
    }
}

extension Tensor {
    /// Whether each element is NaN: bool. x: float32 or float64.
    public func isNaN() -> Tensor {
        requireDifferentiableType("isNaN")
        return Tensor.compared(self, self, CK_IS_NOT_EQUAL, "isNaN")
    }

    /// Whether each element is neither infinite nor NaN: bool. x: float32 or float64.
    public func isFinite() -> Tensor {
        mapped(CK_ABS, "isFinite") .< .infinity
    }
}
