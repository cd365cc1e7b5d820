import FoveaNN

extension PerceiverResampler {
    /// Sizes of a resampler and which of the published forms it has, open_flamingo's unless said otherwise.
    public struct Options: Sendable, Equatable {
        /// D, the width of the latents, and of the tokens where nothing projects them.
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

        /// G, the heads of keys and values; H where nil.
        public var keyHeads: Int?
        /// The norm of tokens, latents and feed-forward.
        public var norm = Norm.layer()
        /// The norm over each head of queries and keys; nil for none.
        public var headNorm: Norm?
        /// Whether tokens and latents go through one norm for keys and values, as in the paper.
        public var sharesContextNorm = false
        /// Whether what comes out has a norm.
        public var hasFinalNorm = true
        public var feedForward = FeedForward.plain(.gelu)
        /// Whether more frames than there are embeddings get interpolated ones.
        public var interpolatesFrames = false
        /// What brings tokens of another width to D; nil for nothing.
        public var projection: Projection?
        /// The share of attention weights that is dropped in training.
        public var attentionDropout = 0.0
        /// How linear layers start; as PyTorch's unless given.
        public var initializer: Initializer?
        /// How the latents start.
        public var latentInitializer = Initializer.normal(deviation: 1)

        /// A gated MLP from the encoder's width to D.
        public struct Projection: Sendable, Equatable {
            /// C, the width of the tokens.
            public var inputs: Int
            /// The width inside.
            public var hidden: Int
            public var activation: Activation

            public init(inputs: Int, hidden: Int, activation: Activation = .silu) {
                self.inputs = inputs
                self.hidden = hidden
                self.activation = activation
            }
        }

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
}
