import FoveaTensor

/// Convolutions that halve pictures some times over before they are cut into patches, a GELU behind each.
/// (Xiao et al., "Early convolutions help transformers see better", 2021, §4; without their batch norms, and with GELU for
/// ReLU.)
///
/// A patch embedding alone sees a thing at another place as another thing: it meets other cuts of it. What convolutions
/// learn at one place they know at all.
public struct ConvolutionalStem: Module {
    /// One for each halving, 3 × 3 with stride 2.
    public var layers: [Convolution2D]

    /// - Parameters:
    ///   - inputs: channels of the pictures.
    ///   - channels: what the first convolution gives; each further one gives twice as many as the one before.
    ///   - halvings: how many convolutions there are, from 1 on.
    ///   - key: of the random numbers that the weights start with.
    public init(_ inputs: Int, channels: Int, halvings: Int, key: RandomKey) {
        guard halvings > 0 else { trap("ConvolutionalStem", "a stem of \(halvings) convolutions is none") }
        layers = (0..<halvings).map { layer in
            Convolution2D(
                layer == 0 ? inputs : channels << (layer - 1), channels << layer, kernel: 3, stride: 2, padding: 1,
                key: key.folding(UInt64(layer)))
        }
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) { visitor.modules("layers", &layers) }

    /// D, the channels of what comes out.
    public var outputs: Int { layers[layers.count - 1].weight.shape[0] }

    /// Pictures [B, C, H, W] → [B, D, ⌈H / 2ʰ⌉, ⌈W / 2ʰ⌉] for h halvings.
    public func callAsFunction(_ pictures: Tensor) -> Tensor {
        layers.reduce(pictures) { x, layer in layer(x).gelu() }
    }
}

extension ConvolutionalStem {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "convolutional-stem", "convolutions that halve pictures before they are cut into patches",
        forms: [
            PublishedForm(
                WeightLayout<ConvolutionalStem>.native,
                keys: [
                    .size("inputs", "channels of the pictures", from: .axis(1, of: "layers.0.weight")),
                    .size("channels", "channels of the first convolution", from: .axis(0, of: "layers.0.weight")),
                    .size("halvings", "convolutions", from: .count(of: "layers.*.weight")),
                ],
                inputs: [.init("x", "[B, inputs, H, W]")], outputs: [.init("y", "[B, D, H2, W2]")],
                sample: ["inputs": 2, "channels": 3, "halvings": 2], sampleInputs: { ["x": $0.uniform([2, 2, 6, 5])] },
                make: { configuration in
                    let (channels, halvings) = (configuration.int("channels"), configuration.int("halvings"))
                    guard halvings <= 8 else {
                        throw configuration.error("\"halvings\" is \(halvings); more than 8 leave no picture")
                    }
                    return ConvolutionalStem(
                        configuration.int("inputs"), channels: channels, halvings: halvings, key: configuration.key)
                },
                run: { ["y": $0($1["x"])] })
        ])
}
