import FoveaNN
import FoveaTensor

/// The projector of LLaVA: each visual token by itself to the width of the language model.
///
/// (Liu et al., "Improved baselines with visual instruction tuning", 2023, §3.2;
/// `llava/model/multimodal_projector/builder.py`.)
///
///     y = W_n GELU(… GELU(W₁ x))          n layers: C → D, then D → D
///
/// It keeps the number of tokens: the baseline that every compressor is held against, and what stands in front of
/// LLaVA-OneVision's pooling.
public struct MLPProjector: Module {
    /// The linear layers in order.
    public var layers: [Linear]
    /// The function between them.
    public let activation: Activation
    /// How many layers there are, and how they are kept.
    public let form: Form

    /// How many layers there are.
    public enum Form: Sendable, Equatable {
        /// One linear layer, named as such: LLaVA's first projector.
        case linear
        /// n linear layers with the activation between them, `mlp{n}x_gelu` in the published configuration.
        case mlp(depth: Int)

        /// The form that the published configuration calls by this name; nil for another name.
        public init?(published name: String) {
            if name == "linear" {
                self = .linear
                return
            }
            guard name.hasPrefix("mlp"), name.hasSuffix("x_gelu"), let depth = Int(name.dropFirst(3).dropLast(6)),
                (1...64).contains(depth)
            else { return nil }
            self = .mlp(depth: depth)
        }

        /// How many layers there are.
        public var depth: Int {
            switch self {
            case .linear: 1
            case .mlp(let depth): depth
            }
        }
    }

    /// - Parameters:
    ///   - width: C.
    ///   - outputs: D.
    ///   - form: how many layers there are; two unless given, as in LLaVA-1.5. Traps below one.
    ///   - activation: the function between them.
    ///   - bias: whether the layers have biases.
    ///   - key: of the random numbers that the weights start with.
    public init(
        _ width: Int, outputs: Int, form: Form = .mlp(depth: 2), activation: Activation = .gelu, bias: Bool = true,
        key: RandomKey
    ) {
        guard form.depth > 0 else { trap("MLPProjector", "at least one layer is needed, not \(form.depth)") }
        layers = (0..<form.depth).map {
            Linear(
                $0 == 0 ? width : outputs, outputs, bias: bias, key: key.folding("layers").folding(UInt64($0)))
        }
        self.activation = activation
        self.form = form
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        if form == .linear {
            visitor.module("linear", &layers[0])
        } else {
            // Numbered as in the published row of modules, in which the activations count too.
            for index in layers.indices { visitor.module("layers.\(2 * index)", &layers[index]) }
        }
    }

    /// x [..., C] → [..., D].
    public func callAsFunction(_ x: Tensor) -> Tensor {
        layers.dropFirst().reduce(layers[0](x)) { x, layer in layer(activation(x)) }
    }
}

extension MLPProjector: Compressor {
    /// Each token stays where it is.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens { tokens.with(features: self(tokens.features)) }

    public func problem(with input: TokenShape) -> String? { input.problem(width: layers[0].weight.shape[1]) }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        var output = input
        output.width = layers[0].weight.shape[0]
        return output
    }

    public func cost(_ input: TokenShape) -> Cost {
        layers.reduce(Cost()) { $0 + $1.cost(rows: input.count) }
    }
}

extension WeightLayout where Model == MLPProjector {
    /// The names of LLaVA's `mm_projector`, which its files keep behind `model.mm_projector.`.
    public static var llava: Self {
        WeightLayout(
            "llava",
            [
                .rename("layers.*.weight", "*.weight"), .rename("layers.*.bias", "*.bias"),
                .rename("linear.weight", "weight"), .rename("linear.bias", "bias"),
            ])
    }

    /// The names of `LlavaMultiModalProjector` and `LlavaOnevisionMultiModalProjector` in transformers, which files keep
    /// behind `multi_modal_projector.`.
    public static var llavaHF: Self {
        WeightLayout(
            "llava-hf",
            [
                .rename("layers.0.weight", "linear_1.weight"), .rename("layers.0.bias", "linear_1.bias"),
                .rename("layers.2.weight", "linear_2.weight"), .rename("layers.2.bias", "linear_2.bias"),
            ])
    }
}

extension MLPProjector {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "mlp-projector", "each visual token by itself to the width of the language model",
        forms: [
            PublishedForm(
                WeightLayout<MLPProjector>.llava,
                keys: [
                    .size("mm_hidden_size", "width C of the encoder", from: .axis(1, of: "0.weight", "weight")),
                    .size(
                        "hidden_size", "width D of the language model", from: .axis(0, of: "0.weight", "weight")),
                    .text(
                        "mm_projector_type", "how many layers", default: "linear",
                        expected: "\"linear\" or \"mlp{n}x_gelu\" with n from 1 to 64",
                        from: .count(of: "*.weight", as: { .string("mlp\($0)x_gelu") }),
                        where: { Form(published: $0) != nil }),
                ],
                inputs: [.init("x", "[B, N, mm_hidden_size]")], outputs: [.init("tokens", "[B, N, hidden_size]")],
                widthKey: "mm_hidden_size",
                sample: ["mm_hidden_size": 4, "hidden_size": 3, "mm_projector_type": "mlp3x_gelu"],
                sampleInputs: { ["x": $0.uniform([2, 3, 4])] },
                make: {
                    MLPProjector(
                        $0.int("mm_hidden_size"), outputs: $0.int("hidden_size"),
                        form: Form(published: $0.string("mm_projector_type"))!, key: $0.key)
                },
                run: { ["tokens": $0($1["x"])] }),
            PublishedForm(
                WeightLayout<MLPProjector>.llavaHF,
                keys: [
                    .size(
                        "vision_hidden_size", "width C of the encoder's features, of all layers that are taken",
                        from: .axis(1, of: "linear_1.weight")),
                    .size(
                        "text_hidden_size", "width D of the language model", from: .axis(0, of: "linear_1.weight")),
                    .choice(
                        "projector_hidden_act", "the function between the layers", of: Activation.publishedNames,
                        default: "gelu"),
                    .flag(
                        "multimodal_projector_bias", "whether the layers have biases", default: true,
                        from: .presence(of: "linear_1.bias")),
                ],
                inputs: [.init("image_features", "[B, N, vision_hidden_size]")],
                outputs: [.init("tokens", "[B, N, text_hidden_size]")],
                widthKey: "vision_hidden_size",
                sample: ["vision_hidden_size": 4, "text_hidden_size": 3],
                sampleInputs: { ["image_features": $0.uniform([2, 3, 4])] },
                make: {
                    MLPProjector(
                        $0.int("vision_hidden_size"), outputs: $0.int("text_hidden_size"),
                        activation: Activation(published: $0.string("projector_hidden_act"))!,
                        bias: $0.bool("multimodal_projector_bias"), key: $0.key)
                },
                run: { ["tokens": $0($1["image_features"])] }),
        ])
}
