import Fovea

extension Recipe {
    /// The modules of the catalogue that are injections, or the layer of one.
    static let injections = ["gated-cross-attention", "hyper-attention", "vlora"]

    /// What puts pictures into the decoder's layers, with fresh weights; nil where they stand in front of the text.
    ///
    /// It works in every `injection.interval`-th layer. Sizes that decoder and pictures tell need not be given.
    ///
    /// - Parameters:
    ///   - media: what the compressor makes of a picture.
    ///   - decoder: whose layers they are.
    ///   - pictures: the most of a sample.
    ///   - key: of the random numbers that it starts with.
    func injector(
        of media: TokenShape, into decoder: LanguageModel, pictures: Int, key: RandomKey
    ) throws -> (any Injector)? {
        guard optionalText("injection.module") != nil else {
            if let stray = sections["injection"]?.values.keys.sorted().first {
                throw error("injection.\(stray)", "there is no injection; name one with injection.module")
            }
            return nil
        }
        guard Recipe.injections.contains(text("injection.module")) else {
            let known = Recipe.injections.joined(separator: ", ")
            throw error("injection.module", "\(text("injection.module")) is no injection; there are \(known)")
        }
        let (options, interval) = (decoder.options, integer("injection.interval"))
        guard interval <= options.depth else {
            throw error("injection.interval", "\(interval) leaves none of the decoder's \(options.depth) layers")
        }
        let form = try form(of: "injection")
        let configuration = try configuration(
            of: "injection", form,
            known: [
                "dim": .int(options.width), "hidden_size": .int(options.width), "llm_dim": .int(options.width),
                "llm_depth": .int(options.depth), "skip_layers": .int(interval),
                "num_attention_heads": .int(options.heads), "dim_visual": .int(media.width),
                "vision_embed_dim": .int(media.width), "visual_dim": .int(media.width), "pos_num": .int(media.count),
            ].merging(text("injection.module") == "vlora" ? ["dim": .int(media.width)] : [:]) { $1 })
        do {
            func module(_ key: RandomKey) throws -> any Module {
                try form.instance(configuration, key: key, owner: "injection").module
            }
            let injector: any Injector
            switch try module(key) {
            case is GatedCrossAttention:
                let blocks = try (0..<options.depth / interval).map { try module(key.folding(UInt64($0))) }
                injector = GatedCrossAttentionLayers(
                    blocks: blocks.compactMap { $0 as? GatedCrossAttention }, interval: interval)
            case let layer as HyperSelfAttention:
                injector = HyperAttentionLayers(
                    Array(stride(from: interval - 1, to: options.depth, by: interval)), of: decoder,
                    fusion: layer.injection.fusion)
            case let vlora as VLoRA: injector = vlora
            case let other: trap("Recipe", "\(type(of: other)) is listed as an injection")
            }
            let width = injector.mediaWidth(in: decoder)
            let seen = Tensor.zeros([pictures, media.count, width])
            if let problem = injector.problem(with: seen, at: PicturePlaces([Array(0..<pictures)])) {
                throw ModuleInputError(problem)
            }
            return injector
        } catch let problem as ModuleInputError {
            throw error("injection.module", "\(problem)")
        }
    }
}
