import Foundation
import FoveaIO
import FoveaTensor
import FoveaTraining

/// Features that were computed elsewhere, such as by a vision encoder in Python, with what is asked of each sample:
/// classes, or numbers to match, such as what another compressor makes of the same features.
///
/// A part of a dataset is one file `<part>.safetensors` or `<part>.npz` with the arrays `features` and `labels` or
/// `targets`, or the files `<part>-features.npy` and `<part>-labels.npy` or `<part>-targets.npy`.
public struct FeatureSet: Dataset {
    /// [S, N, C], float32: N tokens of each sample.
    public let features: Tensor
    /// [S] or [S, K], int64: classes from 0 on. Or [S, R, D], float32: what is to come out.
    public let answers: Tensor
    /// Where they come from, for errors.
    public let path: String

    /// Whether the answers are numbers to match and no classes.
    public var isMatching: Bool { answers.dtype == .float32 }

    public var count: Int { features.shape[0] }

    /// One more than the largest class.
    public var classes: Int { isMatching ? 0 : Int(answers.scalars(as: Int64.self).max() ?? -1) + 1 }

    /// K, how many classes a sample has; nil where it has one and no axis for it.
    public var readings: Int? { !isMatching && answers.rank == 2 ? answers.shape[1] : nil }

    /// Reads one part of a folder: train, validation or test.
    ///
    /// - Throws: `FileError` where there is no such file or more than one, an array is missing, or arrays do not have the
    ///   types and shapes above.
    public init(folder: String, part: String) throws(FileError) {
        let stem = folder + "/" + part
        let candidates = [".safetensors", ".npz", "-features.npy"].filter {
            FileManager.default.fileExists(atPath: stem + $0)
        }
        guard let ending = candidates.first else {
            throw FileError(
                path: folder,
                problem: "has no features of the part \(part); expected is \(part).safetensors, \(part).npz or "
                    + "\(part)-features.npy with \(part)-labels.npy or \(part)-targets.npy")
        }
        guard candidates.count == 1 else {
            throw FileError(
                path: folder,
                problem: "has \(candidates.map { part + $0 }.joined(separator: " and ")); which one is meant? Keep one")
        }
        let arrays: [String: Tensor]
        switch ending {
        case ".safetensors":
            let file = try SafetensorsFile(reading: stem + ending)
            arrays = try FeatureSet.named(file.entries.keys.elements) { name throws(FileError) in try file.tensor(name)
            }
        case ".npz":
            let file = try NPZFile(reading: stem + ending)
            arrays = try FeatureSet.named(file.entries.keys.elements) { name throws(FileError) in try file.tensor(name)
            }
        default:
            let present = FeatureSet.names.filter { FileManager.default.fileExists(atPath: "\(stem)-\($0).npy") }
            arrays = try FeatureSet.named(present) { name throws(FileError) in try readNPY("\(stem)-\(name).npy") }
        }
        try self.init(arrays, path: stem + ending)
    }

    private static let names = ["features", "labels", "targets"]

    private static func named(
        _ present: [String], _ read: (String) throws(FileError) -> Tensor
    ) throws(FileError) -> [String: Tensor] {
        var arrays: [String: Tensor] = [:]
        for name in names where present.contains(name) { arrays[name] = try read(name) }
        return arrays
    }

    private init(_ arrays: [String: Tensor], path: String) throws(FileError) {
        func wrong(_ problem: String) -> FileError { FileError(path: path, problem: problem) }
        guard let features = arrays["features"] else { throw wrong("holds no array \"features\"") }
        guard features.dtype.isFloatingPoint, features.rank == 3, features.count > 0 else {
            throw wrong(
                "features are \(features.dtype) \(features.shape); expected are floating-point numbers [samples, tokens, width], "
                    + "none of them 0")
        }
        let answers: Tensor
        switch (arrays["labels"], arrays["targets"]) {
        case (let labels?, nil):
            guard [.uint8, .int32, .int64].contains(labels.dtype), labels.rank == 1 || labels.rank == 2,
                labels.count > 0
            else {
                throw wrong(
                    "labels are \(labels.dtype) \(labels.shape); expected are whole numbers [samples] or [samples, answers]"
                )
            }
            answers = labels.cast(to: .int64)
            let values = answers.scalars(as: Int64.self)
            if let stray = values.first(where: { !(0..<65_536).contains($0) }) {
                throw wrong("a label is \(stray); expected are classes from 0 to 65535")
            }
        case (nil, let targets?):
            guard targets.dtype.isFloatingPoint, targets.rank == 3, targets.count > 0 else {
                throw wrong(
                    "targets are \(targets.dtype) \(targets.shape); expected are floating-point numbers [samples, tokens, width]"
                )
            }
            answers = targets.cast(to: .float32)
        case (nil, nil): throw wrong("holds neither \"labels\" nor \"targets\"; one of them is needed")
        default: throw wrong("holds \"labels\" and \"targets\"; keep one of them")
        }
        guard answers.shape[0] == features.shape[0] else {
            throw wrong("features are \(features.shape) and answers \(answers.shape): not as many samples")
        }
        self.features = features.cast(to: .float32)
        self.answers = answers
        self.path = path
        for (name, tensor) in [("features", self.features), ("targets", answers)]
        where tensor.dtype == .float32 && !tensor.sum().item().isFinite {
            throw wrong("\(name) hold numbers that are NaN, infinite or too large to add up")
        }
    }

    /// Why another part does not go with this one, in a few words; nil when it does. It may have fewer samples and
    /// classes, and no others.
    public func problem(with other: FeatureSet) -> String? {
        guard other.features.shape.dropFirst() == features.shape.dropFirst() else {
            return
                "features are \(other.features.shape), but \(features.shape) in \(path): other tokens or another width"
        }
        guard other.isMatching == isMatching, other.answers.shape.dropFirst() == answers.shape.dropFirst() else {
            return
                "answers are \(other.answers.dtype) \(other.answers.shape), but \(answers.dtype) \(answers.shape) in \(path)"
        }
        guard other.classes <= classes else {
            return "label \(other.classes - 1) does not occur in \(path), the part that is trained on"
        }
        return nil
    }

    /// Features [B, N, C] of these samples with their answers. There is no augmentation.
    public func batch(of indices: [Int], augmentation: RandomKey?) -> LabelledImages {
        let rows = Tensor(indices.map(Int64.init))
        return LabelledImages(
            images: features.selecting(axis: 0, rows), labels: answers.selecting(axis: 0, rows))
    }
}
