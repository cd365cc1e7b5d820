import CKernels

// Activation functions, element by element; `relu`, `gelu`, `tanh` and `sigmoid` stand in Elementwise.swift.
// The result has the operand's shape and type; x: [any shape].

extension Op {
    static let activations: [Op] = [.squaredRelu, .leakyRelu, .geluTanh, .silu, .swiGLU, .softplus, .elu, .clamp]
}

// MARK: squaredRelu

extension Op {
    public static let squaredRelu = Op("squaredRelu", "max(x, 0)²") { $0.elementwise { $0.squaredRelu() } }
}

extension Tensor {
    /// max(x, 0)² for each element. NaN stays NaN, in the gradient too.
    /// (So et al., "Primer: searching for efficient transformers for language modeling", 2021.)
    public func squaredRelu() -> Tensor {
        mapped(CK_SQUARED_RELU, "squaredRelu").derived(by: .squaredRelu, from: self) { g in
            Tensor.combined(self, g, CK_SQUARED_RELU_GRADIENT, "squaredRelu")
        }
    }
}

// MARK: leakyRelu

extension Op {
    public static let leakyRelu = Op("leakyRelu", "x above 0, slope · x below") { source in
        source.elementwise({ $0.awayFromZero($1) }) { $0.leakyRelu() }
            + [OpSample("slope", [source.awayFromZero([7])]) { $0[0].leakyRelu(slope: 0.25) }]
    }
}

extension Tensor {
    /// x above 0 and slope · x elsewhere. The gradient at 0 is the slope; NaN stays NaN, in the gradient too, as with
    /// `relu` and other than in PyTorch. (Maas et al., "Rectifier nonlinearities improve neural network acoustic models", 2013.)
    public func leakyRelu(slope: Double = 0.01) -> Tensor {
        mapped(CK_LEAKY_RELU, "leakyRelu", slope).derived(by: .leakyRelu, from: self) { g in
            self.slope(CK_LEAKY_RELU, slope, times: g)
        }
    }
}

// MARK: geluTanh

extension Op {
    public static let geluTanh = Op("geluTanh", "GELU in its tanh form") { $0.elementwise { $0.geluTanh() } }
}

extension Tensor {
    /// ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))) for each element: GELU's tanh form, within 5·10⁻⁴ of `gelu`. Published
    /// weights were trained with one or the other. NaN at −∞, as in PyTorch; the gradient at −∞ and ∞ is its limit, 0 and
    /// 1, where PyTorch gives NaN.
    /// (Hendrycks and Gimpel, "Gaussian error linear units", 2016.)
    public func geluTanh() -> Tensor {
        mapped(CK_GELU_TANH, keepingSlope: CK_SLOPED_GELU_TANH, .geluTanh)
    }
}

// MARK: silu

extension Op {
    public static let silu = Op("silu", "x · sigmoid(x)") { $0.elementwise { $0.silu() } }
}

extension Tensor {
    /// x · sigmoid(x) for each element, also called swish. NaN at −∞, and in the gradient at either infinity, as in
    /// PyTorch. (Elfwing et al., "Sigmoid-weighted linear units", 2017.)
    public func silu() -> Tensor {
        mapped(CK_SILU, keepingSlope: CK_SLOPED_SILU, .silu)
    }
}

// MARK: softplus

extension Op {
    public static let softplus = Op("softplus", "log(1 + exp(βx)) / β") { source in
        source.elementwise { $0.softplus() }
            + [
                OpSample("beta", [source.uniform([7])]) { $0[0].softplus(beta: 4) },
                OpSample("threshold", [source.uniform([7])]) { $0[0].softplus(beta: 2, threshold: 1) },
            ]
    }
}

extension Tensor {
    /// log(1 + exp(βx)) / β for each element, and x itself where βx is above `threshold`. There it jumps by
    /// log(1 + exp(−threshold)) / β, 2·10⁻⁹ unless the threshold is lowered.
    ///
    /// Traps unless β is positive; PyTorch takes any β, and gives log(1 + exp(βx)) / β for it.
    public func softplus(beta: Double = 1, threshold: Double = 20) -> Tensor {
        guard beta > 0 else { trap("softplus", "beta must be above 0, not \(beta)", self) }
        return mapped(CK_SOFTPLUS, "softplus", beta, threshold, grain: Kernels.heavyGrain)
            .derived(by: .softplus, from: self) { g in
                slope(CK_SOFTPLUS, beta, threshold, times: g, grain: Kernels.heavyGrain)
            }
    }
}

// MARK: elu

extension Op {
    public static let elu = Op("elu", "x above 0, α (eˣ − 1) below") { source in
        source.elementwise { $0.elu() } + [OpSample("alpha", [source.awayFromZero([7])]) { $0[0].elu(alpha: 0.5) }]
    }
}

extension Tensor {
    /// x above 0 and α (eˣ − 1) elsewhere. The gradient at 0 is α. NaN stays NaN, in the gradient too, where PyTorch at
    /// times passes it on.
    /// (Clevert et al., "Fast and accurate deep network learning by exponential linear units", 2016.)
    public func elu(alpha: Double = 1) -> Tensor {
        mapped(CK_ELU, "elu", alpha, grain: Kernels.heavyGrain).derived(by: .elu, from: self) { g in
            slope(CK_ELU, alpha, times: g, grain: Kernels.heavyGrain)
        }
    }
}

// MARK: clamp

extension Op {
    public static let clamp = Op("clamp", "x, but within bounds") { source in
        source.elementwise { $0.clamped(min: -0.5, max: 1.25) }
            + [
                OpSample("below", [source.uniform([7])]) { $0[0].clamped(min: 0.25) },
                OpSample("above", [source.uniform([7])]) { $0[0].clamped(max: 0.25) },
            ]
    }
}

extension Tensor {
    /// Each element, or the bound that it is beyond; `max` everywhere where `min` is above it. The gradient passes within
    /// the bounds and on them, and is 0 outside. NaN stays NaN and has the gradient 0, as in PyTorch.
    ///
    /// Traps without a bound, and when one is NaN.
    public func clamped(min: Double? = nil, max: Double? = nil) -> Tensor {
        let (low, high) = (min ?? -.infinity, max ?? .infinity)
        guard min != nil || max != nil else { trap("clamp", "a bound is needed: min, max or both", self) }
        guard !low.isNaN, !high.isNaN else { trap("clamp", "the bounds are \(low) and \(high)", self) }
        return mapped(CK_CLAMP, "clamp", low, high).derived(by: .clamp, from: self) { g in
            slope(CK_CLAMP, low, high, times: g)
        }
    }
}
