import FoveaTensor

/// A loss or a gradient that is not a number, or infinite.
public struct NotFiniteError: Error, Sendable, CustomStringConvertible {
    /// The step, counted from 1.
    public let step: Int
    public let quantity: String
    public let value: Double
    /// The samples of the step's batch, by their places in the dataset; empty where the task does not tell.
    public let samples: [Int]
    /// Where the first value that is not finite came up when the step was computed again.
    public let origin: Anomaly?

    public var description: String {
        "\(summary)\(batch)\(origin.map { "; \($0)" } ?? ""); a lower training.learningRate or training.clipNorm may "
            + "help, and training.onNonFinite: skip passes over such steps"
    }

    /// Which step, and what of it.
    var summary: String {
        quantity.isEmpty ? "step \(step): a value is not finite" : "step \(step): the \(quantity) is \(value)"
    }

    private var batch: String {
        guard !samples.isEmpty else { return "" }
        let first = samples.prefix(16).map(String.init).joined(separator: ", ")
        return " (samples \(first)\(samples.count > 16 ? " and \(samples.count - 16) more" : ""))"
    }
}

/// What a run does with a step whose loss or gradient norm is NaN or infinite.
public enum NonFinitePolicy: String, Sendable, CaseIterable {
    /// It ends, with the weights as they were before the step.
    case stop
    /// It leaves the step out: weights, moments and average stay as they were, and the next batch follows.
    case skip
}
