import CKernels

// Functions of angles in radians, element by element. x: [any shape].

extension Op {
    static let trigonometry: [Op] = [.sin, .cos]
}

// MARK: sin

extension Op {
    public static let sin = Op("sin", "the sine") { $0.elementwise { $0.sin() } }
}

extension Tensor {
    /// The sine of each element, in radians. NaN of an infinity.
    public func sin() -> Tensor {
        mapped(CK_SIN, "sin", grain: Kernels.heavyGrain).derived(by: .sin, from: self) { g in
            Tensor.combined(self, g, CK_SIN_GRADIENT, "sin", grain: Kernels.heavyGrain)
        }
    }
}

// MARK: cos

extension Op {
    public static let cos = Op("cos", "the cosine") { $0.elementwise { $0.cos() } }
}

extension Tensor {
    /// The cosine of each element, in radians. NaN of an infinity.
    public func cos() -> Tensor {
        mapped(CK_COS, "cos", grain: Kernels.heavyGrain).derived(by: .cos, from: self) { g in
            Tensor.combined(self, g, CK_COS_GRADIENT, "cos", grain: Kernels.heavyGrain)
        }
    }
}
