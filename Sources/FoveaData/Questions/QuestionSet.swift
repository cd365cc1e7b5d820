import FoveaNN
import FoveaTensor
import FoveaTraining

/// The samples of one part of a task's data, packed in batches.
///
/// A sample is a function of the key and its number. With augmentation, as in training, each step sees new ones.
public struct QuestionSet: Dataset {
    public let task: any QuestionTask
    public private(set) var count: Int
    public let vocabulary: Vocabulary
    /// The types that are asked, by their number.
    public let types: Set<Int>
    /// Whether the pictures are left black: what can be answered all the same comes from the words alone.
    public var isBlank = false
    private let key: RandomKey

    /// How many samples a part has: new ones at every step to train on, 500 to choose settings by, 1,000 to report.
    public static let counts = ["train": 8192, "validation": 500, "test": 1000]

    /// - Parameters:
    ///   - part: train, validation or test; each has samples of its own. Traps on another name.
    ///   - task: what is drawn and asked.
    ///   - types: the names of the types that are asked; all unless given. Traps on names that the task does not have.
    public init(_ part: String, of task: any QuestionTask, types: [String]? = nil) {
        guard let count = QuestionSet.counts[part] else { trap("QuestionSet", "there is no part \(part)") }
        let names = task.types.map(\.name)
        self.task = task
        self.count = count
        vocabulary = Vocabulary(of: task)
        self.types = Set(
            (types ?? names).map { name in
                guard let type = names.firstIndex(of: name) else {
                    trap("QuestionSet", "\(task.name) asks no questions of type \(name)")
                }
                return type
            })
        key = RandomKey(seed: 0).folding(task.name).folding(part)
    }

    /// The first so many of the samples.
    public func first(_ count: Int) -> QuestionSet {
        var part = self
        part.count = min(count, self.count)
        return part
    }

    /// A sample with the questions of the types that are asked.
    ///
    /// - Parameters:
    ///   - index: which.
    ///   - augmentation: the key of other samples than the part's own; nil for those.
    public func sample(_ index: Int, augmentation: RandomKey? = nil) -> PictureQuestions {
        var sample = task.sample((augmentation ?? key).folding(UInt64(index)))
        sample.questions = sample.questions.filter { types.contains($0.type) }
        return sample
    }

    public func batch(of indices: [Int], augmentation: RandomKey?) -> PackedQuestions {
        packed(indices.map { sample($0, augmentation: augmentation) })
    }

    /// Samples as one batch; those with fewer pictures or questions are filled up.
    public func packed(_ samples: [PictureQuestions]) -> PackedQuestions {
        let batch = samples.count
        let pictureCount = samples.map(\.pictures.count).max() ?? 0
        let questionCount = samples.map(\.questions.count).max() ?? 0
        let length = samples.map { $0.questions.reduce(0) { $0 + $1.words.count } }.max() ?? 0
        let (pictures, mask) = pictureTensors(samples, pictureCount)
        var ids = [Int64](repeating: 0, count: batch * length)
        var positions = ids
        var questions = [Int64](repeating: -1, count: batch * length)
        var places = [Int64](repeating: 0, count: batch * questionCount)
        var labels = [Int64](repeating: -100, count: batch * questionCount)
        var types = places
        for (row, sample) in samples.enumerated() {
            var place = 0
            for (number, question) in sample.questions.enumerated() {
                for (position, word) in question.words.enumerated() {
                    ids[row * length + place] = id(of: word)
                    positions[row * length + place] = Int64(position)
                    questions[row * length + place] = Int64(number)
                    place += 1
                }
                let slot = row * questionCount + number
                places[slot] = Int64(place - 1)
                labels[slot] = id(of: question.answer)
                types[slot] = Int64(question.type)
            }
        }
        return PackedQuestions(
            pictures: pictures, pictureMask: mask, ids: Tensor(ids, shape: [batch, length]),
            positions: Tensor(positions, shape: [batch, length]),
            questions: Tensor(questions, shape: [batch, length]),
            answerPlaces: Tensor(places, shape: [batch, questionCount]),
            labels: Tensor(labels, shape: [batch, questionCount]), types: Tensor(types, shape: [batch, questionCount]))
    }

    /// Pictures [B, P, channels, height, width], and which of them there are where that differs.
    private func pictureTensors(_ samples: [PictureQuestions], _ count: Int) -> (Tensor, Tensor?) {
        let (channels, height, width) = task.pictureShape
        let size = channels * height * width
        var values = [Float](repeating: 0, count: samples.count * count * size)
        var mask = [Bool](repeating: false, count: samples.count * count)
        for (row, sample) in samples.enumerated() {
            for (column, picture) in sample.pictures.enumerated() {
                let slot = row * count + column
                mask[slot] = true
                guard !isBlank else { continue }
                for (place, value) in picture.pixels.enumerated() { values[slot * size + place] = Float(value) / 255 }
            }
        }
        return (
            Tensor(values, shape: [samples.count, count, channels, height, width]),
            mask.allSatisfy(\.self) ? nil : Tensor(mask, shape: [samples.count, count])
        )
    }

    /// The id of a word of the task, which the vocabulary was made of.
    private func id(of word: String) -> Int64 {
        do {
            return Int64(try vocabulary.id(of: word))
        } catch {
            trap("QuestionSet", "\(task.name): \(error)")
        }
    }
}
