import FoveaNN
import FoveaTensor

/// InternVL's pixel shuffle: blocks of k × k tokens are stacked into one, which an MLP takes to the width of the language
/// model.
///
/// (Chen et al., "How far are we to GPT-4V?", 2024, §3.1; `internvl_chat/internvl/model/internvl_chat/
/// modeling_internvl_chat.py`.)
///
///     z[i, j, (a·k + e)·C + c] = x[k·i + a, k·j + e, c]     space to depth, k = 1 / downsample_ratio
///     y = W₂ GELU(W₁ LN(z))
///
/// The first version of the published code leaves the two sides of z exchanged (`ps_version` v1): the same tokens, column
/// by column. Its own pixel shuffle with a factor above one undoes v1 but not v2; `depthToSpace` undoes v2.
public struct PixelShuffle: Module {
    /// Of the stacked features, [k²·C].
    public var norm: LayerNorm
    /// [k²·C] → [D] → [D].
    public var mlp: MLP
    /// k, tokens along a block's side.
    public let factor: Int
    public let order: Order

    /// The order in which the tokens come out.
    public enum Order: String, Sendable {
        /// Column by column, by an oversight that released models were trained with.
        case v1
        /// In raster order.
        case v2
    }

    /// - Parameters:
    ///   - width: C of the encoder's tokens.
    ///   - outputs: D.
    ///   - factor: k, tokens along a block's side.
    ///   - order: the order in which the tokens come out.
    ///   - key: of the random numbers that the weights start with.
    public init(_ width: Int, outputs: Int, factor: Int = 2, order: Order = .v2, key: RandomKey) {
        let inner = width * factor * factor
        norm = LayerNorm(inner)
        mlp = MLP(inner, hidden: outputs, outputs: outputs, key: key.folding("mlp"))
        self.factor = factor
        self.order = order
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.module("norm", &norm)
        visitor.module("mlp", &mlp)
    }

    private var width: Int { norm.weight.shape[0] / (factor * factor) }

    /// The shuffle alone: x [B, H, W, C] → [B, H/k, W/k, k²·C], or with the sides exchanged in order v1.
    public static func shuffled(_ x: Tensor, factor: Int, order: Order) -> Tensor {
        let stacked = spaceToDepth(x, by: factor)
        return order == .v1 ? stacked.transposed(1, 2) : stacked
    }

    /// The inverse of `shuffled`: [B, h, w, k²·C] → [B, h·k, w·k, C], with h and w exchanged in order v1.
    public static func unshuffled(_ z: Tensor, factor: Int, order: Order) -> Tensor {
        depthToSpace(order == .v1 ? z.transposed(1, 2) : z, by: factor)
    }

    /// Tokens x [B, H, W, C] → [B, H·W / k², D]. Traps for another width, and where k does not divide both sides.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        guard x.rank == 4, x.shape[3] == width else { trap("PixelShuffle", "[B, H, W, \(width)] is needed", x) }
        return mlp(norm(PixelShuffle.shuffled(x, factor: factor, order: order).flattened(from: 1, to: 2)))
    }

    /// Why a raster of these sides cannot be shuffled; nil when it can.
    fileprivate func problem(rows: Int, columns: Int) -> String? {
        rows % factor == 0 && columns % factor == 0
            ? nil : "blocks of \(factor) × \(factor) do not tile a raster of \(rows) × \(columns)"
    }
}

extension PixelShuffle: Compressor {
    /// Tokens of a raster → a token for each block, at the block's centre.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = problem(with: tokens.shape) { trap("PixelShuffle", problem, tokens.features) }
        let grid = tokens.grid!
        // The order is a matter of where the tokens stand, so that the rest is done in raster order.
        let stacked = spaceToDepth(tokens.raster, by: factor).flattened(from: 1, to: 2)
        let merged = tokens.resampled(
            features: mlp(norm(stacked)), rows: .blockMeans(grid.rows, of: factor),
            columns: .blockMeans(grid.columns, of: factor))
        return order == .v1 ? merged.transposedRaster() : merged
    }

    public func problem(with input: TokenShape) -> String? {
        input.problem(width: width) ?? input.problem(blocks: factor)
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        let merged = input.merged(by: factor, width: mlp.contract.weight.shape[0])
        guard order == .v1, let grid = merged.grid else { return merged }
        return TokenShape(grid: .init(rows: grid.columns, columns: grid.rows), width: merged.width)
    }

    public func cost(_ input: TokenShape) -> Cost { mlp.cost(rows: outputShape(input).count) }
}

extension WeightLayout where Model == PixelShuffle {
    /// The names of InternVL's `mlp1`.
    public static var internVL: Self { named("internvl", norm: "mlp1.0", first: "mlp1.1", second: "mlp1.3") }

    /// The names of transformers' `InternVLMultiModalProjector`, which files keep behind `multi_modal_projector.`.
    public static var internVLHF: Self {
        named("internvl-hf", norm: "layer_norm", first: "linear_1", second: "linear_2")
    }

    private static func named(_ name: String, norm: String, first: String, second: String) -> Self {
        WeightLayout(
            name,
            [
                .rename("norm.weight", "\(norm).weight"), .rename("norm.bias", "\(norm).bias"),
                .rename("mlp.expand.weight", "\(first).weight"), .rename("mlp.expand.bias", "\(first).bias"),
                .rename("mlp.contract.weight", "\(second).weight"), .rename("mlp.contract.bias", "\(second).bias"),
            ])
    }
}

extension PixelShuffle {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "pixel-shuffle", "blocks of tokens stacked into one",
        forms: [
            form(
                .internVL, names: (width: "vit_hidden_size", outputs: "llm_hidden_size"),
                weights: (norm: "mlp1.0.weight", linear: "mlp1.1.weight"), input: "x", defaultOrder: "v1"),
            form(
                .internVLHF, names: (width: "vision_hidden_size", outputs: "text_hidden_size"),
                weights: (norm: "layer_norm.weight", linear: "linear_1.weight"), input: "vision_features",
                defaultOrder: nil),
        ])

    /// 1 / downsample_ratio where that is whole; nil otherwise. A third and its like may be cut to three digits.
    private static func factor(_ ratio: ConfigurationValue) -> Int? {
        let inverse: Double
        switch ratio {
        case .double(let ratio) where ratio > 1e-3 && ratio <= 1: inverse = 1 / ratio
        case .int(1): inverse = 1
        default: return nil
        }
        return (inverse - inverse.rounded()).magnitude < 1e-2 ? Int(inverse.rounded()) : nil
    }

    /// - Parameter defaultOrder: the value of an absent `ps_version`; nil where the class has v2 alone.
    private static func form(
        _ layout: WeightLayout<PixelShuffle>, names: (width: String, outputs: String),
        weights: (norm: String, linear: String), input: String, defaultOrder: ConfigurationValue?
    ) -> PublishedForm {
        var keys: [ConfigurationKey] = [
            .size(
                names.width, "width C of the encoder",
                from: .axis(0, of: weights.norm, over: "downsample_ratio", as: { factor($0).map { $0 * $0 } })),
            .size(names.outputs, "width D of the language model", from: .axis(0, of: weights.linear)),
            .number("downsample_ratio", "1 / k for blocks of k × k", default: 0.5),
        ]
        if let defaultOrder {
            keys.append(
                .choice(
                    "ps_version", "v1: column by column; v2: raster order", of: ["v1", "v2"], default: defaultOrder))
        }
        return PublishedForm(
            layout, keys: keys, inputs: [.init(input, "[B, H, W, \(names.width)]")],
            outputs: [.init("tokens", "[B, N, \(names.outputs)]")],
            widthKey: names.width, sample: [names.width: 3, names.outputs: 4, "downsample_ratio": 0.5],
            sampleInputs: { [input: $0.uniform([2, 4, 2, 3])] },
            make: { configuration in
                let ratio = configuration.double("downsample_ratio")
                guard let factor = factor(ratio == 1 ? .int(1) : .double(ratio)) else {
                    throw configuration.error("\"downsample_ratio\" must be 1 / k for a whole k, not \(ratio)")
                }
                return PixelShuffle(
                    configuration.int(names.width), outputs: configuration.int(names.outputs), factor: factor,
                    order: defaultOrder == nil ? .v2 : Order(rawValue: configuration.string("ps_version"))!,
                    key: configuration.key)
            },
            run: { model, inputs in
                let x = inputs[input]
                if let problem = model.problem(rows: x.shape[1], columns: x.shape[2]) {
                    throw ModuleInputError("input \(input) is \(x.shape): \(problem)")
                }
                return ["tokens": model(x)]
            })
    }
}
