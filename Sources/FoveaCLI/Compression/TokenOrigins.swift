import Fovea

/// Which patches the tokens of a batch come from, by their provenance.
struct TokenOrigins {
    /// How many real tokens each sample has.
    let counts: [Int]
    /// The patch that most of each token is, int64 [B, K]; −1 for padding and for tokens that stand for no patch.
    let indices: Tensor
    /// For each sample and patch the token that has most of it, nil where it was dropped.
    let owners: [[Int?]]
    /// For each sample and token, how many patches are in it.
    let parts: [[Int]]

    init(_ tokens: VisualTokens) {
        let (batch, count) = (tokens.batch, tokens.count)
        let real = tokens.mask?.scalars(as: Bool.self) ?? [Bool](repeating: true, count: batch * count)
        counts = (0..<batch).map { sample in (0..<count).count { real[sample * count + $0] } }
        guard let provenance = tokens.provenance?.weights else {
            (owners, parts) = ([], [])
            indices = .full([batch, count], -1, dtype: .int64)
            return
        }
        let patches = provenance.shape[2]
        let weights = provenance.cast(to: .float32).scalars(as: Float.self)
        var indices = [Int64](repeating: -1, count: batch * count)
        var owners = [[Int?]](repeating: .init(repeating: nil, count: patches), count: batch)
        var parts = [[Int]](repeating: .init(repeating: 0, count: count), count: batch)
        for sample in 0..<batch {
            var most = [Float](repeating: 0, count: patches)
            for token in 0..<count where real[sample * count + token] {
                let row = (sample * count + token) * patches
                var largest: Float = 0
                for patch in 0..<patches where weights[row + patch] > 0 {
                    parts[sample][token] += 1
                    if weights[row + patch] > largest {
                        largest = weights[row + patch]
                        indices[sample * count + token] = Int64(patch)
                    }
                    if weights[row + patch] > most[patch] {
                        most[patch] = weights[row + patch]
                        owners[sample][patch] = token
                    }
                }
            }
        }
        self.indices = Tensor(indices, shape: [batch, count])
        (self.owners, self.parts) = (owners, parts)
    }
}
