// MARK: dropout

extension Op {
    public static let dropout = Op("dropout", "elements set to zero at random, the others scaled up", linearIn: [0]) {
        [
            OpSample("half", [$0.uniform([4, 7])]) { $0[0].droppingOut(0.5, key: RandomKey(seed: 3)) },
            OpSample("none", [$0.uniform([4])]) { $0[0].droppingOut(0, key: RandomKey(seed: 3)) },
        ]
    }
}

extension Tensor {
    /// Each element becomes 0 with probability `rate` and x / (1 − rate) otherwise; which ones depends on the key alone.
    /// (Srivastava et al., "Dropout", 2014.) Traps unless 0 ≤ rate < 1, and on types that do not compute.
    public func droppingOut(_ rate: Double, key: RandomKey) -> Tensor {
        requireDifferentiableType("dropout")
        guard rate >= 0, rate < 1 else { trap("dropout", "the rate must be in 0 ..< 1, not \(rate)", self) }
        guard rate > 0 else { return self }
        let mask = Tensor.dropoutMask(shape, dtype, rate, key)
        return withoutGradient { self * mask }.derived(by: .dropout, from: self) { g in g * mask }
    }

    /// Elements are dropped whose word of the key is below this: the rate, rounded to a multiple of 2⁻³².
    static func dropoutThreshold(_ rate: Double) -> UInt32 { UInt32(rate * 0x1p32) }

    /// 0 with probability `rate`, else 1 / (1 − rate).
    private static func dropoutMask(_ shape: [Int], _ dtype: DType, _ rate: Double, _ key: RandomKey) -> Tensor {
        let mask = Tensor(uninitialized: shape, dtype)
        let threshold = dropoutThreshold(rate)
        let count = mask.count
        func fill<Scalar: BinaryFloatingPoint>(_ target: UnsafeMutablePointer<Scalar>) {
            let kept = Scalar(1 / (1 - rate))
            parallelFor((count + 3) / 4, grain: 2_048) { groups in
                for group in groups {
                    let words = key.words(inGroup: group)
                    let four = (
                        words.0 < threshold ? 0 : kept, words.1 < threshold ? 0 : kept,
                        words.2 < threshold ? 0 : kept, words.3 < threshold ? 0 : kept
                    )
                    let at = 4 * group
                    target[at] = four.0
                    if at + 1 < count { target[at + 1] = four.1 }
                    if at + 2 < count { target[at + 2] = four.2 }
                    if at + 3 < count { target[at + 3] = four.3 }
                }
            }
        }
        mask.write { target in
            if dtype == .float32 {
                fill(target.assumingMemoryBound(to: Float.self))
            } else {
                fill(target.assumingMemoryBound(to: Double.self))
            }
        }
        return mask
    }
}
