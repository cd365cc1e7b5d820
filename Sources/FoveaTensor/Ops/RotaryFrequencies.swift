#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// How fast the angles of rotary positions grow: one frequency for each pair of channels, in radians a position.
///
///     f_i = base^(−2i/d) for i in 0 ..< d/2,   and what `scaling` makes of it
public struct RotaryFrequencies: Sendable, Hashable {
    /// How models that were made for short texts read longer ones. (`modeling_rope_utils.py` of huggingface/transformers.)
    public enum Scaling: Sendable, Hashable {
        /// f / factor: positions lie closer together. (Chen et al., "Extending context window of large language models via
        /// positional interpolation", 2023.)
        case linear(factor: Double)
        /// As Llama 3.1 has it: f where a turn takes less than original / high positions, f / factor where it takes more than
        /// original / low, and between them a mixture that is linear in the turns that `original` positions make.
        case llama3(factor: Double, low: Double, high: Double, original: Double)
    }

    /// The base of the geometric series.
    public var base: Double
    public var scaling: Scaling?

    public init(base: Double = 10_000, scaling: Scaling? = nil) {
        self.base = base
        self.scaling = scaling
    }

    /// Of the pairs of d channels: [d / 2].
    func values(width: Int) -> [Double] {
        let half = width / 2
        return (0..<half).map { scaled(pow(base, -Double($0) / Double(half))) }
    }

    private func scaled(_ frequency: Double) -> Double {
        switch scaling {
        case nil: return frequency
        case .linear(let factor): return frequency / factor
        case .llama3(let factor, let low, let high, let original):
            let turns = original * frequency / (2 * Double.pi)
            let share = min(max((turns - low) / (high - low), 0), 1)
            return share * frequency + (1 - share) * frequency / factor
        }
    }
}
