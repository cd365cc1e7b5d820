import Foundation
import FoveaTestSupport
import Testing

@testable import FoveaTensor

/// Philox 4×32-10, written from the paper's definition with products of full width.
private func philox(
    counter: (UInt32, UInt32, UInt32, UInt32), key: (UInt32, UInt32)
) -> (UInt32, UInt32, UInt32, UInt32) {
    var (c, k) = (counter, key)
    for round in 0..<10 {
        if round > 0 { k = (k.0 &+ 0x9E37_79B9, k.1 &+ 0xBB67_AE85) }
        let even = c.0.multipliedFullWidth(by: 0xD251_1F53)
        let odd = c.2.multipliedFullWidth(by: 0xCD9E_8D57)
        c = (odd.high ^ c.1 ^ k.0, odd.low, even.high ^ c.3 ^ k.1, even.low)
    }
    return c
}

/// A key of given bits, which its coding lets through.
private func key(bits: UInt64) throws -> RandomKey {
    try JSONDecoder().decode(RandomKey.self, from: Data("{\"bits\": \(bits)}".utf8))
}

@Suite("Random numbers")
struct RandomTests {
    @Test("come from Philox 4×32-10")
    func philoxVectors() throws {
        // The known answers of Random123 (Salmon et al.), kat_vectors, philox4x32 with 10 rounds.
        typealias Four = (UInt32, UInt32, UInt32, UInt32)
        let known: [(counter: Four, key: (UInt32, UInt32), result: Four)] = [
            ((0, 0, 0, 0), (0, 0), (0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8)),
            (
                (.max, .max, .max, .max), (.max, .max), (0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD)
            ),
            (
                (0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344), (0xA409_3822, 0x299F_31D0),
                (0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1)
            ),
        ]
        for answer in known {
            #expect(philox(counter: answer.counter, key: answer.key) == answer.result)
        }
        // The first of them straight from the library, whose blocks start at counter 0 with two zero words.
        let zero = try key(bits: 0)
        #expect(zero.bits(at: 0) == 0x6627_E8D5_E169_C58D)
        #expect(zero.bits(at: 1) == 0xBC57_AC4C_9B00_DBD8)
        // And the others' structure: words of the key and of the counter, pairs of words, the lane of folding.
        for bits in [0, 1, 0x1_0000_0000, 0x299F_31D0_A409_3822, UInt64.max] {
            let key = try key(bits: bits)
            let words = (UInt32(truncatingIfNeeded: bits), UInt32(truncatingIfNeeded: bits >> 32))
            for position in [0, 1, 2, 3, 1000, 1001, 0x1_2345_6789_ABCD, Int.max - 1, Int.max] {
                let block = UInt64(position >> 1)
                let counter = (UInt32(truncatingIfNeeded: block), UInt32(truncatingIfNeeded: block >> 32))
                let (a, b, c, d) = philox(counter: (counter.0, counter.1, 0, 0), key: words)
                let pair = position % 2 == 0 ? (a, b) : (c, d)
                #expect(key.bits(at: position) == UInt64(pair.0) << 32 | UInt64(pair.1), "\(bits), \(position)")
                let value = UInt64(position)
                let fold = (UInt32(truncatingIfNeeded: value), UInt32(truncatingIfNeeded: value >> 32))
                let child = philox(counter: (fold.0, fold.1, 1, 0), key: words)
                #expect(key.folding(value) == (try self.child(child.0, child.1)))
                // What dropout draws: four words a block, in a lane of their own.
                let group = philox(counter: (fold.0, fold.1, 2, 0), key: words)
                #expect(key.words(inGroup: position) == group, "\(bits), \(position)")
            }
        }
    }

    private func child(_ high: UInt32, _ low: UInt32) throws -> RandomKey {
        try key(bits: UInt64(high) << 32 | UInt64(low))
    }

    @Test("stay what they are")
    func pinned() {
        // Not from a publication: the numbers of this library, pinned, because a saved run must go on with them.
        let seeds: [(UInt64, [UInt64])] = [
            (0, [0x2CD2_9AD7_2C0D_CF76, 0xAE9F_9587_A269_ACCE, 0x0C6F_C369_6151_A31E]),
            (1, [0xE8E0_F727_0321_6310, 0xC08B_C839_8F6D_A255, 0x9BE5_8387_C3A5_0BC2]),
            (42, [0x0FC8_0DB4_F1C1_041D, 0x9944_3D71_9DA9_488F, 0x8EDD_45AA_FA90_F333]),
        ]
        for (seed, bits) in seeds {
            #expect((0..<3).map { RandomKey(seed: seed).bits(at: $0) } == bits, "seed \(seed)")
        }
        #expect(RandomKey(seed: 0).folding("encoder.weight").bits(at: 0) == 0x5AB0_1BA8_E70F_96E2)
        let normal = Tensor.normal([3], key: RandomKey(seed: 0), dtype: .float64)
        expectClose(normal, Tensor([-0.9342457332987059, 0.4736424767583121, -1.6587769533211378]), tolerance: 0)
        #expect(RandomKey(seed: 0).permutation(of: 8) == [4, 6, 3, 0, 2, 5, 7, 1])
    }

    @Test("have exact normal quantiles")
    func quantiles() {
        // From tables of the standard normal distribution, to all digits of a double.
        let known: [(p: Double, x: Double)] = [
            (0.5, 0), (0.975, 1.959963984540054), (0.025, -1.959963984540054), (0.95, 1.6448536269514722),
            (0.8413447460685429, 1), (1e-10, -6.361340902404056), (1e-5, -4.264890793922825),
            (0.075, -1.4395314709384563), (0.925, 1.4395314709384563), (1e-20, -9.262340089798408),
            (1e-300, -37.0471),
        ]
        for (p, x) in known {
            let tolerance = p == 1e-300 ? 1e-6 : 1e-14
            #expect(abs(normalQuantile(p) - x) <= tolerance * max(1, abs(x)), "quantile of \(p): \(normalQuantile(p))")
        }
        // Its inverse is the distribution function, over the whole range and across the seams of the approximations.
        for step in 1..<2000 {
            let p = Double(step) / 2000
            let back = 0.5 * erfc(-normalQuantile(p) / 2.0.squareRoot())
            #expect(abs(back - p) <= 4e-16, "\(p) comes back as \(back)")
        }
        for exponent in 4..<300 {
            let p = pow(10, -Double(exponent))
            let back = 0.5 * erfc(-normalQuantile(p) / 2.0.squareRoot())
            // The tail's slope multiplies an error of x by about x² ≤ 1400.
            #expect(abs(back / p - 1) <= 2e-12, "\(p) comes back as \(back)")
        }
    }

    @Test("are the same in float32 and float64, up to rounding")
    func types() {
        let key = RandomKey(seed: 2)
        for draw in [
            { @Sendable in Tensor.uniform([10_001], in: -3...5, key: key, dtype: $0) },
            { @Sendable in Tensor.normal([101, 99], mean: 2, deviation: 3, key: key, dtype: $0) },
        ] as [@Sendable (DType) -> Tensor] {
            expectSameBits(draw(.float32), draw(.float64).cast(to: .float32))
        }
    }

    @Test("depend on the position alone, not on the shape")
    func positions() {
        let key = RandomKey(seed: 3)
        let long = Tensor.normal([9_001], key: key)
        expectSameBits(Tensor.normal([90, 100], key: key).reshaped(to: [9_000]), long.sliced(axis: 0, 0..<9_000))
        expectSameBits(Tensor.normal([9_001], key: key), long)
        let numbers: [Float] = long.scalars()
        for position in [0, 1, 4_095, 4_096, 9_000] {
            let expected = Float(normalQuantile(key.uniform(at: position)))
            let found = numbers[position]
            #expect(found == expected, "position \(position)")
        }
    }

    @Test("lie strictly between 0 and 1, and below the bound")
    func ranges() throws {
        // The smallest and the largest there can be: all bits 0, and all 1.
        let count = 20_000
        let key = RandomKey(seed: 4)
        var seen = [Int](repeating: 0, count: 7)
        for position in 0..<count {
            let number = key.uniform(at: position)
            #expect(number > 0 && number < 1)
            seen[key.integer(below: 7, at: position)] += 1
        }
        // Six deviations of a count with p = 1/7: ±297.
        for number in seen { #expect(abs(Double(number) - Double(count) / 7) < 297, "\(seen)") }
        #expect((0..<50).allSatisfy { key.integer(below: 1, at: $0) == 0 })
        let range = Tensor.uniform([count], in: 2...3, key: key)
        let outside = doubles(of: range).count { !(2...3).contains($0) }
        #expect(outside == 0)
    }

    @Test("have the moments of their distribution")
    func moments() {
        let count = 100_000
        func moment(_ values: [Double], _ power: Int) -> Double {
            values.reduce(0) { $0 + pow($1, Double(power)) } / Double(values.count)
        }
        for seed in 0..<3 as Range<UInt64> {
            // Six deviations of each mean: √(variance of xᵏ / n) · 6.
            let normal = doubles(of: .normal([count], key: RandomKey(seed: seed), dtype: .float64))
            for (power, expected, limit) in [(1, 0.0, 0.019), (2, 1, 0.027), (3, 0, 0.074), (4, 3, 0.186)] {
                let found = moment(normal, power)
                #expect(abs(found - expected) < limit, "normal, power \(power), seed \(seed)")
            }
            let uniform = doubles(of: .uniform([count], key: RandomKey(seed: seed), dtype: .float64))
            for (power, expected, limit) in [(1, 0.5, 0.0055), (2, 1 / 3.0, 0.0057)] {
                let found = moment(uniform, power)
                #expect(abs(found - expected) < limit, "uniform, power \(power), seed \(seed)")
            }
            // Neighbours, which share a block of Philox, and streams of one key do not go together.
            let neighbours = moment(zip(normal, normal.dropFirst()).map { $0 * $1 }, 1)
            #expect(abs(neighbours) < 0.019)
            let other = doubles(of: .normal([count], key: RandomKey(seed: seed).folding(1), dtype: .float64))
            let streams = moment(zip(normal, other).map { $0 * $1 }, 1)
            #expect(abs(streams) < 0.019)
        }
        let shifted = doubles(of: .normal([count], mean: 2, deviation: 0.5, key: RandomKey(seed: 9), dtype: .float64))
        let mean = moment(shifted, 1)
        #expect(abs(mean - 2) < 0.0095)
    }

    @Test("order as permutations")
    func permutations() {
        var counts: [[Int]: Int] = [:]
        for seed in 0..<6_000 as Range<UInt64> { counts[RandomKey(seed: seed).permutation(of: 3), default: 0] += 1 }
        #expect(counts.count == 6)
        // 1000 of each are expected; six deviations are 173.
        for (order, count) in counts { #expect(abs(count - 1000) < 173, "\(order) came \(count) times") }
        for count in [0, 1, 2, 5, 100] {
            let order = RandomKey(seed: 1).permutation(of: count)
            #expect(order.sorted() == Array(0..<count))
            #expect(order == RandomKey(seed: 1).permutation(of: count))
        }
        #expect(RandomKey(seed: 1).permutation(of: 100) != RandomKey(seed: 2).permutation(of: 100))
    }

    @Test("come in different streams from different keys")
    func streams() throws {
        let root = RandomKey(seed: 0)
        var keys: [RandomKey] = [root]
        for value in 0..<100 as Range<UInt64> {
            keys += [root.folding(value), RandomKey(seed: value + 1), root.folding(1).folding(value)]
            keys.append(root.folding("layer.\(value)"))
        }
        #expect(Set(keys).count == keys.count)
        #expect(Set(keys.map { $0.bits(at: 0) }).count == keys.count)
        #expect(root.folding(1).folding(2) != root.folding(2).folding(1))
        #expect(root.folding("a") == root.folding("a"))
        #expect(root.folding("a") != root.folding("b"))
        // A key survives being saved.
        let coded = try JSONDecoder().decode(RandomKey.self, from: JSONEncoder().encode(keys[7]))
        #expect(coded == keys[7])
    }

    @Test("drop out about the share that is asked for, and scale what stays")
    func dropout() {
        let x = Tensor.ones([100_000], dtype: .float64)
        for rate in [0.1, 0.5, 0.9] {
            let y = doubles(of: x.droppingOut(rate, key: RandomKey(seed: 5)))
            let others = y.count { $0 != 0 && $0 != 1 / (1 - rate) }
            #expect(others == 0)
            // Six deviations of a share are at most 0.0095.
            let share = Double(y.count { $0 == 0 }) / Double(y.count)
            #expect(abs(share - rate) < 0.0095)
        }
        expectSameBits(
            x.droppingOut(0.5, key: RandomKey(seed: 5)), x.droppingOut(0.5, key: RandomKey(seed: 5)))
    }
}
