import FoveaTensor

/// Which classes were taken for which: `counts[truth][answer]`.
public struct ConfusionMatrix: Sendable, Codable, Equatable {
    public private(set) var counts: [[Int]]

    public init(classes: Int) {
        counts = Array(repeating: Array(repeating: 0, count: classes), count: classes)
    }

    /// Counts the answers to one batch: logits [B, C] against labels [B], int64. Traps for another C, another B, and labels that
    /// are no class.
    public mutating func add(_ logits: Tensor, _ labels: Tensor) {
        let classes = counts.count
        guard logits.rank == 2, logits.shape[1] == classes, labels.shape == [logits.shape[0]],
            labels.scalars(as: Int64.self).allSatisfy({ (0..<Int64(classes)).contains($0) })
        else {
            trap(
                "ConfusionMatrix", "logits [B, \(classes)] and labels [B] from 0 to \(classes - 1) are needed", logits,
                labels)
        }
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
    /// The share of right answers; of numbers to match, the share of their variance that is explained.
    public var accuracy: Double
    public var samples: Int
    /// Without a class where the answers are numbers.
    public var confusion: ConfusionMatrix
    /// Of each type of questions that is asked; nil where there are no types.
    public var questions: [QuestionScore]?

    public init(loss: Double, accuracy: Double, samples: Int, confusion: ConfusionMatrix) {
        self.loss = loss
        self.accuracy = accuracy
        self.samples = samples
        self.confusion = confusion
    }
}

/// How well numbers are matched: the mean squared error, and the share of the variance that it leaves explained,
/// 1 − Σ (y − t)² / Σ (t − t̄)² with the mean t̄ of each number over the samples, and 0 where that is negative.
struct MatchCounter {
    private(set) var count = 0
    private var samples = 0
    private var error = 0.0
    private var squares = 0.0
    /// Σ t over the samples, one for each number.
    private var sums: [Double] = []

    /// Counts outputs [B, R, D] against what they are to match.
    mutating func add(_ outputs: Tensor, _ targets: Tensor) {
        withoutGradient {
            let (y, t) = (outputs.cast(to: .float64), targets.cast(to: .float64))
            error += (y - t).square().sum().item()
            squares += t.square().sum().item()
            let sum: [Double] = t.sum(axes: [0]).scalars()
            sums = sums.isEmpty ? sum : zip(sums, sum).map(+)
            count += t.count
            samples += t.shape[0]
        }
    }

    private var explained: Double {
        let variance = squares - sums.reduce(0) { $0 + $1 * $1 } / Double(max(1, samples))
        return variance > 0 ? max(0, 1 - error / variance) : 0
    }

    /// The share that is explained, as a number of answers.
    var explainedCount: Int { Int((explained * Double(count)).rounded()) }

    /// Nil where nothing was counted.
    var evaluation: Evaluation? {
        count == 0
            ? nil
            : Evaluation(
                loss: error / Double(count), accuracy: explained, samples: count, confusion: ConfusionMatrix(classes: 0)
            )
    }
}
