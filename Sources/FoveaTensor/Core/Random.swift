/// The key of a stream of random numbers.
///
/// Random numbers are a function of a key and a position (Philox 4×32-10; Salmon et al., "Parallel random numbers: as
/// easy as 1, 2, 3", 2011), not of what was drawn before: the same key gives the same numbers on any number of threads
/// and any machine. Independent streams come from `folding`: a seed, folded with a step and with a parameter's
/// path, names that parameter's numbers at that step.
public struct RandomKey: Sendable, Hashable, Codable {
    let bits: UInt64

    private init(bits: UInt64) { self.bits = bits }

    /// The key of a run's seed.
    public init(seed: UInt64) {
        self = RandomKey(bits: 0x6A09_E667_F3BC_C908).folding(seed)
    }

    /// The key of stream number `value` under this key.
    public func folding(_ value: UInt64) -> RandomKey {
        let block = block(at: value, lane: 1)
        return RandomKey(bits: UInt64(block.0) << 32 | UInt64(block.1))
    }

    /// The key of the stream with this name under this key.
    public func folding(_ name: String) -> RandomKey {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325  // FNV-1a
        for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return folding(hash)
    }

    /// Sixty-four random bits at a position.
    public func bits(at position: Int) -> UInt64 {
        let block = block(at: UInt64(position >> 1), lane: 0)
        return position & 1 == 0
            ? UInt64(block.0) << 32 | UInt64(block.1) : UInt64(block.2) << 32 | UInt64(block.3)
    }

    /// A number in the open interval (0, 1), with 52 random bits.
    public func uniform(at position: Int) -> Double {
        (Double(bits(at: position) >> 12) + 0.5) * 0x1p-52
    }

    /// The numbers in (0, 1) at positions 2 · `pair` and 2 · `pair` + 1, for the price of one.
    func uniformPair(at pair: Int) -> (Double, Double) {
        let block = block(at: UInt64(pair), lane: 0)
        func uniform(_ high: UInt32, _ low: UInt32) -> Double {
            (Double((UInt64(high) << 32 | UInt64(low)) >> 12) + 0.5) * 0x1p-52
        }
        return (uniform(block.0, block.1), uniform(block.2, block.3))
    }

    /// An integer in 0 ..< `bound`; the bias is below bound / 2⁶⁴.
    public func integer(below bound: Int, at position: Int) -> Int {
        Int(bits(at: position).multipliedFullWidth(by: UInt64(bound)).high)
    }

    /// The numbers 0 ..< `count` in a random order (Fisher and Yates).
    public func permutation(of count: Int) -> [Int] {
        var order = Array(0..<count)
        for last in stride(from: count - 1, to: 0, by: -1) {
            order.swapAt(last, integer(below: last + 1, at: last))
        }
        return order
    }

    /// Four words of thirty-two random bits: those of positions 4 · `group` to 4 · `group` + 3. Cheaper than four
    /// uniform numbers where few bits will do; a stream of their own.
    func words(inGroup group: Int) -> (UInt32, UInt32, UInt32, UInt32) { block(at: UInt64(group), lane: 2) }

    private func block(at counter: UInt64, lane: UInt32) -> (UInt32, UInt32, UInt32, UInt32) {
        var c0 = UInt32(truncatingIfNeeded: counter)
        var c1 = UInt32(truncatingIfNeeded: counter >> 32)
        var c2 = lane
        var c3: UInt32 = 0
        var k0 = UInt32(truncatingIfNeeded: bits)
        var k1 = UInt32(truncatingIfNeeded: bits >> 32)
        for _ in 0..<10 {
            let p0 = UInt64(c0) &* 0xD251_1F53
            let p1 = UInt64(c2) &* 0xCD9E_8D57
            (c0, c1, c2, c3) = (
                UInt32(truncatingIfNeeded: p1 >> 32) ^ c1 ^ k0, UInt32(truncatingIfNeeded: p1),
                UInt32(truncatingIfNeeded: p0 >> 32) ^ c3 ^ k1, UInt32(truncatingIfNeeded: p0)
            )
            k0 &+= 0x9E37_79B9
            k1 &+= 0xBB67_AE85
        }
        return (c0, c1, c2, c3)
    }
}

extension Tensor {
    /// Numbers spread evenly over `range`; element i is the key's number at position i, in every floating type.
    public static func uniform(
        _ shape: [Int], in range: ClosedRange<Double> = 0...1, key: RandomKey, dtype: DType = .float32
    ) -> Tensor {
        let width = range.upperBound - range.lowerBound
        return random(shape, dtype, key) { range.lowerBound + width * $0 }
    }

    /// Normally distributed numbers; element i comes from the key's number at position i, in every floating type.
    public static func normal(
        _ shape: [Int], mean: Double = 0, deviation: Double = 1, key: RandomKey, dtype: DType = .float32
    ) -> Tensor {
        random(shape, dtype, key) { mean + deviation * normalQuantile($0) }
    }

    /// Numbers made from the key's uniform ones; element i from the number at position i.
    static func random(
        _ shape: [Int], _ dtype: DType, _ key: RandomKey, _ number: (Double) -> Double
    ) -> Tensor {
        let tensor = Tensor(uninitialized: shape, dtype)
        tensor.requireDifferentiableType("random")
        guard !ThreadState.isPlanning else { return tensor }
        let count = tensor.count
        func fill<Scalar: BinaryFloatingPoint>(_ target: UnsafeMutablePointer<Scalar>) {
            // Two numbers from each block of the generator.
            parallelFor((count + 1) / 2, grain: 2_048) { pairs in
                for pair in pairs {
                    let (first, second) = key.uniformPair(at: pair)
                    target[2 * pair] = Scalar(number(first))
                    if 2 * pair + 1 < count { target[2 * pair + 1] = Scalar(number(second)) }
                }
            }
        }
        tensor.write { target in
            if dtype == .float32 {
                fill(target.assumingMemoryBound(to: Float.self))
            } else {
                fill(target.assumingMemoryBound(to: Double.self))
            }
        }
        return tensor
    }
}

/// The point below which a standard normal variable falls with probability p in (0, 1).
///
/// Wichura's algorithm AS 241 (PPND16), relative error about 1e-16. Written with additions, products, quotients and
/// roots alone, which IEEE 754 fixes to the bit, so that every machine draws the same numbers.
func normalQuantile(_ p: Double) -> Double {
    let q = p - 0.5
    if abs(q) <= 0.425 {
        let r = 0.180625 - q * q
        return q
            * polynomial(
                r, 3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
                45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727)
            / polynomial(
                r, 1, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077, 21213.794301586595867,
                39307.895800092710610, 28729.085735721942674, 5226.4952788528545610)
    }
    let tail = q < 0 ? p : 1 - p
    var r = (-naturalLogarithm(tail)).squareRoot()
    let size: Double
    if r <= 5 {
        r -= 1.6
        size =
            polynomial(
                r, 1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
                1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4)
            / polynomial(
                r, 1, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550, 0.148103976427480074590,
                0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9)
    } else {
        r -= 5
        size =
            polynomial(
                r, 6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
                0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5,
                2.01033439929228813265e-7)
            / polynomial(
                r, 1, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
                7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7,
                2.04426310338993978564e-15)
    }
    return q < 0 ? -size : size
}

private func polynomial(
    _ x: Double, _ c0: Double, _ c1: Double, _ c2: Double, _ c3: Double, _ c4: Double, _ c5: Double, _ c6: Double,
    _ c7: Double
) -> Double {
    var sum = c7 * x + c6
    sum = sum * x + c5
    sum = sum * x + c4
    sum = sum * x + c3
    sum = sum * x + c2
    sum = sum * x + c1
    return sum * x + c0
}

/// log x for positive, normal x, from the series of artanh; the C library's may differ from machine to machine.
private func naturalLogarithm(_ x: Double) -> Double {
    var exponent = Double(x.exponent)
    var mantissa = x.significand
    if mantissa > 1.4142135623730951 {
        mantissa *= 0.5
        exponent += 1
    }
    let s = (mantissa - 1) / (mantissa + 1)
    let square = s * s
    var sum = 0.0
    for odd in stride(from: 23, through: 1, by: -2) { sum = sum * square + 1 / Double(odd) }
    return 2 * s * sum + exponent * 0.69314718055994530942
}
