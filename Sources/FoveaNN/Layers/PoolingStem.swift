import FoveaTensor

/// Convolutions at full resolution that halve pictures by maxima, for things of a few pixels on a busy ground.
///
///     for each halving:  x ← ReLU (norm (maxima of 2 × 2 (convolution 3 × 3 (x))))
///
/// Each filter is standardized before it is used: its weights have mean 0 (Qiao et al., "Micro-batch training with
/// batch-channel normalization and weight standardization", 2019, §3). So it sees no brightness, only differences, and a
/// pixel that stands out is not lost in how bright its surroundings are. The norm is over each channel of each picture
/// (Ulyanov et al., "Instance normalization", 2016), the convolution has no bias, which the norm would take away.
public struct PoolingStem: Module {
    /// One for each halving.
    public var layers: [Halving]

    /// A convolution, the greatest of 2 × 2 pixels, a norm and a ReLU.
    public struct Halving: Module {
        /// [D, C, 3, 3], standardized where it is used.
        public var weight: Tensor
        /// [D], of the norm.
        public var scale: Tensor
        /// [D], of the norm.
        public var shift: Tensor

        init(_ inputs: Int, _ outputs: Int, key: RandomKey) {
            weight = Initializer.torchLinear(inputs: 9 * inputs)([outputs, inputs, 3, 3], key: key)
            scale = .ones([outputs])
            shift = .zeros([outputs])
        }

        public mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.parameter("weight", &weight)
            visitor.parameter("scale", &scale)
            visitor.parameter("shift", &shift)
        }

        /// [B, C, H, W] → [B, D, ⌊H / 2⌋, ⌊W / 2⌋].
        func callAsFunction(_ x: Tensor) -> Tensor {
            let filters = layerNorm(weight.flattened(from: 1)).reshaped(to: weight.shape)
            let maxima = convolution(x, weight: filters, padding: 1).maxPooled(kernel: 2)
            return groupNorm(maxima, groups: weight.shape[0], weight: scale, bias: shift).relu()
        }
    }

    /// - Parameters:
    ///   - inputs: channels of the pictures.
    ///   - channels: what the first convolution gives; each further one gives twice as many as the one before.
    ///   - halvings: how many convolutions there are, from 1 on.
    ///   - key: of the random numbers that the weights start with.
    public init(_ inputs: Int, channels: Int, halvings: Int, key: RandomKey) {
        guard halvings > 0 else { trap("PoolingStem", "a stem of \(halvings) convolutions is none") }
        layers = (0..<halvings).map { layer in
            Halving(layer == 0 ? inputs : channels << (layer - 1), channels << layer, key: key.folding(UInt64(layer)))
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) { visitor.modules("layers", &layers) }

    /// D, the channels of what comes out.
    public var outputs: Int { layers[layers.count - 1].weight.shape[0] }

    /// Pictures [B, C, H, W] → [B, D, H / 2ʰ, W / 2ʰ] for h halvings, rounded down at each.
    public func callAsFunction(_ pictures: Tensor) -> Tensor {
        layers.reduce(pictures) { x, layer in layer(x) }
    }
}

extension PoolingStem {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "pooling-stem", "standardized convolutions at full resolution that halve pictures by maxima",
        forms: [
            PublishedForm(
                WeightLayout<PoolingStem>.native,
                keys: [
                    .size("inputs", "channels of the pictures", from: .axis(1, of: "layers.0.weight")),
                    .size("channels", "channels of the first convolution", from: .axis(0, of: "layers.0.weight")),
                    .size("halvings", "convolutions", from: .count(of: "layers.*.weight")),
                ],
                inputs: [.init("x", "[B, inputs, H, W]")], outputs: [.init("y", "[B, D, H2, W2]")],
                sample: ["inputs": 2, "channels": 3, "halvings": 2], sampleInputs: { ["x": $0.uniform([2, 2, 8, 9])] },
                make: { configuration in
                    let (channels, halvings) = (configuration.int("channels"), configuration.int("halvings"))
                    guard halvings <= 8 else {
                        throw configuration.error("\"halvings\" is \(halvings); more than 8 leave no picture")
                    }
                    return PoolingStem(
                        configuration.int("inputs"), channels: channels, halvings: halvings, key: configuration.key)
                },
                run: { stem, inputs in
                    let x = inputs["x"]
                    guard min(x.shape[2], x.shape[3]) >> stem.layers.count > 0 else {
                        throw ModuleInputError(
                            "input x is \(x.shape); \(stem.layers.count) halvings leave nothing of it")
                    }
                    return ["y": stem(x)]
                })
        ])
}
