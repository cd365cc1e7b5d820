import FoveaCompression
import FoveaModels
import FoveaNN
import FoveaTensor
import FoveaTestSupport

/// A small model in float64, with weights of a size that makes every part of it matter, and what sits in it.
enum DecoderCase {
    static let options = LanguageModel.Options(
        vocabulary: 11, width: 8, hidden: 12, depth: 4, heads: 4, keyHeads: 2, attentionBias: true, contextLength: 200)

    static func model(_ options: LanguageModel.Options = options) -> LanguageModel {
        var model = LanguageModel(options, key: RandomKey(seed: 1)).cast(to: .float64)
        model.forEachParameter { path, tensor in
            tensor = .uniform(tensor.shape, in: -0.6...0.6, key: RandomKey(seed: 5).folding(path), dtype: .float64)
        }
        return model
    }

    /// Features [B, T, 8] that are the same wherever they are asked for.
    static func features(_ batch: Int, _ length: Int, seed: UInt64 = 3) -> Tensor {
        .uniform([batch, length, 8], in: -1...1, key: RandomKey(seed: seed), dtype: .float64)
    }

    /// Gated cross-attention in front of every second layer, its gates open.
    static func gated(_ media: Tensor, at places: PicturePlaces) -> GatedMedia {
        var layers = GatedCrossAttentionLayers(
            .init(width: 8, mediaWidth: 5, heads: 2, headWidth: 3), layers: 4, interval: 2, key: RandomKey(seed: 7)
        ).cast(to: .float64)
        layers.forEachParameter { path, tensor in
            if path.contains("Gate") { tensor = .ones(tensor.shape, dtype: .float64) }
        }
        return layers(media, at: places)
    }

    /// VLoRA whose weights are not zero.
    static func generated(_ picture: Tensor) -> GeneratedWeights {
        let options = VLoRA.Options(
            width: 4, depth: 1, imageWidth: 5, imageTokens: 3, modelWidth: 8, modelDepth: 4, rank: 2)
        var generator = VLoRA(
            with(options) {
                $0.heads = 2
                $0.targets = [.query, .output, .mlp]
                $0.stride = 2
            },
            key: RandomKey(seed: 8)
        ).cast(to: .float64)
        generator.outputs = .uniform(generator.outputs.shape, in: -0.4...0.4, key: RandomKey(seed: 9), dtype: .float64)
        return generator(picture)
    }

    private static func with<Value>(_ value: Value, _ change: (inout Value) -> Void) -> Value {
        var copy = value
        change(&copy)
        return copy
    }
}

/// Keeps those visual tokens that the last token attends to most, as FastV does.
struct LastRowReducer: LayerReducer {
    var layer = 1
    var keep = 2
    var place = LayerSeat.afterLayer

    func seat(inLayer layer: Int) -> LayerSeat? { layer == self.layer ? place : nil }

    func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] {
        let last = tokens.real.map { Int64($0.lastIndex(of: true) ?? 0) }
        return [.rows(Tensor(last, shape: [tokens.batch, 1]))]
    }

    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let scores: [Double] = attention.taps[0].scalars()
        return tokens.keeping(
            visual: tokens.visual.enumerated().map { sample, places in
                Array(
                    places.sorted { scores[sample * tokens.count + $0] > scores[sample * tokens.count + $1] }.prefix(
                        keep))
            })
    }
}

/// Merges the visual tokens two by two, and has their sizes counted.
struct PairMerger: LayerReducer {
    var layer = 0
    var place = LayerSeat.afterAttention
    var countsSizes: Bool { true }

    func seat(inLayer layer: Int) -> LayerSeat? { layer == self.layer ? place : nil }

    func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let gone = tokens.visual.map { places in Set(stride(from: 1, to: places.count, by: 2).map { places[$0] }) }
        let rows = tokens.real.enumerated().map { sample, real in
            (0..<tokens.count).filter { real[$0] && !gone[sample].contains($0) }
        }
        let width = rows.map(\.count).max()!
        var weights = [Double](repeating: 0, count: tokens.batch * width * tokens.count)
        var mask = [Bool](repeating: false, count: tokens.batch * width)
        for (sample, own) in rows.enumerated() {
            for (place, token) in own.enumerated() {
                mask[sample * width + place] = true
                let members = gone[sample].contains(token + 1) ? [token, token + 1] : [token]
                for member in members {
                    weights[(sample * width + place) * tokens.count + member] = 1 / Double(members.count)
                }
            }
        }
        return tokens.mixed(
            by: Tensor(weights, shape: [tokens.batch, width, tokens.count]),
            mask: mask.contains(false) ? Tensor(mask, shape: [tokens.batch, width]) : nil)
    }
}
