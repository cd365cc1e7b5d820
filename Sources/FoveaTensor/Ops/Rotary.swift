#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

// MARK: rotaryEmbedding

extension Op {
    /// Encodings of positions.
    static let encodings: [Op] = [.rotaryEmbedding]

    public static let rotaryEmbedding = Op("rotaryEmbedding", "pairs of channels rotated by angles of the position") {
        [
            OpSample("halves", [$0.uniform([2, 3, 6])]) {
                $0[0].rotaryEmbedded(positions: Tensor([Int64(0), 1, 5]))
            },
            OpSample("interleaved", [$0.uniform([2, 3, 6])]) {
                $0[0].rotaryEmbedded(positions: Tensor([Int64(0), 1, 5]), interleaved: true)
            },
            OpSample("heads", [$0.uniform([2, 2, 3, 4])]) {
                // Each sample of the batch at positions of its own, the same for all heads.
                let positions = Tensor([0.5, 1, 2, 7, 3, 11], shape: [2, 1, 3])
                return $0[0].rotaryEmbedded(positions: positions, base: 100)
            },
            OpSample("vector", [$0.uniform([4])]) { $0[0].rotaryEmbedded(positions: Tensor([Int64(3)], shape: [])) },
            OpSample("view", [$0.uniform([6, 3]).transposed(0, 1)]) {
                $0[0].rotaryEmbedded(positions: Tensor([Int64(0), 1, 5]))
            },
            OpSample("empty", [$0.uniform([0, 3, 4])]) { $0[0].rotaryEmbedded(positions: Tensor([Int64(0), 1, 5])) },
        ]
    }
}

extension Tensor {
    /// x [..., N, d] with channel pairs rotated by position · base^(−2i/d), i in 0 ..< d/2.
    /// (Su et al., "RoFormer: Enhanced transformer with rotary position embedding", 2021, §3.2.)
    ///
    /// The angles are computed in float64. Positions get no gradient. Traps unless d is even and the positions are numbers
    /// that broadcast to [..., N].
    ///
    /// - Parameters:
    ///   - positions: [N], or any shape that broadcasts to [..., N]; integers or fractions.
    ///   - base: of the angles' geometric series.
    ///   - interleaved: whether a pair is channels 2i and 2i + 1, as in the paper, rather than i and i + d/2, as in most
    ///     published weights.
    public func rotaryEmbedded(positions: Tensor, base: Double = 10_000, interleaved: Bool = false) -> Tensor {
        requireDifferentiableType("rotaryEmbedding")
        guard rank >= 1, shape[rank - 1] % 2 == 0, positions.dtype != .bool,
            broadcastShape(positions.shape, Array(shape.dropLast())) == Array(shape.dropLast())
        else {
            trap("rotaryEmbedding", "x [..., N, d] with an even d and positions [..., N] are needed", self, positions)
        }
        let half = shape[rank - 1] / 2
        let places: [Double] = positions.cast(to: .float64).scalars()
        let frequencies = (0..<half).map { pow(base, -Double($0) / Double(half)) }
        let angles = places.flatMap { place in frequencies.map { place * $0 } }
        func table(_ f: (Double) -> Double) -> Tensor {
            Tensor(angles.map(f), shape: positions.shape + [half]).cast(to: dtype)
        }
        let (cosine, sine) = (table { cosineOf($0) }, table { sineOf($0) })
        let rotated = withoutGradient { rotatingPairs(cosine, sine, interleaved) }
        // A rotation's transpose turns back.
        return rotated.derived(by: .rotaryEmbedding, from: self) { g in g.rotatingPairs(cosine, -sine, interleaved) }
    }

    private func rotatingPairs(_ cosine: Tensor, _ sine: Tensor, _ interleaved: Bool) -> Tensor {
        let half = shape[rank - 1] / 2
        let lead = Array(shape.dropLast())
        // The two members of each pair, as halves of the last axis.
        let halves =
            interleaved ? reshaped(to: lead + [half, 2]).transposed(-1, -2).reshaped(to: shape) : self
        let a = halves.sliced(axis: -1, 0..<half)
        let b = halves.sliced(axis: -1, half..<2 * half)
        let turned = concatenated([a * cosine - b * sine, b * cosine + a * sine], axis: -1)
        return interleaved ? turned.reshaped(to: lead + [2, half]).transposed(-1, -2).reshaped(to: shape) : turned
    }
}

// The C library's functions, out of reach of the tensor's methods of that name.
private func cosineOf(_ angle: Double) -> Double { cos(angle) }
private func sineOf(_ angle: Double) -> Double { sin(angle) }
