import Foundation
import FoveaTensor
import OrderedCollections

/// Writes weights into a folder as transformers does: `model.safetensors` where they fit in one file, else
/// `model-00001-of-00003.safetensors` and so on with `model.safetensors.index.json`.
///
/// Tensors go to the files in their order; a file is full when the next tensor would make it too large, and a tensor
/// that is too large by itself has a file of its own.
///
/// Everything is written under another name first and renamed at the end, so that an error leaves older weights of the
/// folder as they were. While several files are renamed there is no index; a program killed at that moment leaves a
/// folder that is refused, never one that mixes old and new. Older weights under these names are removed, and other
/// files of the folder stay.
///
/// - Parameters:
///   - tensors: the tensors by name, of any type, shape and layout.
///   - floats: the type that floating-point tensors are cast to, one at a time; they keep theirs unless given.
///   - metadata: texts to keep in each file, under `__metadata__`.
///   - maxShardBytes: how many bytes the tensors of a file may take.
///   - folder: the folder, which is made if its parent exists.
/// - Throws: `FileError` when `maxShardBytes` is not positive, the folder cannot be written to, and as
///   `writeSafetensors(_:floatsAs:metadata:to:)`.
public func writeShardedSafetensors(
    _ tensors: OrderedDictionary<String, Tensor>, floatsAs floats: DType? = nil, metadata: [String: String] = [:],
    maxShardBytes: Int, to folder: String
) throws(FileError) {
    guard maxShardBytes > 0 else {
        throw FileError(path: folder, problem: "the limit of a file is \(maxShardBytes) bytes; expected more than 0")
    }
    let shards = shards(of: tensors, floatsAs: floats, limit: maxShardBytes)
    try makeFolder(folder)
    let work = "\(folder)/.weights.tmp-\(getpid())-\(UUID().uuidString)"
    try makeFolder(work)
    defer { try? FileManager.default.removeItem(atPath: work) }

    var names: [String] = []
    do throws(FileError) {
        if shards.count == 1 {
            names = [wholeName]
            try writeSafetensors(shards[0].tensors, floatsAs: floats, metadata: metadata, to: "\(work)/\(wholeName)")
        } else {
            for (number, shard) in shards.enumerated() {
                names.append(shardName(number + 1, of: shards.count))
                try writeSafetensors(
                    shard.tensors, floatsAs: floats, metadata: metadata, to: "\(work)/\(names[number])")
            }
            try writeTextAtomically(indexText(shards, names), to: "\(work)/\(indexName)")
            names.append(indexName)
        }
    } catch {
        throw FileError(path: folder, problem: error.problem)
    }
    try install(names, from: work, in: folder)
}

private let wholeName = "model.safetensors"
private let indexName = "model.safetensors.index.json"

private struct Shard {
    var tensors: OrderedDictionary<String, Tensor> = [:]
    var byteCount = 0
}

/// The tensors of each file; one file of none where there are none.
private func shards(
    of tensors: OrderedDictionary<String, Tensor>, floatsAs floats: DType?, limit: Int
) -> [Shard] {
    var shards: [Shard] = []
    var current = Shard()
    for (name, tensor) in tensors {
        let byteCount = StoredTensor(name: name, tensor: tensor, floatsAs: floats).byteCount
        if byteCount > limit {
            shards.append(Shard(tensors: [name: tensor], byteCount: byteCount))
            continue
        }
        if current.byteCount + byteCount > limit {
            shards.append(current)
            current = Shard()
        }
        current.tensors[name] = tensor
        current.byteCount += byteCount
    }
    if !current.tensors.isEmpty || shards.isEmpty { shards.append(current) }
    return shards
}

private func shardName(_ number: Int, of count: Int) -> String {
    func padded(_ number: Int) -> String { String(repeating: "0", count: max(0, 5 - "\(number)".count)) + "\(number)" }
    return "model-\(padded(number))-of-\(padded(count)).safetensors"
}

/// Whether a file is called as `shardName` calls one.
private func isShardName(_ name: String) -> Bool {
    name.wholeMatch(of: /model-[0-9]{5,}-of-[0-9]{5,}\.safetensors/) != nil
}

private func indexText(_ shards: [Shard], _ names: [String]) -> String {
    let homes = zip(shards, names).flatMap { shard, file in shard.tensors.keys.map { (tensor: $0, file: file) } }
    let lines = homes.sorted { precedes($0.tensor, $1.tensor) }
        .map { "    \(jsonQuoted($0.tensor)): \(jsonQuoted($0.file))" }
    let total = shards.reduce(0) { $0 + $1.byteCount }
    let parameters = shards.reduce(0) { $0 + $1.tensors.values.reduce(0) { $0 + $1.count } }
    return """
        {
          "metadata": {
            "total_parameters": \(parameters),
            "total_size": \(total)
          },
          "weight_map": {
        \(lines.joined(separator: ",\n"))
          }
        }

        """
}

/// Moves the new files to their places; the last one is what leads to the others.
private func install(_ names: [String], from work: String, in folder: String) throws(FileError) {
    for old in [indexName, wholeName] where names != [old] {
        guard unlink("\(folder)/\(old)") == 0 || errno == ENOENT else {
            throw .system("\(folder)/\(old)", "cannot be removed", code: errno)
        }
    }
    for name in names {
        guard rename("\(work)/\(name)", "\(folder)/\(name)") == 0 else {
            throw .system("\(folder)/\(name)", "cannot be replaced", code: errno)
        }
    }
    // Pieces of older weights that no index names any more.
    for old in (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    where isShardName(old) && !names.contains(old) {
        unlink("\(folder)/\(old)")
    }
    try syncDirectory(folder)
}

private func makeFolder(_ path: String) throws(FileError) {
    guard mkdir(path, 0o777) != 0 else { return }
    let code = errno
    guard code == EEXIST else { throw .system(path, "cannot be made as a folder", code: code) }
    var status = stat()
    guard stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
        throw FileError(path: path, problem: "is a file; name a folder")
    }
}
