import FoveaCompression
import FoveaNN
import FoveaTensor

extension LanguageModel {
    /// Why these generated weights do not belong to this model, in a few words; nil when they do.
    public func problem(with weights: GeneratedWeights) -> String? {
        guard weights.layers.count == layers.count else {
            return "the weights are for \(weights.layers.count) layers, the model has \(layers.count)"
        }
        for (layer, changes) in zip(layers, weights.layers) {
            for (target, delta) in changes {
                let width = delta.up.shape[0]
                let shape =
                    DecoderLayer.matrix(of: target).map { layer[keyPath: $0].weight.shape }
                    ?? [layer.mlp.down.weight.shape[0], layer.mlp.gate.weight.shape[1]]
                guard shape == [width, width] else {
                    return "the weights change \(target) from \(width) to \(width) features, the model's is \(shape)"
                }
            }
        }
        return nil
    }

    /// The model that has read one picture for good: what VLoRA made of it is in its weights, and nothing is added while
    /// it reads text.
    ///
    ///     W ← W + B·Aᵀ                                    queries, keys, values, output
    ///     gate ← [gate; Aᵀ; −Aᵀ], up ← [up; 0] with bias 1, down ← [down, B, −B]      the MLP
    ///
    /// A way around the MLP is no change of its matrices, but a few more features inside of it: act(z) − act(−z) is z for
    /// SiLU, GELU and ReLU. The MLP then has 2r features more in every layer, and biases; so does attention where it had
    /// some. Such a model saves as `llama` (with `attention_bias`, `mlp_bias`), without changes of the MLP in the layout
    /// that it came in.
    ///
    /// What is changed takes the type of the generated weights, where the model's are of half precision.
    ///
    /// Traps for weights that do not fit (`problem` says which), and for other functions inside the MLP.
    ///
    /// - Parameters:
    ///   - weights: what VLoRA made of a batch of pictures.
    ///   - sample: which of the pictures.
    public func merged(with weights: GeneratedWeights, ofSample sample: Int = 0) -> LanguageModel {
        if let problem = problem(with: weights) { trap("LanguageModel", problem) }
        var model = self
        for (index, changes) in weights.layers.enumerated() {
            for (target, delta) in changes {
                guard let linear = DecoderLayer.matrix(of: target) else { continue }
                let weight = model.layers[index][keyPath: linear].weight.cast(to: delta.up.dtype)
                model.layers[index][keyPath: linear].weight = weight + delta.matrix(ofSample: sample)
            }
        }
        let ways = weights.layers.map { $0[.mlp] }
        guard let any = ways.lazy.compactMap({ $0 }).first?.up else { return model }
        let rank = any.shape[1]
        guard [.silu, .gelu, .geluTanh, .quickGelu, .relu].contains(options.activation) else {
            trap("LanguageModel", "no way leads around an MLP with \(options.activation)")
        }
        for (index, way) in ways.enumerated() {
            model.layers[index].mlp = model.layers[index].mlp.cast(to: any.dtype)
            model.layers[index].mlp.widen(by: rank, with: way, ofSample: sample)
            // One flag of the published configuration stands for all biases of attention.
            if options.attentionBias { model.layers[index].attention.output.ensureBias() }
        }
        model.options.hidden += 2 * rank
        model.options.mlpBias = true
        model.options.outputBias = model.options.outputBias || options.attentionBias
        return model
    }
}

extension DecoderLayer {
    /// The layer whose matrix a target is; nil for the MLP as a whole.
    fileprivate static func matrix(of target: GeneratedWeights.Target) -> WritableKeyPath<DecoderLayer, Linear>? {
        switch target {
        case .query: \.attention.query
        case .key: \.attention.key
        case .value: \.attention.value
        case .output: \.attention.output
        case .mlp: nil
        }
    }
}

extension GatedMLP {
    /// 2r more features inside, through which a way leads around the others; nothing where there is none.
    fileprivate mutating func widen(by rank: Int, with way: LowRankDelta?, ofSample sample: Int) {
        let (width, dtype) = (gate.weight.shape[1], gate.weight.dtype)
        let down = way.map { $0.down[sample] } ?? .zeros([width, rank], dtype: dtype)
        let up = way?.up ?? .zeros([self.down.weight.shape[0], rank], dtype: dtype)
        for layer in [\GatedMLP.gate, \.up, \.down] { self[keyPath: layer].ensureBias() }
        let inner = Tensor.zeros([2 * rank], dtype: dtype)
        gate.weight = concatenated([gate.weight, down.transposed(0, 1), -down.transposed(0, 1)], axis: 0)
        gate.bias = gate.bias.map { concatenated([$0, inner], axis: 0) }
        self.up.weight = concatenated([self.up.weight, .zeros([2 * rank, width], dtype: dtype)], axis: 0)
        self.up.bias = self.up.bias.map { concatenated([$0, inner + 1], axis: 0) }
        self.down.weight = concatenated([self.down.weight, up, -up], axis: 1)
    }
}

extension Linear {
    /// Adds a bias of zeros where there is none.
    fileprivate mutating func ensureBias() {
        bias = bias ?? .zeros([weight.shape[0]], dtype: weight.dtype)
    }
}
