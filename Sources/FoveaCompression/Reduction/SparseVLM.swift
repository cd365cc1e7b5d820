import FoveaNN
import FoveaTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// SparseVLM: the visual tokens that the question's telling words attend to; what is dropped is recycled into a few.
///
/// (Zhang et al., "SparseVLM: visual token sparsification for efficient vision-language model inference", 2024, §3;
/// `llava/model/language_model/{score,utils,modelling_sparse_llama}.py` of Gumpest/SparseVLMs, version 1.5, whose counts
/// are fixed: the rank of the attention that version 1 counts by is unstable.)
///
///     raters = the text tokens t with R_t > mean R,   R = mean over visual tokens of softmax over text of ⟨x, t⟩
///     P_j    = mean over raters and heads of A[t, j];  kept = the `keep` largest
///     recycled: the best ⌊3 d / 10⌋ + 1 of the d dropped, in clusters around peaks of density, a mean for each
///
/// The published code breaks ties of density by random noise; here the lower index wins.
public struct SparseVLM: Module {
    /// What counts.
    public enum Budget: Sendable, Equatable {
        /// The visual tokens that remain; clusters of the others come on top.
        case remaining(Int)
        /// All that is left, clusters among them.
        case total(Int)
    }

    /// How many visual tokens are left.
    public let budget: Budget
    /// Whether dropped tokens are recycled into clusters.
    public let recycles: Bool
    /// In a decoder, the first layer that sees fewer.
    public let layer: Int

    /// - Parameters:
    ///   - keep: how many visual tokens remain.
    ///   - recycles: whether dropped tokens are recycled into clusters.
    ///   - layer: in a decoder, the first layer that sees fewer, from 1 on; published are 3, 7 and 16.
    public init(keep: Int, recycles: Bool = true, layer: Int = 3) {
        guard keep >= 1, layer >= 1 else {
            trap("SparseVLM", "a budget and a layer from 1 on are needed, not \(keep) and \(layer)")
        }
        budget = .remaining(keep)
        self.recycles = recycles
        self.layer = layer
    }

    /// Leaves so many tokens of any picture that has more, clusters among them; without clusters where they alone would be more.
    ///
    /// - Parameters:
    ///   - target: how many tokens are left.
    ///   - recycles: whether dropped tokens are recycled into clusters.
    ///   - layer: in a decoder, the first layer that sees fewer, from 1 on.
    public init(target: Int, recycles: Bool = true, layer: Int = 3) {
        guard target >= 1, layer >= 1 else {
            trap("SparseVLM", "a target and a layer from 1 on are needed, not \(target) and \(layer)")
        }
        budget = .total(target)
        self.recycles = recycles
        self.layer = layer
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// Which text tokens rate, ascending.
    ///
    /// - Parameters:
    ///   - x: one sample's visual tokens, [N, C].
    ///   - text: [M, C].
    public func raters(_ x: Tensor, text: Tensor) -> [Int] {
        let r = withoutGradient {
            matmul(x.detached, text.detached.transposed(0, 1)).softmax(axis: 1).mean(axes: [0])
        }.doubles
        let mean = r.reduce(0, +) / Double(r.count)
        let telling = r.indices.filter { r[$0] > mean }
        return telling.isEmpty ? Array(r.indices) : telling
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - x: the visual tokens, [N, C].
    ///   - attention: of the text's queries to them, [H, M, N].
    ///   - raters: which of the M queries rate.
    public func reduction(_ x: Tensor, attention: Tensor, raters: [Int]) -> TokenReduction {
        let n = x.shape[0]
        let (keep, clusterCount) = parts(of: n)
        guard keep < n else { return TokenReduction(keeping: Array(0..<n)) }
        let scores = withoutGradient {
            attention.detached.selecting(axis: 1, .indices(raters)).mean(axes: [0, 1])
        }.doubles
        let order = Ranking.order(scores)
        let kept = order.prefix(keep).sorted()
        guard clusterCount > 0 else { return TokenReduction(keeping: kept) }
        let recycled = order.dropFirst(keep).prefix(recycled(of: n - keep)).sorted()
        let clusters = DensityPeaks.clusters(
            x.detached.selecting(axis: 0, .indices(recycled)), count: clusterCount)
        var merges: [TokenReduction.Merge] = []
        var weights: [Double] = []
        for (cluster, members) in clusters.enumerated() {
            merges += members.map { .init(source: recycled[$0], place: keep + cluster) }
            weights += members.map { _ in 1 / Double(members.count) }
        }
        return TokenReduction(
            kept: kept + [Int?](repeating: nil, count: clusters.count), merges: merges,
            weights: Tensor(weights, shape: [weights.count]))
    }
}

extension SparseVLM: AttentionCut {
    /// Marks the raters, which are told from what goes into the first layer; once for all cuts.
    public func entering(_ tokens: LayerTokens) -> LayerTokens {
        let (visual, question) = (tokens.visual, tokens.question)
        if let marks = tokens.marks?.memberFlags,
            zip(question, marks).contains(where: { question, marks in question.contains { marks[$0] } })
        {
            return tokens
        }
        let raters = tokens.features.detached.members.enumerated().map { sample, x -> [Int] in
            guard !visual[sample].isEmpty, !question[sample].isEmpty else { return [] }
            return self.raters(
                x.selecting(axis: 0, .indices(visual[sample])),
                text: x.selecting(axis: 0, .indices(question[sample]))
            ).map { question[sample][$0] }
        }
        var marked = tokens
        let flags = Tensor.flags(raters, tokens.count)
        marked.marks = tokens.marks.map { $0 .| flags } ?? flags
        return marked
    }

    /// The raters; all that is asked where none are marked.
    public func rows(of tokens: LayerTokens) -> [[Int]] {
        guard let marks = tokens.marks?.memberFlags else { return tokens.question }
        return zip(tokens.question, marks).map { question, marks in
            let raters = question.filter { marks[$0] }
            return raters.isEmpty ? question : raters
        }
    }

    public func reduction(_ x: Tensor, attention: Tensor, isMarked: [Bool]) -> TokenReduction {
        reduction(x, attention: attention, raters: Array(0..<attention.shape[1]))
    }

    public func count(of n: Int) -> Int? {
        let (keep, clusters) = parts(of: n)
        return keep + clusters
    }

    /// How many of n tokens remain, and how many clusters the others are recycled into.
    private func parts(of n: Int) -> (keep: Int, clusters: Int) {
        func clusters(besides keep: Int) -> Int { recycles ? recycled(of: n - keep) / 10 + 1 : 0 }
        switch budget {
        case .remaining(let keep): return keep < n ? (keep, clusters(besides: keep)) : (n, 0)
        case .total(let count):
            guard count < n else { return (n, 0) }
            let keep = (1...count).last { $0 + clusters(besides: $0) == count } ?? count
            return (keep, count - keep)
        }
    }

    /// How many of so many dropped tokens are recycled.
    private func recycled(of dropped: Int) -> Int { min(dropped, 3 * dropped / 10 + 1) }

    /// At most, since it depends on the words how many of them rate: the products of all words with all visual tokens, of
    /// their queries with all keys, and the clusters' means.
    public func cost(_ shape: LayerShape, inLayer layer: Int) -> Cost {
        guard seat(inLayer: layer) != nil else { return Cost() }
        let (keep, clusters) = parts(of: shape.visual)
        let dropped = shape.visual - keep
        guard dropped > 0 else { return Cost() }
        return .product(shape.visual, shape.width, shape.question)
            + .product(shape.question, shape.queryWidth, shape.count)
            + TokenReduction.cost(
                of: clusters > 0 ? recycled(of: dropped) : 0, into: shape.count - dropped + clusters,
                width: shape.width)
    }
}

/// Clusters around peaks of density. (Rodriguez and Laio, "Clustering by fast search and find of density peaks", 2014,
/// with the densities of k nearest neighbours.)
enum DensityPeaks {
    /// Rows z [Q, C] in c clusters, each the indices of its members; in the order of their centres.
    static func clusters(_ z: Tensor, count c: Int) -> [[Int]] {
        let q = z.shape[0]
        let distance = distances(z)
        func line(_ row: Int) -> ArraySlice<Double> { distance[row * q..<(row + 1) * q] }
        let density = (0..<q).map { row in
            let nearest = line(row).sorted().prefix(c)
            return exp(-nearest.reduce(0) { $0 + $1 * $1 } / Double(nearest.count))
        }
        let largest = distance.max() ?? 0
        let peaks = (0..<q).map { row in
            let denser = (0..<q).filter {
                density[$0] > density[row] || (density[$0] == density[row] && $0 < row)
            }
            return density[row] * (denser.map { distance[row * q + $0] }.min() ?? largest)
        }
        let centres = Ranking.top(peaks, c)
        var clusters = [[Int]](repeating: [], count: centres.count)
        for row in 0..<q {
            let own = centres.firstIndex(of: row)
            clusters[own ?? Ranking.first(centres.map { -distance[row * q + $0] })].append(row)
        }
        return clusters
    }

    /// ‖z_i − z_j‖ / √C of all pairs, [Q · Q].
    private static func distances(_ z: Tensor) -> [Double] {
        let (q, width) = (z.shape[0], z.shape[1])
        var distances = [Double](repeating: 0, count: q * q)
        let values = z.doubles
        values.withUnsafeBufferPointer { values in
            for i in 0..<q {
                for j in 0..<i {
                    var sums = SIMD8<Double>(repeating: 0)
                    let (a, b) = (values.baseAddress! + i * width, values.baseAddress! + j * width)
                    var column = 0
                    while column + 8 <= width {
                        var difference = SIMD8<Double>(repeating: 0)
                        for lane in 0..<8 { difference[lane] = a[column + lane] - b[column + lane] }
                        sums += difference * difference
                        column += 8
                    }
                    var sum = sums.sum()
                    while column < width {
                        sum += (a[column] - b[column]) * (a[column] - b[column])
                        column += 1
                    }
                    let distance = (sum / Double(width)).squareRoot()
                    distances[i * q + j] = distance
                    distances[j * q + i] = distance
                }
            }
        }
        return distances
    }
}

extension SparseVLM {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "sparsevlm", "keeps the visual tokens that telling words attend to, and recycles the rest",
        forms: [
            PublishedForm(
                WeightLayout<SparseVLM>("reference", []),
                keys: [.keep(), .flag("recycle", "whether dropped tokens are recycled into clusters", default: true)],
                inputs: [
                    .init("x", "[B, N, C]"), .init("text", "[B, M, C]"), .init("attention", "[B, H, M, N]"),
                ],
                outputs: [.init("kept", "[B, K]", .indices), .init("tokens", "[B, L, C]")],
                sample: ["keep": 3, "recycle": true],
                sampleInputs: {
                    [
                        "x": $0.uniform([2, 12, 3]), "text": $0.uniform([2, 4, 3]),
                        "attention": $0.uniform([2, 2, 4, 12], 0...0.3),
                    ]
                },
                make: { SparseVLM(keep: $0.int("keep"), recycles: $0.bool("recycle")) },
                run: { method, inputs in
                    let x = try inputs.filled("x")
                    let text = try inputs.filled("text").members
                    let reductions = zip(zip(x.members, text), inputs["attention"].members).map { sample, attention in
                        method.reduction(
                            sample.0, attention: attention, raters: method.raters(sample.0, text: sample.1))
                    }
                    let kept = reductions.map { $0.kept.compactMap { $0 } }
                    return ["kept": .paddedIndices(kept), "tokens": x.reduced(by: reductions)]
                })
        ])
}
