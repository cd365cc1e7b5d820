import FoveaCompression
import FoveaNN
import FoveaTensor

/// Hyper attention in some layers of a language model; `HyperAttention` gives the equations.
public struct HyperAttentionLayers: Module {
    /// Of each of the layers.
    public var injections: [HyperAttention]
    /// Which layers they are, from 0 on. (`hyper_layers` of published configurations counts from 1.)
    public let layers: [Int]

    /// Hyper attention for a model; pictures start with the layers' own keys and values.
    ///
    /// Traps unless the model has the layers, each named once.
    ///
    /// - Parameters:
    ///   - layers: which ones, from 0 on.
    ///   - model: whose layers they are.
    ///   - fusion: which of the definitions.
    public init(_ layers: [Int], of model: LanguageModel, fusion: HyperAttention.Fusion) {
        guard Set(layers).count == layers.count, layers.allSatisfy(model.layers.indices.contains) else {
            trap("HyperAttentionLayers", "\(layers) are no layers of the \(model.layers.count) that there are")
        }
        self.layers = layers
        injections = layers.map {
            HyperAttention(
                in: model.layers[$0].attention, fusion: fusion, rotary: model.options.rotary,
                dropout: model.options.attentionDropout)
        }
    }

    /// The path of a parameter has the number of its layer.
    public mutating func visit(_ visitor: inout ModuleVisitor) {
        for (place, layer) in layers.enumerated() { visitor.module("layers.\(layer)", &injections[place]) }
    }

    /// What the texts of a batch see of their pictures [N, L, D] in these layers.
    ///
    /// Traps unless there are as many pictures as places.
    ///
    /// - Parameters:
    ///   - pictures: [N, L, D], all of the batch, as wide as the model.
    ///   - places: where they stand in the texts, by the positions of tokens.
    ///   - model: whose layers they are; text and pictures share its norms.
    public func callAsFunction(
        _ pictures: Tensor, at places: PicturePlaces, in model: LanguageModel
    ) -> HyperInjection {
        var seen: [Int: (HyperAttention, HyperAttention.Pictures)] = [:]
        for (layer, injection) in zip(layers, injections) {
            seen[layer] = (
                injection, injection.pictures(model.layers[layer].attentionNorm(pictures), at: places)
            )
        }
        return HyperInjection(layers: seen)
    }
}

/// Pictures as the layers of a language model with hyper attention see them.
public struct HyperInjection: Injection {
    let layers: [Int: (HyperAttention, HyperAttention.Pictures)]

    public func attended(
        queries: Tensor, text: MultiHeadAttention.Context, mask: Tensor?, isCausal: Bool, layer: Int,
        positions: Tensor, attend: (MultiHeadAttention.Context, _ mask: Tensor?, _ isCausal: Bool) -> Tensor
    ) -> Tensor {
        guard let (injection, pictures) = layers[layer] else { return attend(text, mask, isCausal) }
        return injection(
            queries: queries, text: text, mask: mask, isCausal: isCausal, positions: positions, pictures: pictures,
            attend: attend)
    }
}
