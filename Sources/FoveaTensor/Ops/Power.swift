import CKernels

// Powers and their inverses. x: [any shape]; the tensors of `power` broadcast.

extension Op {
    static let powers: [Op] = [.power, .reciprocal, .rsqrt, .log1p, .expm1]
}

// MARK: power

extension Op {
    public static let power = Op("power", "aᵇ, element by element") { source in
        var samples = source.broadcasting({ $0.uniform($1, 0.3...2) }) { FoveaTensor.power($0, $1) }
        let numbers: [(String, Double)] = [
            ("cubed", 3), ("to the −2", -2), ("to the 0", 0), ("to the 1", 1), ("to the 2.5", 2.5),
        ]
        for (label, exponent) in numbers {
            samples.append(
                OpSample(label, [source.uniform([2, 3], 0.3...2)]) { FoveaTensor.power($0[0], exponent) })
        }
        samples += [
            OpSample("negative base", [source.uniform([5], -2...(-0.3))]) { FoveaTensor.power($0[0], 3) },
            OpSample("2 to the x", [source.uniform([2, 3])]) { FoveaTensor.power(2, $0[0]) },
        ]
        return samples
    }
}

/// aᵇ element by element, shapes broadcast: the C library's `pow`. x⁰ is 1 whatever x is, NaN too; a negative base has
/// powers with integral exponents only, the others are NaN.
///
/// The gradient of a is b · aᵇ⁻¹, and 0 where b is 0. That of b is aᵇ · log a, 0 where a is 0 and b ≥ 0, and NaN where a
/// is negative.
public func power(_ a: Tensor, _ b: Tensor) -> Tensor {
    Tensor.combined(a, b, CK_POWER, "power", grain: Kernels.heavyGrain).derived(
        by: .power, from: a,
        { [shape = a.shape] g in
            (g * Tensor.combined(a, b, CK_POWER_BASE_SLOPE, "power", grain: Kernels.heavyGrain)).reduced(to: shape)
        }, and: b,
        { [shape = b.shape] g in
            (g * Tensor.combined(a, b, CK_POWER_EXPONENT_SLOPE, "power", grain: Kernels.heavyGrain)).reduced(to: shape)
        })
}

/// xˢ for each element. `square`, `sqrt`, `rsqrt` and `reciprocal` are faster where they fit.
public func power(_ x: Tensor, _ s: Double) -> Tensor {
    x.combined(with: s, CK_POWER, "power").derived(by: .power, from: x) { g in
        g * x.combined(with: s, CK_POWER_BASE_SLOPE, "power")
    }
}

/// sˣ for each element.
public func power(_ s: Double, _ x: Tensor) -> Tensor {
    x.combined(with: s, scalarFirst: true, CK_POWER, "power").derived(by: .power, from: x) { g in
        g * x.combined(with: s, scalarFirst: true, CK_POWER_EXPONENT_SLOPE, "power")
    }
}

// MARK: reciprocal

extension Op {
    public static let reciprocal = Op("reciprocal", "1 / x") {
        $0.elementwise({ $0.awayFromZero($1) }) { $0.reciprocal() }
    }
}

extension Tensor {
    /// 1 / x for each element: ±∞ of ±0, where the gradient is −∞.
    public func reciprocal() -> Tensor {
        let y = mapped(CK_RECIPROCAL, "reciprocal")
        return y.derived(by: .reciprocal, from: self) { g in
            Tensor.combined(y, g, CK_RECIPROCAL_GRADIENT, "reciprocal")
        }
    }
}

// MARK: rsqrt

extension Op {
    public static let rsqrt = Op("rsqrt", "1 / √x") { $0.elementwise({ $0.uniform($1, 0.3...3) }) { $0.rsqrt() } }
}

extension Tensor {
    /// 1 / √x for each element: ∞ of 0, where the gradient is −∞; NaN below.
    public func rsqrt() -> Tensor {
        let y = mapped(CK_RSQRT, "rsqrt")
        return y.derived(by: .rsqrt, from: self) { g in Tensor.combined(y, g, CK_RSQRT_GRADIENT, "rsqrt") }
    }
}

// MARK: log1p

extension Op {
    public static let log1p = Op("log1p", "log(1 + x), exact near 0") {
        $0.elementwise({ $0.uniform($1, -0.7...3) }) { $0.log1p() }
    }
}

extension Tensor {
    /// log(1 + x) for each element without losing the digits of a small x: −∞ of −1, NaN below.
    public func log1p() -> Tensor {
        mapped(CK_LOG1P, "log1p", grain: Kernels.heavyGrain).derived(by: .log1p, from: self) { g in g / (self + 1) }
    }
}

// MARK: expm1

extension Op {
    public static let expm1 = Op("expm1", "eˣ − 1, exact near 0") { $0.elementwise { $0.expm1() } }
}

extension Tensor {
    /// eˣ − 1 for each element without losing the digits of a small x.
    public func expm1() -> Tensor {
        let y = mapped(CK_EXPM1, "expm1", grain: Kernels.heavyGrain)
        return y.derived(by: .expm1, from: self) { g in g * (y + 1) }
    }
}
