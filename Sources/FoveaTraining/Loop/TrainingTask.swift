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

    /// The mean loss of a part, and how many of its answers were right: one a sample, or one for each thing to read in it.
    func loss(_ model: Model, _ batch: Batch) -> (loss: Tensor, right: Int, samples: Int)

    /// How the model does on the validation samples; nil when none are held out.
    func validate(_ model: Model) -> Evaluation?
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

    public func loss(_ model: Model, _ batch: LabelledImages) -> (loss: Tensor, right: Int, samples: Int) {
        guard !batch.asksForNumbers else {
            let outputs = model(batch.images)
            var match = MatchCounter()
            match.add(outputs, batch.labels)
            return (meanSquaredError(outputs, batch.labels), match.explainedCount, match.count)
        }
        let (logits, labels) = (model.readings(batch.images), batch.labels.flattened())
        let right = withoutGradient {
            zip(logits.argmax(axis: -1).scalars(as: Int64.self), labels.scalars(as: Int64.self)).count { $0 == $1 }
        }
        return (crossEntropy(logits, labels, labelSmoothing: labelSmoothing), right, labels.count)
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
        var confusion: ConfusionMatrix?
        var match = MatchCounter()
        for batch in images.batches(of: batchSize) {
            guard !batch.asksForNumbers else {
                match.add(model(batch.images), batch.labels)
                continue
            }
            let (logits, labels) = (model.readings(batch.images), batch.labels.flattened())
            loss += crossEntropy(logits, labels).item() * Double(labels.count)
            if confusion == nil { confusion = ConfusionMatrix(classes: logits.shape[1]) }
            confusion?.add(logits, labels)
        }
        if let evaluation = match.evaluation { return evaluation }
        let counted = confusion ?? ConfusionMatrix(classes: 0)
        return Evaluation(
            loss: counted.total == 0 ? 0 : loss / Double(counted.total), accuracy: counted.accuracy,
            samples: counted.total, confusion: counted)
    }
}
