import CKernels

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

// MARK: rotaryEmbedding

extension Op {
    /// Encodings of positions.
    static let encodings: [Op] = [.rotaryEmbedding]

    public static let rotaryEmbedding = Op(
        "rotaryEmbedding", "pairs of channels rotated by angles of the position", linearIn: [0]
    ) {
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

/// The angles that rotary positions turn channel pairs by, as cosines and sines. A model computes them once for a
/// sequence; every layer that sees it uses them.
public struct RotaryAngles: Sendable {
    /// [..., N, d/2], float64.
    let cosine: Tensor
    /// [..., N, d/2], float64.
    let sine: Tensor

    /// position · f_i for i in 0 ..< d/2, computed in float64. Traps unless d is even and the positions are numbers.
    ///
    /// - Parameters:
    ///   - positions: [..., N]; integers or fractions.
    ///   - width: d of what is turned.
    ///   - frequencies: f.
    public init(positions: Tensor, width: Int, frequencies: RotaryFrequencies = .init()) {
        guard width >= 0, width % 2 == 0, positions.dtype != .bool else {
            trap("RotaryAngles", "positions that are numbers and an even width are needed, not \(width)", positions)
        }
        let half = width / 2
        let places: [Double] = positions.cast(to: .float64).scalars()
        let frequencies = frequencies.values(width: width)
        let angles = places.flatMap { place in frequencies.map { place * $0 } }
        cosine = Tensor(angles.map { cosineOf($0) }, shape: positions.shape + [half])
        sine = Tensor(angles.map { sineOf($0) }, shape: positions.shape + [half])
    }

    private init(cosine: Tensor, sine: Tensor) {
        self.cosine = cosine
        self.sine = sine
    }

    /// Those of some tokens of each sample, [B, 1, K], out of angles of [N] or [B, 1, N].
    ///
    /// - Parameter indices: int64 [B, K].
    package func ofTokens(_ indices: Tensor) -> RotaryAngles {
        func own(_ x: Tensor) -> Tensor {
            let (count, half) = (x.shape[x.rank - 2], x.shape[x.rank - 1])
            return x.expanded(to: [indices.shape[0], 1, count, half]).squeezed(1)
                .gathered(axis: 1, indices.unsqueezed(2).expanded(to: indices.shape + [half])).unsqueezed(1)
        }
        return RotaryAngles(cosine: own(cosine), sine: own(sine))
    }
}

extension Tensor {
    /// x [..., N, d] with channel pairs rotated by angles [..., N, d/2], which broadcast.
    /// (Su et al., "RoFormer: Enhanced transformer with rotary position embedding", 2021, §3.2.)
    ///
    /// Positions get no gradient. Traps unless d is the width that the angles are for and they broadcast to [..., N].
    ///
    /// - Parameters:
    ///   - angles: of the positions of x; [..., N] of them.
    ///   - interleaved: whether a pair is channels 2i and 2i + 1, as in the paper, rather than i and i + d/2, as in most
    ///     published weights.
    public func rotaryEmbedded(_ angles: RotaryAngles, interleaved: Bool = false) -> Tensor {
        requireDifferentiableType("rotaryEmbedding")
        let (cosine, sine) = (angles.cosine.cast(to: dtype), angles.sine.cast(to: dtype))
        let lead = Array(shape.dropLast())
        guard rank >= 1, shape[rank - 1] == 2 * cosine.shape.last!,
            broadcastShape(Array(cosine.shape.dropLast()), lead) == lead
        else {
            trap("rotaryEmbedding", "x [..., N, d] with an even d and positions [..., N] are needed", self, cosine)
        }
        // A rotation's transpose turns back.
        return rotatingPairs(cosine, sine, sign: 1, interleaved).derived(by: .rotaryEmbedding, from: self) { g in
            g.rotatingPairs(cosine, sine, sign: -1, interleaved)
        }
    }

    /// x [..., N, d] rotated by the angles of positions [..., N], which broadcast. `RotaryAngles` says what they are.
    public func rotaryEmbedded(positions: Tensor, base: Double = 10_000, interleaved: Bool = false) -> Tensor {
        guard rank >= 1, shape[rank - 1] % 2 == 0, positions.dtype != .bool else {
            trap("rotaryEmbedding", "x [..., N, d] with an even d and positions [..., N] are needed", self, positions)
        }
        return rotaryEmbedded(
            RotaryAngles(positions: positions, width: shape[rank - 1], frequencies: .init(base: base)),
            interleaved: interleaved)
    }

    /// Rows may lie anywhere, as those of one head do among the others; the channels of a row lie side by side. The result
    /// lies in memory in the order of x: heads that are read where they lie are written so too, in one sweep.
    private func rotatingPairs(_ cosine: Tensor, _ sine: Tensor, sign: Double, _ interleaved: Bool) -> Tensor {
        noteLabel()
        let x = layoutStrides[rank - 1] == 1 ? self : contiguous()
        let half = shape[rank - 1] / 2
        let lead = Array(shape.dropLast())
        let strides = [
            Array(x.layoutStrides.dropLast()), Array(cosine.expandedStrides(to: lead + [half]).dropLast()),
        ]
        let order = lead.indices.sorted { (-strides[0][$0], $0) < (-strides[0][$1], $1) }
        let y = Tensor(uninitialized: order.map { lead[$0] } + [2 * half], dtype)
        if y.count > 0 {
            x.rotatePairs(
                cosine, sine, sign, interleaved, into: y, strides.map { strides in order.map { strides[$0] } })
        }
        let places = lead.indices.map { order.firstIndex(of: $0)! }
        return order == Array(lead.indices) ? y : y.permuted(to: places + [rank - 1])
    }

    /// - Parameter strides: of this tensor's and of the angles' axes but the last, in the order of those of y.
    private func rotatePairs(
        _ cosine: Tensor, _ sine: Tensor, _ sign: Double, _ interleaved: Bool, into y: Tensor, _ strides: [[Int]]
    ) {
        let (width, size) = (y.shape[y.rank - 1], dtype.size)
        // Axes that are evenly spaced in both are one; the last of them is what the loop walks.
        var box = Box()
        for axis in strides[0].indices.reversed() { box.add(y.shape[axis], strides[0][axis], strides[1][axis]) }
        let rows = box[0].length
        let (step, turn, _) = box[0].steps
        // Pieces of long rows of rows: their number depends on the shape alone.
        let grain = Swift.max(1, Kernels.grain / width)
        let pieces = (rows + grain - 1) / grain
        let (loop, half) = (pick(Kernels.table.pointee.rotate, dtype), width / 2)
        read { x in
            cosine.read { cosine in
                sine.read { sine in
                    y.write { y in
                        parallelFor(box.count(from: 1) * pieces, grain: Swift.max(1, grain / rows)) { range in
                            var walk = box.walk(from: 1, startingAt: range.lowerBound / pieces)
                            for index in range {
                                let (block, piece) = (index / pieces, index % pieces)
                                if piece == 0, index > range.lowerBound { walk.advance() }
                                let first = piece * grain
                                let angle = (walk.offsets.1 + first * turn) * size
                                loop(
                                    x + (walk.offsets.0 + first * step) * size, step, cosine + angle, sine + angle,
                                    turn,
                                    sign, interleaved ? 1 : 0, y + (block * rows + first) * width * size, half,
                                    Swift.min(grain, rows - first))
                            }
                        }
                    }
                }
            }
        }
    }
}

// The C library's functions, out of reach of the tensor's methods of that name.
private func cosineOf(_ angle: Double) -> Double { cos(angle) }
private func sineOf(_ angle: Double) -> Double { sin(angle) }
