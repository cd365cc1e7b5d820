// MARK: dropout

extension Op {
    public static let dropout = Op("dropout", "elements set to zero at random, the others scaled up") {
        [
            OpSample("half", [$0.uniform([4, 7])]) { $0[0].droppingOut(0.5, key: RandomKey(seed: 3)) },
            OpSample("none", [$0.uniform([4])]) { $0[0].droppingOut(0, key: RandomKey(seed: 3)) },
        ]
    }
}

extension Tensor {
    /// Each element becomes 0 with probability `rate` and x / (1 − rate) otherwise; which ones depends on the key alone.
    /// (Srivastava et al., "Dropout", 2014.) Traps unless 0 ≤ rate < 1.
    public func droppingOut(_ rate: Double, key: RandomKey) -> Tensor {
        guard rate >= 0, rate < 1 else { trap("dropout", "the rate must be in 0 ..< 1, not \(rate)", self) }
        guard rate > 0 else { return self }
        let mask = Tensor.random(shape, dtype) { key.uniform(at: $0) < rate ? 0 : 1 / (1 - rate) }
        return withoutGradient { self * mask }.derived(by: .dropout, from: self) { g in g * mask }
    }
}
