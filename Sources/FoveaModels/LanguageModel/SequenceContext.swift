import FoveaNN
import FoveaTensor

/// What the layers of a decoder know of the tokens besides their features: where each stands, and what it may see.
public struct SequenceContext: Sendable {
    /// Of the tokens' positions: [T], or [B, 1, T] where samples differ.
    public let angles: RotaryAngles
    /// bool, broadcast to [B, H, T, T]: true where a token may look; nil for anywhere.
    public let mask: Tensor?
    /// Whether a token sees itself and what stands before it alone.
    public let isCausal: Bool

    /// The context of embedded tokens [B, T, D]; `LanguageModel.hiddenStates` says what the other arguments are.
    init(
        of embeddings: Tensor, positions: Tensor?, mask: Tensor?, isCausal: Bool, options: LanguageModel.Options
    ) {
        guard embeddings.rank == 3, embeddings.shape[2] == options.width else {
            trap("LanguageModel", "embedded tokens [B, T, \(options.width)] are needed", embeddings)
        }
        let (batch, length) = (embeddings.shape[0], embeddings.shape[1])
        guard length <= options.contextLength else {
            trap("LanguageModel", "\(length) tokens exceed the context of \(options.contextLength)", embeddings)
        }
        let positions = positions ?? .arange(length, dtype: .int64)
        switch positions.shape {
        case [length]: angles = options.angles(of: positions)
        case [batch, length]: angles = options.angles(of: positions.unsqueezed(1))
        default: trap("LanguageModel", "positions [T] or [B, T] are needed", positions, embeddings)
        }
        self.mask = mask.map { mask in
            switch mask.rank {
            case 2: mask.unsqueezed(1).unsqueezed(1)
            case 3: mask.unsqueezed(1)
            case 4: mask
            default: trap("LanguageModel", "a mask [B, T], [B, T, T] or [B, H, T, T] is needed", mask, embeddings)
            }
        }
        self.isCausal = isCausal
    }
}

extension LanguageModel.Options {
    fileprivate func angles(of positions: Tensor) -> RotaryAngles {
        RotaryAngles(positions: positions, width: headWidth, base: rotaryBase)
    }
}
