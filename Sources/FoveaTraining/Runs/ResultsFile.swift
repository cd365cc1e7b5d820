import Foundation
import FoveaIO

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What one run reached, and what it took: a line of a results file.
public struct RunResult: Sendable, Codable, Equatable {
    /// The recipe's name.
    public var recipe: String
    /// What was set over the recipe, but for seed and folder: `data.blank=true`.
    public var settings: [String]
    public var seed: Int
    public var steps: Int
    /// The part that the answers are about: test, or validation where that is held out.
    public var part: String
    /// How many tokens the compressor makes of a picture.
    public var tokens: Int
    public var parameters: Int
    /// Of one sample's forward pass, as counted.
    public var multiplyAdds: Int
    /// The mean over the run, evaluations apart.
    public var secondsPerStep: Double
    public var threads: Int
    public var peakMemoryBytes: Int
    /// The share of right answers.
    public var accuracy: Double
    /// The same by type of question; nil without questions.
    public var questions: [QuestionScore]?
    public var fovea: String

    /// - Parameters:
    ///   - report: of the finished run.
    ///   - settings: what was set over the recipe, but for seed and folder.
    ///   - tokens: how many the compressor makes of a picture.
    ///   - multiplyAdds: of one sample's forward pass.
    public init(_ report: TrainingReport, settings: [String], tokens: Int, multiplyAdds: Int) {
        recipe = report.recipe
        self.settings = settings
        seed = report.seed
        steps = report.steps
        part = report.testAccuracy == nil ? "validation" : "test"
        self.tokens = tokens
        parameters = report.parameters
        self.multiplyAdds = multiplyAdds
        secondsPerStep = report.trainingSeconds / Double(max(1, report.steps))
        threads = report.threads
        peakMemoryBytes = report.peakMemoryBytes
        accuracy = report.testAccuracy ?? report.validationAccuracy ?? report.trainAccuracy
        questions = report.questions
        fovea = report.fovea
    }

    /// Whether it is the same run, made once more.
    func repeats(_ other: RunResult) -> Bool {
        (recipe, seed, settings) == (other.recipe, other.seed, other.settings)
    }
}

/// A file with a line for each run, of any recipes: seeds and recipes can be added at any time.
///
/// A run that is made once more takes the place of what it was. The file is written whole under another name and renamed,
/// so that it is never half a file; processes that finish at the same time wait for each other.
public struct ResultsFile: Sendable {
    /// Where it is.
    public let path: String

    public init(_ path: String) { self.path = path }

    /// The results so far; none where there is no file yet.
    ///
    /// - Throws: `FileError` for a file that cannot be read, and for a line that is no result.
    public func results() throws(FileError) -> [RunResult] {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else { return [] }
        guard !isDirectory.boolValue, let bytes = FileManager.default.contents(atPath: path) else {
            throw FileError(path: path, problem: "the results cannot be read; name another file in output.results")
        }
        var results: [RunResult] = []
        let lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        for (number, line) in lines.enumerated() where !line.isEmpty {
            guard let result = try? decoded(RunResult.self, from: line) else {
                throw FileError(
                    path: path, problem: "line \(number + 1) is no result; move it away or name another file")
            }
            results.append(result)
        }
        return results
    }

    /// Adds a result, or puts it in the place of the same run's earlier one.
    ///
    /// - Throws: `FileError` where the file cannot be read or written.
    public func add(_ result: RunResult) throws(FileError) {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        if let reason = folder.isEmpty ? nil : makeFolders(folder) {
            throw FileError(path: path, problem: "the folder cannot be made (\(reason))")
        }
        let lock = open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else {
            throw FileError(path: path, problem: "cannot be written (\(String(cString: strerror(errno))))")
        }
        defer {
            flock(lock, LOCK_UN)
            close(lock)
        }
        guard flock(lock, LOCK_EX) == 0 else {
            throw FileError(path: path, problem: "cannot be locked (\(String(cString: strerror(errno))))")
        }
        var results = try results()
        if let place = results.firstIndex(where: result.repeats) {
            results[place] = result
        } else {
            results.append(result)
        }
        try writeTextAtomically(results.map(encodedLine).joined(), to: path)
    }
}
