import FoveaCompression
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

/// A reducer for every budget, as the argument of a test.
struct Budgeted: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let make: @Sendable (Int) -> any TokenReducer

    /// The tokens at a budget.
    func reduced(_ tokens: VisualTokens, to budget: Int) -> VisualTokens {
        let reducer = make(budget)
        return reducer(tokens)
    }

    static let all: [Budgeted] = [
        .init(testDescription: "tome") { ToMe(keep: $0) },
        .init(testDescription: "prumerge") { PruMerge(neighbours: 5, budget: $0) },
        .init(testDescription: "prumerge+") { PruMerge(neighbours: 5, isPlus: true, budget: $0) },
        .init(testDescription: "visionzip") { VisionZip(budget: $0) },
        .init(testDescription: "divprune") { DivPrune(keep: $0) },
        .init(testDescription: "cdpruner") { CDPruner(keep: $0) },
        .init(testDescription: "random") { RandomSelection(keep: $0, seed: 3) },
        .init(testDescription: "uniform") { UniformSelection(keep: $0) },
        .init(testDescription: "average-pool") { AveragePooling(keep: $0) },
    ]
}

private func picture(
    _ rows: Int, _ columns: Int, batch: Int = 1, width: Int = 6, _ name: String = "x", tracked: Bool = false
) -> VisualTokens {
    var tokens = VisualTokens(
        patches: Tensor.sample([batch, rows * columns, width], name).cast(to: .float32),
        grid: .init(rows: rows, columns: columns), tracked: tracked)
    tokens.signals = EncoderSignals(
        classAttention: Tensor.sample([batch, 2, rows * columns], name + " attention").cast(to: .float32).abs(),
        keys: Tensor.sample([batch, rows * columns, 4], name + " keys").cast(to: .float32),
        relevance: Tensor.sample([batch, rows * columns], name + " relevance").cast(to: .float32))
    return tokens
}

@Suite("reducers between encoder and language model") struct ReducerTests {
    @Test("what the class token pays adds up where tokens are merged, keys and relevance are mixed")
    func signals() {
        let tokens = picture(5, 4)
        let before = tokens.signals!
        let total = before.classAttention!.sum(axes: [2])
        for keep in [1, 7, 13] {
            for reduced in [ToMe(keep: keep)(tokens), AveragePooling(keep: keep)(tokens)] {
                expectClose(reduced.signals!.classAttention!.sum(axes: [2]), total, tolerance: 1e-5)
            }
        }
        let pooled = AveragePooling(keep: 1)(tokens).signals!
        expectClose(pooled.keys!, before.keys!.mean(axes: [1], keepingAxes: true), tolerance: 1e-5)
        expectClose(pooled.relevance!, before.relevance!.mean(axes: [1], keepingAxes: true), tolerance: 1e-5)
        let chosen = UniformSelection(keep: 5)(tokens)
        let kept: [Int64] = chosen.positions.cast(to: .int64).scalars()
        let places = (0..<5).map { Int(kept[2 * $0] * 4 + kept[2 * $0 + 1]) }
        expectSameBits(
            chosen.signals!.classAttention!,
            before.classAttention!.selecting(axis: 2, Tensor(places.map(Int64.init), shape: [5])))
    }

    @Test("every budget is met exactly on any grid, and each token knows its place", arguments: Budgeted.all)
    func budgets(_ method: Budgeted) {
        for (rows, columns) in [(1, 1), (1, 7), (3, 2), (5, 4), (24, 24), (40, 23)] {
            let tokens = picture(rows, columns, tracked: rows < 6)
            let n = rows * columns
            for budget in n < 30 ? Array(1...n) : [1, 7, 64] {
                let reducer = method.make(budget)
                let reduced = reducer(tokens)
                #expect(reduced.count == budget, "\(budget) of \(rows) × \(columns)")
                #expect(reducer.outputShape(tokens.shape).count == budget && reducer.problem(with: tokens.shape) == nil)
                #expect(reduced.mask == nil)
                let sizes = reduced.sizes.doubles
                #expect(sizes.allSatisfy { $0 > 0 } && sizes.reduce(0, +) <= Double(n) + 1e-3)
                let places = reduced.positions.doubles
                #expect(
                    places.indices.allSatisfy {
                        (-1e-4...Double($0 % 2 == 0 ? rows : columns) - 1 + 1e-4).contains(places[$0])
                    })
                #expect(reduced.features.doubles.allSatisfy { $0.isFinite })
                guard let provenance = reduced.provenance?.weights else { continue }
                #expect(provenance.shape == [1, budget, n])
                // A token stands in the mean of the patches that it is made of, as much as it is made of each.
                let means = matmul(provenance, tokens.positions) / provenance.sum(axes: [2], keepingAxes: true)
                expectClose(means, reduced.positions, tolerance: 1e-4)
            }
        }
    }

    @Test("all tokens, or more than there are, is the identity to the bit", arguments: Budgeted.all)
    func identity(_ method: Budgeted) {
        let tokens = picture(3, 4, batch: 2)
        for budget in [12, 13, 500] {
            let same = method.reduced(tokens, to: budget)
            expectSameBits(same.features, tokens.features)
            expectSameBits(same.positions, tokens.positions)
            #expect(same.grid == tokens.grid)
        }
    }

    @Test("a batch of different pictures and lengths gives what its members give alone", arguments: Budgeted.all)
    func batch(_ method: Budgeted) {
        let lengths = [12, 7, 1, 0]
        var tokens = picture(3, 4, batch: lengths.count)
        // Real tokens stand anywhere, not in front alone.
        let real = lengths.map { length in RandomKey(seed: UInt64(length)).permutation(of: 12).prefix(length).sorted() }
        tokens.mask = Tensor(real.flatMap { list in (0..<12).map { list.contains($0) } }, shape: [lengths.count, 12])
        for budget in [1, 4, 11] {
            let together = method.reduced(tokens, to: budget)
            #expect(together.count == min(budget, 12))
            let mask = together.mask.map(doubles) ?? []
            for (sample, list) in real.enumerated() {
                let rows = Tensor(list.map(Int64.init), shape: [list.count])
                func own(_ x: Tensor) -> Tensor {
                    x.sliced(axis: 0, sample..<sample + 1).selecting(axis: 1, rows)
                }
                let signals = tokens.signals!
                var alone = VisualTokens(
                    features: own(tokens.features), positions: own(tokens.positions), sizes: own(tokens.sizes),
                    grid: list.count == 12 ? tokens.grid : nil)
                alone.signals = EncoderSignals(
                    classAttention: own(signals.classAttention!.transposed(1, 2)).transposed(1, 2),
                    keys: own(signals.keys!), relevance: own(signals.relevance!))
                let reduced = method.reduced(alone, to: budget)
                let count = min(budget, list.count)
                #expect(reduced.count == count)
                #expect(mask[sample * together.count..<(sample + 1) * together.count].reduce(0, +) == Double(count))
                func part(_ x: Tensor) -> Tensor {
                    x.sliced(axis: 0, sample..<sample + 1).sliced(axis: 1, 0..<count).contiguous()
                }
                expectSameBits(part(together.features), reduced.features.contiguous(), "\(budget) of \(list.count)")
                expectClose(part(together.positions), reduced.positions, tolerance: 1e-6)
                expectClose(part(together.sizes), reduced.sizes, tolerance: 1e-6)
            }
        }
    }

    @Test("what it says that it takes is at least what the products multiply, and not twice as much")
    func cost() async {
        // In a process of its own: other tests multiply too.
        await #expect(processExitsWith: .success) {
            var tokens = picture(8, 9, width: 16)
            tokens.signals = nil
            for method in Budgeted.all {
                for budget in [1, 9, 40, 71, 72] {
                    let reducer = method.make(budget)
                    let before = MatrixProduct.multiplyAdds
                    _ = reducer(tokens)
                    let counted = MatrixProduct.multiplyAdds - before
                    let stated = reducer.cost(tokens.shape).multiplyAdds
                    // Where tokens are mixed so are their places and sizes: three more columns, which nobody states.
                    let known = 3 * tokens.count * tokens.count
                    let isTrue = counted <= stated + known && stated <= 2 * counted
                    #expect(isTrue, "\(method.testDescription), \(budget): \(stated) stated, \(counted) counted")
                }
            }
        }
    }

    @Test("a class token stays where others are as far from everything")
    func protectedClass() {
        var tokens = VisualTokens(
            patches: Tensor([1, 10, 100, 1000, 10000], shape: [1, 5, 1]), grid: .init(rows: 1, columns: 5))
        let keys: [Float] = [1, 0, 0, 1, .nan, .nan, 1, 0, 0, 1]
        tokens.signals = EncoderSignals(classAttention: nil, keys: Tensor(keys, shape: [1, 5, 2]), relevance: nil)
        let merged = ToMe(r: 2, protectsClass: true)(tokens)
        #expect(merged.count == 3 && merged.features.doubles[0] == 1)
    }

    @Test("where all are as relevant, rounding does not choose the first token")
    func firstOfEquals() {
        for seed in 0..<20 {
            let x = Tensor.normal([12, 7], key: RandomKey(seed: UInt64(seed)))
            let kept = CDPruner(keep: 4).kept(x, relevance: nil)
            #expect(kept[0] == 0 && CDPruner(keep: 4).kept(x.cast(to: .float64), relevance: nil) == kept, "\(seed)")
        }
    }

    @Test("the same picture gives the same bits", arguments: Budgeted.all)
    func deterministic(_ method: Budgeted) {
        let tokens = picture(5, 4, batch: 2)
        expectSameBits(method.reduced(tokens, to: 7).features, method.reduced(tokens, to: 7).features)
    }

    @Test("stacked, what is known stays true: pooled tokens are one by one what provenance says")
    func stacked() {
        let tokens = picture(6, 6, tracked: true)
        let once = AveragePooling(keep: 9)(tokens)
        expectClose(matmul(once.provenance!.weights, tokens.features), once.features, tolerance: 1e-5)
        let twice = ToMe(keep: 5)(once)
        expectClose(matmul(twice.provenance!.weights, tokens.features), twice.features, tolerance: 1e-5)
        #expect(abs(twice.sizes.doubles.reduce(0, +) - 36) < 1e-4)
        let dropped = DivPrune(keep: 3)(twice)
        expectClose(matmul(dropped.provenance!.weights, tokens.features), dropped.features, tolerance: 1e-5)
        #expect(dropped.signals?.keys?.shape == [1, 3, 4] && dropped.signals?.classAttention?.shape == [1, 2, 3])
    }

    @Test("ToMe counts what must remain", arguments: [(true, false, 2), (true, true, 3)])
    func guarded(_ kind: Bool, _ distilled: Bool, _ least: Int) {
        let tokens = picture(4, 4)
        let method = ToMe(protectsClass: kind, protectsDistillation: distilled, keep: 1)
        #expect(method.count(of: 16) == least && method(tokens).count == least)
        // 8 of 16 would be halved in one step; where one must remain it takes a second.
        let half = ToMe(protectsClass: true, keep: 8).cost(TokenShape(count: 16, width: 2))
        #expect(half.multiplyAdds == 8 * 8 * 2 + 7 * 2 + 5 * 4 * 2 + 1 * 2)
    }

    @Test("importance comes from the class token, from the proxy where there is none, and is refused where it must")
    func importance() {
        var tokens = picture(3, 4)
        let byClass = VisionZip(dominant: 4, contextual: 0)(tokens)
        tokens.signals!.classAttention = nil
        let byProxy = VisionZip(dominant: 4, contextual: 0)(tokens)
        #expect(byClass.positions.doubles != byProxy.positions.doubles)
        expectSameBits(
            byProxy.features, VisionZip(dominant: 4, contextual: 0, importance: .proxy)(tokens).features)
        let strict = VisionZip(dominant: 4, contextual: 0, importance: .classToken)
        #expect(strict.problem(with: tokens)?.contains("class token") == true)
        #expect(strict.problem(with: picture(3, 4)) == nil)
    }

    @Test("of equal scores the lower index is kept, and NaN is kept last")
    func ties() {
        var tokens = picture(2, 4)
        tokens.signals!.classAttention = Tensor([Float](repeating: 0.25, count: 16), shape: [1, 2, 8])
        #expect(VisionZip(dominant: 3, contextual: 0)(tokens).positions.doubles == [0, 0, 0, 1, 0, 2])
        let attention = Tensor([Float.nan, 0.5, 0.25, 0.5, .nan, 0.25], shape: [1, 6])
        #expect(FastV(keep: 3).kept(attention: attention) == [1, 2, 3])
        #expect(FastV(keep: 5).kept(attention: attention) == [0, 1, 2, 3, 5])
        // A few of many go another way than most of some, to the same end.
        let many = (0..<300).map { Float($0 * 37 % 11) }
        let order = many.indices.sorted { many[$0] > many[$1] || (many[$0] == many[$1] && $0 < $1) }
        for keep in [1, 7, 30, 37, 38, 200] {
            #expect(FastV(keep: keep).kept(attention: Tensor(many, shape: [1, 300])) == order.prefix(keep).sorted())
        }
    }
}

@Suite("what the definitions of reducers promise") struct ReducerInvariantTests {
    @Test("ToMe: 577 tokens lose 16, sizes add up, and a pair of equals is what it was")
    func tome() {
        let x = Tensor.sample([1, 577, 3], "x")
        let step = ToMe(r: 16, protectsClass: true)
            .reduction(metric: x.squeezed(0), sizes: .ones([577], dtype: .float64))
        #expect(step.kept.count == 561 && step.merges.count == 16)
        var tokens = VisualTokens(patches: x, grid: .init(rows: 1, columns: 577))
        tokens = tokens.reduced(by: [step])
        #expect(abs(tokens.sizes.doubles.reduce(0, +) - 577) < 1e-3)
        let twins = Tensor([1.0, 2, 1, 2, -3, 1, 0, 5], shape: [1, 4, 2])
        let merged = ToMe(r: 1)(VisualTokens(patches: twins, grid: .init(rows: 2, columns: 2)))
        #expect(merged.features.doubles == [-3, 1, 1, 2, 0, 5] || merged.features.doubles == [1, 2, -3, 1, 0, 5])
    }

    @Test("DivPrune is the greedy search written out")
    func divPrune() {
        for n in 2...12 {
            let x = Tensor.sample([n, 3], "points \(n)")
            let values = x.doubles
            func distance(_ i: Int, _ j: Int) -> Double {
                let (a, b) = (values[3 * i..<3 * i + 3], values[3 * j..<3 * j + 3])
                func product(_ u: ArraySlice<Double>, _ v: ArraySlice<Double>) -> Double {
                    zip(u, v).reduce(0) { $0 + $1.0 * $1.1 }
                }
                return 1 - product(a, b) / (product(a, a) * product(b, b)).squareRoot()
            }
            for keep in 1..<n {
                var picked: [Int] = []
                for _ in 0..<keep {
                    let next = (0..<n).filter { !picked.contains($0) }.map { i in
                        let others = picked.isEmpty ? (0..<n).filter { $0 != i } : picked
                        return (i, others.map { distance(i, $0) }.min()!)
                    }.max { $0.1 < $1.1 }!
                    picked.append(next.0)
                }
                #expect(DivPrune(keep: keep).kept(x) == picked.sorted(), "\(keep) of \(n)")
            }
        }
    }

    @Test("CDPruner takes the token of the greatest determinant; orthogonal ones in order, duplicates last")
    func cdPruner() {
        let x = Tensor.sample([9, 10], "points")
        let relevance = Tensor.sample([9], "relevance")
        let r = relevance.doubles
        let scaled = r.map { ($0 - r.min()! + 1e-6) / (r.max()! - r.min()!) }
        let unit = x / x.square().sum(axes: [1], keepingAxes: true).sqrt()
        let scale = Tensor(scaled, shape: [9, 1])
        let kernel = matmul(unit * scale, (unit * scale).transposed(0, 1))
        var picked: [Int] = []
        for _ in 0..<5 {
            let next = (0..<9).filter { !picked.contains($0) }.map { i in
                let rows = Tensor((picked + [i]).map(Int64.init), shape: [picked.count + 1])
                return (i, kernel.selecting(axis: 0, rows).selecting(axis: 1, rows).determinant().item())
            }.max { $0.1 < $1.1 }!
            picked.append(next.0)
            #expect(CDPruner(keep: picked.count).kept(x, relevance: relevance) == picked.sorted())
        }
        let axes = Tensor((0..<25).map { $0 % 6 == 0 ? 1.0 : 0 }, shape: [5, 5])
        #expect(CDPruner(keep: 3).kept(axes, relevance: nil) == [0, 1, 2])
        let twins = Tensor([1.0, 0, 1, 0, 0, 1, 0, 1, 1, 1], shape: [5, 2])
        #expect(CDPruner(keep: 2).kept(twins, relevance: nil) == [0, 2])
    }

    @Test("windows of MustDrop: 64 of a constant picture, none of noise; 6 and 47 key tokens")
    func mustDropMerge() {
        let grid = VisualTokens.Grid(rows: 24, columns: 24)
        let constant = MustDropMerge()(VisualTokens(patches: .ones([1, 576, 4]), grid: grid))
        #expect(constant.count == 64 && constant.sizes.doubles.allSatisfy { $0 == 9 })
        expectClose(
            constant.positions.sliced(axis: 1, 0..<2), Tensor([Float(1), 1, 1, 4], shape: [1, 2, 2]), tolerance: 1e-6)
        let noise = VisualTokens(patches: Tensor.sample([1, 576, 16], "noise").cast(to: .float32), grid: grid)
        #expect(MustDropMerge()(noise).count == 576)
        let keys = MustDropKeys(fraction: 0.08)
        #expect(keys.keys(attention: .sample([2, 64], "a"), valid: Array(0..<64)).count == 6)
        #expect(keys.keys(attention: .sample([2, 576], "a"), valid: Array(0..<576)).count == 47)
        // Half of one picture alike: ragged, and each as if alone.
        var values = Tensor.sample([2, 36, 8], "pictures").doubles
        for place in 0..<18 * 8 { values[place] = 1 }
        let mixed = MustDropMerge()(
            VisualTokens(patches: Tensor(values, shape: [2, 36, 8]), grid: .init(rows: 6, columns: 6)))
        #expect(mixed.mask!.cast(to: .float32).sum(axes: [1]).doubles == [20, 36])
        #expect(MustDropMerge(keep: 20)(noise).count == 64)
        #expect(MustDropMerge(keep: 320)(noise).count == 320)
    }

    @Test("MustDrop's filter: thresholds of 1 leave the key tokens, thresholds of 0 all, a target count so many")
    func mustDropFilter() {
        let attention = Tensor.sample([2, 4, 12], "attention").abs() * 0.05
        let isKey = (0..<12).map { $0 % 5 == 1 }
        #expect(MustDropFilter(alpha: 1, beta: 1).kept(attention: attention, isKey: isKey) == [1, 6, 11])
        for (alpha, beta) in [(0.0, 1.0), (1, 0)] {
            #expect(MustDropFilter(alpha: alpha, beta: beta).kept(attention: attention, isKey: isKey).count == 12)
        }
        for target in 1...12 {
            let kept = MustDropFilter(alpha: 0.01, beta: 0.01, targetCount: target)
                .kept(attention: attention, isKey: isKey)
            #expect(kept.count == max(3, target) && Set(kept).isSuperset(of: [1, 6, 11]))
        }
    }

    @Test("the cache keeps the last survivors in the numbering of each stage")
    func mustDropCache() {
        let cache = MustDropCache(layers: 4, cutLayers: [1, 2], system: 1, visual: 4, text: 1)
        #expect(
            cache.entries(survivors: [[0, 2, 3], [1, 2]])
                == [[0, 1, 2, 3, 4, 5], [0, 3, 4, 5], [0, 2, 3, 4], [0, 1, 2, 3]])
    }

    @Test("FiCoCo: weights of a token add up to 1, one target up to 500 tokens and two up to 1000, constants stay")
    func fiCoCo() {
        let logits = Tensor.sample([2, 17, 17], "logits")
        for mode in FiCoCoMode.allCases {
            let method = FiCoCoV(mode: mode, grid: .init(rows: 4, columns: 4), remove: 6, epsilon: 0.5)
            let step = method.reduction(logits: logits, positions: Array(0..<16))
            #expect(step.kept.count == 10)
            let constant = Tensor.full([1, 16, 3], 0.75, dtype: .float64)
            let same = VisualTokens(patches: constant, grid: .init(rows: 4, columns: 4)).reduced(by: [step])
            expectClose(same.features, .full([1, 10, 3], 0.75, dtype: .float64), tolerance: 1e-12)
            // What goes in and what was there, undivided, is all that there was.
            let own = step.own!.doubles
            #expect(abs(own.reduce(0) { $0 + 1 / $1 } - 16) < 1e-9)
        }
        for (tokens, targets) in [(40, 1), (504, 1), (560, 2)] {
            let step = FiCoCoL(mode: .probabilities, remove: 4).reduction(
                visual: .sample([1, tokens, tokens], "visual"), text: .sample([1, 2, tokens], "text"))
            #expect(step.merges.count == 4 * targets, "\(tokens)")
        }
        // Which targets those are, by an ordering of the whole row.
        for epsilon in [0.998, 0.98, 0.9, 0.5] {
            let visual = Tensor.sample([1, 560, 560], "visual")
            let step = FiCoCoL(mode: .probabilities, remove: 4, epsilon: epsilon)
                .reduction(visual: visual, text: .zeros([1, 0, 560]))
            let rows = visual.softmax(axis: 2).doubles
            for source in Set(step.merges.map(\.source)) {
                let line = step.kept.map { rows[source * 560 + $0!] }
                let (ordered, place) = (line.sorted(), epsilon * Double(line.count - 1))
                let low = Int(place)
                let threshold = ordered[low] + (ordered[low + 1] - ordered[low]) * (place - Double(low))
                #expect(
                    step.merges.filter { $0.source == source }.map(\.place)
                        == line.indices.filter { line[$0] >= threshold }, "\(epsilon), \(source)")
            }
        }
        #expect(
            FiCoCoL(remove: 99).reduction(visual: .sample([1, 5, 5], "v"), text: .zeros([1, 0, 5])).kept.count == 1)
    }

    @Test("FiCoCo: attention too small for the type ties a token evenly to all others")
    func vanished() {
        // All attention goes to the class token: among the patches float32 has zeros alone.
        var logits = [Float](repeating: 0, count: 25)
        for row in 0..<5 { logits[row * 5] = 1000 }
        let method = FiCoCoV(mode: .probabilities, grid: .init(rows: 2, columns: 2), remove: 1)
        let step = method.reduction(logits: Tensor(logits, shape: [1, 5, 5]), positions: [0, 1, 2, 3])
        #expect(step.kept == [1, 2, 3] && step.merges.map(\.source) == [0, 0, 0])
        // A third each, over 1 + 1/3.
        #expect((step.weights ?? .zeros([0])).doubles.allSatisfy { abs($0 - 0.25) < 1e-6 })
        #expect((step.own ?? .zeros([0])).doubles.allSatisfy { abs($0 - 0.75) < 1e-6 })
    }

    @Test("scales of FocusLLaVA: forced ones are plain maximum pooling, and the loss says how even the choice is")
    func scales() {
        let x = Tensor.sample([1, 24, 24, 3], "x")
        var sampler = FocusScaleSampler(3, hidden: 4, key: RandomKey(seed: 1)).cast(to: .float64)
        let even = sampler.sampled(x)
        #expect(even.tokens.shape[1] == 36 && abs(even.balanceLoss.item() - 1) < 1e-12)
        for (scale, side) in [4, 2, 1].enumerated() {
            var bias = [0.0, 0, 0]
            bias[scale] = 40
            sampler.fc2.bias = Tensor(bias, shape: [3])
            let sampled = sampler.sampled(x)
            let pooled = x.permuted(to: [0, 3, 1, 2]).maxPooled(kernel: Size2D(side)).flattened(from: 2).transposed(
                1, 2)
            #expect(sampled.tokens.shape == [1, 576 / side / side, 3])
            // Windows come one after the other: the same rows in another order.
            func rows(_ x: Tensor) -> [[Double]] {
                let values = x.doubles
                return stride(from: 0, to: values.count, by: 3).map { Array(values[$0..<$0 + 3]) }
                    .sorted { $0.lexicographicallyPrecedes($1) }
            }
            #expect(rows(sampled.tokens) == rows(pooled))
            #expect(abs(sampled.balanceLoss.item() - 3) < 1e-9)
            #expect(sampled.budgetLoss(share: 1 / Double(side * side)).item() < 1e-12)
        }
    }

    @Test("FocusLLaVA's cells: any grid, with what hangs over the edge left out")
    func cells() {
        for (rows, columns) in [(1, 1), (1, 9), (5, 6), (40, 23)] {
            let tokens = picture(rows, columns, batch: 2, width: 4, tracked: rows < 10)
            let all = FocusTokenSampler(4, keyWidth: 3, keep: 10_000, key: RandomKey(seed: 2))
            let taken = all(tokens)
            #expect(taken.count == all.outputShape(tokens.shape).count)
            #expect(taken.sizes.doubles.reduce(0, +) == Double(2 * 3 * rows * columns))
            let some = FocusTokenSampler(4, keyWidth: 3, keep: 1, key: RandomKey(seed: 2))(tokens)
            #expect(some.count == 1)
            let scaled = FocusScaleSampler(4, hidden: 3, key: RandomKey(seed: 2))(tokens)
            #expect(scaled.sizes.doubles.reduce(0, +) == Double(2 * rows * columns))
        }
    }
}
