import FoveaTensor

/// What a picture adds to a matrix of a language model: ΔW = B·Aᵀ, of rank r.
public struct LowRankDelta: Sendable {
    /// A, [B, D, r]; of each sample's picture.
    public let down: Tensor
    /// B, [D, r]; the same for all pictures, with the scale in it.
    public let up: Tensor

    /// x [B, T, D] → (x·A)·Bᵀ, [B, T, D]. ΔW itself is never made.
    public func callAsFunction(_ x: Tensor) -> Tensor { linear(matmul(x, down), weight: up) }

    /// ΔW of one sample, [D, D], a row for each output: to be added to a matrix for good.
    public func matrix(ofSample sample: Int) -> Tensor { matmul(up, down[sample].transposed(0, 1)) }
}

/// Weights that VLoRA made of the pictures of a batch, for the layers of a language model.
public struct GeneratedWeights: Injection {
    /// What in a layer gets something added.
    public enum Target: String, Sendable, CaseIterable {
        /// The projection of queries.
        case query = "q"
        case key = "k"
        case value = "v"
        /// The projection behind attention.
        case output = "o"
        /// The whole MLP: a way around it.
        case mlp = "m"
    }

    /// For each layer, from 0 on, what is added to which of its parts; nothing in most layers.
    public let layers: [[Target: LowRankDelta]]

    public func change(of target: Target, for x: Tensor, layer: Int) -> Tensor? {
        layers.indices.contains(layer) ? layers[layer][target]?(x) : nil
    }

    /// The same with nothing for samples that have no picture.
    ///
    /// - Parameter present: bool, [B]: which samples have one.
    public func only(where present: Tensor) -> GeneratedWeights {
        GeneratedWeights(
            layers: layers.map { layer in
                layer.mapValues { delta in
                    guard present.dtype == .bool, present.shape == [delta.down.shape[0]] else {
                        trap("GeneratedWeights", "bool [B] is needed", present, delta.down)
                    }
                    return LowRankDelta(
                        down: select(present.reshaped(to: [present.count, 1, 1]), delta.down, else: 0), up: delta.up)
                }
            })
    }

    /// What applying them to one sample of so many tokens takes.
    ///
    /// - Parameter text: T.
    public func cost(text: Int) -> Cost {
        Cost(multiplyAdds: layers.joined().reduce(0) { $0 + 2 * text * $1.value.up.count })
    }
}
