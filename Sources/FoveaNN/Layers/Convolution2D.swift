import FoveaTensor

/// A kernel slid over images: [B, C, H, W] → [B, D, H', W'].
public struct Convolution2D: Module {
    /// [D, C / groups, kernel height, kernel width].
    public var weight: Tensor
    /// [D], or nil.
    public var bias: Tensor?
    /// Pixels from one window to the next.
    public let stride: Size2D
    /// Zeros on each side.
    public let padding: Size2D
    /// C and D are cut in as many parts, each convolved by itself; C of them make it depthwise.
    public let groups: Int

    /// Starts as PyTorch's convolution does, evenly spread over ±1/√(numbers behind one output).
    ///
    /// - Parameters:
    ///   - inputs: C.
    ///   - outputs: D.
    ///   - kernel: height and width of the kernel.
    ///   - stride: pixels from one window to the next.
    ///   - padding: zeros on each side.
    ///   - groups: parts of C and D that are convolved by themselves. Traps unless it divides both.
    ///   - bias: whether there is a bias.
    ///   - key: of the random numbers that the weights start with.
    public init(
        _ inputs: Int, _ outputs: Int, kernel: Size2D, stride: Size2D = 1, padding: Size2D = 0, groups: Int = 1,
        bias: Bool = true, key: RandomKey
    ) {
        guard groups > 0, inputs % groups == 0, outputs % groups == 0 else {
            trap("Convolution2D", "\(groups) groups do not divide \(inputs) inputs and \(outputs) outputs")
        }
        let start = Initializer.torchLinear(inputs: inputs / groups * kernel.height * kernel.width)
        weight = start([outputs, inputs / groups, kernel.height, kernel.width], key: key.folding("weight"))
        if bias { self.bias = start([outputs], key: key.folding("bias")) }
        self.stride = stride
        self.padding = padding
        self.groups = groups
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("weight", &weight)
        visitor.parameter("bias", &bias)
    }

    /// x [B, C, H, W] → [B, D, (H + 2·padding − kernel) / stride + 1, …], rounded down.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        convolution(x, weight: weight, bias: bias, stride: stride, padding: padding, groups: groups)
    }

    /// Rows and columns of the result for images of this size; 0 where no window fits.
    public func outputSize(_ size: Size2D) -> Size2D {
        func windows(_ length: Int, _ kernel: Int, _ stride: Int) -> Int {
            length < kernel ? 0 : (length - kernel) / stride + 1
        }
        return Size2D(
            windows(size.height + 2 * padding.height, weight.shape[2], stride.height),
            windows(size.width + 2 * padding.width, weight.shape[3], stride.width))
    }
}

extension Convolution2D {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "convolution-2d", "a kernel slid over images",
        forms: [
            PublishedForm(
                WeightLayout<Convolution2D>.native,
                keys: [
                    .size("inputs", "C"), .size("outputs", "D", from: .axis(0, of: "weight")),
                    .size("kernel", "height and width of the kernel", from: .axis(2, of: "weight")),
                    .size("stride", "pixels from one window to the next", default: 1),
                    .size("padding", "zeros on each side", default: 0, atLeast: 0),
                    .size("groups", "parts of C and D", default: 1),
                    .flag("bias", "whether there is a bias", default: true, from: .presence(of: "bias")),
                ],
                inputs: [.init("x", "[B, inputs, H, W]")], outputs: [.init("y", "[B, outputs, H2, W2]")],
                sample: ["inputs": 2, "outputs": 4, "kernel": 3, "stride": 2, "padding": 1, "groups": 2],
                sampleInputs: { ["x": $0.uniform([2, 2, 4, 3])] },
                make: { configuration in
                    let (inputs, outputs) = (configuration.int("inputs"), configuration.int("outputs"))
                    let groups = configuration.int("groups")
                    guard inputs % groups == 0, outputs % groups == 0 else {
                        throw configuration.error(
                            "\(groups) \"groups\" do not divide \(inputs) inputs and \(outputs) outputs")
                    }
                    return Convolution2D(
                        inputs, outputs, kernel: Size2D(configuration.int("kernel")),
                        stride: Size2D(configuration.int("stride")), padding: Size2D(configuration.int("padding")),
                        groups: groups, bias: configuration.bool("bias"), key: configuration.key)
                },
                run: { model, inputs in
                    let x = inputs["x"]
                    let size = Size2D(x.shape[2] + 2 * model.padding.height, x.shape[3] + 2 * model.padding.width)
                    guard size.height >= model.weight.shape[2], size.width >= model.weight.shape[3] else {
                        throw ModuleInputError(
                            "input x is \(x.shape); the weight \(model.weight.shape) does not fit in")
                    }
                    return ["y": model(x)]
                })
        ])
}
