import FoveaNN
import FoveaTensor
import FoveaTestSupport
import Testing

@Suite("a stem of standardized convolutions") struct PoolingStemTests {
    /// One halving of a picture of one channel, number by number: [D][⌊H / 2⌋ · ⌊W / 2⌋].
    private static func halved(_ picture: [[Double]], by stem: PoolingStem) -> [[Double]] {
        let layer = stem.layers[0]
        let (weights, scale, shift): ([Float], [Float], [Float]) = (
            layer.weight.scalars(), layer.scale.scalars(), layer.shift.scalars()
        )
        let (height, width) = (picture.count, picture[0].count)
        return scale.indices.map { channel in
            let filter = standardized(weights[channel * 9..<channel * 9 + 9].map(Double.init))
            func response(_ row: Int, _ column: Int) -> Double {
                (0..<9).reduce(0) { sum, tap in
                    let (y, x) = (row + tap / 3 - 1, column + tap % 3 - 1)
                    let isInside = (0..<height).contains(y) && (0..<width).contains(x)
                    return sum + (isInside ? filter[tap] * picture[y][x] : 0)
                }
            }
            let maxima = (0..<height / 2).flatMap { row in
                (0..<width / 2).map { column in
                    [(0, 0), (0, 1), (1, 0), (1, 1)].map { response(2 * row + $0, 2 * column + $1) }.max()!
                }
            }
            return standardized(maxima).map { max(0, $0 * Double(scale[channel]) + Double(shift[channel])) }
        }
    }

    private static func standardized(_ x: [Double]) -> [Double] {
        let mean = x.reduce(0, +) / Double(x.count)
        let variance = x.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)
        return x.map { ($0 - mean) / (variance + 1e-5).squareRoot() }
    }

    @Test("a halving is the maxima of what standardized filters see, normed, and nothing below zero")
    func halving() {
        var stem = PoolingStem(1, channels: 3, halvings: 1, key: RandomKey(seed: 1))
        stem.layers[0].scale = Tensor([Float](arrayLiteral: 0.5, 1.5, 2), shape: [3])
        stem.layers[0].shift = Tensor([Float](arrayLiteral: 0.25, -0.5, 1), shape: [3])
        let pictures = Tensor.uniform([2, 1, 6, 9], in: 0...1, key: RandomKey(seed: 2))
        let numbers: [Float] = pictures.scalars()
        let y = stem(pictures)
        #expect(y.shape == [2, 3, 3, 4])
        let expected = (0..<2).flatMap { picture in
            PoolingStemTests.halved(
                (0..<6).map { row in (0..<9).map { Double(numbers[(picture * 6 + row) * 9 + $0]) } }, by: stem
            ).flatMap { $0 }
        }
        #expect(zip(y.scalars() as [Float], expected).allSatisfy { abs(Double($0) - $1) < 1e-4 })
        #expect(expected.contains { $0 > 0.5 } && expected.contains(0))
    }

    @Test("each halving doubles the channels and rounds height and width down")
    func sizes() {
        let stem = PoolingStem(2, channels: 4, halvings: 3, key: RandomKey(seed: 1))
        #expect(stem.outputs == 16)
        #expect(stem(.uniform([1, 2, 17, 8], in: 0...1, key: RandomKey(seed: 2))).shape == [1, 16, 2, 1])
    }
}
