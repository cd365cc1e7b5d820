import Foundation
import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

// Each layer against loops over Doubles that follow its equations and nothing else.

/// Rows of numbers: what the naive versions compute on.
private typealias Matrix = [[Double]]

extension Tensor {
    /// The last two axes of a [B, N, C] tensor as rows, one matrix for each of the first.
    fileprivate var matrices: [Matrix] {
        let (values, rows, columns) = (doubles, shape[rank - 2], shape[rank - 1])
        return stride(from: 0, to: values.count, by: rows * columns).map { start in
            (0..<rows).map { Array(values[start + $0 * columns..<start + ($0 + 1) * columns]) }
        }
    }

    fileprivate var matrix: Matrix { matrices[0] }
}

private func naiveLinear(_ x: Matrix, _ layer: Linear) -> Matrix {
    let (weight, bias) = (layer.weight.matrix, layer.bias?.doubles)
    return x.map { row in
        weight.indices.map { output in
            var sum = bias?[output] ?? 0
            for input in row.indices { sum += row[input] * weight[output][input] }
            return sum
        }
    }
}

private func naiveNorm(_ x: Matrix, _ layer: LayerNorm) -> Matrix {
    let (weight, bias) = (layer.weight.doubles, layer.bias?.doubles)
    return x.map { row in
        let mean = row.reduce(0, +) / Double(row.count)
        let variance = row.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(row.count)
        return row.indices.map {
            (row[$0] - mean) / (variance + layer.epsilon).squareRoot() * weight[$0] + (bias?[$0] ?? 0)
        }
    }
}

private func naive(_ activation: Activation, _ x: Double) -> Double {
    switch activation {
    case .gelu: x * 0.5 * (1 + erf(x / 2.0.squareRoot()))
    case .relu: x > 0 ? x : 0
    case .tanh: tanh(x)
    case .sigmoid: 1 / (1 + exp(-x))
    case .silu: x / (1 + exp(-x))
    case .geluTanh: 0.5 * x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
    case .quickGelu: x / (1 + exp(-1.702 * x))
    case .squaredRelu: max(x, 0) * max(x, 0)
    case .hardSigmoid: min(max(x + 3, 0), 6) / 6
    case .hardSwish: x * min(max(x + 3, 0), 6) / 6
    }
}

private func naiveMLP(_ x: Matrix, _ mlp: MLP) -> Matrix {
    naiveLinear(naiveLinear(x, mlp.expand).map { $0.map { naive(mlp.activation, $0) } }, mlp.contract)
}

/// - Parameter sees: whether head `h`'s query `n` may look at `m`.
private func naiveAttention(
    _ x: Matrix, _ context: Matrix, _ layer: MultiHeadAttention, sees: (Int, Int, Int) -> Bool = { _, _, _ in true }
) -> Matrix {
    let (queries, keys, values) = (
        naiveLinear(x, layer.query), naiveLinear(context, layer.key), naiveLinear(context, layer.value)
    )
    let width = queries[0].count / layer.heads
    var merged = Matrix(repeating: Array(repeating: 0, count: queries[0].count), count: x.count)
    for head in 0..<layer.heads {
        let features = head * width..<(head + 1) * width
        for n in x.indices {
            let visible = context.indices.filter { sees(head, n, $0) }
            let scores = visible.map { m in
                features.reduce(0.0) { $0 + queries[n][$1] * keys[m][$1] } / Double(width).squareRoot()
            }
            let total = scores.reduce(0) { $0 + exp($1) }
            for (m, score) in zip(visible, scores) {
                for feature in features { merged[n][feature] += exp(score) / total * values[m][feature] }
            }
        }
    }
    return naiveLinear(merged, layer.output)
}

private func + (a: Matrix, b: Matrix) -> Matrix { zip(a, b).map { zip($0, $1).map { $0 + $1 } } }

/// A module whose every parameter is drawn anew, so that no one or zero hides a mistake.
private func stirred<Model: Module>(_ model: Model) -> Model {
    var model = model
    model.forEachParameter { path, tensor in tensor = .sample(tensor.shape, path) }
    return model
}

/// float64 is to agree to rounding, float32 to its own rounding over these few terms.
private let (wide, narrow) = (1e-12, 2e-5)

@Suite struct LayerTests {
    @Test(arguments: [true, false])
    func linear(bias: Bool) {
        let layer = stirred(Linear(5, 3, bias: bias, key: RandomKey(seed: 0)))
        let x = Tensor.sample([2, 4, 5], "x")
        let expected = x.matrices.flatMap { naiveLinear($0, layer).flatMap { $0 } }
        #expect(layer(x).shape == [2, 4, 3])
        #expect(difference(layer(x).doubles, expected) < wide)
        let single = layer.cast(to: .float32)(x.cast(to: .float32))
        #expect(single.dtype == .float32)
        #expect(difference(single.doubles, expected) < narrow)
        #expect(layer.parameters.keys.elements == (bias ? ["weight", "bias"] : ["weight"]))
        // Any leading axes, none among them.
        #expect(layer(x[0][1]).shape == [3])
        #expect(difference(layer(x[0][1]).doubles, Array(expected[3..<6])) < wide)
    }

    @Test(arguments: [(true, 1e-5), (false, 1e-5), (true, 0.5)])
    func layerNorm(bias: Bool, epsilon: Double) {
        let layer = stirred(LayerNorm(7, bias: bias, epsilon: epsilon))
        let x = Tensor.sample([2, 3, 7], "x")
        let expected = x.matrices.flatMap { naiveNorm($0, layer).flatMap { $0 } }
        #expect(layer(x).shape == [2, 3, 7])
        #expect(difference(layer(x).doubles, expected) < wide)
        #expect(difference(layer.cast(to: .float32)(x.cast(to: .float32)).doubles, expected) < narrow)
    }

    @Test("a fresh norm has weight one and bias zero, and centres a constant row to zero")
    func freshNorm() {
        let layer = LayerNorm(4)
        #expect(layer.weight.doubles == [1, 1, 1, 1])
        #expect(layer.bias?.doubles == [0, 0, 0, 0])
        #expect(layer(.full([1, 4], 3)).doubles == [0, 0, 0, 0])
    }

    @Test(arguments: Activation.allCases)
    func mlp(activation: Activation) {
        let x = Tensor.sample([2, 3, 4], "x")
        for (bias, outputs) in [(true, nil), (false, 5)] as [(Bool, Int?)] {
            let layer = stirred(
                MLP(4, hidden: 6, outputs: outputs, activation: activation, bias: bias, key: RandomKey(seed: 0)))
            let expected = x.matrices.flatMap { naiveMLP($0, layer).flatMap { $0 } }
            #expect(layer(x).shape == [2, 3, outputs ?? 4])
            #expect(difference(layer(x).doubles, expected) < wide)
            #expect(
                difference(layer.cast(to: .float32)(x.cast(to: .float32)).doubles, expected) < 10 * narrow)
        }
    }

    @Test("self-attention")
    func selfAttention() {
        let layer = stirred(MultiHeadAttention(6, heads: 3, key: RandomKey(seed: 0)))
        let x = Tensor.sample([2, 4, 6], "x")
        let expected = x.matrices.flatMap { naiveAttention($0, $0, layer).flatMap { $0 } }
        #expect(layer(x).shape == [2, 4, 6])
        #expect(difference(layer(x).doubles, expected) < wide)
        #expect(difference(layer(x, context: x).doubles, expected) < wide)
        #expect(difference(layer.cast(to: .float32)(x.cast(to: .float32)).doubles, expected) < 10 * narrow)
    }

    @Test("key heads that several heads share, as if each had its own copy; norms over each head")
    func sharedKeyHeads() {
        let grouped = stirred(
            MultiHeadAttention(
                6, heads: 4, keyHeads: 2, headWidth: 3, bias: false, headNorm: .rms(), key: RandomKey(seed: 0)))
        var plain = MultiHeadAttention(
            6, heads: 4, headWidth: 3, bias: false, headNorm: .rms(), key: RandomKey(seed: 1)
        ).cast(to: .float64)
        func copies(_ weight: Tensor) -> Tensor {
            weight.reshaped(to: [2, 3, 6]).repeated(2, axis: 0).reshaped(to: [12, 6])
        }
        plain.query = grouped.query
        plain.key.weight = copies(grouped.key.weight)
        plain.value.weight = copies(grouped.value.weight)
        plain.output = grouped.output
        plain.queryNorm = grouped.queryNorm
        plain.keyNorm = grouped.keyNorm
        let x = Tensor.sample([2, 5, 6], "x")
        #expect(difference(grouped(x).doubles, plain(x).doubles) < wide)
        // Under the norm the length of a query does not matter; without it, it does.
        func longer(_ layer: MultiHeadAttention) -> MultiHeadAttention {
            var copy = layer
            copy.query.weight = copy.query.weight * 3
            return copy
        }
        #expect(difference(longer(grouped)(x).doubles, grouped(x).doubles) < 1e-5)
        plain.queryNorm = nil
        #expect(difference(longer(plain)(x).doubles, plain(x).doubles) > 1e-3)
    }

    @Test("cross-attention to another length and width, with heads of a width of their own")
    func crossAttention() {
        let layer = stirred(
            MultiHeadAttention(6, contextWidth: 5, heads: 2, headWidth: 4, bias: false, key: RandomKey(seed: 0)))
        #expect(layer.query.weight.shape == [8, 6] && layer.key.weight.shape == [8, 5])
        #expect(layer.output.weight.shape == [6, 8] && layer.output.bias == nil)
        let (x, context) = (Tensor.sample([2, 3, 6], "x"), Tensor.sample([2, 7, 5], "context"))
        let expected = zip(x.matrices, context.matrices).flatMap { naiveAttention($0, $1, layer).flatMap { $0 } }
        #expect(layer(x, context: context).shape == [2, 3, 6])
        #expect(difference(layer(x, context: context).doubles, expected) < wide)
    }

    @Test("a context that is not projected gives what a projected one does: value, gradients and taps")
    func absorbing() {
        let layer = stirred(
            MultiHeadAttention(6, contextWidth: 5, heads: 2, headWidth: 4, bias: false, key: RandomKey(seed: 0)))
        #expect(layer.absorbsContext(queries: 2) && !layer.absorbsContext(queries: 3))
        let sizes: [(queries: Int, keys: Int)] = [(2, 7), (3, 70), (40, 130), (1, 1)]
        for (count, keys) in sizes {
            let (x, context) = (Tensor.sample([2, count, 6], "x"), Tensor.sample([2, keys, 5], "context"))
            let flags = (0..<2 * keys).map { $0 % 3 != 1 }
            let masks: [Tensor?] = [nil, Tensor(flags, shape: [2, 1, 1, keys]), .zeros([1, keys], dtype: .bool)]
            for mask in masks {
                let taps: [AttentionTap] = [.rows([0]), .columnMean(of: 0..<count)]
                let direct = layer(x, absorbing: context, mask: mask, taps: taps)
                let usual = layer(x, context: context, mask: mask, taps: taps)
                #expect(relativeDifference(direct.output, usual.output) < wide)
                for (a, b) in zip(direct.taps, usual.taps) { #expect(relativeDifference(a, b) < wide) }
                let cotangent = Tensor.sample([2, count, 6], "cotangent")
                func gradients(_ attend: (MultiHeadAttention, Tensor, Tensor) -> Tensor) -> [Tensor] {
                    let parameters = valueAndGradient(of: layer) { (attend($0, x, context) * cotangent).sum() }
                        .gradients
                    let inputs = vectorJacobianProduct(
                        of: { attend(layer, $0[0], $0[1]) }, at: [x, context], cotangent: cotangent)
                    return Array(parameters.tensors.values) + inputs
                }
                let own = gradients { $0($1, absorbing: $2, mask: mask).output }
                let expected = gradients { $0($1, context: $2, mask: mask) }
                for (a, b) in zip(own, expected) { #expect(relativeDifference(a, b) < 10 * wide) }
            }
        }
    }

    @Test("projections with biases, norms or shared heads are not absorbed")
    func notAbsorbing() {
        let key = RandomKey(seed: 0)
        #expect(!MultiHeadAttention(8, heads: 2, key: key).absorbsContext(queries: 1))
        #expect(!MultiHeadAttention(8, heads: 2, keyHeads: 1, bias: false, key: key).absorbsContext(queries: 1))
        #expect(!MultiHeadAttention(8, heads: 2, bias: false, headNorm: .rms(), key: key).absorbsContext(queries: 1))
    }

    @Test("a mask over queries and keys, one for each head, one for each sample")
    func masks() {
        let layer = stirred(MultiHeadAttention(4, heads: 2, key: RandomKey(seed: 0)))
        let (x, context) = (Tensor.sample([2, 3, 4], "x"), Tensor.sample([2, 5, 4], "context"))
        func masked(_ shape: [Int], _ sees: (Int, Int, Int, Int) -> Bool) -> Tensor {
            var flags: [Bool] = []
            for b in 0..<shape[0] {
                for h in 0..<shape[1] {
                    for n in 0..<shape[2] { for m in 0..<shape[3] { flags.append(sees(b, h, n, m)) } }
                }
            }
            return Tensor(flags, shape: shape)
        }
        func check(_ shape: [Int], _ sees: (Int, Int, Int, Int) -> Bool) {
            let expected = zip(x.matrices, context.matrices).enumerated().flatMap { b, pair in
                naiveAttention(pair.0, pair.1, layer) { sees(b, $0, $1, $2) }.flatMap { $0 }
            }
            let found = layer(x, context: context, mask: masked(shape, sees))
            #expect(difference(found.doubles, expected) < wide, "\(shape)")
        }
        check([1, 1, 3, 5]) { _, _, n, m in m <= n }
        check([1, 2, 3, 5]) { _, h, n, m in (n + m + h) % 2 == 0 }
        check([2, 1, 1, 5]) { b, _, _, m in m < 2 + b }
        // A query that sees nothing gets zeros from attention: what remains is the output's bias.
        check([1, 1, 3, 5]) { _, _, n, _ in n != 1 }
        // A mask of fewer axes is broadcast.
        let triangle = masked([1, 1, 3, 5]) { _, _, n, m in m <= n }
        #expect(
            layer(x, context: context, mask: triangle.reshaped(to: [3, 5])).bytes()
                == layer(x, context: context, mask: triangle).bytes())
    }

    @Test("hands out what its attention is asked for")
    func attentionTaps() {
        let layer = stirred(MultiHeadAttention(6, heads: 3, key: RandomKey(seed: 0)))
        let (x, context) = (Tensor.sample([2, 3, 6], "x"), Tensor.sample([2, 5, 6], "context"))
        let mask = Tensor((0..<10).map { $0 % 4 != 1 }, shape: [2, 1, 1, 5])
        let (output, taps) = layer(
            x, context: context, mask: mask, taps: [.columnMean(of: 0..<3), .rows([2], heads: .each)])
        #expect(output.bytes() == layer(x, context: context, mask: mask).bytes())
        func heads(_ y: Tensor) -> Tensor { y.reshaped(to: [2, y.shape[1], 3, 2]).transposed(1, 2) }
        let scores = matmul(heads(layer.query(x)), heads(layer.key(context)).transposed(-1, -2)) / 2.0.squareRoot()
        let weights = (scores + mask.cast(to: .float64).log()).softmax(axis: -1)
        #expect(difference(taps[0].doubles, weights.mean(axes: [1, 2]).doubles) < wide)
        #expect(taps[1].shape == [2, 3, 1, 5])
        #expect(difference(taps[1].doubles, weights.sliced(axis: 2, 2..<3).doubles) < wide)
    }

    @Test("permuting the context, or the queries, permutes nothing or the rows")
    func attentionEquivariance() {
        let layer = stirred(MultiHeadAttention(4, heads: 2, key: RandomKey(seed: 0)))
        let (x, context) = (Tensor.sample([1, 3, 4], "x"), Tensor.sample([1, 5, 4], "context"))
        let order = [3, 0, 4, 1, 2]
        let shuffled = concatenated(order.map { context.sliced(axis: 1, $0..<$0 + 1) }, axis: 1)
        #expect(difference(layer(x, context: shuffled), layer(x, context: context)) < wide)
        let reversed = concatenated([2, 1, 0].map { x.sliced(axis: 1, $0..<$0 + 1) }, axis: 1)
        let rows = layer(x, context: context).matrix
        #expect(
            difference(layer(reversed, context: context).doubles, rows.reversed().flatMap { $0 }) < wide)
    }

    @Test("a patch's pixels go channel by channel, row by row, and patches in raster order")
    func patchOrder() {
        // The identity as projection and no positions show the order of the pixels.
        var layer = PatchEmbedding(
            imageSize: (4, 6), patchSize: 2, channels: 3, width: 12, key: RandomKey(seed: 0))
        layer.weight = Tensor((0..<144).map { Float($0 / 12 == $0 % 12 ? 1 : 0) }, shape: [12, 3, 2, 2])
        layer.bias = .zeros([12])
        layer.positions = .zeros([6, 12])
        // A pixel's number tells where it is: picture, channel, row, column.
        var pixels: [Float] = []
        for picture in 0..<2 {
            for channel in 0..<3 {
                for row in 0..<4 {
                    for column in 0..<6 { pixels.append(Float(picture * 1_000 + channel * 100 + row * 10 + column)) }
                }
            }
        }
        var expected: [Double] = []
        for picture in 0..<2 {
            for (top, left) in [(0, 0), (0, 2), (0, 4), (2, 0), (2, 2), (2, 4)] {
                for channel in 0..<3 {
                    for row in 0..<2 {
                        for column in 0..<2 {
                            expected.append(Double(picture * 1_000 + channel * 100 + (top + row) * 10 + left + column))
                        }
                    }
                }
            }
        }
        let tokens = layer(Tensor(pixels, shape: [2, 3, 4, 6]))
        #expect(tokens.shape == [2, 6, 12])
        #expect(tokens.doubles == expected)
    }

    @Test("projection and positions, one row for each patch")
    func patchEmbedding() {
        let layer = stirred(
            PatchEmbedding(imageSize: (2, 4), patchSize: 2, channels: 1, width: 3, key: RandomKey(seed: 0)))
        #expect(layer.positions.shape == [2, 3] && layer.weight.shape == [3, 1, 2, 2])
        var projection = Linear(4, 3, key: RandomKey(seed: 0))
        (projection.weight, projection.bias) = (layer.weight.reshaped(to: [3, 4]), layer.bias)
        let x = Tensor.sample([2, 1, 2, 4], "x")
        let pixels = x.doubles
        var expected: [Double] = []
        for picture in 0..<2 {
            let patches = [[0, 1, 4, 5], [2, 3, 6, 7]].map { $0.map { pixels[picture * 8 + $0] } }
            expected += (naiveLinear(patches, projection) + layer.positions.matrix).flatMap { $0 }
        }
        #expect(difference(layer(x).doubles, expected) < wide)
    }

    @Test("a class token stands in front of the patches, with the first position")
    func classToken() {
        let layer = stirred(
            PatchEmbedding(
                imageSize: (2, 4), patchSize: 2, channels: 1, width: 3, bias: false, classToken: true,
                key: RandomKey(seed: 0)))
        #expect(layer.parameters.keys.elements == ["weight", "classToken", "positions"])
        let x = Tensor.sample([2, 1, 2, 4], "x")
        var plain = PatchEmbedding(
            imageSize: (2, 4), patchSize: 2, channels: 1, width: 3, bias: false, key: RandomKey(seed: 0))
        (plain.weight, plain.positions) = (layer.weight, layer.positions.sliced(axis: 0, 1..<3))
        let tokens = layer(x)
        #expect(tokens.shape == [2, 3, 3])
        #expect(difference(tokens.sliced(axis: 1, 1..<3), plain(x)) < wide)
        for picture in 0..<2 {
            #expect(difference(tokens[picture][0], layer.classToken! + layer.positions[0]) < wide)
        }
    }

    @Test("pictures of another size get positions in between, and pixels that fill no patch are left out")
    func otherSizes() {
        let layer = stirred(
            PatchEmbedding(
                imageSize: (4, 4), patchSize: 2, channels: 1, width: 3, classToken: true, key: RandomKey(seed: 0)))
        let x = Tensor.sample([1, 1, 5, 7], "x")
        let whole = x.sliced(axis: 2, 0..<4).sliced(axis: 3, 0..<6)
        #expect(difference(layer(x), layer(whole)) == 0)
        // The same pixels without positions show what was added: the positions, as a picture of three channels.
        var bare = layer
        bare.positions = .zeros([5, 3], dtype: .float64)
        let added = layer(x) - bare(x)
        let picture = layer.positions.sliced(axis: 0, 1..<5).transposed(0, 1).reshaped(to: [1, 3, 2, 2])
        let between = picture.interpolatedBicubic(to: Size2D(2, 3)).reshaped(to: [3, 6]).transposed(0, 1)
        #expect(difference(added[0], concatenated([layer.positions.sliced(axis: 0, 0..<1), between], axis: 0)) < wide)
        // As many patches in another grid are another size too.
        let tall = Tensor.sample([1, 1, 8, 2], "tall")
        #expect(difference((layer(tall) - bare(tall))[0], layer.positions) > 1e-3)
    }

    @Test("a transformer block adds attention and MLP, each of the normed stream")
    func transformerBlock() {
        let layer = stirred(TransformerBlock(4, heads: 2, hidden: 6, dropout: 0.5, key: RandomKey(seed: 0)))
        let x = Tensor.sample([2, 3, 4], "x")
        let expected = x.matrices.flatMap { x in
            let normed = naiveNorm(x, layer.attentionNorm)
            let z = x + naiveAttention(normed, normed, layer.attention)
            return (z + naiveMLP(naiveNorm(z, layer.mlpNorm), layer.mlp)).flatMap { $0 }
        }
        #expect(difference(layer(x).doubles, expected) < wide)
    }

    @Test("layers start from their key alone, and no two parameters of a module share numbers")
    func keys() {
        func fresh(_ seed: UInt64) -> TransformerBlock { TransformerBlock(8, heads: 2, key: RandomKey(seed: seed)) }
        #expect(bits(fresh(1)) == bits(fresh(1)))
        #expect(bits(fresh(1)) != bits(fresh(2)))
        // Norms start alike by intent.
        let drawn = fresh(1).parameters.filter { !$0.key.contains("Norm") }
        let starts = drawn.values.map { Array($0.doubles.prefix(4)) }
        #expect(Set(starts).count == starts.count)
    }
}

@Suite struct InitializerTests {
    private let key = RandomKey(seed: 11)

    @Test func constants() {
        #expect(Initializer.zeros([2, 2], key: key).doubles == [0, 0, 0, 0])
        #expect(Initializer.ones([3], key: key, dtype: .float64).doubles == [1, 1, 1])
        #expect(Initializer.ones([3], key: key, dtype: .float64).dtype == .float64)
    }

    /// Mean, standard deviation, least and largest of 40,000 numbers.
    private func statistics(_ initializer: Initializer) -> (mean: Double, deviation: Double, range: ClosedRange<Double>)
    {
        let values = initializer([200, 200], key: key, dtype: .float64).doubles
        let mean = values.reduce(0, +) / Double(values.count)
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
        return (mean, variance.squareRoot(), values.min()!...values.max()!)
    }

    // The tolerances are five standard errors of 40,000 independent draws.

    @Test func normal() {
        let found = statistics(.normal(deviation: 0.3))
        #expect(abs(found.mean) < 5 * 0.3 / 200)
        #expect(abs(found.deviation - 0.3) < 5 * 0.3 / (2 * 40_000).squareRoot())
        // The largest of so many is near four deviations; a cut-off normal would not reach three.
        #expect(found.range.upperBound > 3.3 * 0.3 && found.range.upperBound < 6 * 0.3)
        #expect(found.range.lowerBound < -3.3 * 0.3 && found.range.lowerBound > -6 * 0.3)
    }

    @Test(
        arguments: [
            (Initializer.uniform(bound: 0.7), 0.7),
            (.torchLinear(inputs: 64), 0.125),
            (.xavierUniform(inputs: 100, outputs: 50), 0.2),
        ])
    func uniform(_ initializer: Initializer, _ bound: Double) {
        let found = statistics(initializer)
        let deviation = bound / 3.0.squareRoot()
        #expect(abs(found.mean) < 5 * deviation / 200)
        #expect(abs(found.deviation - deviation) < 5 * deviation / 400)
        #expect(found.range.upperBound <= bound && found.range.upperBound > 0.999 * bound)
        #expect(found.range.lowerBound >= -bound && found.range.lowerBound < -0.999 * bound)
    }

    @Test("the numbers depend on the key, not on the type")
    func keyed() {
        let initializer = Initializer.normal(deviation: 1)
        let double = initializer([50], key: key, dtype: .float64)
        #expect(initializer([50], key: key).bytes() == double.cast(to: .float32).bytes())
        #expect(initializer([50], key: key, dtype: .float64).bytes() == double.bytes())
        #expect(initializer([50], key: RandomKey(seed: 12), dtype: .float64).bytes() != double.bytes())
    }

    @Test("linear layers start within ±1/√C, bias included, unless told otherwise")
    func linear() {
        let layer = Linear(16, 400, key: key)
        for tensor in [layer.weight, layer.bias!] {
            let values = tensor.doubles
            #expect(values.map(abs).max()! <= 0.25 && values.map(abs).max()! > 0.24)
        }
        let told = Linear(16, 400, initializer: .normal(deviation: 0.02), key: key)
        #expect(told.bias!.doubles.allSatisfy { $0 == 0 })
        #expect(told.weight.doubles.map(abs).max()! < 0.12)
    }
}
