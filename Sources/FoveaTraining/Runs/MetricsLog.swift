import Foundation
import FoveaIO

/// What is known after one logged step.
public struct StepRecord: Sendable, Codable, Equatable {
    /// How many steps are done.
    public var step: Int
    /// Mean loss since the last record.
    public var loss: Double
    /// Share of right answers since the last record.
    public var accuracy: Double
    public var learningRate: Double
    /// Norm of the gradients before clipping.
    public var gradientNorm: Double
    /// Samples in a second since the last record.
    public var samplesPerSecond: Double
    /// Seconds of training so far.
    public var seconds: Double
    /// Share of right answers on the validation samples, where they are held out and were asked at this step.
    public var validationAccuracy: Double?

    public init(
        step: Int, loss: Double, accuracy: Double, learningRate: Double, gradientNorm: Double,
        samplesPerSecond: Double, seconds: Double, validationAccuracy: Double? = nil
    ) {
        self.step = step
        self.loss = loss
        self.accuracy = accuracy
        self.learningRate = learningRate
        self.gradientNorm = gradientNorm
        self.samplesPerSecond = samplesPerSecond
        self.seconds = seconds
        self.validationAccuracy = validationAccuracy
    }
}

/// `metrics.jsonl`: one JSON object on a line for each record.
public struct MetricsLog: Sendable {
    private let path: String
    /// The records so far.
    public private(set) var records: [StepRecord]

    /// Opens the log, keeping the records up to `step`: what a stopped run logged after its last checkpoint is
    /// computed again.
    public init(path: String, upTo step: Int) throws(FileError) {
        self.path = path
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        let decoder = JSONDecoder()
        records = text.split(separator: "\n").compactMap { line in
            try? decoder.decode(StepRecord.self, from: Data(line.utf8))
        }.filter { $0.step <= step }
        try writeTextAtomically(records.map(MetricsLog.line).joined(), to: path)
    }

    /// Adds a record at the end of the file.
    public mutating func append(_ record: StepRecord) throws(FileError) {
        records.append(record)
        guard let file = FileHandle(forWritingAtPath: path) else {
            throw FileError(
                path: path, problem: "the metrics cannot be opened for writing (\(String(cString: strerror(errno))))")
        }
        defer { try? file.close() }
        do {
            try file.seekToEnd()
            try file.write(contentsOf: Data(MetricsLog.line(record).utf8))
        } catch {
            throw FileError(path: path, problem: "the metrics cannot be written (\(systemReason(error)))")
        }
    }

    private static func line(_ record: StepRecord) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return (try? encoder.encode(record)).map { String(decoding: $0, as: UTF8.self) + "\n" } ?? ""
    }
}
