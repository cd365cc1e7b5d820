import CYaml
import Foundation
import Fovea

/// The text of a recipe file, which costs no more to understand than its length lets expect.
///
/// YAML has three things that do: anchors, by which a few lines become billions of values, keys that are structures, which
/// are compared by all that is in them, level by level, and structures in structures, each of which takes its part of the
/// stack. Recipes have use for none of them.
enum RecipeText {
    private static let longest = 1 << 16
    /// Question marks that begin a word, as structures that are keys do. Some may be meant as such.
    private static let mostQuestionMarks = 16
    /// Structures around another. The parser would take 1,000; and what it is told it asks of indented ones alone, since it has
    /// looked 1,024 characters ahead, and over all brackets that close again there, before it counts those that are open.
    static let deepest = 64

    /// - Throws: `FileError` where the file cannot be read or is no such text; `RecipeError` for an anchor.
    static func read(_ path: String) throws -> String {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
            throw FileError(path: path, problem: "there is no such recipe; the shipped ones are in Recipes/")
        }
        guard !isDirectory.boolValue else {
            throw FileError(path: path, problem: "is a folder; a recipe file is needed")
        }
        // Not all of it yet: it may be anything.
        let size = (try? FileManager.default.attributesOfItem(atPath: path))?[.size] as? Int ?? 0
        guard size <= longest else {
            throw FileError(path: path, problem: "a recipe of \(size) bytes is not plausible; at most 64 KiB are read")
        }
        guard let data = FileManager.default.contents(atPath: path) else {
            throw FileError(path: path, problem: "the recipe cannot be read; check its permissions")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw FileError(path: path, problem: "the recipe is not UTF-8 text")
        }
        try check(data) { "\(path):\($0)" }
        return text
    }

    /// Refuses text that would cost more than its length lets expect; to be called before it is parsed.
    ///
    /// - Parameter place: what to call a line, by its number from 1.
    static func check(_ text: some Collection<UInt8>, _ place: (_ line: Int) -> String) throws(RecipeError) {
        yaml_set_max_nest_level(CInt(deepest))
        var (line, questionMarks, open) = (1, 0, 0)
        var previous = UInt8(ascii: " ")
        for (byte, next) in zip(text, text.dropFirst() + [UInt8(ascii: " ")]) {
            switch byte {
            case UInt8(ascii: "\n"): line += 1
            // In words and comments too: none has so many.
            case UInt8(ascii: "["), UInt8(ascii: "{"):
                open += 1
                guard open <= deepest else {
                    throw RecipeError(
                        place(line), "more than \(deepest) brackets are open at once, which no value of a recipe needs")
                }
            case UInt8(ascii: "]"), UInt8(ascii: "}"): open = max(0, open - 1)
            case UInt8(ascii: "&") where !isWord(previous) && isWord(next):
                throw RecipeError(
                    place(line),
                    "\"&\" before a word is an anchor of YAML, which recipes do not have; put a space behind it")
            case UInt8(ascii: "?") where !isWord(previous):
                questionMarks += 1
                guard questionMarks <= mostQuestionMarks else {
                    throw RecipeError(
                        place(line),
                        "\"?\" begins keys of several parts, which recipes do not have; leave them out")
                }
            default: break
            }
            previous = byte
        }
    }

    /// What the names of anchors are made of.
    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"):
            true
        default: false
        }
    }
}
