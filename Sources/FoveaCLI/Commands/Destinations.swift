import Foundation
import Fovea

/// Where a command writes, looked at before it computes: what cannot be written, or would replace what the command reads, must
/// not be found out once other files are replaced.
enum Destinations {
    /// - Parameters:
    ///   - outputs: options and the files that they name, where given.
    ///   - inputs: files that are read, where given; of folders all that is in them.
    ///   - weights: weights that are read, where given: a file, an index or a folder.
    /// - Throws: `CommandError` for two that are the same file; `FileError` for one that cannot be written.
    static func check(
        _ outputs: KeyValuePairs<String, String?>, inputs: [String?] = [], weights: [String?] = []
    ) throws {
        let inputs = Set((inputs + weights.flatMap(files(ofWeights:))).compactMap { $0 }.map(place(of:)))
        var taken: [String: String] = [:]
        for (option, path) in outputs {
            guard let path else { continue }
            let place = place(of: path)
            if let other = taken.updateValue(option, forKey: place) {
                throw CommandError("\(option) \(path): \(other) names the same file; give each its own")
            }
            guard !inputs.contains(place) else {
                throw CommandError("\(option) \(path): that file is read by this command; name another")
            }
            // A run's model, say, is not to become its compressor.
            guard !isOfRun(path) else {
                throw CommandError("\(option) \(path): that is a run's own; name another place")
            }
            try requireWritable(path)
        }
    }

    /// Whether a run that is there writes this itself. It has a recipe: folders named `checkpoints` are everywhere.
    static func isOfRun(_ path: String) -> Bool {
        let place = place(of: path)
        var folder = parentFolder(of: place)
        while !FileManager.default.fileExists(atPath: folder + "/recipe.yaml") {
            let parent = parentFolder(of: folder)
            if parent == folder { return false }
            folder = parent
        }
        return isWritten(place, byRunIn: folder)
    }

    /// Whether a run in a folder, which need not be there yet, writes this itself.
    static func isWritten(_ path: String, byRunIn folder: String) -> Bool {
        let (place, own) = (place(of: path), place(of: folder))
        return place.hasPrefix(own + "/") && RunFolder.writes(String(place.dropFirst(own.count + 1)))
    }

    /// What is read with weights; what cannot be read says so where it is.
    private static func files(ofWeights path: String?) -> [String] {
        guard let path else { return [] }
        guard let archive = try? SafetensorsArchive(reading: path) else { return [path] }
        return [path] + (archive.index.map { [$0] } ?? []) + archive.files.map(\.path)
    }

    /// One spelling for all of one file, whatever links lead to it.
    static func place(of path: String) -> String {
        let url = URL(fileURLWithPath: path).standardizedFileURL
        if FileManager.default.fileExists(atPath: url.path) { return url.resolvingSymlinksInPath().path }
        return url.deletingLastPathComponent().resolvingSymlinksInPath().appendingPathComponent(url.lastPathComponent)
            .path
    }

    private static func requireWritable(_ path: String) throws {
        var isFolder: ObjCBool = false
        if FileManager.default.fileExists(atPath: path, isDirectory: &isFolder), isFolder.boolValue {
            throw FileError(path: path, problem: "is a folder; name a file")
        }
        guard access(URL(fileURLWithPath: path).deletingLastPathComponent().path, W_OK) == 0 else {
            throw FileError(path: path, problem: "cannot be written (\(String(cString: strerror(errno))))")
        }
    }
}
