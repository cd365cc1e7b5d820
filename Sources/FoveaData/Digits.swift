import Foundation
import FoveaIO
import FoveaTraining

/// The handwritten digits that come with the project, or any set of IDX files named in the same way.
///
/// 1,797 digits of 8×8 pixels, 0 … 16 (UCI optical recognition of handwritten digits, test part): 1,147 to train on,
/// 200 to choose settings by, 450 that are looked at once at the end. `Data/digits/README.md` tells the source, the
/// licence and how the split was made.
public struct Digits: Sendable {
    public let train: LabelledImageSet
    public let validation: LabelledImageSet
    public let test: LabelledImageSet

    /// Reads `train-`, `validation-` and `test-images-idx3-ubyte` with their `-labels-idx1-ubyte`; each may be gzip,
    /// with `.gz` at the end.
    ///
    /// - Parameters:
    ///   - folder: where the six files are.
    ///   - maximum: the grey value that counts as 1.
    public init(folder: String, maximum: Int = 16) throws(FileError) {
        func part(_ name: String) throws(FileError) -> LabelledImageSet {
            try LabelledImageSet(
                images: Digits.file(folder, "\(name)-images-idx3-ubyte"),
                labels: Digits.file(folder, "\(name)-labels-idx1-ubyte"), maximum: maximum)
        }
        train = try part("train")
        validation = try part("validation")
        test = try part("test")
        for other in [validation, test] where other.imageSize != train.imageSize {
            throw FileError(
                path: folder,
                problem: "the parts have pictures of different sizes: \(train.imageSize) and \(other.imageSize)")
        }
        for other in [validation, test] where other.classes > train.classes {
            throw FileError(path: folder, problem: "label \(other.classes - 1) does not occur in the training part")
        }
    }

    /// The files of a folder that are read.
    package static func files(in folder: String) -> [String] {
        ["train", "validation", "test"].flatMap { part in
            ["images-idx3-ubyte", "labels-idx1-ubyte"].map { file(folder, "\(part)-\($0)") }
        }
    }

    private static func file(_ folder: String, _ name: String) -> String {
        let plain = folder + "/" + name
        guard !FileManager.default.fileExists(atPath: plain) else { return plain }
        let compressed = plain + ".gz"
        return FileManager.default.fileExists(atPath: compressed) ? compressed : plain
    }

    /// The folder of the shipped digits: looked for in each of some folders and in those above, then likewise from the
    /// program's folder on.
    public static func shippedFolder(
        near folders: [String] = [FileManager.default.currentDirectoryPath],
        executable: String? = Bundle.main.executablePath
    ) -> String? {
        var places = folders
        if let executable { places.append(parentFolder(of: executable)) }
        for place in places {
            var folder = place
            while true {
                let candidate = folder + "/Data/digits"
                if FileManager.default.fileExists(atPath: candidate + "/train-images-idx3-ubyte") { return candidate }
                let parent = parentFolder(of: folder)
                if parent == folder { break }
                folder = parent
            }
        }
        return nil
    }
}
