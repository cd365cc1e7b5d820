import FoveaNN
import FoveaTensor

/// The Perceiver Resampler: any number of visual tokens in, R learned latents out.
///
/// (Alayrac et al., "Flamingo", 2022, §3.1.1; the form published in `open_flamingo/src/helpers.py`.)
///
/// For each medium of each sample, with x the tokens of all its frames and z the latents:
///
///     x ← x + e_frame                                      learned, one vector for each frame position (optional)
///     x ← flatten(frames, tokens)
///     x ← x + e_medium                                     learned, one vector for each medium position (optional)
///     z ← the R learned latents
///     for each layer:
///         m, n ← LN(x), LN(z)                              the layer's own norms; x itself never changes
///         q    ← W_q n;   k, v ← W_k [m; n], W_v [m; n]    media first, latents last
///         z    ← z + W_o softmax(q kᵀ / √d) v
///         z    ← z + W₂ GELU(W₁ LN(z))
///     return LN(z)
///
/// Media are not mixed: each is resampled on its own. Without any visual token the latents attend to themselves.
public struct PerceiverResampler: Module {
    /// The learned queries, [R, D].
    public var latents: Tensor
    /// One vector for each frame position, [F_max, D]; nil without.
    public var frameEmbeddings: Tensor?
    /// One vector for each medium position, [N_max, 1, D]; nil without.
    public var mediaEmbeddings: Tensor?
    public var layers: [Layer]
    public var norm: LayerNorm

    /// Sizes of a resampler, under the names of the paper where it has one.
    public struct Options: Sendable, Equatable {
        /// D, the width of tokens and latents.
        public var width: Int
        /// How many layers.
        public var depth: Int
        /// H.
        public var heads: Int
        /// d.
        public var headWidth: Int
        /// R, how many tokens come out.
        public var latents: Int
        /// The width inside the feed-forward, in multiples of D.
        public var feedForwardMultiple: Int
        /// The most frames that get an embedding; nil for no frame embeddings.
        public var maxFrames: Int?
        /// The most media that get an embedding; nil for no media embeddings.
        public var maxMedia: Int?

        public init(
            width: Int, depth: Int = 6, heads: Int = 8, headWidth: Int = 64, latents: Int = 64,
            feedForwardMultiple: Int = 4, maxFrames: Int? = nil, maxMedia: Int? = nil
        ) {
            self.width = width
            self.depth = depth
            self.heads = heads
            self.headWidth = headWidth
            self.latents = latents
            self.feedForwardMultiple = feedForwardMultiple
            self.maxFrames = maxFrames
            self.maxMedia = maxMedia
        }
    }

    /// Cross-attention from the latents and a feed-forward, each with its residual.
    public struct Layer: Module {
        public var mediaNorm: LayerNorm
        public var latentNorm: LayerNorm
        public var attention: MultiHeadAttention
        public var feedForwardNorm: LayerNorm
        public var feedForward: MLP

        init(_ options: Options, key: RandomKey) {
            mediaNorm = LayerNorm(options.width)
            latentNorm = LayerNorm(options.width)
            attention = MultiHeadAttention(
                options.width, heads: options.heads, headWidth: options.headWidth, bias: false,
                key: key.folding("attention"))
            feedForwardNorm = LayerNorm(options.width)
            feedForward = MLP(
                options.width, hidden: options.feedForwardMultiple * options.width, bias: false,
                key: key.folding("feedForward"))
        }

        public mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.module("mediaNorm", &mediaNorm)
            visitor.module("latentNorm", &latentNorm)
            visitor.module("attention", &attention)
            visitor.module("feedForwardNorm", &feedForwardNorm)
            visitor.module("feedForward", &feedForward)
        }

        /// Latents z [M, R, D] look at tokens x [M, N, D] and at themselves → [M, R, D].
        func callAsFunction(_ z: Tensor, _ x: Tensor) -> Tensor {
            let queries = latentNorm(z)
            let context = concatenated([mediaNorm(x), queries], axis: 1)
            let z = z + attention(queries, context: context)
            return z + feedForward(feedForwardNorm(z))
        }
    }

    /// A resampler with fresh weights: latents and embeddings from N(0, 1), linear layers as PyTorch starts them.
    public init(_ options: Options, key: RandomKey) {
        latents = .normal([options.latents, options.width], key: key.folding("latents"))
        frameEmbeddings = options.maxFrames.map { .normal([$0, options.width], key: key.folding("frameEmbeddings")) }
        mediaEmbeddings = options.maxMedia.map {
            .normal([$0, 1, options.width], key: key.folding("mediaEmbeddings"))
        }
        layers = (0..<options.depth).map { Layer(options, key: key.folding("layers").folding(UInt64($0))) }
        norm = LayerNorm(options.width)
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("latents", &latents)
        visitor.parameter("frameEmbeddings", &frameEmbeddings)
        visitor.parameter("mediaEmbeddings", &mediaEmbeddings)
        visitor.modules("layers", &layers)
        visitor.module("norm", &norm)
    }

    /// Visual tokens x [B, N, F, V, D] (media, frames, tokens of a frame) → latents [B, N, R, D].
    ///
    /// Traps for another rank or width, and for more frames or media than there are embeddings.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        let s = x.shape
        guard s.count == 5, s[4] == latents.shape[1] else {
            trap("PerceiverResampler", "tokens [B, N, F, V, \(latents.shape[1])] are needed", x)
        }
        let (batch, media, frames) = (s[0], s[1], s[2])
        var x = x
        if let frameEmbeddings {
            guard frames <= frameEmbeddings.shape[0] else {
                trap("PerceiverResampler", "\(frames) frames exceed the \(frameEmbeddings.shape[0]) embeddings", x)
            }
            x = x + frameEmbeddings.sliced(axis: 0, 0..<frames).unsqueezed(1)
        }
        x = x.reshaped(to: [batch, media, frames * s[3], s[4]])
        if let mediaEmbeddings {
            guard media <= mediaEmbeddings.shape[0] else {
                trap("PerceiverResampler", "\(media) media exceed the \(mediaEmbeddings.shape[0]) embeddings", x)
            }
            x = x + mediaEmbeddings.sliced(axis: 0, 0..<media)
        }
        x = x.flattened(from: 0, to: 1)
        var z = latents.expanded(to: [x.shape[0]] + latents.shape)
        for layer in layers { z = layer(z, x) }
        return norm(z).reshaped(to: [batch, media] + latents.shape)
    }
}

extension PerceiverResampler: Compressor {
    /// Visual tokens [B, N, D] as one medium of one frame → latents [B, R, D], which have no place in the picture: their
    /// positions are the mean of all, and each stands for an equal share.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        let (batch, count) = (tokens.batch, latents.shape[0])
        let z = self(tokens.features.reshaped(to: [batch, 1, 1, tokens.count, tokens.width]))
        let share = Tensor.full([count, tokens.count], 1 / Double(max(1, tokens.count)))
        return tokens.mixed(features: z.reshaped(to: [batch] + latents.shape), by: share)
    }

    public func problem(with input: TokenShape) -> String? {
        input.width == latents.shape[1] ? nil : "tokens of width \(latents.shape[1]) are needed, not \(input.width)"
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        TokenShape(count: latents.shape[0], width: latents.shape[1])
    }

    public func cost(_ input: TokenShape) -> Cost {
        let (count, width) = (latents.shape[0], latents.shape[1])
        return layers.reduce(Cost()) { total, layer in
            let inner = layer.attention.query.weight.shape[0]
            let hidden = layer.feedForward.expand.weight.shape[0]
            return total + 2 * .product(count, width, inner) + 2 * .product(input.count + count, width, inner)
                + .attention(queries: count, keys: input.count + count, width: inner)
                + 2 * .product(count, width, hidden)
        }
    }
}

extension WeightLayout where Model == PerceiverResampler {
    /// The names of `open_flamingo`'s `PerceiverResampler`; its `to_kv` holds keys above values.
    public static var openFlamingo: Self {
        WeightLayout(
            "open-flamingo",
            [
                .rename("frameEmbeddings", "frame_embs"),
                .rename("mediaEmbeddings", "media_time_embs"),
                .rename("layers.*.mediaNorm.weight", "layers.*.0.norm_media.weight"),
                .rename("layers.*.mediaNorm.bias", "layers.*.0.norm_media.bias"),
                .rename("layers.*.latentNorm.weight", "layers.*.0.norm_latents.weight"),
                .rename("layers.*.latentNorm.bias", "layers.*.0.norm_latents.bias"),
                .rename("layers.*.attention.query.weight", "layers.*.0.to_q.weight"),
                .fuse(
                    ["layers.*.attention.key.weight", "layers.*.attention.value.weight"],
                    into: "layers.*.0.to_kv.weight"),
                .rename("layers.*.attention.output.weight", "layers.*.0.to_out.weight"),
                .rename("layers.*.feedForwardNorm.weight", "layers.*.1.0.weight"),
                .rename("layers.*.feedForwardNorm.bias", "layers.*.1.0.bias"),
                .rename("layers.*.feedForward.expand.weight", "layers.*.1.1.weight"),
                .rename("layers.*.feedForward.contract.weight", "layers.*.1.3.weight"),
            ])
    }
}

extension PerceiverResampler {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "perceiver-resampler", "learned latents attend to any number of visual tokens",
        forms: [
            PublishedForm(
                WeightLayout<PerceiverResampler>.openFlamingo,
                keys: [
                    .size("dim", "width D", from: .axis(1, of: "latents")),
                    .size("depth", "layers", default: 6, atLeast: 0, from: .count(of: "layers.*.0.to_q.weight")),
                    .size(
                        "dim_head", "width of a head", default: 64,
                        from: .axis(0, of: "layers.0.0.to_q.weight", over: "heads")),
                    .size("heads", "heads", default: 8),
                    .size("num_latents", "latents R", default: 64, from: .axis(0, of: "latents")),
                    .size(
                        "max_num_media", "media embeddings, or null", default: .null,
                        from: .axis(0, of: "media_time_embs")),
                    .size(
                        "max_num_frames", "frame embeddings, or null", default: .null,
                        from: .axis(0, of: "frame_embs")),
                    .size(
                        "ff_mult", "feed-forward width in multiples of D", default: 4,
                        from: .axis(0, of: "layers.0.1.1.weight", over: "dim")),
                ],
                inputs: [.init("x", "[B, N, F, V, dim]")], outputs: [.init("latents", "[B, N, num_latents, dim]")],
                widthKey: "dim",
                sample: [
                    "dim": 8, "depth": 2, "dim_head": 4, "heads": 2, "num_latents": 3, "max_num_media": 2,
                    "max_num_frames": 2, "ff_mult": 2,
                ],
                sampleInputs: { ["x": $0.uniform([2, 2, 1, 3, 8])] },
                make: { configuration in
                    PerceiverResampler(
                        Options(
                            width: configuration.int("dim"), depth: configuration.int("depth"),
                            heads: configuration.int("heads"), headWidth: configuration.int("dim_head"),
                            latents: configuration.int("num_latents"),
                            feedForwardMultiple: configuration.int("ff_mult"),
                            maxFrames: configuration.optionalInt("max_num_frames"),
                            maxMedia: configuration.optionalInt("max_num_media")), key: configuration.key)
                },
                run: { model, inputs in
                    let x = inputs["x"]
                    let (frames, media) = (model.frameEmbeddings?.shape[0], model.mediaEmbeddings?.shape[0])
                    guard x.shape[2] <= frames ?? .max, x.shape[1] <= media ?? .max else {
                        throw ModuleInputError(
                            "input x is \(x.shape); expected is [B, N, F, V, dim]"
                                + (media.map { " with N ≤ \($0)" } ?? "") + (frames.map { " and F ≤ \($0)" } ?? ""))
                    }
                    return ["latents": model(x)]
                })
        ])
}
