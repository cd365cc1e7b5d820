import FoveaTensor

/// An op as random programs use it: which operands it takes, and what it does to them.
///
/// Domains are kept by what stands in front of the op (the logarithm of a square plus a half), kinks by refusing
/// operands that are near one; never by a looser tolerance.
struct FuzzOp: Sendable {
    /// The name in the catalogue.
    let name: String
    let arity: Int
    /// Nil where the op does not take these operands.
    let apply: @Sendable ([Tensor], inout FuzzDraws) -> Tensor?

    init(
        _ name: String, _ arity: Int = 1, _ apply: @escaping @Sendable ([Tensor], inout FuzzDraws) -> Tensor?
    ) {
        (self.name, self.arity, self.apply) = (name, arity, apply)
    }

    static let all = elementwise + binary + reductions + shapes + indexing + products + neural + images

    /// Above 0, wherever x is.
    private static func positive(_ x: Tensor) -> Tensor { x.square() + 0.5 }
    /// In −1 … 1, wherever x is.
    private static func bounded(_ x: Tensor) -> Tensor { (x * 0.5).tanh() }

    private static let elementwise: [FuzzOp] = [
        FuzzOp("negate") { x, _ in -x[0] },
        FuzzOp("exp") { x, _ in bounded(x[0]).exp() },
        FuzzOp("expm1") { x, _ in bounded(x[0]).expm1() },
        FuzzOp("log") { x, _ in positive(x[0]).log() },
        FuzzOp("log1p") { x, _ in x[0].square().log1p() },
        FuzzOp("sqrt") { x, _ in positive(x[0]).sqrt() },
        FuzzOp("rsqrt") { x, _ in positive(x[0]).rsqrt() },
        FuzzOp("reciprocal") { x, _ in positive(x[0]).reciprocal() },
        FuzzOp("square") { x, _ in x[0].square() },
        FuzzOp("tanh") { x, _ in x[0].tanh() },
        FuzzOp("sigmoid") { x, _ in x[0].sigmoid() },
        FuzzOp("erf") { x, _ in x[0].erf() },
        FuzzOp("sin") { x, _ in x[0].sin() },
        FuzzOp("cos") { x, _ in x[0].cos() },
        FuzzOp("gelu") { x, _ in x[0].gelu() },
        FuzzOp("geluTanh") { x, _ in x[0].geluTanh() },
        FuzzOp("silu") { x, _ in x[0].silu() },
        FuzzOp("softplus") { x, _ in x[0].softplus() },
        FuzzOp("abs") { x, d in d.isAway(x[0], from: 0) ? x[0].abs() : nil },
        FuzzOp("relu") { x, d in d.isAway(x[0], from: 0) ? x[0].relu() : nil },
        FuzzOp("squaredRelu") { x, d in d.isAway(x[0], from: 0) ? x[0].squaredRelu() : nil },
        FuzzOp("leakyRelu") { x, d in d.isAway(x[0], from: 0) ? x[0].leakyRelu(slope: 0.2) : nil },
        FuzzOp("elu") { x, d in d.isAway(x[0], from: 0) ? x[0].elu() : nil },
        FuzzOp("clamp") { x, d in d.isAway(x[0], from: -0.7, 0.9) ? x[0].clamped(min: -0.7, max: 0.9) : nil },
        FuzzOp("sign") { x, d in d.isAway(x[0], from: 0) ? x[0].sign() * x[0] : nil },
        FuzzOp("floor") { x, d in d.isAway(x[0] - x[0].round(), from: 0) ? x[0].floor() * x[0] : nil },
        FuzzOp("ceil") { x, d in d.isAway(x[0] - x[0].round(), from: 0) ? x[0].ceil() * x[0] : nil },
        FuzzOp("round") { x, d in d.isAway(x[0] - x[0].floor(), from: 0.5) ? x[0].round() * x[0] : nil },
        FuzzOp("dropout") { x, d in x[0].droppingOut(0.5, key: RandomKey(seed: d.seed())) },
        FuzzOp("straightThrough") { x, _ in straightThrough(x[0] * 3, gradientOf: x[0] * 3) },
    ]

    /// The operands where they broadcast, and not both of two long axes to a square.
    private static func broadcast(
        _ name: String, _ apply: @escaping @Sendable (Tensor, Tensor, inout FuzzDraws) -> Tensor?
    ) -> FuzzOp {
        FuzzOp(name, 2) { x, d in
            let pairs = zip(x[0].shape.reversed(), x[1].shape.reversed())
            guard pairs.allSatisfy({ $0 == $1 || $0 == 1 || $1 == 1 }) else { return nil }
            let (longer, shorter) = x[0].rank > x[1].rank ? (x[0], x[1]) : (x[1], x[0])
            let lead = longer.shape.dropLast(shorter.rank).reduce(1, *)
            let count = pairs.reduce(lead) { $0 * Swift.max($1.0, $1.1) }
            return count <= 10_000_000 ? apply(x[0], x[1], &d) : nil
        }
    }

    private static let binary: [FuzzOp] = [
        broadcast("add") { a, b, _ in a + b },
        broadcast("subtract") { a, b, _ in a - b },
        broadcast("multiply") { a, b, _ in a * b },
        broadcast("divide") { a, b, _ in a / positive(b) },
        broadcast("power") { a, b, _ in power(positive(a), bounded(b)) },
        broadcast("maximum") { a, b, d in d.isAway(a - b, from: 0) ? maximum(a, b) : nil },
        broadcast("minimum") { a, b, d in d.isAway(a - b, from: 0) ? minimum(a, b) : nil },
        broadcast("where") { a, b, d in select(d.mask(a.shape), a, else: b) },
        broadcast("swiGLU") { a, b, _ in a.shape == b.shape ? swiGLU(a, b) : nil },
        broadcast("meanSquaredError") { a, b, _ in a.shape == b.shape && a.count > 0 ? meanSquaredError(a, b) : nil },
        broadcast("huberLoss") { a, b, d in
            guard a.shape == b.shape, d.isAway((a - b).abs(), from: 0.8) else { return nil }
            return huberLoss(a, b, delta: 0.8, reduction: .none)
        },
        broadcast("binaryCrossEntropy") { a, b, _ in
            a.shape == b.shape ? binaryCrossEntropy(a, b.sigmoid(), reduction: .sum) : nil
        },
        broadcast("klDivergence") { a, b, _ in
            a.shape == b.shape ? klDivergence(a, b.sigmoid(), reduction: .sum) : nil
        },
        broadcast("cosineSimilarity") { a, b, d in
            guard a.shape == b.shape, let axis = d.axis(of: a), a.shape[axis] > 0 else { return nil }
            let lengths = concatenated([a, b], axis: 0).l2Norm(axes: [axis])
            return axis > 0 && (!d.isCareful || doublesAreAbove(0.3, lengths))
                ? cosineSimilarity(a, b, axis: axis) : nil
        },
    ]

    private static func doublesAreAbove(_ bound: Double, _ x: Tensor) -> Bool {
        (x .> bound).all().scalars(as: Bool.self)[0]
    }

    private static let reductions: [FuzzOp] = [
        FuzzOp("sum") { x, d in x[0].sum(axes: d.axes(of: x[0]), keepingAxes: d.coin()) },
        FuzzOp("mean") { x, d in x[0].count == 0 ? nil : x[0].mean(axes: d.axes(of: x[0]), keepingAxes: d.coin()) },
        FuzzOp("logSumExp") { x, d in
            x[0].count == 0 ? nil : x[0].logSumExp(axes: d.axes(of: x[0]), keepingAxes: d.coin())
        },
        FuzzOp("product") { x, d in bounded(x[0]).product(axes: d.axes(of: x[0]), keepingAxes: d.coin()) },
        FuzzOp("max") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 0, d.areApart(x[0], along: axis) else { return nil }
            return x[0].max(axes: [axis], keepingAxes: d.coin())
        },
        FuzzOp("min") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 0, d.areApart(x[0], along: axis) else { return nil }
            return x[0].min(axes: [axis], keepingAxes: d.coin())
        },
        FuzzOp("variance") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 1 else { return nil }
            return x[0].variance(axes: [axis], keepingAxes: d.coin())
        },
        FuzzOp("standardDeviation") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 1, d.areSpread(x[0], along: [axis]) else {
                return nil
            }
            return x[0].standardDeviation(axes: [axis], keepingAxes: d.coin())
        },
        FuzzOp("l2Norm") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 0, d.isAway(x[0], from: 0) else { return nil }
            return x[0].l2Norm(axes: [axis], keepingAxes: d.coin())
        },
        FuzzOp("cumulativeSum") { x, d in d.axis(of: x[0]).map { x[0].cumulativeSum(axis: $0) } },
    ]

    private static let shapes: [FuzzOp] = [
        FuzzOp("reshape") { x, d in
            var shape = x[0].shape
            guard x[0].count > 0, x[0].rank > 0 else { return x[0].unsqueezed(0) }
            if d.coin(), shape.count > 1 {
                let axis = d.number(in: 0...shape.count - 2)
                shape[axis] *= shape.remove(at: axis + 1)
            } else {
                shape.insert(1, at: d.number(in: 0...shape.count))
            }
            return x[0].reshaped(to: shape)
        },
        FuzzOp("permute") { x, d in x[0].permuted(to: RandomKey(seed: d.seed()).permutation(of: x[0].rank)) },
        FuzzOp("expand") { x, d in
            let shape = x[0].shape.map { $0 == 1 ? d.number(in: 0...3) : $0 }
            return x[0].expanded(to: d.coin() && shape.count < 5 ? [d.number(in: 1...3)] + shape : shape)
        },
        FuzzOp("slice") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 0 else { return nil }
            let first = d.number(in: 0...x[0].shape[axis] - 1)
            let end = d.number(in: first...x[0].shape[axis])
            return x[0].sliced(axis: axis, first..<end, step: d.number(in: 1...3))
        },
        FuzzOp("concatenate", 2) { x, d in
            guard x[0].rank == x[1].rank, let axis = d.axis(of: x[0]) else { return nil }
            let fits = x[0].shape.indices.allSatisfy { $0 == axis || x[0].shape[$0] == x[1].shape[$0] }
            return fits ? concatenated(x, axis: axis) : nil
        },
        FuzzOp("stack", 2) { x, d in
            x[0].shape == x[1].shape && x[0].rank < 6 ? stacked(x, axis: d.number(in: 0...x[0].rank)) : nil
        },
        FuzzOp("split") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 0 else { return nil }
            let first = d.number(in: 0...x[0].shape[axis])
            let parts = x[0].split(axis: axis, into: [first, x[0].shape[axis] - first])
            // Each part's gradient alone, or both in another order.
            return d.coin() ? parts[d.number(in: 0...1)] : concatenated([parts[1], parts[0] * 2], axis: axis)
        },
        FuzzOp("pad") { x, d in
            x[0].padded(x[0].shape.map { _ in (d.number(in: 0...2), d.number(in: 0...1)) }, value: 0.25)
        },
        FuzzOp("replace", 2) { x, d in
            guard x[0].rank == x[1].rank, let axis = d.axis(of: x[0]), x[1].shape[axis] <= x[0].shape[axis],
                x[0].shape.indices.allSatisfy({ $0 == axis || x[0].shape[$0] == x[1].shape[$0] })
            else { return nil }
            return x[0].replacing(axis: axis, 0..<x[1].shape[axis], with: x[1])
        },
        FuzzOp("repeatInterleave") { x, d in
            d.axis(of: x[0]).map { x[0].repeated(d.number(in: 0...2), axis: $0) }
        },
        FuzzOp("tile") { x, d in x[0].tiled(x[0].shape.map { _ in d.number(in: 1...2) }) },
        FuzzOp("flip") { x, d in x[0].flipped((0..<x[0].rank).filter { _ in d.coin() }) },
        FuzzOp("roll") { x, d in d.axis(of: x[0]).map { x[0].rolled(by: d.number(in: -6...6), axis: $0) } },
        FuzzOp("tril") { x, d in x[0].rank < 2 ? nil : x[0].tril(diagonal: d.number(in: -2...2)) },
        FuzzOp("triu") { x, d in x[0].rank < 2 ? nil : x[0].triu(diagonal: d.number(in: -2...2)) },
    ]

    private static let indexing: [FuzzOp] = [
        FuzzOp("gather") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 0 else { return nil }
            var shape = x[0].shape
            shape[axis] = d.number(in: 0...4)
            let indices = d.indices(shape.reduce(1, *), below: x[0].shape[axis])
            return x[0].gathered(axis: axis, Tensor(indices, shape: shape))
        },
        FuzzOp("scatterAdd", 2) { x, d in
            guard x[0].rank == x[1].rank, let axis = d.axis(of: x[0]), x[0].shape[axis] > 0,
                x[0].shape.indices.allSatisfy({ $0 == axis || x[1].shape[$0] <= x[0].shape[$0] })
            else { return nil }
            let indices = d.indices(x[1].count, below: x[0].shape[axis])
            return x[0].addingAt(axis: axis, Tensor(indices, shape: x[1].shape), x[1])
        },
        FuzzOp("indexSelect") { x, d in
            guard let axis = d.axis(of: x[0]), x[0].shape[axis] > 0 else { return nil }
            return x[0].selecting(axis: axis, Tensor(d.indices(d.number(in: 0...4), below: x[0].shape[axis])))
        },
        FuzzOp("indexAdd", 2) { x, d in
            guard x[0].rank == x[1].rank, let axis = d.axis(of: x[0]), x[0].shape[axis] > 0,
                x[0].shape.indices.allSatisfy({ $0 == axis || x[1].shape[$0] == x[0].shape[$0] })
            else { return nil }
            let indices = d.indices(x[1].shape[axis], below: x[0].shape[axis])
            return x[0].addingSlices(axis: axis, Tensor(indices), x[1])
        },
        FuzzOp("embedding") { x, d in
            guard x[0].rank == 2, x[0].shape[0] > 0 else { return nil }
            return embedding(Tensor(d.indices(6, below: x[0].shape[0]), shape: [2, 3]), table: x[0])
        },
        FuzzOp("embeddingBag", 2) { x, d in
            guard x[0].rank == 2, x[0].shape[0] > 0, x[1].rank == 1, x[1].dtype == x[0].dtype else { return nil }
            let ids = d.indices(x[1].count, below: x[0].shape[0])
            let offsets = [0] + d.indices(2, below: ids.count + 1).sorted()
            return embeddingBag(Tensor(ids), offsets: Tensor(offsets), table: x[0], weights: x[1])
        },
        FuzzOp("maskedSelect") { x, d in
            x[0].rank == 0 ? nil : x[0].masked(by: d.mask(d.coin() ? x[0].shape : [x[0].shape[0]]))
        },
        FuzzOp("maskedFill") { x, d in x[0].maskedFill(d.mask(x[0].shape), 0.5) },
        FuzzOp("sort") { x, d in
            guard let axis = d.axis(of: x[0]), d.areApart(x[0], along: axis) else { return nil }
            return x[0].sorted(axis: axis, descending: d.coin()).values
        },
        FuzzOp("topK") { x, d in
            guard let axis = d.axis(of: x[0]), d.areApart(x[0], along: axis) else { return nil }
            return x[0].topK(d.number(in: 0...x[0].shape[axis]), axis: axis, largest: d.coin()).values
        },
    ]

    private static let products: [FuzzOp] = [
        FuzzOp("matmul", 2) { x, _ in
            // The second operand turned where that makes the lengths meet.
            guard x[0].rank > 1, x[1].rank > 1 else { return nil }
            let b = x[1].shape[x[1].rank - 2] == x[0].shape.last! ? x[1] : x[1].transposed(-1, -2)
            let batches = zip(x[0].shape.dropLast(2).reversed(), b.shape.dropLast(2).reversed())
            guard isSmall(x[0], x[1]), b.shape[b.rank - 2] == x[0].shape.last!,
                batches.allSatisfy({ $0 == $1 || $0 == 1 || $1 == 1 })
            else { return nil }
            return matmul(x[0], b)
        },
        FuzzOp("linear", 2) { x, _ in
            guard x[0].rank > 0, x[1].rank == 2, x[1].shape[1] == x[0].shape.last!, isSmall(x[0], x[1]) else {
                return nil
            }
            return linear(x[0], weight: x[1], bias: x[1].sum(axes: [1]))
        },
        FuzzOp("joinedLinear", 2) { x, d in
            guard x[0].rank > 1, x[0].count > 0, x[1].rank == 2, x[1].shape[1] == x[0].shape.last!,
                isSmall(x[0], x[1])
            else { return nil }
            // The second part is of one sample.
            let one = (0..<x[0].rank - 2).reduce(x[0]) { $0.sliced(axis: $1, 0..<1) }
            return joinedLinear([(x[0], x[1], d.coin() ? x[1].sum(axes: [1]) : nil), (one, x[1] * 2, nil)])
        },
        FuzzOp("joinedAffine", 2) { x, d in
            guard x[0].rank > 1, x[0].count > 0, x[1].shape == [x[0].shape.last!] else { return nil }
            let one = (0..<x[0].rank - 2).reduce(x[0]) { $0.sliced(axis: $1, 0..<1) }
            return joinedAffine([(one, x[1], d.coin() ? x[1] * 2 : nil), (x[0], nil, d.coin() ? x[1] : nil)])
        },
        FuzzOp("groupedLinear", 2) { x, d in
            guard x[0].rank > 0, x[0].count > 0, x[1].rank == 2, isSmall(x[0], x[1]) else { return nil }
            // As many groups as make the lengths meet.
            let (width, transposed) = (x[0].shape.last!, d.coin())
            let groups = transposed ? d.number(in: 1...width) : width / x[1].shape[1]
            guard groups > 0, transposed ? width == x[1].shape[0] : width == groups * x[1].shape[1],
                x[1].shape[0] % groups == 0
            else { return nil }
            return groupedLinear(x[0], weight: x[1], groups: groups, transposed: transposed)
        },
        FuzzOp("outer", 2) { x, _ in x[0].rank == 1 && x[1].rank == 1 && isSmall(x[0], x[1]) ? outer(x[0], x[1]) : nil
        },
        FuzzOp("einsum") { x, d in
            guard x[0].rank == 2, isSmall(x[0], x[0]) else { return nil }
            return d.coin() ? einsum("ij,kj->ik", x[0], x[0]) : einsum("ij,ij->j", x[0], x[0].sin())
        },
        FuzzOp("determinant") { x, _ in wellConditioned(x[0])?.determinant().tanh() },
        FuzzOp("logDeterminant") { x, _ in wellConditioned(x[0])?.logDeterminant().logarithm },
        FuzzOp("cholesky") { x, _ in
            guard let a = wellConditioned(x[0]) else { return nil }
            return try? (a + a.transposed(-1, -2)).cholesky()
        },
        FuzzOp("solve") { x, _ in
            guard let a = wellConditioned(x[0]) else { return nil }
            return try? solve(a, x[0])
        },
        FuzzOp("qr") { x, _ in wellConditioned(x[0]).map { $0.qr().r } },
        FuzzOp("symmetricEigen") { x, _ in
            guard let a = wellConditioned(x[0]) else { return nil }
            return try? (a + a.transposed(-1, -2)).symmetricEigen().values
        },
        FuzzOp("svd") { x, _ in wellConditioned(x[0]).flatMap { try? $0.svd().s } },
    ]

    /// Whether all pairs of elements of two operands are few enough.
    private static func isSmall(_ a: Tensor, _ b: Tensor) -> Bool { a.count * b.count <= 10_000_000 }

    /// Small square matrices with a large and uneven diagonal.
    private static func wellConditioned(_ x: Tensor) -> Tensor? {
        guard x.rank >= 2, let n = x.shape.last, x.shape[x.rank - 2] == n, n > 0, n <= 5 else { return nil }
        let diagonal = Tensor((0..<n * n).map { $0 % (n + 1) == 0 ? 4 + 3 * Double($0 / n) : 0 }, shape: [n, n])
        return bounded(x) * 0.4 + diagonal
    }

    private static let neural: [FuzzOp] = [
        FuzzOp("softmax") { x, d in d.axis(of: x[0]).map { x[0].softmax(axis: $0) } },
        FuzzOp("logSoftmax") { x, d in d.axis(of: x[0]).map { x[0].logSoftmax(axis: $0) } },
        FuzzOp("gumbelSoftmax") { x, d in
            let key = RandomKey(seed: d.seed())
            return d.axis(of: x[0]).map { x[0].gumbelSoftmax(axis: $0, key: key) }
        },
        FuzzOp("layerNorm") { x, d in
            guard x[0].rank > 0, x[0].shape.last! > 0, d.areSpread(x[0], along: [x[0].rank - 1]) else { return nil }
            let line = x[0].reshaped(to: [-1, x[0].shape.last!])
            guard line.shape[0] > 0 else { return nil }
            return layerNorm(x[0], weight: line[0], bias: line[line.shape[0] - 1].sin())
        },
        FuzzOp("rmsNorm") { x, d in
            guard x[0].rank > 0, x[0].shape.last! > 0, d.isAway(x[0], from: 0) else { return nil }
            return rmsNorm(x[0])
        },
        FuzzOp("groupNorm") { x, d in
            guard x[0].rank == 3, x[0].count > 0, d.areSpread(x[0], along: [1, 2]) else { return nil }
            return groupNorm(x[0], groups: 1)
        },
        FuzzOp("batchNorm") { x, d in
            guard x[0].rank == 2, x[0].shape[0] > 1, d.areSpread(x[0], along: [0]) else { return nil }
            return batchNorm(x[0]).output
        },
        FuzzOp("attention", 2) { x, d in
            // One tensor as keys and values; causal or not.
            guard x[0].rank == 3, x[1].rank == 3, x[0].shape[0] == x[1].shape[0], x[0].shape[2] == x[1].shape[2],
                x[0].shape[2] > 0, x[1].shape[1] > 0, isSmall(x[0], x[1])
            else { return nil }
            return attention(query: x[0], keys: x[1], values: x[1], isCausal: d.coin())
        },
        FuzzOp("crossEntropy") { x, d in
            guard x[0].rank == 2, x[0].shape[0] > 0, x[0].shape[1] > 0 else { return nil }
            return crossEntropy(
                x[0], Tensor(d.indices(x[0].shape[0], below: x[0].shape[1])), labelSmoothing: d.coin() ? 0.1 : 0)
        },
        FuzzOp("softCrossEntropy") { x, _ in
            x[0].rank > 0 && x[0].count > 0
                ? softCrossEntropy(x[0], targets: x[0].flipped([-1]).softmax(axis: -1)) : nil
        },
        FuzzOp("rotaryEmbedding") { x, d in
            guard x[0].rank >= 2, let width = x[0].shape.last, width > 0, width % 2 == 0 else { return nil }
            let positions = Tensor(d.indices(x[0].shape[x[0].rank - 2], below: 9))
            return x[0].rotaryEmbedded(positions: positions, interleaved: d.coin())
        },
    ]

    /// A value as images [B, C, H, W]; nil where it has no pixels.
    private static func images(_ x: Tensor, least: Int) -> Tensor? {
        guard x.rank >= 2, x.rank <= 4, x.shape[x.rank - 1] >= least, x.shape[x.rank - 2] >= least else { return nil }
        return x.reshaped(to: [Int](repeating: 1, count: 4 - x.rank) + x.shape)
    }

    private static let images: [FuzzOp] = [
        FuzzOp("unfold") { x, _ in
            images(x[0], least: 2).map { $0.unfolded(Windows(kernel: 2, padding: Size2D(1, 0))) }
        },
        FuzzOp("fold") { x, _ in
            guard let y = images(x[0], least: 2) else { return nil }
            let windows = Windows(kernel: Size2D(2, 1))
            return (y.unfolded(windows) * 0.5).folded(to: Size2D(y.shape[2], y.shape[3]), windows)
        },
        FuzzOp("averagePooling") { x, _ in
            images(x[0], least: 2).map { $0.averagePooled(kernel: 2, stride: 1, padding: 1) }
        },
        FuzzOp("maxPooling") { x, d in
            guard let y = images(x[0], least: 2), y.count > 0 else { return nil }
            // No two elements of a window may be near each other.
            let windows = y.unfolded(Windows(kernel: 2))
            guard d.areApart(windows.reshaped(to: [y.shape[0] * y.shape[1], 4, -1]), along: 1) else { return nil }
            return y.maxPooled(kernel: 2, stride: 1)
        },
        FuzzOp("adaptiveAveragePooling") { x, _ in images(x[0], least: 1)?.adaptiveAveragePooled(to: 2) },
        FuzzOp("bilinearInterpolation") { x, d in
            images(x[0], least: 1)?.interpolatedBilinear(to: 3, alignCorners: d.coin())
        },
        FuzzOp("bicubicInterpolation") { x, _ in images(x[0], least: 1)?.interpolatedBicubic(to: 3) },
        FuzzOp("nearestInterpolation") { x, _ in images(x[0], least: 1)?.interpolatedNearest(to: 3) },
        FuzzOp("pixelShuffle") { x, _ in
            guard let y = images(x[0], least: 1), y.shape[1] % 4 == 0, y.shape[1] > 0 else { return nil }
            return y.pixelShuffled(by: 2)
        },
        FuzzOp("pixelUnshuffle") { x, _ in
            guard let y = images(x[0], least: 2), y.shape[2] % 2 == 0, y.shape[3] % 2 == 0 else { return nil }
            return y.pixelUnshuffled(by: 2)
        },
        FuzzOp("convolution") { x, d in
            guard let y = images(x[0], least: 2), y.shape[1] > 0 else { return nil }
            let weight = Tensor.uniform(
                [y.shape[1], 1, 2, 2], in: -1...1, key: RandomKey(seed: d.seed()), dtype: .float64)
            return convolution(y, weight: weight, padding: Size2D(d.number(in: 0...1)), groups: y.shape[1])
        },
    ]
}
