// MARK: pixelShuffle, pixelUnshuffle

extension Op {
    public static let pixelShuffle = Op("pixelShuffle", "channels spread over squares of pixels", linearIn: [0]) {
        [
            OpSample("twice", [$0.uniform([2, 8, 2, 3])]) { $0[0].pixelShuffled(by: 2) },
            OpSample("thrice", [$0.uniform([1, 9, 1, 2])]) { $0[0].pixelShuffled(by: 3) },
            OpSample("one", [$0.uniform([1, 2, 2, 2])]) { $0[0].pixelShuffled(by: 1) },
            OpSample("empty", [$0.uniform([0, 4, 2, 2])]) { $0[0].pixelShuffled(by: 2) },
        ]
    }
    public static let pixelUnshuffle = Op("pixelUnshuffle", "squares of pixels stacked into channels", linearIn: [0]) {
        [
            OpSample("twice", [$0.uniform([2, 2, 4, 6])]) { $0[0].pixelUnshuffled(by: 2) },
            OpSample("thrice", [$0.uniform([1, 1, 3, 6])]) { $0[0].pixelUnshuffled(by: 3) },
            OpSample("one", [$0.uniform([1, 2, 2, 2])]) { $0[0].pixelUnshuffled(by: 1) },
            OpSample("empty", [$0.uniform([0, 1, 2, 4])]) { $0[0].pixelUnshuffled(by: 2) },
        ]
    }
}

extension Tensor {
    /// [B, C·r², H, W] → [B, C, H·r, W·r]: channel c·r² + i·r + j becomes the pixels at row i and column j of each square.
    /// Traps unless r² divides the channels. (Shi et al., "Real-time single image and video super-resolution", 2016.)
    public func pixelShuffled(by r: Int) -> Tensor {
        guard rank == 4, r > 0, shape[1] % (r * r) == 0 else {
            trap("pixelShuffle", "[B, C·r², H, W] with r = \(r) is needed", self)
        }
        return withoutGradient { spread(r) }.derived(by: .pixelShuffle, from: self) { g in g.stacked(r) }
    }

    /// [B, C, H·r, W·r] → [B, C·r², H, W]: the inverse of `pixelShuffled(by:)`. Traps unless r divides both sides.
    public func pixelUnshuffled(by r: Int) -> Tensor {
        guard rank == 4, r > 0, shape[2] % r == 0, shape[3] % r == 0 else {
            trap("pixelUnshuffle", "[B, C, H·r, W·r] with r = \(r) is needed", self)
        }
        return withoutGradient { stacked(r) }.derived(by: .pixelUnshuffle, from: self) { g in g.spread(r) }
    }

    private func spread(_ r: Int) -> Tensor {
        let (batch, channels, height, width) = (shape[0], shape[1] / (r * r), shape[2], shape[3])
        return reshaped(to: [batch, channels, r, r, height, width]).permuted(to: [0, 1, 4, 2, 5, 3])
            .reshaped(to: [batch, channels, height * r, width * r])
    }

    private func stacked(_ r: Int) -> Tensor {
        let (batch, channels, height, width) = (shape[0], shape[1], shape[2] / r, shape[3] / r)
        return reshaped(to: [batch, channels, height, r, width, r]).permuted(to: [0, 1, 3, 5, 2, 4])
            .reshaped(to: [batch, channels * r * r, height, width])
    }
}
