import FoveaTensor

// How a choice among the visual tokens of each sample becomes one among all tokens of a layer.

extension LayerTokens {
    /// The visual tokens of each sample after a reduction, in their place; what is made of others alone stands behind
    /// the last of them. Everything else stays.
    ///
    /// - Parameter reductions: of each sample, counted among its visual tokens.
    func reduced(visual reductions: [TokenReduction]) -> LayerTokens {
        let visual = self.visual
        if zip(reductions, visual).allSatisfy({ $0.isIdentity($1.count) }) { return self }
        if reductions.allSatisfy({ $0.isSelection }) {
            return keeping(
                visual: zip(reductions, visual).map { reduction, places in reduction.kept.map { places[$0!] } })
        }
        let flags = real
        /// The weights of each new token over the old ones, sample by sample.
        let rows = reductions.enumerated().map { sample, reduction -> [[Double]] in
            let places = visual[sample]
            let isVisual = Set(places)
            let matrix = reduction.matrix(places.count)
            func row(_ place: Int) -> [Double] {
                var row = [Double](repeating: 0, count: count)
                for (index, token) in places.enumerated() { row[token] = Double(matrix[place * places.count + index]) }
                return row
            }
            let standing = Dictionary(
                uniqueKeysWithValues: reduction.kept.enumerated().compactMap { place, token in
                    token.map { (places[$0], place) }
                })
            let appended = reduction.kept.indices.filter { reduction.kept[$0] == nil }
            return (0..<count).filter { flags[sample][$0] }.flatMap { token -> [[Double]] in
                var rows: [[Double]] = []
                if let place = standing[token] {
                    rows.append(row(place))
                } else if !isVisual.contains(token) {
                    rows.append((0..<count).map { $0 == token ? 1 : 0 })
                }
                return token == places.last ? rows + appended.map(row) : rows
            }
        }
        let width = rows.map(\.count).max() ?? 0
        let padded = rows.flatMap { rows in
            rows.flatMap { $0 } + [Double](repeating: 0, count: (width - rows.count) * count)
        }
        return mixed(
            by: Tensor(padded, shape: [batch, width, count]),
            mask: rows.contains { $0.count != width } ? Tensor.prefixMask(rows.map(\.count)) : nil)
    }

    /// The places of each sample's tokens behind its last visual one: what is asked of the pictures.
    var question: [[Int]] {
        zip(real, visual).map { real, visual in
            (0..<count).filter { real[$0] && $0 > visual.last ?? -1 }
        }
    }

    /// The attention of some rows of each sample.
    ///
    /// - Parameters:
    ///   - rows: of each sample; the shorter lists are filled up with rows that `attention(of:from:)` leaves out.
    ///   - heads: what becomes of the axis of heads.
    func tap(_ rows: [[Int]], heads: AttentionTap.Heads = .mean) -> [AttentionTap] {
        let most = rows.map(\.count).max() ?? 0
        guard most > 0 else { return [] }
        let filled = rows.flatMap { $0 + [Int](repeating: 0, count: most - $0.count) }
        return [.rows(Tensor(filled.map(Int64.init), shape: [batch, most]), heads: heads)]
    }

    /// What `tap` handed out, for each sample [H, rows, visual tokens]; H is 1 where it was the mean.
    func attention(of rows: [[Int]], from attention: LayerAttention) -> [Tensor] {
        guard let tapped = attention.taps.first else { return visual.map { .zeros([1, 0, $0.count]) } }
        return zip(zip(tapped.members, rows), visual).map { sample, visual in
            let heads = sample.0.rank == 3 ? sample.0 : sample.0.unsqueezed(0)
            return heads.sliced(axis: 1, 0..<sample.1.count).selecting(axis: 2, .indices(visual))
        }
    }
}

/// A reducer that works behind one layer of a decoder, by the attention of some rows there.
public protocol AttentionCut: LayerReducer {
    /// The first layer that sees fewer tokens, counted from 0.
    var layer: Int { get }

    /// The rows of each sample whose attention decides.
    func rows(of tokens: LayerTokens) -> [[Int]]

    /// What becomes of one sample's visual tokens.
    ///
    /// - Parameters:
    ///   - x: their features, [N, D].
    ///   - attention: of the rows to them, [H, rows, N]; H is 1 where the mean was tapped.
    ///   - positions: where they stood in the text.
    ///   - sample: which of the batch it is.
    func reduction(_ x: Tensor, attention: Tensor, positions: [Int], sample: Int) -> TokenReduction
}

extension AttentionCut {
    public func seat(inLayer layer: Int) -> LayerSeat? { layer == self.layer - 1 ? .afterLayer : nil }

    public func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] { tokens.tap(rows(of: tokens)) }

    public func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let rows = self.rows(of: tokens)
        let positions: [Double] = tokens.positions.scalars()
        let attention = tokens.attention(of: rows, from: attention)
        let visual = tokens.visual
        return tokens.reduced(
            visual: zip(visual, tokens.features.detached.members).enumerated().map { sample, own in
                // Nobody asks, or there is nothing to choose from.
                guard !own.0.isEmpty, !rows[sample].isEmpty else {
                    return TokenReduction(keeping: Array(own.0.indices))
                }
                return reduction(
                    own.1.selecting(axis: 0, .indices(own.0)), attention: attention[sample],
                    positions: own.0.map { Int(positions[sample * tokens.count + $0]) }, sample: sample)
            })
    }
}
