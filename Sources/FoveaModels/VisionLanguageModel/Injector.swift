import FoveaCompression
import FoveaNN
import FoveaTensor

/// A method whose pictures take no place in the text: it makes of them what takes part in the layers of the language model.
public protocol Injector: Module {
    /// How wide the tokens of pictures are that it takes.
    func mediaWidth(in model: LanguageModel) -> Int

    /// Why it cannot take these pictures, in a few words; nil when it can.
    ///
    /// - Parameters:
    ///   - media: [N, R, C].
    ///   - places: where their placeholders stand.
    func problem(with media: Tensor, at places: PicturePlaces) -> String?

    /// Pictures and their places in a batch of texts → what the layers get.
    ///
    /// - Parameters:
    ///   - media: [N, R, C], the tokens of all pictures of the batch.
    ///   - places: where their placeholders stand.
    ///   - model: whose layers they are.
    func injection(of media: Tensor, at places: PicturePlaces, in model: LanguageModel) -> any Injection
}

extension Injector {
    public func problem(with media: Tensor, at places: PicturePlaces) -> String? { nil }
}

extension GatedCrossAttentionLayers: Injector {
    public func mediaWidth(in model: LanguageModel) -> Int {
        blocks.first?.attention.key.weight.shape[1] ?? model.options.width
    }

    public func injection(of media: Tensor, at places: PicturePlaces, in model: LanguageModel) -> any Injection {
        self(media, at: places)
    }
}

extension HyperAttentionLayers: Injector {
    public func mediaWidth(in model: LanguageModel) -> Int { model.options.width }

    public func injection(of media: Tensor, at places: PicturePlaces, in model: LanguageModel) -> any Injection {
        self(media, at: places, in: model)
    }
}

/// A text has one picture, or none.
extension VLoRA: Injector {
    public func mediaWidth(in model: LanguageModel) -> Int { options.imageWidth }

    public func problem(with media: Tensor, at places: PicturePlaces) -> String? {
        if let sample = places.starts.firstIndex(where: { $0.count > 1 }) {
            return "sample \(sample) has \(places.starts[sample].count) pictures; VLoRA makes weights of one"
        }
        guard places.count == 0 || media.shape[1] == options.imageTokens else {
            return "the pictures have \(media.shape[1]) tokens; VLoRA takes \(options.imageTokens)"
        }
        return nil
    }

    public func injection(of media: Tensor, at places: PicturePlaces, in model: LanguageModel) -> any Injection {
        var next: Int64 = 0
        // A text without a picture gets the weights of any other, and then none of them.
        let rows = places.starts.map { starts -> Int64 in
            defer { next += Int64(starts.count) }
            return starts.isEmpty ? 0 : next
        }
        let weights = self(
            places.count > 0
                ? media.selecting(axis: 0, Tensor(rows))
                : .zeros([rows.count, options.imageTokens, options.imageWidth], dtype: media.dtype))
        let present = places.starts.map { !$0.isEmpty }
        return present.contains(false) ? weights.only(where: Tensor(present)) : weights
    }
}
