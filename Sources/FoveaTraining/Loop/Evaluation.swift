import FoveaTensor

/// Which classes were taken for which: `counts[truth][answer]`.
public struct ConfusionMatrix: Sendable, Codable, Equatable {
    public private(set) var counts: [[Int]]

    public init(classes: Int) {
        counts = Array(repeating: Array(repeating: 0, count: classes), count: classes)
    }

    /// Counts the answers to one batch: logits [B, C] against labels [B], int64.
    public mutating func add(_ logits: Tensor, _ labels: Tensor) {
        let answers: [Int64] = logits.argmax(axis: -1).scalars()
        for (truth, answer) in zip(labels.scalars(as: Int64.self), answers) { counts[Int(truth)][Int(answer)] += 1 }
    }

    /// How many samples were counted.
    public var total: Int { counts.reduce(0) { $0 + $1.reduce(0, +) } }

    /// The share of right answers, 0 of none.
    public var accuracy: Double {
        total == 0 ? 0 : Double(counts.indices.reduce(0) { $0 + counts[$1][$1] }) / Double(total)
    }
}

/// What a model does on samples that it is not trained on at that moment.
public struct Evaluation: Sendable, Codable, Equatable {
    /// The mean loss.
    public var loss: Double
    /// The share of right answers.
    public var accuracy: Double
    public var samples: Int
    public var confusion: ConfusionMatrix

    public init(loss: Double, accuracy: Double, samples: Int, confusion: ConfusionMatrix) {
        self.loss = loss
        self.accuracy = accuracy
        self.samples = samples
        self.confusion = confusion
    }
}
