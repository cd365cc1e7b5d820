import FoveaCompression
import FoveaNN
import FoveaTensor

/// What a layer of a decoder knows of the tokens besides their features: where each stands, what it may see, and what
/// takes part in the layer besides.
public struct SequenceContext: Sendable {
    /// Which layer it is, from 0 on.
    public internal(set) var layer = 0
    /// Of the positions that queries and keys are turned by: [T], or [B, 1, T] where samples differ.
    public internal(set) var angles: RotaryAngles
    /// Where the tokens stand in the text, [T] or [B, T].
    public internal(set) var positions: Tensor
    /// Broadcast to [B, H, T, M]. bool: true where a token may look; nil for anywhere. Of the features' type: added to
    /// the scores.
    public internal(set) var mask: Tensor?
    /// Whether a token sees itself and what stands before it alone.
    public internal(set) var isCausal: Bool
    /// What takes part in the layers.
    public let injection: (any Injection)?

    /// Layer 0 of embedded tokens [B, T, D]; `LanguageModel.hiddenStates` says what the other arguments are.
    init(
        of embeddings: Tensor, positions: Tensor?, mask: Tensor?, isCausal: Bool, injection: (any Injection)?,
        options: LanguageModel.Options
    ) {
        options.requireTokens(embeddings)
        let (batch, length) = (embeddings.shape[0], embeddings.shape[1])
        let positions = positions ?? .arange(length, dtype: .int64)
        switch positions.shape {
        case [length]: angles = options.angles(of: positions)
        case [batch, length]: angles = options.angles(of: positions.unsqueezed(1))
        default: trap("LanguageModel", "positions [T] or [B, T] are needed", positions, embeddings)
        }
        self.positions = positions
        self.mask = mask.map { mask in
            switch mask.rank {
            case 2: mask.unsqueezed(1).unsqueezed(1)
            case 3: mask.unsqueezed(1)
            case 4: mask
            default: trap("LanguageModel", "a mask [B, T], [B, T, T] or [B, H, T, T] is needed", mask, embeddings)
            }
        }
        self.isCausal = isCausal
        self.injection = injection
    }

    /// What some tokens of each sample may see: broadcast to [B, H, R, M], as `mask`, with the causal order in it; nil for
    /// everything.
    ///
    /// - Parameters:
    ///   - rows: int64 [B, R].
    ///   - keys: M.
    func mask(ofRows rows: Tensor, keys: Int) -> Tensor? {
        let own = mask.map { mask -> Tensor in
            guard mask.shape[2] > 1 else { return mask }
            return mask.expanded(to: [rows.shape[0]] + mask.shape.dropFirst()).transposed(1, 2)
                .rowsOfSamples(rows).transposed(1, 2)
        }
        guard isCausal else { return own }
        let order = Tensor.arange(keys, dtype: .int64) .<= rows.unsqueezed(1).unsqueezed(3)
        return own.map { $0.dtype == .bool ? $0 .& order : select(order, $0, else: -.infinity) } ?? order
    }

    /// A part of the layer with what the injection adds to it.
    ///
    /// - Parameters:
    ///   - y: what the part gives.
    ///   - target: which part it is.
    ///   - x: what went into it.
    func changed(_ y: Tensor, _ target: GeneratedWeights.Target, _ x: Tensor) -> Tensor {
        injection?.change(of: target, for: x, layer: layer).map { y + $0 } ?? y
    }
}

extension LanguageModel.Options {
    func angles(of positions: Tensor) -> RotaryAngles {
        RotaryAngles(positions: positions, width: headWidth, frequencies: rotary)
    }

    /// Traps unless these are embedded tokens [B, T, D] that the context holds.
    func requireTokens(_ embeddings: Tensor) {
        guard embeddings.rank == 3, embeddings.shape[2] == width else {
            trap("LanguageModel", "embedded tokens [B, T, \(width)] are needed", embeddings)
        }
        guard embeddings.shape[1] <= contextLength else {
            trap(
                "LanguageModel", "\(embeddings.shape[1]) tokens exceed the context of \(contextLength)", embeddings)
        }
    }
}
