import FoveaNN
import FoveaTensor

/// What is trained, on what, and how it is judged.
public protocol TrainingTask: Sendable {
    associatedtype Model: Module
    associatedtype Batch: Sendable

    /// Samples in the batch of one step.
    var batchSize: Int { get }

    /// Part `part` of `parts` of the batch of a step, samples ⌊B·part / parts⌋ ..< ⌊B·(part + 1) / parts⌋ of its B; a function
    /// of its arguments alone.
    func batch(at step: Int, part: Int, of parts: Int) -> Batch

    /// The samples of a step's batch by their places in the dataset, for messages; empty where there are no such places.
    func samples(at step: Int) -> [Int]

    /// What a model makes of a part.
    func loss(_ model: Model, _ batch: Batch) -> TaskLoss

    /// How the model does on the validation samples; nil when none are held out.
    func validate(_ model: Model) -> Evaluation?
}

/// The loss of a part of a batch, and what else is to be told of it.
public struct TaskLoss: Sendable {
    /// What is minimised, one number: the mean loss of the part, and whatever was added to it.
    public var loss: Tensor
    /// How many answers were right: one a sample, or one for each thing to read in it.
    public var right: Int
    /// How many answers there were.
    public var samples: Int
    /// What was added, before it was weighed.
    public var auxiliary: [String: Double]

    /// - Parameters:
    ///   - loss: of the task, one number.
    ///   - right: how many answers were right.
    ///   - samples: of how many.
    ///   - losses: what parts of the model want besides; they are added to the loss.
    public init(_ loss: Tensor, right: Int, samples: Int, adding losses: [AuxiliaryLoss] = []) {
        self.loss = losses.reduce(loss) { $0 + $1.value.reshaped(to: loss.shape) * $1.weight }
        self.right = right
        self.samples = samples
        auxiliary = losses.reduce(into: [:]) { $0[$1.name, default: 0] += $1.value.detached.item() }
    }
}

extension TrainingTask {
    public func samples(at step: Int) -> [Int] { [] }
}

/// Pictures with one right class each, or one for each thing to read in them; or with numbers to match, by the mean squared
/// error.
public struct ImageClassification<Model: ImageClassifier>: TrainingTask {
    private let training: any Dataset<LabelledImages>
    private let validation: (any Dataset<LabelledImages>)?
    private let order: BatchOrder
    private let labelSmoothing: Double

    /// - Parameters:
    ///   - training: samples to train on.
    ///   - validation: samples to choose settings by; nil when they are trained on.
    ///   - batchSize: samples in the batch of one step; all of them where there are fewer.
    ///   - labelSmoothing: the share of the training target that is spread evenly over all classes.
    ///   - key: of the order of the samples and of their augmentation.
    public init(
        training: any Dataset<LabelledImages>, validation: (any Dataset<LabelledImages>)?, batchSize: Int,
        labelSmoothing: Double = 0, key: RandomKey
    ) {
        self.training = training
        self.validation = validation
        self.labelSmoothing = labelSmoothing
        order = BatchOrder(count: training.count, batchSize: batchSize, key: key)
    }

    public var batchSize: Int { order.batchSize }

    public func batch(at step: Int, part: Int, of parts: Int) -> LabelledImages {
        order.batch(of: training, at: step, part: part, of: parts)
    }

    public func samples(at step: Int) -> [Int] { order.indices(at: step) }

    public func loss(_ model: Model, _ batch: LabelledImages) -> TaskLoss {
        guard !batch.asksForNumbers else {
            let outputs = model(batch.images)
            var match = MatchCounter()
            match.add(outputs, batch.labels)
            return TaskLoss(
                meanSquaredError(outputs, batch.labels), right: match.explainedCount, samples: match.count)
        }
        let (logits, labels) = (model.readings(batch.images), batch.labels.flattened())
        let right = withoutGradient {
            zip(logits.argmax(axis: -1).scalars(as: Int64.self), labels.scalars(as: Int64.self)).count { $0 == $1 }
        }
        return TaskLoss(
            crossEntropy(logits, labels, labelSmoothing: labelSmoothing), right: right, samples: labels.count)
    }

    public func validate(_ model: Model) -> Evaluation? {
        validation.map { evaluate(model, on: $0) }
    }
}

extension ImageClassifier {
    /// Pictures [B, …] → logits [B · K, classes], a row for each thing that is read.
    fileprivate func readings(_ images: Tensor) -> Tensor {
        let logits = self(images)
        return logits.flattened(from: 0, to: logits.rank - 2)
    }
}

/// How a classifier does on all samples of a dataset, without augmentation.
public func evaluate(
    _ model: some ImageClassifier, on images: some Dataset<LabelledImages>, batchSize: Int = 256
) -> Evaluation {
    withoutGradient {
        var loss = 0.0
        var (right, count) = (0, 0)
        var confusion: ConfusionMatrix?
        var match = MatchCounter()
        for batch in images.batches(of: batchSize) {
            guard !batch.asksForNumbers else {
                match.add(model(batch.images), batch.labels)
                continue
            }
            let (logits, labels) = (model.readings(batch.images), batch.labels.flattened())
            loss += crossEntropy(logits, labels).item() * Double(labels.count)
            // Of more classes nobody reads it, and it takes their square.
            if confusion == nil, logits.shape[1] <= 1_000 { confusion = ConfusionMatrix(classes: logits.shape[1]) }
            confusion?.add(logits, labels)
            right += (logits.argmax(axis: -1) .== labels).scalars(as: Bool.self).count { $0 }
            count += labels.count
        }
        if let evaluation = match.evaluation { return evaluation }
        return Evaluation(
            loss: count == 0 ? 0 : loss / Double(count), accuracy: count == 0 ? 0 : Double(right) / Double(count),
            samples: count, confusion: confusion ?? ConfusionMatrix(classes: 0))
    }
}
