import Foundation
import FoveaTensor
import OrderedCollections

/// The weights of a model in safetensors, however they are stored: one file, or several with an index.
///
/// All headers are read and checked at once; the tensors are views of the mapped files and cost nothing until they are
/// touched. What the index says must be what the files hold: a tensor that is missing from its file, or that two files
/// hold, is an error, because two programs would read different weights.
public struct SafetensorsArchive: Sendable {
    /// The path as given.
    public let path: String
    /// The texts beside the tensors: of the index, then of the files. Where several have a key, the first counts.
    public let metadata: OrderedDictionary<String, String>
    /// The tensors, file by file in the order of the files' names, and within a file in the order of their data. Their
    /// places count from the beginning of their file.
    public let entries: OrderedDictionary<String, SafetensorsEntry>
    /// The files that hold the tensors, in the order of their names.
    public let files: [SafetensorsFile]
    /// The index, where there is one.
    public let index: String?
    /// The place of each tensor's file in `files`.
    private let homes: [String: Int]

    /// Opens weights.
    ///
    /// - Parameter path: a safetensors file; an index, whose name ends in `.json`; or a folder that holds one
    ///   `*.safetensors.index.json`, or no index and one `*.safetensors`.
    /// - Throws: `FileError` when a file cannot be read or is malformed, the folder leaves open what is meant, or index
    ///   and files do not agree. It names the file, and the tensor.
    public init(reading path: String) throws(FileError) {
        self.path = path
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
        let entrance = exists && isFolder.boolValue ? try Self.entrance(of: path) : path
        let index = entrance.hasSuffix(".json") ? try SafetensorsIndex(reading: entrance) : nil

        let folder = index.map { _ in entrance.lastIndex(of: "/").map { String(entrance[...$0]) } ?? "" }
        let names = index.map { Set($0.fileNames.values).sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) } }
        var files: [SafetensorsFile] = []
        var homes: [String: Int] = [:]
        var entries: OrderedDictionary<String, SafetensorsEntry> = [:]
        var metadata = index?.metadata ?? [:]
        for name in names ?? [entrance] {
            let file = try SafetensorsFile(reading: (folder ?? "") + name)
            for (tensor, entry) in file.entries {
                if let index, index.fileNames[tensor] != name {
                    let place = index.fileNames[tensor].map { "in \(quoted($0))" } ?? "nowhere"
                    throw FileError(
                        path: file.path,
                        problem: "holds tensor \(quoted(tensor)), which the index \(quoted(entrance)) has \(place)")
                }
                homes[tensor] = files.count
                entries[tensor] = entry
            }
            metadata.merge(file.metadata) { first, _ in first }
            files.append(file)
        }
        for (tensor, name) in index?.fileNames ?? [:] where entries[tensor] == nil {
            throw FileError(
                path: (folder ?? "") + name,
                problem: "does not hold tensor \(quoted(tensor)), which the index \(quoted(entrance)) has there")
        }
        self.files = files
        self.index = index.map { _ in entrance }
        self.homes = homes
        self.entries = entries
        self.metadata = metadata
    }

    /// One tensor, of the shape and type of its entry: see `SafetensorsFile.tensor(_:)`.
    ///
    /// - Throws: `FileError` when there is no tensor of this name, and as `SafetensorsFile.tensor(_:)`.
    public func tensor(_ name: String) throws(FileError) -> Tensor {
        guard let home = homes[name] else {
            throw FileError(path: path, problem: "holds no tensor \(quoted(name)); it holds \(listing(entries.keys))")
        }
        return try files[home].tensor(name)
    }

    /// All tensors in the order of `entries`.
    ///
    /// - Throws: as `tensor(_:)`.
    public func tensors() throws(FileError) -> OrderedDictionary<String, Tensor> {
        var tensors = OrderedDictionary<String, Tensor>(minimumCapacity: entries.count)
        for name in entries.keys { tensors[name] = try tensor(name) }
        return tensors
    }

    /// The file in a folder that leads to its weights.
    private static func entrance(of folder: String) throws(FileError) -> String {
        let names: [String]
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        } catch {
            throw FileError(path: folder, problem: "the folder cannot be read; check its permissions")
        }
        let indices = names.filter { $0.hasSuffix(".safetensors.index.json") }
        let files = names.filter { $0.hasSuffix(".safetensors") && !$0.hasPrefix(".") }
        if indices.count == 1, !files.contains(String(indices[0].dropLast(".index.json".count))) {
            return "\(folder)/\(indices[0])"
        }
        guard indices.count + files.count > 0 else {
            throw FileError(path: folder, problem: "holds no *.safetensors and no *.safetensors.index.json")
        }
        guard indices.isEmpty, files.count == 1 else {
            let found = listing(indices + files)
            throw FileError(
                path: folder,
                problem: indices.isEmpty
                    ? "holds \(files.count) safetensors files and no index (\(found)); name the one that is meant, or "
                        + "copy the index too"
                    : "leaves open which weights are meant (\(found)); name the file or the index")
        }
        return "\(folder)/\(files[0])"
    }
}
