import FoveaTensor

/// Pictures with questions, packed so that each picture is encoded once for all that is asked about it.
///
/// All questions about a sample stand in one sequence, one after another. A question sees the pictures and itself alone,
/// and its positions start from 0: what is answered does not depend on what else is asked.
public struct PackedQuestions: Sendable {
    /// [B, P, channels, height, width], float32 in 0 … 1; pictures that a sample lacks are 0.
    public var pictures: Tensor
    /// bool [B, P], true where a sample has a picture; nil where all have P.
    public var pictureMask: Tensor?
    /// Token ids, int64 [B, T]; 0 behind the last question.
    public var ids: Tensor
    /// Where in its question each token stands, int64 [B, T].
    public var positions: Tensor
    /// Which of the sample's questions each token belongs to, int64 [B, T]; −1 behind the last one.
    public var questions: Tensor
    /// The token of each question at which its answer is read, the last one, int64 [B, A]; 0 for questions that a sample
    /// lacks.
    public var answerPlaces: Tensor
    /// The ids of the right answers, int64 [B, A]; −100 for questions that a sample lacks.
    public var labels: Tensor
    /// The type of each question, by its number in the task, int64 [B, A].
    public var types: Tensor

    /// - Parameters:
    ///   - pictures: [B, P, channels, height, width].
    ///   - pictureMask: bool [B, P], or nil.
    ///   - ids: int64 [B, T].
    ///   - positions: int64 [B, T].
    ///   - questions: int64 [B, T].
    ///   - answerPlaces: int64 [B, A].
    ///   - labels: int64 [B, A].
    ///   - types: int64 [B, A].
    public init(
        pictures: Tensor, pictureMask: Tensor?, ids: Tensor, positions: Tensor, questions: Tensor,
        answerPlaces: Tensor, labels: Tensor, types: Tensor
    ) {
        self.pictures = pictures
        self.pictureMask = pictureMask
        self.ids = ids
        self.positions = positions
        self.questions = questions
        self.answerPlaces = answerPlaces
        self.labels = labels
        self.types = types
    }

    /// Which tokens each token sees among the text, bool [B, T, T]: those of its own question up to itself.
    public var textMask: Tensor {
        let length = ids.shape[1]
        let same = questions.unsqueezed(2) .== questions.unsqueezed(1)
        let places = Tensor.arange(length, dtype: .int64)
        return same .& (places.unsqueezed(0) .<= places.unsqueezed(1))
    }
}

/// A model that answers questions about pictures with one word each.
public protocol QuestionAnswerer: Module {
    /// → logits over the vocabulary [B, A, V], a row for each question.
    func callAsFunction(_ questions: PackedQuestions) -> Tensor

    /// The same, and what parts of the model want of their own choices in training.
    func answering(_ questions: PackedQuestions) -> (logits: Tensor, losses: [AuxiliaryLoss])
}

extension QuestionAnswerer {
    public func answering(_ questions: PackedQuestions) -> (logits: Tensor, losses: [AuxiliaryLoss]) {
        (self(questions), [])
    }
}
