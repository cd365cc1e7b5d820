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
    /// What parts of the model added to the loss, by name and before it was weighed, on average since the last record; nil
    /// where they added nothing.
    public var auxiliaryLosses: [String: Double]?
    /// Skipped steps and spikes since the last record; nil where there were none.
    public var notes: [String]?

    public init(
        step: Int, loss: Double, accuracy: Double, learningRate: Double, gradientNorm: Double,
        samplesPerSecond: Double, seconds: Double, validationAccuracy: Double? = nil,
        auxiliaryLosses: [String: Double]? = nil, notes: [String]? = nil
    ) {
        self.step = step
        self.loss = loss
        self.accuracy = accuracy
        self.learningRate = learningRate
        self.gradientNorm = gradientNorm
        self.samplesPerSecond = samplesPerSecond
        self.seconds = seconds
        self.validationAccuracy = validationAccuracy
        self.auxiliaryLosses = auxiliaryLosses
        self.notes = notes
    }
}

/// `metrics.jsonl`: one JSON object on a line for each record.
public struct MetricsLog: Sendable {
    private let path: String
    /// The records so far.
    public private(set) var records: [StepRecord]
    /// Whether the file holds them all; not so after a write that failed.
    public private(set) var isWritten = true

    /// Opens the log, keeping the records up to `step`: what a stopped run logged after its last checkpoint is
    /// computed again. Lines that are damaged or cut short are left out.
    public init(path: String, upTo step: Int) throws(FileError) {
        self.path = path
        let bytes = FileManager.default.contents(atPath: path) ?? Data()
        records = bytes.split(separator: UInt8(ascii: "\n")).compactMap { try? decoded(StepRecord.self, from: $0) }
            .filter { $0.step <= step }
        try write()
    }

    /// Adds a record at the end of the file.
    ///
    /// - Throws: `FileError` when it cannot be written. It is one of the records all the same, and the next call, or
    ///   `write`, writes it again.
    public mutating func append(_ record: StepRecord) throws(FileError) {
        records.append(record)
        guard isWritten else { return try write() }
        isWritten = false
        try appendText(encodedLine(record), to: path)
        isWritten = true
    }

    /// Writes the file anew, with all records.
    public mutating func write() throws(FileError) {
        isWritten = false
        try writeTextAtomically(records.map(encodedLine).joined(), to: path)
        isWritten = true
    }
}
