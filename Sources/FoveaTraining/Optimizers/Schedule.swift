#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A learning rate as a function of the step.
///
/// A warm-up of w steps rises in a straight line: step s of it has (s + 1) / w of the peak.
public struct Schedule: Sendable, Equatable {
    private enum Shape: Sendable, Equatable { case constant, linear, cosine }
    private let shape: Shape
    private let peak: Double
    private let warmup: Int
    private let total: Int
    private let floor: Double

    private init(_ shape: Shape, _ peak: Double, _ warmup: Int, _ total: Int, _ floor: Double) {
        self.shape = shape
        self.peak = peak
        self.warmup = warmup
        self.total = total
        self.floor = floor
    }

    /// The same rate at every step after the warm-up.
    public static func constant(_ rate: Double, warmup: Int = 0) -> Schedule {
        Schedule(.constant, rate, warmup, 0, 1)
    }

    /// Down in a straight line from the peak to `floor` times the peak at step `total`.
    public static func warmupLinear(peak: Double, warmup: Int, total: Int, floor: Double = 0) -> Schedule {
        Schedule(.linear, peak, warmup, total, floor)
    }

    /// Down along half a cosine from the peak to `floor` times the peak at step `total`.
    /// (Loshchilov and Hutter, "SGDR", 2017, without restarts.)
    public static func warmupCosine(peak: Double, warmup: Int, total: Int, floor: Double = 0) -> Schedule {
        Schedule(.cosine, peak, warmup, total, floor)
    }

    /// The rate of step `step`, counted from 0.
    public func rate(at step: Int) -> Double {
        if step < warmup { return peak * Double(step + 1) / Double(warmup) }
        let progress = min(1, Double(step - warmup) / Double(max(1, total - warmup)))
        switch shape {
        case .constant: return peak
        case .linear: return peak * (1 - (1 - floor) * progress)
        case .cosine: return peak * (floor + (1 - floor) * (1 + cos(Double.pi * progress)) / 2)
        }
    }
}
