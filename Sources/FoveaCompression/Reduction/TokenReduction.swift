import FoveaTensor

/// What a reducer decides for one sample: which of its N tokens remain, in which order, and which are merged into them
/// with what weight.
///
///     y_p = own_p · x_kept(p) + Σ weight_e · x_source(e)     over the merges e into place p
///
/// Features, sizes, positions, masks and provenance follow from it alone.
public struct TokenReduction: Sendable {
    /// A token that goes into a place of the output.
    public struct Merge: Sendable, Equatable {
        /// Which token of the input.
        public var source: Int
        /// Which token of the output.
        public var place: Int

        public init(source: Int, place: Int) {
            self.source = source
            self.place = place
        }
    }

    /// The token of the input that stands at each place of the output; nil where one is made of others alone.
    public var kept: [Int?]
    /// What is merged where.
    public var merges: [Merge]
    /// The weight of each merge, [merges]; gradients flow to it.
    public var weights: Tensor?
    /// The weight of each kept token, [places]; nil for 1.
    public var own: Tensor?

    /// Tokens that remain as they are.
    public init(keeping kept: [Int]) {
        self.kept = kept
        merges = []
    }

    /// Tokens that remain, and what goes into them.
    ///
    /// - Parameters:
    ///   - kept: the token at each place, nil where one is made of others alone.
    ///   - merges: what is merged where.
    ///   - weights: of the merges, [merges].
    ///   - own: of the kept tokens, [places]; nil for 1.
    public init(kept: [Int?], merges: [Merge], weights: Tensor, own: Tensor? = nil) {
        guard weights.shape == [merges.count], own == nil || own!.shape == [kept.count] else {
            trap("TokenReduction", "a weight for each of \(merges.count) merges is needed", weights)
        }
        self.kept = kept
        self.merges = merges
        self.weights = weights
        self.own = own
    }

    /// Weighted means: each place is divided by what goes into it.
    ///
    /// - Parameters:
    ///   - kept: the token at each place.
    ///   - merges: what is merged where.
    ///   - weights: of the merges before the division, [merges].
    ///   - own: of the kept tokens before the division, [places].
    public static func means(
        kept: [Int], merges: [Merge], weights: Tensor, own: Tensor
    ) -> TokenReduction {
        guard !merges.isEmpty else { return TokenReduction(keeping: kept) }
        let places = Tensor.indices(merges.map(\.place))
        let totals = own.addingAt(axis: 0, places, weights)
        return TokenReduction(
            kept: kept, merges: merges, weights: weights / totals.selecting(axis: 0, places), own: own / totals)
    }

    /// Whether it is one of n tokens.
    func fits(_ n: Int) -> Bool {
        kept.allSatisfy { $0.map((0..<n).contains) ?? true }
            && merges.allSatisfy { (0..<n).contains($0.source) && kept.indices.contains($0.place) }
    }

    /// Whether tokens are kept as they are and nothing is merged.
    var isSelection: Bool { merges.isEmpty && own == nil && !kept.contains(nil) }

    /// Whether the sample stays as it is, all of its N tokens in their order.
    func isIdentity(_ n: Int) -> Bool { merges.isEmpty && own == nil && kept == (0..<n).map { $0 } }

    /// The same with other numbers for the tokens of the input.
    func renumbered(_ number: (Int) -> Int) -> TokenReduction {
        var copy = self
        copy.kept = kept.map { $0.map(number) }
        copy.merges = merges.map { Merge(source: number($0.source), place: $0.place) }
        return copy
    }

    /// The same with its places in the order of the tokens that stand there; those made of others alone come last.
    func ordered() -> TokenReduction {
        let order = kept.indices.sorted { (kept[$0] ?? .max, $0) < (kept[$1] ?? .max, $1) }
        var place = [Int](repeating: 0, count: order.count)
        for (new, old) in order.enumerated() { place[old] = new }
        var copy = self
        copy.kept = order.map { kept[$0] }
        copy.merges = merges.map { Merge(source: $0.source, place: place[$0.place]) }
        copy.own = own?.selecting(axis: 0, .indices(order))
        return copy
    }

    /// One sample's tokens x [N, C] → [places, C].
    func applied(to x: Tensor) -> Tensor {
        let sources = Array(Set(merges.map(\.source))).sorted()
        guard let weights = weights?.cast(to: x.dtype),
            TokenReduction.isDense(merges: merges.count, of: sources.count)
        else {
            MatrixProduct.count(multiplyAdds: merges.count * x.shape[1])
            return summed(x, merges: merges, weights: weights?.cast(to: x.dtype))
        }
        let remaining = summed(x, merges: [], weights: nil)
        let column = Dictionary(uniqueKeysWithValues: sources.enumerated().map { ($1, $0) })
        let cells = merges.map { $0.place * sources.count + column[$0.source]! }
        let matrix = Tensor.zeros([kept.count * sources.count], dtype: x.dtype)
            .addingAt(axis: 0, .indices(cells), weights)
            .reshaped(to: [kept.count, sources.count])
        return remaining + matmul(matrix, x.selecting(axis: 0, .indices(sources)))
    }

    /// What stands at each place and what goes into it, in one sweep of the tokens.
    private func summed(_ x: Tensor, merges: [Merge], weights: Tensor?) -> Tensor {
        // Numbers among the weights of the tokens that stand, and of the merges behind them.
        var offsets = kept.map { $0 == nil ? 0 : 1 }
        for merge in merges { offsets[merge.place] += 1 }
        var total = 0
        for place in kept.indices { (offsets[place], total) = (total, total + offsets[place]) }
        var next = offsets
        var (ids, order) = ([Int](repeating: 0, count: total), [Int](repeating: 0, count: total))
        func put(_ token: Int, into place: Int, _ number: Int) {
            (ids[next[place]], order[next[place]]) = (token, number)
            next[place] += 1
        }
        for (place, token) in kept.enumerated() { if let token { put(token, into: place, place) } }
        for (number, merge) in merges.enumerated() { put(merge.source, into: merge.place, kept.count + number) }
        let own = self.own?.cast(to: x.dtype) ?? .ones([kept.count], dtype: x.dtype)
        let given = weights.map { concatenated([own, $0], axis: 0) } ?? own
        return embeddingBag(
            .indices(ids), offsets: .indices(offsets), table: x, weights: given.selecting(axis: 0, .indices(order)))
    }

    /// Whether so many merges of so many tokens are one product with a matrix of weights. Where a token goes to one place or
    /// two, as in most methods, they are added one by one: less than the matrix alone would take.
    private static func isDense(merges: Int, of sources: Int) -> Bool { merges > 2 * sources }

    /// What the merges of so many tokens into so many places take, each token of this width.
    ///
    /// - Parameters:
    ///   - merges: how many; unless given, each token goes to one place.
    ///   - sources: how many tokens go somewhere.
    ///   - places: how many tokens there are afterwards.
    ///   - width: C.
    static func cost(merges: Int? = nil, of sources: Int, into places: Int, width: Int) -> Cost {
        let merges = merges ?? sources
        return isDense(merges: merges, of: sources)
            ? .product(places, sources, width) : Cost(multiplyAdds: merges * width)
    }

    /// How much of each of n tokens goes to the places where they stand, and with each merge: what a token gives away adds up to 1.
    func shares(of n: Int) -> (own: [Double], merges: [Double]) {
        var own = self.own?.doubles ?? [Double](repeating: 1, count: kept.count)
        var weights = self.weights?.doubles ?? []
        var given = [Double](repeating: 0, count: n)
        for (place, token) in kept.enumerated() { if let token { given[token] += own[place] } }
        for (merge, weight) in zip(merges, weights) { given[merge.source] += weight }
        func share(_ token: Int?, _ weight: Double) -> Double {
            guard let token, given[token] > 0 else { return 0 }
            return weight / given[token]
        }
        for place in kept.indices { own[place] = share(kept[place], own[place]) }
        for (number, merge) in merges.enumerated() { weights[number] = share(merge.source, weights[number]) }
        return (own, weights)
    }

    /// The same with these shares as weights, for what adds up, such as attention.
    func sharingOut(_ n: Int) -> TokenReduction {
        guard !isSelection else { return self }
        let shares = shares(of: n)
        var copy = self
        copy.own = Tensor(shares.own, shape: [kept.count])
        copy.weights = Tensor(shares.merges, shape: [merges.count])
        return copy
    }

    /// How much of each of N tokens goes where, [places · N].
    func matrix(_ n: Int) -> [Float] {
        var matrix = [Float](repeating: 0, count: kept.count * n)
        let own = self.own?.doubles
        for (place, token) in kept.enumerated() {
            if let token { matrix[place * n + token] = Float(own?[place] ?? 1) }
        }
        if let weights {
            for (merge, weight) in zip(merges, weights.doubles) {
                matrix[merge.place * n + merge.source] += Float(weight)
            }
        }
        return matrix
    }
}

extension Tensor {
    /// Tokens x [B, N, C] after a reduction of each sample: [B, longest, C], zeros behind the shorter ones.
    func reduced(by reductions: [TokenReduction]) -> Tensor {
        let (n, width) = (shape[1], shape[2])
        if reductions.allSatisfy({ $0.isIdentity(n) }) { return self }
        let counts = reductions.map(\.kept.count)
        let length = counts.max() ?? 0
        if reductions.allSatisfy(\.isSelection) {
            let rows = reductions.enumerated().flatMap { sample, reduction in
                reduction.kept.map { sample * n + $0! }
                    + [Int](repeating: sample * n, count: length - reduction.kept.count)
            }
            let taken = reshaped(to: [shape[0] * n, width]).selecting(axis: 0, .indices(rows))
                .reshaped(to: [shape[0], length, width])
            return taken.zeroedBehind(counts)
        }
        let samples = zip(members, reductions).map { x, reduction in
            let y = reduction.applied(to: x)
            return y.shape[0] == length ? y : y.padded([(0, length - y.shape[0]), (0, 0)])
        }
        return samples.count == 1 ? samples[0].unsqueezed(0) : stacked(samples, axis: 0)
    }
}

extension VisualTokens {
    /// The tokens after a reduction of each sample, with all that is known of them: positions become the means of what
    /// is merged, sizes add up, what is dropped is gone.
    public func reduced(by reductions: [TokenReduction]) -> VisualTokens {
        guard reductions.count == batch else {
            trap("VisualTokens", "\(reductions.count) reductions for \(batch) samples", features)
        }
        for reduction in reductions where !reduction.fits(count) {
            trap(
                "VisualTokens",
                "a reduction names tokens beyond the \(count) that there are, or places that it has not", features)
        }
        if reductions.allSatisfy({ $0.isIdentity(count) }) { return self }
        let counts = reductions.map(\.kept.count)
        let length = counts.max() ?? 0
        let features = self.features.reduced(by: reductions)
        var reduced = withoutGradient { () -> VisualTokens in
            if reductions.allSatisfy(\.isSelection) {
                return VisualTokens(
                    features: features.detached, positions: positions.reduced(by: reductions),
                    sizes: sizes.unsqueezed(-1).reduced(by: reductions).squeezed(-1),
                    provenance: provenance.map { Provenance(weights: $0.weights.reduced(by: reductions)) })
            }
            let rows = reductions.flatMap { reduction in
                reduction.matrix(count) + [Float](repeating: 0, count: (length - reduction.kept.count) * count)
            }
            return mixed(features: features.detached, by: Tensor(rows, shape: [batch, length, count]))
        }
        reduced.features = features
        reduced.mask = counts.contains { $0 != length } ? Tensor.prefixMask(counts) : nil
        reduced.signals = signals?.reduced(by: reductions)
        reduced.marks = marks.map { marks in
            withoutGradient {
                marks.cast(to: .float32).unsqueezed(-1).reduced(by: reductions).squeezed(-1) .> 0
            }
        }
        return reduced
    }

    /// The indices of each sample's real tokens.
    var realTokens: [[Int]] {
        guard let mask else { return [[Int]](repeating: Array(0..<count), count: batch) }
        let flags: [Bool] = mask.scalars()
        return (0..<batch).map { sample in (0..<count).filter { flags[sample * count + $0] } }
    }
}
