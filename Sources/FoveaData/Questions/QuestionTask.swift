import FoveaTensor

/// An object of a sample: the picture that shows it, and its number there.
public struct ObjectReference: Sendable, Hashable {
    /// The picture's place in the sample, from 0.
    public var picture: Int
    /// From 1, as in `Picture.objects`.
    public var object: UInt8

    public init(picture: Int, object: UInt8) {
        self.picture = picture
        self.object = object
    }
}

/// A question about pictures, its answer, and what one has to look at for it.
public struct Question: Sendable, Equatable {
    /// Its number among the task's types.
    public var type: Int
    public var words: [String]
    /// One word.
    public var answer: String
    /// The objects that the answer depends on.
    public var evidence: [ObjectReference]
}

/// The pictures of a sample and all that is asked about them.
public struct PictureQuestions: Sendable, Equatable {
    public var pictures: [Picture]
    public var questions: [Question]

    /// Which patches of which picture a question asks about: those that show an object of its evidence.
    ///
    /// - Parameters:
    ///   - question: one of the sample's.
    ///   - patchSize: pixels along a patch's side.
    /// - Returns: for each picture its patches in raster order.
    public func evidence(of question: Question, patchSize: Int) -> [[Bool]] {
        pictures.indices.map { index in
            let objects = question.evidence.filter { $0.picture == index }
            let picture = pictures[index]
            let none = [Bool](repeating: false, count: picture.height / patchSize * (picture.width / patchSize))
            return objects.reduce(none) { shown, reference in
                zip(shown, picture.patches(showing: reference.object, patchSize: patchSize)).map { $0 || $1 }
            }
        }
    }
}

/// A kind of question.
public struct QuestionType: Sendable {
    public let name: String
    /// What is asked.
    public let summary: String
    /// The words that may be the answer.
    public let answers: [String]
    /// The share of right answers that whoever always gives the most frequent one has.
    public let chance: Double
}

/// Pictures and questions about them, drawn as they are asked for.
///
/// A sample is a function of its key: the same on every machine and any number of threads.
public protocol QuestionTask: Sendable {
    /// As recipes and `fovea data` call it.
    var name: String { get }
    /// What it is, in a line.
    var summary: String { get }
    /// Of each picture: channels, pixels down, pixels across.
    var pictureShape: (channels: Int, height: Int, width: Int) { get }
    /// How many pictures a sample may have.
    var pictureCount: ClosedRange<Int> { get }
    /// What may be asked.
    var types: [QuestionType] { get }
    /// The words that questions are made of.
    var questionWords: [String] { get }

    /// The sample of a key.
    func sample(_ key: RandomKey) -> PictureQuestions
}
