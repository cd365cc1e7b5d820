import FoveaNN
import FoveaTensor

/// What BLIP-2 puts between encoder and language model: R learned queries through a Q-Former, then a linear layer.
/// (Li et al., "BLIP-2", 2023, §3.3; published inside transformers' `Blip2ForConditionalGeneration`.)
///
///     z = QFormer(queries, tokens)           [B, R, D]
///     y = W z + b                            [B, R, width of the language model]
public struct QFormerConnector: Module {
    /// The learned queries, [1, R, D].
    public var queryTokens: Tensor
    public var qFormer: QFormer
    /// [D] → the width of the language model.
    public var projection: Linear

    /// A connector with fresh weights: queries and matrices from N(0, deviation²) as LAVIS starts them.
    ///
    /// - Parameters:
    ///   - options: of the Q-Former.
    ///   - queries: R.
    ///   - outputs: the width of the language model.
    ///   - key: of the random numbers that the weights start with.
    public init(_ options: QFormer.Options = .init(), queries: Int = 32, outputs: Int, key: RandomKey) {
        let start = Initializer.normal(deviation: options.deviation)
        queryTokens = start([1, queries, options.width], key: key.folding("queryTokens"))
        qFormer = QFormer(options, key: key.folding("qFormer"))
        projection = Linear(options.width, outputs, initializer: start, key: key.folding("projection"))
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("queryTokens", &queryTokens)
        visitor.module("qFormer", &qFormer)
        visitor.module("projection", &projection)
    }

    /// Visual tokens [B, N, C] → [B, R, width of the language model].
    ///
    /// - Parameters:
    ///   - tokens: [B, N, C].
    ///   - mask: bool [B, N], true where there is a token; everywhere unless given.
    public func callAsFunction(_ tokens: Tensor, mask: Tensor? = nil) -> Tensor {
        guard tokens.rank == 3 else { trap("QFormerConnector", "visual tokens [B, N, C] are needed", tokens) }
        return projection(qFormer(queries(tokens.shape[0]), context: tokens, contextMask: mask))
    }

    private func queries(_ batch: Int) -> Tensor { queryTokens.expanded(to: [batch] + queryTokens.shape.dropFirst()) }
}

extension QFormerConnector: Compressor {
    /// Visual tokens → R tokens that have no place in the picture of their own.
    ///
    /// Where provenance is tracked, a token is made of the patches as the last layer that looks at them weighs them, and
    /// stands at their weighted centre; what earlier layers read, and what queries tell each other, is not in it. Otherwise
    /// each stands for an equal share of all real tokens.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        guard tokens.provenance != nil else {
            return tokens.mixed(features: self(tokens.features, mask: tokens.mask), by: equalShares(of: tokens))
        }
        let (states, weights) = qFormer.reading(
            queries(tokens.batch), context: tokens.features, contextMask: tokens.mask)
        return tokens.mixed(features: projection(states), by: weights ?? equalShares(of: tokens))
    }

    /// 1 / number of real tokens at each of them, [B, R, N].
    private func equalShares(of tokens: VisualTokens) -> Tensor {
        withoutGradient {
            let all = Tensor([true], shape: [1, 1]).expanded(to: [tokens.batch, tokens.count])
            let real = (tokens.mask ?? all).cast(to: .float32)
            let shares = real / maximum(real.sum(axes: [1], keepingAxes: true), Tensor.ones([1, 1]))
            return shares.unsqueezed(1).expanded(to: [tokens.batch, queryTokens.shape[1], tokens.count])
        }
    }

    public func problem(with input: TokenShape) -> String? {
        let width = qFormer.options.contextWidth
        return input.width == width ? nil : "tokens of width \(width) are needed, not \(input.width)"
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        TokenShape(count: queryTokens.shape[1], width: projection.weight.shape[0])
    }

    public var keepsPlaces: Bool { false }

    public func cost(_ input: TokenShape) -> Cost {
        let (options, count) = (qFormer.options, queryTokens.shape[1])
        let width = options.width
        return qFormer.layers.reduce(.product(count, width, projection.weight.shape[0])) { total, layer in
            let own =
                4 * .product(count, width, width) + .attention(queries: count, keys: count, width: width)
                + 2 * .product(count, width, options.hidden)
            guard layer.crossAttention != nil else { return total + own }
            return total + own + 2 * .product(count, width, width)
                + 2 * .product(input.count, options.contextWidth, width)
                + .attention(queries: count, keys: input.count, width: width)
        }
    }
}

extension WeightLayout where Model == QFormerConnector {
    /// The names of transformers' `Blip2ForConditionalGeneration`.
    public static var blip2: Self {
        WeightLayout(
            "blip2",
            qFormerRules(at: "qFormer.", as: "qformer.", naming: .transformers) + [
                .rename("queryTokens", "query_tokens"),
                .rename("projection.weight", "language_projection.weight"),
                .rename("projection.bias", "language_projection.bias"),
            ], besides: ["vision_model.", "language_model."])
    }
}

extension QFormerConnector {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "q-former-connector", "learned queries through a Q-Former, projected to the language model's width",
        forms: [
            PublishedForm(
                WeightLayout<QFormerConnector>.blip2,
                keys: QFormer.Options.keys(prefix: "qformer.", naming: .transformers) + [
                    .size("num_query_tokens", "queries R", default: 32, from: .axis(1, of: "query_tokens")),
                    .size(
                        "text_hidden_size", "the width of the language model", default: 2560,
                        from: .axis(0, of: "language_projection.weight")),
                ],
                inputs: [
                    .init("image_embeds", "[B, N, encoder_hidden_size]"),
                    .init("image_attention_mask", "[B, N]", .indices, optional: true),
                ],
                outputs: [.init("language_model_inputs", "[B, num_query_tokens, text_hidden_size]")],
                widthKey: "encoder_hidden_size",
                sample: [
                    "hidden_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 6,
                    "encoder_hidden_size": 3, "initializer_range": 0.5, "num_query_tokens": 3, "text_hidden_size": 5,
                ],
                sampleInputs: { ["image_embeds": $0.uniform([2, 4, 3])] },
                make: { configuration in
                    QFormerConnector(
                        try QFormer.Options(published: configuration), queries: configuration.int("num_query_tokens"),
                        outputs: configuration.int("text_hidden_size"), key: configuration.key)
                },
                run: { model, inputs in
                    [
                        "language_model_inputs": model(
                            inputs["image_embeds"], mask: inputs.optional("image_attention_mask")?.cast(to: .bool))
                    ]
                })
        ])
}
