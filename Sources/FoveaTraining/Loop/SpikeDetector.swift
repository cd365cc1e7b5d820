import Foundation

/// Notices a loss or a gradient norm far above what it has been.
///
/// Both are spread over orders of magnitude, gradient norms above all when a run is nearly done, so that logarithms are
/// compared. Of each quantity's it follows mean and variance with exponential weights, 1/50 for the newest value. A spike
/// lies more than so many standard deviations above the mean, of which each counts as at least a tenth: a loss that
/// hardly moves is no reason to cry out at a small change. A spike itself counts for the mean as the largest value that is
/// none, so that a second one is noticed too.
struct SpikeDetector: Sendable, Codable, Equatable {
    /// Values before the first that can be called a spike.
    private static let warmup = 20
    private static let weight = 1.0 / 50
    private static let leastDeviation = 0.1

    private struct Running: Codable, Equatable {
        var count = 0
        var mean = 0.0
        var variance = 0.0
    }

    private var running: [String: Running] = [:]

    /// Takes a value.
    ///
    /// - Parameters:
    ///   - value: the value; one that is not finite, or not above zero, is passed over.
    ///   - quantity: what it is a value of.
    ///   - limit: standard deviations that make a spike.
    /// - Returns: the geometric mean so far when the value is a spike, nil otherwise.
    mutating func add(_ value: Double, of quantity: String, limit: Double) -> Double? {
        guard value.isFinite, value > 0 else { return nil }
        let value = log(value)
        var known = running[quantity] ?? Running()
        defer { running[quantity] = known }
        let deviation = max(known.variance.squareRoot(), SpikeDetector.leastDeviation)
        let highest = known.mean + limit * deviation
        let isSpike = known.count >= SpikeDetector.warmup && value > highest
        let usual = exp(known.mean)
        // An ordinary mean at first, until its weights are as small as the later ones.
        let weight = max(SpikeDetector.weight, 1 / Double(known.count + 1))
        let distance = (isSpike ? highest : value) - known.mean
        known.mean += weight * distance
        known.variance = (1 - weight) * (known.variance + weight * distance * distance)
        known.count = min(known.count + 1, SpikeDetector.warmup + Int(1 / SpikeDetector.weight))
        return isSpike ? usual : nil
    }
}
