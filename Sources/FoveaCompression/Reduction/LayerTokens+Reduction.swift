import FoveaTensor

// How a choice among the visual tokens of each picture becomes one among all tokens of a layer.

extension LayerTokens {
    /// The visual tokens of one picture of a sample.
    struct PictureTokens {
        /// The picture's number in its sample.
        let picture: Int64
        /// Where they are among the tokens, ascending.
        let places: [Int]
    }

    /// The visual tokens of each sample's pictures.
    var visualByPicture: [[PictureTokens]] {
        let numbers: [Int64] = pictures.scalars()
        return visual.enumerated().map { sample, places in
            // Tokens of a picture mostly follow each other: hashes are asked for where another one begins.
            var order: [Int64: Int] = [:]
            var own: [(picture: Int64, places: [Int])] = []
            var current = -1
            for place in places {
                let number = numbers[sample * count + place]
                if current < 0 || own[current].picture != number {
                    current = order[number] ?? own.count
                    order[number] = current
                    if current == own.count { own.append((number, [])) }
                }
                own[current].places.append(place)
            }
            return own.sorted { $0.picture < $1.picture }.map { PictureTokens(picture: $0.picture, places: $0.places) }
        }
    }

    /// The visual tokens after a reduction of each picture, in their place; what is made of others alone stands behind the
    /// last of its picture. A token that others go into keeps its position. Everything else stays.
    ///
    /// - Parameter reductions: of each sample's pictures, counted among the tokens of the picture.
    func reduced(pictures reductions: [[TokenReduction]]) -> LayerTokens {
        let groups = visualByPicture
        let isWhole = zip(reductions, groups).allSatisfy { own, groups in
            zip(own, groups).allSatisfy { $0.isIdentity($1.places.count) }
        }
        if isWhole { return self }
        let whole = zip(zip(real, groups), reductions).map { TokenReduction.whole($0.0, $0.1, $1) }
        let counts = whole.map(\.reduction.kept.count)
        let length = counts.max() ?? 0
        var reduced = withoutGradient { known(after: whole, length: length) }
        reduced.mask = counts.contains { $0 != length } ? .prefixMask(counts) : nil
        reduced.features = features.reduced(by: whole.map(\.reduction))
        return reduced
    }

    /// What is known of the tokens after a reduction of each sample; without features and mask.
    private func known(after whole: [(reduction: TokenReduction, pictures: [Int64])], length: Int) -> LayerTokens {
        let (positions, sizes) = (self.positions.doubles, self.sizes.doubles)
        let marks: [Bool]? = self.marks?.scalars()
        var (places, parts): ([Double], [Double]) = ([], [])
        var (numbers, marked): ([Int64], [Bool]) = ([], [])
        for (sample, (reduction, pictures)) in whole.enumerated() {
            let first = sample * count
            // A token belongs to whom it gives most of itself, in parts: what it gives away adds up to its size.
            let shares = reduction.shares(of: count)
            var size = reduction.kept.enumerated().map { place, token in
                token.map { shares.own[place] * sizes[first + $0] } ?? 0
            }
            var sum = reduction.kept.map { _ in 0.0 }
            var weighed = sum
            var isMarked = reduction.kept.map { token in token.flatMap { token in marks?[first + token] } ?? false }
            for (number, (merge, weight)) in zip(reduction.merges, reduction.weights?.doubles ?? []).enumerated() {
                size[merge.place] += shares.merges[number] * sizes[first + merge.source]
                sum[merge.place] += weight * sizes[first + merge.source] * positions[first + merge.source]
                weighed[merge.place] += weight * sizes[first + merge.source]
                if marks?[first + merge.source] == true { isMarked[merge.place] = true }
            }
            let padding = length - size.count
            places +=
                reduction.kept.enumerated().map { place, token in
                    token.map { positions[first + $0] } ?? sum[place] / max(weighed[place], 1e-12)
                } + [Double](repeating: 0, count: padding)
            parts += size + [Double](repeating: 1, count: padding)
            numbers += pictures + [Int64](repeating: -1, count: padding)
            marked += isMarked + [Bool](repeating: false, count: padding)
        }
        let shape = [batch, length]
        var known = LayerTokens(
            features: .zeros(shape + [0], dtype: features.dtype), positions: Tensor(places, shape: shape),
            pictures: Tensor(numbers, shape: shape), sizes: Tensor(parts, shape: shape),
            marks: marks.map { _ in Tensor(marked, shape: shape) },
            origins: origins.map { $0.reduced(by: whole.map(\.reduction)) })
        known.rows = rows.map { rows in
            // What is made of others alone stands where the first of them did.
            let places = whole.flatMap { reduction, _ -> [Int64] in
                var own = reduction.kept.map { Int64($0 ?? -1) }
                for merge in reduction.merges where own[merge.place] < 0 { own[merge.place] = Int64(merge.source) }
                return own.map { max($0, 0) } + [Int64](repeating: 0, count: length - own.count)
            }
            return rows.gathered(axis: 1, Tensor(places, shape: shape))
        }
        return known
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

    /// What `tap` handed out, for each sample [H, rows, T]; H is 1 where it was the mean.
    func attention(of rows: [[Int]], from attention: LayerAttention) -> [Tensor] {
        guard let tapped = attention.taps.first else {
            return rows.map { _ in .zeros([1, 0, count], dtype: features.dtype) }
        }
        return zip(tapped.members, rows).map { sample, rows in
            (sample.rank == 3 ? sample : sample.unsqueezed(0)).sliced(axis: 1, 0..<rows.count)
        }
    }
}

extension TokenReduction {
    /// What becomes of all tokens of a sample when each picture's have their reduction and everything else stays.
    ///
    /// - Parameters:
    ///   - real: which tokens there are.
    ///   - groups: the tokens of each picture.
    ///   - reductions: of the pictures; they say in which order the tokens of a picture come.
    /// - Returns: the reduction, and for each place the number of its picture, −1 for none.
    fileprivate static func whole(
        _ real: [Bool], _ groups: [LayerTokens.PictureTokens], _ reductions: [TokenReduction]
    ) -> (reduction: TokenReduction, pictures: [Int64]) {
        /// Places of the pictures' reductions, by the token that each stands at.
        var standing: [(token: Int, group: Int, place: Int)] = []
        var isVisual = [Bool](repeating: false, count: real.count)
        for (number, (group, reduction)) in zip(groups, reductions).enumerated() {
            for place in group.places { isVisual[place] = true }
            let places = reduction.kept.indices.filter { reduction.kept[$0] != nil }
            let tokens = places.map { group.places[reduction.kept[$0]!] }.sorted()
            for (token, place) in zip(tokens, places) { standing.append((token, number, place)) }
            guard let last = group.places.last else { continue }
            for place in reduction.kept.indices where reduction.kept[place] == nil {
                standing.append((last, number, place))
            }
        }
        // Stable, and quick where there is one picture.
        standing.sort { $0.token < $1.token }
        var kept: [Int?] = []
        var pictures: [Int64] = []
        /// Where each place of each picture's reduction ends up, and where its weight comes from; 0 for a weight of 1.
        var target = reductions.map { [Int](repeating: 0, count: $0.kept.count) }
        var weightOf: [Int] = []
        let firstWeight = reductions.reduce(into: [1]) { $0.append($0.last! + $1.kept.count) }
        var next = 0
        for token in real.indices where real[token] {
            if !isVisual[token] {
                kept.append(token)
                pictures.append(-1)
                weightOf.append(0)
            }
            while next < standing.count, standing[next].token == token {
                let (_, group, place) = standing[next]
                next += 1
                target[group][place] = kept.count
                kept.append(reductions[group].kept[place].map { groups[group].places[$0] })
                pictures.append(groups[group].picture)
                weightOf.append(firstWeight[group] + place)
            }
        }
        let merges = reductions.enumerated().flatMap { group, reduction in
            reduction.merges.map {
                Merge(source: groups[group].places[$0.source], place: target[group][$0.place])
            }
        }
        var whole = TokenReduction(keeping: [])
        whole.kept = kept
        guard !merges.isEmpty || reductions.contains(where: { $0.own != nil }) else { return (whole, pictures) }
        whole.merges = merges
        let weights = reductions.compactMap(\.weights)
        let dtype = (weights + reductions.compactMap(\.own)).first!.dtype
        whole.weights = concatenated(
            [.zeros([0], dtype: dtype)] + weights.map { $0.cast(to: dtype) }, axis: 0)
        if reductions.contains(where: { $0.own != nil }) {
            let all = reductions.map { $0.own?.cast(to: dtype) ?? .ones([$0.kept.count], dtype: dtype) }
            whole.own = concatenated([.ones([1], dtype: dtype)] + all, axis: 0)
                .selecting(axis: 0, .indices(weightOf))
        }
        return (whole, pictures)
    }
}

/// A reducer that works behind one layer of a decoder, by the attention of some rows there. Each picture of a sample is
/// reduced by itself.
public protocol AttentionCut: LayerReducer {
    /// The first layer that sees fewer tokens, counted from 0.
    var layer: Int { get }

    /// The rows of each sample whose attention decides.
    func rows(of tokens: LayerTokens) -> [[Int]]

    /// What becomes of one picture's tokens.
    ///
    /// - Parameters:
    ///   - x: their features, [N, D].
    ///   - attention: of the rows to them, [H, rows, N]; H is 1 where the mean was tapped.
    ///   - isMarked: which of them are marked.
    func reduction(_ x: Tensor, attention: Tensor, isMarked: [Bool]) -> TokenReduction

    /// How many of a picture's n tokens it leaves; nil where that depends on the picture.
    func count(of n: Int) -> Int?

    /// How many rows decide where m tokens stand behind the picture, at most.
    func rows(of m: Int) -> Int
}

extension AttentionCut {
    public func seat(inLayer layer: Int) -> LayerSeat? { layer == self.layer - 1 ? .afterLayer : nil }

    public func taps(inLayer layer: Int, for tokens: LayerTokens) -> [AttentionTap] { tokens.tap(rows(of: tokens)) }

    public func reduced(_ tokens: LayerTokens, inLayer layer: Int, attention: LayerAttention) -> LayerTokens {
        let rows = self.rows(of: tokens)
        let attention = tokens.attention(of: rows, from: attention)
        let (features, marks) = (tokens.features.detached.members, tokens.marks?.memberFlags)
        return tokens.reduced(
            pictures: tokens.visualByPicture.enumerated().map { sample, pictures in
                pictures.map { picture in
                    // Nobody asks.
                    guard !rows[sample].isEmpty else {
                        return TokenReduction(keeping: Array(picture.places.indices))
                    }
                    let own = Tensor.indices(picture.places)
                    return reduction(
                        features[sample].selecting(axis: 0, own),
                        attention: attention[sample].selecting(axis: 2, own),
                        isMarked: picture.places.map { marks?[sample][$0] ?? false })
                }
            })
    }

    public func rows(of m: Int) -> Int { m }

    public func count(of n: Int, inLayer layer: Int) -> Int? { seat(inLayer: layer) == nil ? n : count(of: n) }

    /// The products of the rows' queries with all keys.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        seat(inLayer: layer) == nil ? Cost() : .product(rows(of: shape.question), shape.queryWidth, shape.count)
    }
}
