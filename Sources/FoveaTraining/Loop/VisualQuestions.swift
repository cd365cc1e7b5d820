import FoveaNN
import FoveaTensor

/// How a model does on the questions of one type.
public struct QuestionScore: Sendable, Codable, Equatable {
    public var type: String
    public var asked: Int
    public var right: Int
    /// The interval that the true share of right answers lies in with a probability of 95 %.
    public var lower: Double
    public var upper: Double

    /// The share of right answers, 0 of none.
    public var accuracy: Double { asked == 0 ? 0 : Double(right) / Double(asked) }

    /// Wilson's interval. Questions about one sample tend to be right or wrong together: where the counts vary more from
    /// sample to sample than those of independent questions, as many questions fewer are counted.
    ///
    /// - Parameters:
    ///   - type: its name.
    ///   - samples: how many were asked and how many answers were right, for each sample.
    public init(type: String, samples: [(asked: Int, right: Int)]) {
        self.type = type
        asked = samples.reduce(0) { $0 + $1.asked }
        right = samples.reduce(0) { $0 + $1.right }
        guard asked > 0 else {
            (lower, upper) = (0, 1)
            return
        }
        let share = Double(right) / Double(asked)
        let independent = share * (1 - share) * Double(asked)
        let together = samples.reduce(0.0) { sum, sample in
            let excess = Double(sample.right) - share * Double(sample.asked)
            return sum + excess * excess
        }
        let count = Double(asked) / (independent > 0 ? max(1, together / independent) : 1)
        let z = 1.959963984540054
        let middle = (share + z * z / (2 * count)) / (1 + z * z / count)
        let reach =
            z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)).squareRoot()
        (lower, upper) = (max(0, middle - reach), min(1, middle + reach))
    }
}

/// Questions about pictures, each with one right word.
public struct VisualQuestions<Model: QuestionAnswerer>: TrainingTask {
    private let training: any Dataset<PackedQuestions>
    private let validation: (any Dataset<PackedQuestions>)?
    private let order: BatchOrder
    private let labelSmoothing: Double

    /// - Parameters:
    ///   - training: samples to train on.
    ///   - validation: samples to choose settings by; nil when there are none.
    ///   - batchSize: samples in the batch of one step.
    ///   - labelSmoothing: the share of the training target that is spread evenly over all words.
    ///   - key: of the order of the samples and of what is drawn.
    public init(
        training: any Dataset<PackedQuestions>, validation: (any Dataset<PackedQuestions>)?, batchSize: Int,
        labelSmoothing: Double = 0, key: RandomKey
    ) {
        self.training = training
        self.validation = validation
        self.labelSmoothing = labelSmoothing
        order = BatchOrder(count: training.count, batchSize: batchSize, key: key)
    }

    public var batchSize: Int { order.batchSize }

    public func batch(at step: Int, part: Int, of parts: Int) -> PackedQuestions {
        order.batch(of: training, at: step, part: part, of: parts)
    }

    public func loss(_ model: Model, _ batch: PackedQuestions) -> TaskLoss {
        let (logits, losses) = model.answering(batch)
        let answers = answers(logits, batch).filter { $0 != nil }
        return TaskLoss(
            crossEntropy(logits, batch.labels, labelSmoothing: labelSmoothing), right: answers.count { $0 == true },
            samples: answers.count, adding: losses)
    }

    public func validate(_ model: Model) -> Evaluation? {
        validation.map { evaluate(model, on: $0) }
    }
}

/// Which answers are right, [B · A]; nil for questions that a sample lacks.
private func answers(_ logits: Tensor, _ batch: PackedQuestions) -> [Bool?] {
    withoutGradient {
        zip(logits.argmax(axis: -1).scalars(as: Int64.self), batch.labels.scalars(as: Int64.self))
            .map { $1 < 0 ? nil : $0 == $1 }
    }
}

/// How a model answers all questions of a dataset, without augmentation. There is no confusion matrix: scores by type tell more.
///
/// - Parameters:
///   - model: what answers.
///   - questions: what is asked.
///   - types: the names of the types by their number; those that are not asked are left out. Without names there are no
///     scores by type.
///   - batchSize: samples at once.
public func evaluate(
    _ model: some QuestionAnswerer, on questions: some Dataset<PackedQuestions>, types: [String] = [],
    batchSize: Int = 32
) -> Evaluation {
    var (loss, asked, right) = (0.0, 0, 0)
    var samples = types.map { _ in [(asked: Int, right: Int)]() }
    withoutGradient {
        for batch in questions.batches(of: batchSize) {
            let logits = model(batch)
            let all = answers(logits, batch)
            let found = all.compactMap(\.self)
            loss += crossEntropy(logits, batch.labels).item() * Double(found.count)
            asked += found.count
            right += found.count { $0 }
            guard !types.isEmpty else { continue }
            let slots = batch.labels.shape[1]
            let numbers = batch.types.scalars(as: Int64.self)
            for row in 0..<batch.labels.shape[0] {
                var counts = types.map { _ in (asked: 0, right: 0) }
                for slot in row * slots..<(row + 1) * slots {
                    guard let isRight = all[slot] else { continue }
                    counts[Int(numbers[slot])].asked += 1
                    counts[Int(numbers[slot])].right += isRight ? 1 : 0
                }
                for (type, count) in counts.enumerated() where count.asked > 0 { samples[type].append(count) }
            }
        }
    }
    var evaluation = Evaluation(
        loss: asked == 0 ? 0 : loss / Double(asked), accuracy: asked == 0 ? 0 : Double(right) / Double(asked),
        samples: asked, confusion: ConfusionMatrix(classes: 0))
    if !types.isEmpty {
        evaluation.questions = zip(types, samples).filter { !$1.isEmpty }.map { QuestionScore(type: $0, samples: $1) }
    }
    return evaluation
}
