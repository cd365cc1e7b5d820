import FoveaNN
import FoveaTensor

/// Gated cross-attention in front of every k-th layer of a language model: what makes Flamingo of it.
/// (Alayrac et al., "Flamingo", 2022, §3.1.2; `cross_attn_every_n_layers` of open_flamingo.)
///
/// Layer k − 1 is the first that has a block, as in open_flamingo.
public struct GatedCrossAttentionLayers: Module {
    /// One for each layer that has one.
    public var blocks: [GatedCrossAttention]
    /// k.
    public let interval: Int

    /// Blocks in front of every k-th layer. Traps unless k is 1 or more.
    ///
    /// - Parameters:
    ///   - blocks: one for each layer that has one.
    ///   - interval: k.
    public init(blocks: [GatedCrossAttention], interval: Int) {
        guard interval >= 1 else { trap("GatedCrossAttentionLayers", "every \(interval)-th layer is none") }
        self.blocks = blocks
        self.interval = interval
    }

    /// - Parameters:
    ///   - options: of each block.
    ///   - layers: how many layers the language model has.
    ///   - interval: k.
    ///   - key: of the random numbers that the blocks start with.
    public init(_ options: GatedCrossAttention.Options, layers: Int, interval: Int, key: RandomKey) {
        self.init(
            blocks: (0..<layers / max(1, interval)).map { GatedCrossAttention(options, key: key.folding(UInt64($0))) },
            interval: interval)
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {
        visitor.modules("blocks", &blocks)
    }

    /// What the texts of a batch see of their media in all layers.
    ///
    /// Traps unless there are as many media as places.
    ///
    /// - Parameters:
    ///   - media: [N, R, C], all of the batch.
    ///   - places: where their placeholders stand in the texts.
    public func callAsFunction(_ media: Tensor, at places: PicturePlaces) -> GatedMedia {
        guard media.rank == 3, media.shape[0] == places.count else {
            trap("GatedCrossAttentionLayers", "\(places.count) media [N, R, C] are needed", media)
        }
        // Where no text has media, there is one that nobody sees: the feed-forwards of the blocks work all the same.
        let tokens =
            places.most == 0
            ? .zeros([places.batch, 1, media.shape[2]], dtype: media.dtype)
            : places.spread(media).reshaped(to: [places.batch, places.most * media.shape[1], media.shape[2]])
        return GatedMedia(
            blocks: blocks, contexts: blocks.map { $0.attention.projected(tokens) }, interval: interval, places: places,
            tokensPerMedium: media.shape[1])
    }
}

/// The media of a batch of texts, for the blocks of gated cross-attention between the layers.
public struct GatedMedia: Injection {
    let blocks: [GatedCrossAttention]
    /// Keys and values, [B, H, P·R, d], of each block.
    let contexts: [MultiHeadAttention.Context]
    let interval: Int
    let places: PicturePlaces
    /// R.
    let tokensPerMedium: Int

    public func entering(_ x: Tensor, layer: Int, positions: Tensor) -> Tensor {
        guard (layer + 1) % interval == 0, case let index = layer / interval, blocks.indices.contains(index) else {
            return x
        }
        return blocks[index](x, to: contexts[index], mask: visibility(positions, for: blocks[index], batch: x.shape[0]))
    }

    /// Where each token may look: bool [B, T, P·R].
    private func visibility(_ positions: Tensor, for block: GatedCrossAttention, batch: Int) -> Tensor {
        withoutGradient {
            let here = positions.rank == 1 ? positions.unsqueezed(0) : positions
            guard places.most > 0 else { return .full([places.batch, here.shape[1], 1], 0, dtype: .bool) }
            let starts = places.table(absent: .infinity).unsqueezed(1)
            // How many media the text has come to at each token: [B, T, 1].
            let times = (starts .<= here.cast(to: .float64).unsqueezed(2)).cast(to: .float64)
                .sum(axes: [-1], keepingAxes: true)
            let medium = Tensor((0..<places.most * tokensPerMedium).map { Double(1 + $0 / tokensPerMedium) })
            let visible = block.seesLastMediumOnly ? times .== medium : medium .<= times
            return visible.expanded(to: [batch, here.shape[1], medium.count])
        }
    }
}
