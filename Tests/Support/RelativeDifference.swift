import FoveaTensor

/// max|got − want| / (1e-3 + max|want|), the measure of the parity cases; infinite for another shape and for NaN.
public func relativeDifference(_ got: Tensor?, _ want: Tensor) -> Double {
    guard let got, got.shape == want.shape else { return .infinity }
    let (gotValues, wantValues) = (doubles(of: got), doubles(of: want))
    let distance = zip(gotValues, wantValues).reduce(0.0) { largest, pair in
        let distance = abs(pair.0 - pair.1)
        return distance.isNaN ? .infinity : max(largest, distance)
    }
    return distance / (1e-3 + (wantValues.map(abs).max() ?? 0))
}
