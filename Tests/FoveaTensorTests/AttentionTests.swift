import FoveaTensor
import FoveaTestSupport
import Testing

/// Attention's taps against the weights of a plain softmax, and what a mask hides.
@Suite("Attention")
struct AttentionTests {
    private static let key = RandomKey(seed: 8)

    private static func uniform(_ shape: [Int], _ stream: UInt64, _ dtype: DType = .float64) -> Tensor {
        .uniform(shape, in: -2...2, key: key.folding(stream), dtype: dtype)
    }

    /// A call with several blocks of rows and keys, grouped heads, a mask and the causal order.
    private struct Call {
        let query: Tensor
        let keys: Tensor
        let values: Tensor
        let mask: Tensor
        let isCausal: Bool
        let dropout: (rate: Double, key: RandomKey)?

        init(rows: Int, columns: Int, isCausal: Bool, isDropping: Bool = false, _ dtype: DType = .float64) {
            query = uniform([2, 4, rows, 6], 1, dtype)
            keys = uniform([2, 2, columns, 6], 2, dtype)
            values = uniform([2, 2, columns, 5], 3, dtype)
            let coins = (0..<2 * rows * columns).map { key.integer(below: 4, at: $0) > 0 }
            mask = Tensor(coins, shape: [2, 1, rows, columns])
            self.isCausal = isCausal
            dropout = isDropping ? (0.3, key) : nil
        }

        func run(_ taps: [AttentionTap]) -> (output: Tensor, taps: [Tensor]) {
            attention(
                query: query, keys: keys, values: values, mask: mask, isCausal: isCausal, dropout: dropout, taps: taps)
        }

        /// The weights, all of them: [B, H, N, M].
        var weights: Tensor {
            let (rows, columns) = (query.shape[2], keys.shape[2])
            let all = concatenated([0, 0, 1, 1].map { keys.sliced(axis: 1, $0..<$0 + 1) }, axis: 1)
            var scores = matmul(query, all.transposed(-1, -2)) / 6.0.squareRoot()
            scores = scores + mask.cast(to: scores.dtype).log()
            if isCausal {
                let seen = (0..<rows).flatMap { row in (0..<columns).map { $0 <= row } }
                scores = scores + Tensor(seen, shape: [rows, columns]).cast(to: scores.dtype).log()
            }
            return scores.softmax(axis: -1)
        }
    }

    @Test(
        "where one key has all the weight, queries and keys have no gradient, not a rounding error", arguments: [4, 32])
    func cancellation(_ lanes: Int) {
        let (query, keys, values) = (
            AttentionTests.uniform([1, 2, lanes, 9], 1, .float32), AttentionTests.uniform([1, 2, 5, 9], 2, .float32),
            AttentionTests.uniform([1, 2, 5, 9], 3, .float32)
        )
        let cotangent = AttentionTests.uniform([1, 2, lanes, 9], 4, .float32)
        // One key alone, and one of five that is seen.
        for mask in [nil, Tensor([false, false, true, false, false], shape: [1, 1, 1, 5])] {
            let count = mask == nil ? 1 : 5
            let found = vectorJacobianProduct(
                of: { attention(query: $0[0], keys: $0[1], values: $0[2], mask: mask) },
                at: [query, keys.sliced(axis: 2, 0..<count), values.sliced(axis: 2, 0..<count)], cotangent: cotangent)
            for gradient in found.prefix(2) { #expect(gradient.abs().max().item() == 0) }
            #expect(found[2].abs().max().item() > 0)
        }
    }

    @Test(
        "taps are sums and rows of the weights", arguments: [(3, 5), (70, 150), (150, 70), (131, 600)], [false, true])
    func taps(size: (rows: Int, columns: Int), isCausal: Bool) {
        let call = Call(rows: size.rows, columns: size.columns, isCausal: isCausal)
        let a = call.weights
        let mean = a.mean(axes: [1])
        let n = size.rows
        let weights = AttentionTests.uniform([n], 4)
        let ofSamples = AttentionTests.uniform([2, n], 5)
        let raters = Tensor((0..<2 * n).map { $0 % 3 == 1 }, shape: [2, n])
        let rows = [n - 1, 0, n / 2]
        let rowsOfSamples = Tensor([Int64(n - 1), 0, 1, 1], shape: [2, 2])
        func weighted(_ w: Tensor, _ a: Tensor) -> Tensor {
            (a * w.cast(to: .float64).unsqueezed(-1)).sum(axes: [a.rank - 2])
        }
        func picked(_ a: Tensor, _ indices: [Int]) -> Tensor {
            concatenated(indices.map { a.sliced(axis: a.rank - 2, $0..<$0 + 1) }, axis: a.rank - 2)
        }
        let expected: [(AttentionTap, Tensor)] = [
            (.columnMean(of: 0..<n), mean.mean(axes: [1])),
            (.columnMean(of: 1..<n, heads: .each), a.sliced(axis: 2, 1..<n).mean(axes: [2])),
            (.rows([n - 1]), picked(mean, [n - 1])),
            (.columns(weightedBy: weights), weighted(weights, mean)),
            (.columns(weightedBy: ofSamples, heads: .each), weighted(ofSamples.unsqueezed(1), a)),
            (.columns(weightedBy: raters), weighted(raters, mean)),
            (.rows(rows, heads: .each), picked(a, rows)),
            (.rows(Array(0..<n)), mean),
            (
                .rows(rowsOfSamples),
                concatenated(
                    [picked(mean.sliced(axis: 0, 0..<1), [n - 1, 0]), picked(mean.sliced(axis: 0, 1..<2), [1, 1])],
                    axis: 0)
            ),
        ]
        let (output, tapped) = call.run(expected.map(\.0))
        for (position, (tap, expected)) in zip(tapped, expected.map(\.1)).enumerated() {
            expectClose(tap, expected, tolerance: 1e-12, "tap \(position)")
        }
        expectSameBits(output, call.run([]).output, "the output without taps")
    }

    @Test("float32 taps are as good as float32 is")
    func singleTaps() {
        let call = Call(rows: 131, columns: 600, isCausal: false, .float32)
        let double = Call(rows: 131, columns: 600, isCausal: false)
        let taps = [AttentionTap.columnMean(of: 0..<131), .rows([130], heads: .each)]
        let (output, tapped) = call.run(taps)
        let (exact, expected) = double.run(taps)
        expectClose(output.cast(to: .float64), exact, tolerance: 2e-6, "output")
        for (a, b) in zip(tapped, expected) { expectClose(a.cast(to: .float64), b, tolerance: 1e-6, "tap") }
        expectSameBits(output, call.run([]).output, "the output without taps")
    }

    @Test("taps see the weights before dropout, and without the axis of heads")
    func tapsOfOthers() {
        let dropping = Call(rows: 70, columns: 150, isCausal: true, isDropping: true)
        let plain = Call(rows: 70, columns: 150, isCausal: true)
        let taps = [AttentionTap.columnMean(of: 0..<70), .rows([3])]
        for (a, b) in zip(dropping.run(taps).taps, plain.run(taps).taps) { expectSameBits(a, b, "with dropout") }
        let (q, k) = (AttentionTests.uniform([5, 3], 1), AttentionTests.uniform([7, 3], 2))
        let tapped = attention(
            query: q, keys: k, values: k, taps: [.columnMean(of: 0..<5), .rows([1, 4]), .rows([2], heads: .each)]
        ).taps
        let a = (matmul(q, k.transposed(0, 1)) / 3.0.squareRoot()).softmax(axis: -1)
        expectClose(tapped[0], a.mean(axes: [0]), tolerance: 1e-14, "column mean of one head")
        expectClose(
            tapped[1], concatenated([a.sliced(axis: 0, 1..<2), a.sliced(axis: 0, 4..<5)], axis: 0), tolerance: 1e-14,
            "rows of one head")
        expectClose(tapped[2], a.sliced(axis: 0, 2..<3), tolerance: 1e-14, "a row of one head")
        let none = attention(
            query: q, keys: k.sliced(axis: 0, 0..<0), values: k.sliced(axis: 0, 0..<0), taps: [.columnMean(of: 0..<5)])
        #expect(none.taps[0].shape == [0])
        expectClose(none.output, .zeros([5, 3]), tolerance: 0, "nothing to look at")
    }

    @Test("no gradient goes through a tap")
    func constants() {
        let (q, k) = (AttentionTests.uniform([2, 5, 3], 1), AttentionTests.uniform([2, 7, 3], 2))
        let slope = gradient(
            of: { q in
                let (output, taps) = attention(query: q, keys: k, values: k, taps: [.columnMean(of: 0..<5)])
                return output.sum() + (taps[0] * 100).sum()
            }, at: q)
        let alone = gradient(of: { attention(query: $0, keys: k, values: k).sum() }, at: q)
        expectSameBits(slope, alone, "the gradient of the output alone")
    }

    @Test("what is hidden reaches no row that may not see it", arguments: [3, 100])
    func hidden(columns: Int) {
        let last = columns - 1
        let q = AttentionTests.uniform([columns, 4], 1)
        let k = AttentionTests.uniform([columns, 4], 2)
        let v = AttentionTests.uniform([columns, 5], 3)
        for strange in [Double.nan, .infinity] {
            let spoilt = Tensor.full([1, 4], strange, dtype: .float64)
            let keys = concatenated([k.sliced(axis: 0, 0..<last), spoilt], axis: 0)
            let values = concatenated(
                [v.sliced(axis: 0, 0..<last), Tensor.full([1, 5], strange, dtype: .float64)], axis: 0)
            let visible = Tensor((0..<columns).map { $0 < last })
            let calls: [@Sendable (Tensor, Tensor, Tensor) -> Tensor] = [
                { attention(query: $0, keys: $1, values: $2, mask: visible) },
                { attention(query: $0, keys: $1, values: $2, mask: visible.cast(to: .float64).log()) },
                { attention(query: $0, keys: $1, values: $2, isCausal: true).sliced(axis: 0, 0..<last) },
            ]
            for call in calls {
                let clean = pullBack({ call($0[0], $0[1], $0[2]) }, [q, k, v])
                let dirty = pullBack({ call($0[0], $0[1], $0[2]) }, [q, keys, values])
                expectSameBits(dirty.output, clean.output, "\(strange)")
                // The causal call's last row sees all: it has no cotangent, but its gradients are NaN.
                guard clean.output.shape[0] == columns else { continue }
                for (a, b) in zip(dirty.gradients, clean.gradients) { expectSameBits(a, b, "\(strange), gradient") }
            }
            let seeing = attention(query: q, keys: k, values: values, isCausal: true).sliced(axis: 0, last..<columns)
            expectSameBits(seeing.isNaN(), .full([1, 5], strange.isNaN ? 1 : 0, dtype: .bool), "the last row sees it")
            expectSameBits(seeing.isFinite(), .full([1, 5], 0, dtype: .bool), "the last row sees it")
        }
        // A row that is NaN itself leaves the others alone.
        let rows = concatenated([q.sliced(axis: 0, 0..<last), Tensor.full([1, 4], .nan, dtype: .float64)], axis: 0)
        let output = attention(query: rows, keys: k, values: v)
        expectSameBits(
            output.sliced(axis: 0, 0..<last).copied,
            attention(query: q, keys: k, values: v).sliced(axis: 0, 0..<last)
                .copied, "the other rows")
        expectSameBits(
            output.sliced(axis: 0, last..<columns).isNaN(), .full([1, 5], 1, dtype: .bool), "a row that is NaN")
    }

    // Blocks of 64 rows, cuts of the keys that begin within one, and blocks on the diagonal, which are halved. Of the wide operands
    // up to 260 weights a row are kept for the gradients.
    @Test(
        "output and gradients of many rows are those of a plain softmax, in the causal order too",
        arguments: [(64, 64), (131, 131), (300, 300), (300, 200), (200, 300)], [DType.float32, .float64])
    func manyRows(size: (rows: Int, columns: Int), dtype: DType) {
        let (rows, columns) = size
        for (width, valueWidth, isCausal) in [(5, 3, true), (200, 60, true), (200, 60, false)] {
            let operands = [
                AttentionTests.uniform([2, rows, width], 11, dtype),
                AttentionTests.uniform([2, columns, width], 12, dtype),
                AttentionTests.uniform([2, columns, valueWidth], 13, dtype),
            ]
            let seen = (0..<rows).flatMap { row in (0..<columns).map { !isCausal || $0 <= row } }
            let mask = Tensor(seen, shape: [rows, columns]).cast(to: dtype).log()
            let cotangent = AttentionTests.uniform([2, rows, valueWidth], 14, dtype)
            func plain(_ x: [Tensor]) -> Tensor {
                let scores = matmul(x[0], x[1].transposed(-1, -2)) / Double(width).squareRoot()
                return matmul((scores + mask).softmax(axis: -1), x[2])
            }
            func fused(_ x: [Tensor]) -> Tensor {
                attention(query: x[0], keys: x[1], values: x[2], isCausal: isCausal)
            }
            let tolerance = dtype == .float32 ? 2e-5 : 1e-12
            expectClose(fused(operands), plain(operands), tolerance: tolerance)
            let (_, want) = valueAndGradient(of: { (plain($0) * cotangent).sum() }, at: operands)
            // Memory that was used before must not show.
            for _ in 0..<2 {
                let (_, got) = valueAndGradient(of: { (fused($0) * cotangent).sum() }, at: operands)
                for (got, want) in zip(got, want) { expectClose(got, want, tolerance: 10 * tolerance) }
            }
        }
    }

    @Test("heads of tokens come back so that they merge without a copy")
    func layout() {
        func heads(_ stream: UInt64) -> Tensor { AttentionTests.uniform([2, 5, 3, 4], stream).transposed(1, 2) }
        let pulled = pullBack(
            { attention(query: $0[0], keys: $0[1], values: $0[2]) }, [heads(1), heads(2), heads(3)])
        for x in [pulled.output] + pulled.gradients { #expect(x.transposed(1, 2).isContiguous) }
        let dense = attention(
            query: AttentionTests.uniform([2, 3, 5, 4], 1), keys: heads(2), values: heads(3))
        #expect(dense.isContiguous)
    }
}

extension Tensor {
    fileprivate var copied: Tensor { Tensor(doubles(of: self), shape: shape) }
}
