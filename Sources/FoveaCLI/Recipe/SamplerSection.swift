import Fovea

extension Recipe {
    /// FocusLLaVA's text sampler between the decoder's layers; nil where visual tokens stay.
    ///
    /// - Parameters:
    ///   - tokens: what the decoder gets of a picture.
    ///   - decoder: whose layers they are.
    func sampler(of tokens: TokenShape, in decoder: LanguageModel) throws -> FocusTextSampler? {
        let (keep, depth) = (integer("sampler.keep"), decoder.options.depth)
        guard keep > 0 else {
            for key in ["sampler.layer", "sampler.leastShare"] where isGiven(key) {
                throw error(key, "there is no sampler; say with sampler.keep how many tokens it keeps")
            }
            return nil
        }
        guard optionalText("injection.module") == nil else {
            throw error("sampler.keep", "an injection puts the pictures into the layers; no token stands in the text")
        }
        guard keep <= tokens.count else {
            throw error("sampler.keep", "\(keep) tokens cannot be kept; the decoder gets \(tokens.count) of a picture")
        }
        guard depth >= 2 else {
            throw error("sampler.keep", "a decoder of \(depth) layers has none to take tokens away between")
        }
        let layer = integer("sampler.layer") == 0 ? (depth + 1) / 2 : integer("sampler.layer")
        guard layer < depth else {
            throw error("sampler.layer", "expected is a layer below the decoder's \(depth), not \(layer)")
        }
        return FocusTextSampler(
            keep: keep, layer: layer, trainingShares: optionalNumber("sampler.leastShare").map { $0...1 })
    }
}
