import Foundation
import FoveaIO
import OrderedCollections

/// A word that a vocabulary does not have.
public struct UnknownWordError: Error, Sendable, CustomStringConvertible {
    public let word: String
    /// How many words there are to choose from.
    public let count: Int

    public var description: String { "the word \"\(word)\" is not among the \(count) words of the vocabulary" }
}

/// A tokenizer of whole words: a word is a token, and its place in the list its id.
///
/// Id 0 fills what batches leave empty; no text has it.
public struct Vocabulary: Sendable, Equatable {
    /// What stands at id 0.
    public static let padding = "<pad>"
    private let list: OrderedSet<String>

    /// The words by id, the padding first.
    public var words: [String] { Array(list) }
    /// V, how many ids there are.
    public var count: Int { list.count }

    /// The padding and then the words, each once, in their order.
    public init(_ words: some Sequence<String>) {
        var list: OrderedSet = [Vocabulary.padding]
        list.append(contentsOf: words)
        self.list = list
    }

    /// All that a task's questions and answers are made of.
    public init(of task: any QuestionTask) {
        self.init(task.questionWords + task.types.flatMap(\.answers))
    }

    /// The id of a word.
    ///
    /// - Throws: `UnknownWordError`.
    public func id(of word: String) throws(UnknownWordError) -> Int {
        guard let id = list.firstIndex(of: word), id > 0 else {
            throw UnknownWordError(word: word, count: list.count - 1)
        }
        return id
    }

    /// The ids of the words of a text that spaces separate.
    ///
    /// - Throws: `UnknownWordError`.
    public func encode(_ text: String) throws(UnknownWordError) -> [Int] {
        var ids: [Int] = []
        for word in text.split(whereSeparator: \.isWhitespace) { ids.append(try id(of: String(word))) }
        return ids
    }

    /// The words of ids, with spaces between them; the padding is left out. Nil for an id that there is not.
    public func decode(_ ids: [Int]) -> String? {
        guard ids.allSatisfy(list.indices.contains) else { return nil }
        return ids.filter { $0 > 0 }.map { list[$0] }.joined(separator: " ")
    }

    /// Reads a list of words that `save` wrote.
    ///
    /// - Throws: `FileError` for anything but a JSON list of different words that starts with the padding.
    public init(reading path: String) throws(FileError) {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw FileError(path: path, problem: "the vocabulary cannot be read")
        }
        guard let words = try? JSONDecoder().decode([String].self, from: data) else {
            throw FileError(path: path, problem: "is no vocabulary: expected is a JSON list of words")
        }
        guard words.first == Vocabulary.padding, Set(words).count == words.count else {
            throw FileError(
                path: path, problem: "is no vocabulary: expected are different words, \(Vocabulary.padding) first")
        }
        list = OrderedSet(words)
    }

    /// Writes the words as a JSON list.
    public func save(to path: String) throws(FileError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.withoutEscapingSlashes]
        // Strings always encode.
        let text = (try? encoder.encode(words)).map { String(decoding: $0, as: UTF8.self) } ?? "[]"
        try writeTextAtomically(text + "\n", to: path)
    }
}
