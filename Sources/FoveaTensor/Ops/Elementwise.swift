import CKernels

// Functions of one operand, element by element. The result has the operand's shape and type; x: [any shape].

// MARK: exp

extension Op {
    public static let exp = Op("exp", "eˣ") { $0.elementwise { $0.exp() } }
}

extension Tensor {
    /// eˣ for each element.
    public func exp() -> Tensor {
        let y = mapped(CK_EXP, "exp", grain: Kernels.heavyGrain)
        return y.derived(by: .exp, from: self) { g in g * y }
    }
}

// MARK: log

extension Op {
    public static let log = Op("log", "the natural logarithm") {
        $0.elementwise({ $0.uniform($1, 0.3...3) }) { $0.log() }
    }
}

extension Tensor {
    /// The natural logarithm of each element: −∞ of 0, NaN below.
    public func log() -> Tensor {
        mapped(CK_LOG, "log", grain: Kernels.heavyGrain).derived(by: .log, from: self) { g in g / self }
    }
}

// MARK: sqrt

extension Op {
    public static let sqrt = Op("sqrt", "the square root") { $0.elementwise({ $0.uniform($1, 0.3...3) }) { $0.sqrt() } }
}

extension Tensor {
    /// The square root of each element: NaN below 0. The gradient at 0 is infinite.
    public func sqrt() -> Tensor {
        let y = mapped(CK_SQRT, "sqrt")
        return y.derived(by: .sqrt, from: self) { g in g / (y * 2) }
    }
}

// MARK: square

extension Op {
    public static let square = Op("square", "x²") { $0.elementwise { $0.square() } }
}

extension Tensor {
    /// x² for each element.
    public func square() -> Tensor {
        mapped(CK_SQUARE, "square").derived(by: .square, from: self) { g in g * self * 2 }
    }
}

// MARK: abs

extension Op {
    public static let abs = Op("abs", "the absolute value") { $0.elementwise({ $0.awayFromZero($1) }) { $0.abs() } }
}

extension Tensor {
    /// The absolute value of each element. The gradient at 0 is 0, and at NaN it is NaN, where PyTorch gives 0.
    public func abs() -> Tensor {
        mapped(CK_ABS, "abs").derived(by: .abs, from: self) { g in Tensor.combined(self, g, CK_ABS_GRADIENT, "abs") }
    }
}

// MARK: tanh

extension Op {
    public static let tanh = Op("tanh", "the hyperbolic tangent") { $0.elementwise { $0.tanh() } }
}

extension Tensor {
    /// The hyperbolic tangent of each element.
    public func tanh() -> Tensor {
        let y = mapped(CK_TANH, "tanh", grain: Kernels.heavyGrain)
        return y.derived(by: .tanh, from: self) { g in Tensor.combined(y, g, CK_TANH_GRADIENT, "tanh") }
    }
}

// MARK: sigmoid

extension Op {
    public static let sigmoid = Op("sigmoid", "1 / (1 + e⁻ˣ)") { $0.elementwise { $0.sigmoid() } }
}

extension Tensor {
    /// The logistic function 1 / (1 + e⁻ˣ) of each element.
    public func sigmoid() -> Tensor {
        let y = mapped(CK_SIGMOID, "sigmoid", grain: Kernels.heavyGrain)
        return y.derived(by: .sigmoid, from: self) { g in Tensor.combined(y, g, CK_SIGMOID_GRADIENT, "sigmoid") }
    }
}

// MARK: erf

extension Op {
    public static let erf = Op("erf", "the error function") { $0.elementwise { $0.erf() } }
}

extension Tensor {
    /// The error function of each element.
    public func erf() -> Tensor {
        mapped(CK_ERF, "erf", grain: Kernels.heavyGrain).derived(by: .erf, from: self) { g in
            Tensor.combined(self, g, CK_ERF_GRADIENT, "erf", grain: Kernels.heavyGrain)
        }
    }
}

// MARK: relu

extension Op {
    public static let relu = Op("relu", "max(x, 0)") { $0.elementwise({ $0.awayFromZero($1) }) { $0.relu() } }
}

extension Tensor {
    /// max(x, 0) for each element. The gradient at 0 is 0. NaN stays NaN, in the gradient too, where PyTorch passes it on.
    public func relu() -> Tensor {
        mapped(CK_RELU, "relu").derived(by: .relu, from: self) { g in Tensor.combined(self, g, CK_RELU_GRADIENT, "relu")
        }
    }
}

// MARK: gelu

extension Op {
    public static let gelu = Op("gelu", "x · Φ(x), exact") { $0.elementwise { $0.gelu() } }
}

extension Tensor {
    /// x · Φ(x) for each element, Φ the normal distribution function: the exact GELU, not its tanh form. NaN at −∞, as in
    /// PyTorch; the gradient at −∞ and ∞ is its limit, 0 and 1, where PyTorch gives NaN.
    /// (Hendrycks and Gimpel, "Gaussian error linear units", 2016.)
    public func gelu() -> Tensor {
        mapped(CK_GELU, keepingSlope: CK_SLOPED_GELU, .gelu)
    }
}
