import FoveaNN
import FoveaTensor

/// The Perceiver Resampler: any number of visual tokens in, R learned latents out.
///
/// (Alayrac et al., "Flamingo", 2022, §3.1.1. Published in `open_flamingo/src/helpers.py`, and in transformers under
/// `models/idefics/perceiver.py` and `models/idefics2/modeling_idefics2.py`.)
///
/// For each medium of each sample, with x the tokens of all its frames and z the latents:
///
///     x ← W x                                              a gated MLP to width D (Idefics2's connector alone)
///     x ← x + e_frame                                      learned, one vector for each frame position (optional)
///     x ← flatten(frames, tokens)
///     x ← x + e_medium                                     learned, one vector for each medium position (optional)
///     z ← the R learned latents
///     for each layer:
///         m, n ← norm(x), norm'(z)                         the layer's own norms; x itself never changes
///         q    ← W_q n;   k, v ← W_k [m; n], W_v [m; n]    media first, latents last
///         z    ← z + W_o softmax(q kᵀ / √d) v
///         z    ← z + feedforward(norm"(z))
///     return norm(z)
///
/// What differs between the published forms: the norms (layer or RMS), the feed-forward (an MLP with GELU, ReLU or
/// squared ReLU, or SwiGLU), norms over each head of q and k, key heads that several heads share. The paper norms what
/// keys and values are made of together, [m; n] = norm([x; z]), and its pseudo-code has no norm at the end.
///
/// Media are not mixed: each is resampled on its own. Without any visual token the latents attend to themselves.
public struct PerceiverResampler: Module {
    /// The learned queries, [R, D].
    public var latents: Tensor
    /// Brings tokens of the encoder's width C to D; nil where they come in width D.
    public var modalityProjection: GatedMLP?
    /// One vector for each frame position, [F_max, D]; nil without.
    public var frameEmbeddings: Tensor?
    /// One vector for each medium position, [N_max, 1, D]; nil without.
    public var mediaEmbeddings: Tensor?
    public var layers: [Layer]
    /// Over what comes out; nil without.
    public var norm: (any UnaryLayer)?
    /// Whether more frames than there are embeddings get interpolated ones.
    public let interpolatesFrames: Bool

    /// Cross-attention from the latents and a feed-forward, each with its residual.
    public struct Layer: Module {
        /// Over the tokens; over tokens and latents where the context has one norm.
        public var mediaNorm: any AffineNorm
        /// Over the latents.
        public var latentNorm: any UnaryLayer
        public var attention: MultiHeadAttention
        public var feedForwardNorm: any UnaryLayer
        public var feedForward: any UnaryLayer
        /// Whether keys and values are made of tokens and latents under one norm.
        public let sharesContextNorm: Bool

        init(_ options: Options, key: RandomKey) {
            mediaNorm = options.norm(options.width)
            latentNorm = options.norm(options.width)
            attention = MultiHeadAttention(
                options.width, heads: options.heads, keyHeads: options.keyHeads, headWidth: options.headWidth,
                bias: false, headNorm: options.headNorm, dropout: options.attentionDropout,
                initializer: options.initializer, key: key.folding("attention"))
            feedForwardNorm = options.norm(options.width)
            feedForward = options.feedForward(
                options.width, hidden: options.feedForwardMultiple * options.width, initializer: options.initializer,
                key: key.folding("feedForward"))
            sharesContextNorm = options.sharesContextNorm
        }

        public mutating func visit(_ visitor: inout ModuleVisitor) {
            visitor.module("mediaNorm", &mediaNorm)
            visitor.module("latentNorm", &latentNorm)
            visitor.module("attention", &attention)
            visitor.module("feedForwardNorm", &feedForwardNorm)
            visitor.module("feedForward", &feedForward)
        }

        /// Latents z look at tokens and at themselves → [M, R, D].
        ///
        /// - Parameters:
        ///   - z: [M, R, D], or [1, R, D] where they are the same for all media.
        ///   - x: the tokens [M, N, D] normed without weight and bias: in that form they are the same for all layers.
        ///   - mask: bool, broadcast to [M, H, R, N + R].
        ///   - taps: what the attention shall hand out.
        func callAsFunction(
            _ z: Tensor, _ x: Tensor, mask: Tensor?, taps: [AttentionTap]
        ) -> (latents: Tensor, taps: [Tensor]) {
            let queries = latentNorm(z)
            let own = sharesContextNorm ? mediaNorm(z) : queries
            let (attended, tapped) =
                attention.absorbsContext(queries: z.shape[1])
                ? attention(
                    queries, absorbing: joinedAffine([(x, mediaNorm.weight, mediaNorm.bias), (own, nil, nil)]),
                    mask: mask, taps: taps)
                : attention(queries, to: context(x, own), mask: mask, taps: taps)
            let z = z + attended
            return (z + feedForward(feedForwardNorm(z)), tapped)
        }

        /// Keys and values of normed tokens x [M, N, D] and, behind them, of latents [M, R, D] or [1, R, D].
        private func context(_ x: Tensor, _ latents: Tensor) -> MultiHeadAttention.Context {
            func joined(_ projection: Linear) -> Tensor {
                let folded = mediaNorm.folded(into: projection)
                return joinedLinear([
                    (x, folded.weight, folded.bias), (latents, projection.weight, projection.bias),
                ])
            }
            return attention.context(keys: joined(attention.key), values: joined(attention.value))
        }
    }

    /// A resampler with fresh weights: embeddings from N(0, 1), the rest as the options say.
    public init(_ options: Options, key: RandomKey) {
        latents = options.latentInitializer([options.latents, options.width], key: key.folding("latents"))
        modalityProjection = options.projection.map {
            GatedMLP(
                $0.inputs, hidden: $0.hidden, outputs: options.width, activation: $0.activation,
                initializer: options.initializer, key: key.folding("modalityProjection"))
        }
        frameEmbeddings = options.maxFrames.map { .normal([$0, options.width], key: key.folding("frameEmbeddings")) }
        mediaEmbeddings = options.maxMedia.map {
            .normal([$0, 1, options.width], key: key.folding("mediaEmbeddings"))
        }
        layers = (0..<options.depth).map { Layer(options, key: key.folding("layers").folding(UInt64($0))) }
        norm = options.hasFinalNorm ? options.norm(options.width) : nil
        interpolatesFrames = options.interpolatesFrames
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.parameter("latents", &latents)
        visitor.module("modalityProjection", &modalityProjection)
        visitor.parameter("frameEmbeddings", &frameEmbeddings)
        visitor.parameter("mediaEmbeddings", &mediaEmbeddings)
        visitor.modules("layers", &layers)
        visitor.module("norm", &norm)
    }

    /// C of the tokens that come in.
    public var inputWidth: Int { modalityProjection?.gate.weight.shape[1] ?? latents.shape[1] }

    /// Visual tokens x [B, N, F, V, C] (media, frames, tokens of a frame) → latents [B, N, R, D].
    ///
    /// Traps for another rank or width, for more media than there are embeddings, and for more frames where they are not
    /// interpolated.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        let context = context(x)
        let z = resampled(context, mask: nil, taps: []).latents
        return z.reshaped(to: Array(x.shape.prefix(2)) + latents.shape)
    }

    /// Visual tokens x [B, N, C] of one medium and one frame → latents [B, R, D].
    ///
    /// - Parameters:
    ///   - x: [B, N, C].
    ///   - mask: bool, [B, N]: true where a token is real. Latents are always looked at.
    public func callAsFunction(_ x: Tensor, mask: Tensor?) -> Tensor {
        resampled(context(oneMedium(x)), mask: mask, taps: []).latents
    }

    /// [B, N, C] → [B, 1, 1, N, C].
    private func oneMedium(_ x: Tensor) -> Tensor {
        guard x.rank == 3 else { trap("PerceiverResampler", "tokens [B, N, \(inputWidth)] are needed", x) }
        return x.unsqueezed(1).unsqueezed(1)
    }

    /// What the layers attend to: tokens [B, N, F, V, C], projected and with their embeddings → [B·N, F·V, D].
    private func context(_ x: Tensor) -> Tensor {
        guard x.rank == 5, x.shape[4] == inputWidth else {
            trap(
                "PerceiverResampler",
                "tokens [B, N, F, V, \(inputWidth)] are needed, or [B, N, \(inputWidth)] of one medium with a mask or nil",
                x)
        }
        let (batch, media, frames) = (x.shape[0], x.shape[1], x.shape[2])
        var y = modalityProjection?.callAsFunction(x) ?? x
        if let frameEmbeddings {
            let known = frameEmbeddings.shape[0]
            guard frames <= known || interpolatesFrames else {
                trap("PerceiverResampler", "\(frames) frames exceed the \(known) embeddings", x)
            }
            let embeddings =
                frames <= known
                ? frameEmbeddings.sliced(axis: 0, 0..<frames) : interpolated(frameEmbeddings, to: frames)
            y = y + embeddings.unsqueezed(1)
        }
        y = y.reshaped(to: [batch, media, frames * x.shape[3], latents.shape[1]])
        if let mediaEmbeddings {
            guard media <= mediaEmbeddings.shape[0] else {
                trap("PerceiverResampler", "\(media) media exceed the \(mediaEmbeddings.shape[0]) embeddings", x)
            }
            y = y + mediaEmbeddings.sliced(axis: 0, 0..<media)
        }
        return y.flattened(from: 0, to: 1)
    }

    /// Embeddings [F, D] → [frames, D] on straight lines between them, the first and the last one kept.
    private func interpolated(_ embeddings: Tensor, to frames: Int) -> Tensor {
        let (known, width) = (embeddings.shape[0], embeddings.shape[1])
        return embeddings.reshaped(to: [1, 1, known, width])
            .interpolatedBilinear(to: Size2D(frames, width), alignCorners: true).reshaped(to: [frames, width])
    }

    /// The latents of a context [M, S, D] → [M, R, D], and what the taps take of the last layer's attention.
    private func resampled(
        _ x: Tensor, mask: Tensor?, taps: [AttentionTap]
    ) -> (latents: Tensor, taps: [Tensor]) {
        let count = latents.shape[0]
        let visible = mask.map { mask in
            guard mask.dtype == .bool, mask.shape == Array(x.shape.prefix(2)) else {
                trap("PerceiverResampler", "a bool mask [B, N] of the tokens is needed", mask, x)
            }
            let always = Tensor.ones([x.shape[0], count], dtype: .bool)
            return concatenated([mask, always], axis: 1).unsqueezed(1).unsqueezed(1)
        }
        let x = layers.first?.mediaNorm.normalized(x) ?? x
        // The same for all media, and so computed once, until the first layer has added what they see of each.
        var z = latents.unsqueezed(0)
        var tapped: [Tensor] = []
        for (index, layer) in layers.enumerated() {
            (z, tapped) = layer(z, x, mask: visible, taps: index == layers.count - 1 ? taps : [])
        }
        return ((norm?.callAsFunction(z) ?? z).expanded(to: [x.shape[0]] + latents.shape), tapped)
    }
}

extension PerceiverResampler: Compressor {
    /// Visual tokens [B, N, C] as one medium of one frame → latents [B, R, D].
    ///
    /// A latent stands where the tokens stand that it looks at in the last layer: its share of each is the attention
    /// weight, as a mean over the heads and without what the latents give each other. A latent that sees no token at all
    /// has no share of any and stands at the origin.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        let count = latents.shape[0]
        let (z, weights) = resampled(
            context(oneMedium(tokens.features)), mask: tokens.mask, taps: [.rows(Array(0..<count))])
        return tokens.mixed(features: z, by: shares(weights.first, of: tokens))
    }

    /// [B, R, N], rows that sum to 1, from the last layer's weights [B, R, N + R]; equal shares where there is no layer.
    private func shares(_ weights: Tensor?, of tokens: VisualTokens) -> Tensor {
        withoutGradient {
            let shape = [tokens.batch, latents.shape[0], tokens.count]
            var shares =
                weights?.sliced(axis: 2, 0..<tokens.count)
                ?? (tokens.mask?.cast(to: .float32).unsqueezed(1) ?? .ones([1, 1, 1])).expanded(to: shape)
            shares = shares.cast(to: .float32)
            return shares / maximum(shares.sum(axes: [2], keepingAxes: true), .full([1], 1e-30))
        }
    }

    public func problem(with input: TokenShape) -> String? {
        input.width == inputWidth ? nil : "tokens of width \(inputWidth) are needed, not \(input.width)"
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        TokenShape(count: latents.shape[0], width: latents.shape[1])
    }

    public var keepsPlaces: Bool { false }

    /// Of one sample. In a batch what the first layer makes of its latents is made once.
    public func cost(_ input: TokenShape) -> Cost {
        let count = latents.shape[0]
        let keys = input.count + count
        return layers.reduce(modalityProjection?.cost(rows: input.count) ?? Cost()) { total, layer in
            let attention = layer.attention
            // Either the keys are projected, or as many queries as there are latents are brought to them.
            let isAbsorbed = attention.absorbsContext(queries: count)
            let projected = isAbsorbed ? count : keys
            let width = isAbsorbed ? attention.heads * latents.shape[1] : attention.innerWidth
            return total + attention.query.cost(rows: count) + attention.output.cost(rows: count)
                + attention.key.cost(rows: projected) + attention.value.cost(rows: projected)
                + .attention(queries: count, keys: keys, width: width) + layer.feedForward.cost(rows: count)
        }
    }
}
