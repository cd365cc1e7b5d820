import FoveaTensor
import OrderedCollections

/// An npz file, NumPy's format of several named arrays, open for reading.
///
/// It is a zip file of npy files, stored or deflated. The directory and the members' headers are read and checked at
/// once; a member's elements when its tensor is asked for, against their checksum. Stored elements of a type that Fovea
/// holds are a view of the mapped file where they are aligned, and others a copy. Names are names and never paths: nothing
/// is unpacked into the file system.
public struct NPZFile: Sendable {
    /// The path as given.
    public var path: String { file.path }
    /// What each array's header says, by the array's name, in the order of the file's directory.
    public private(set) var entries: OrderedDictionary<String, NPYHeader> = [:]
    private let file: MappedFile
    private let members: [ZipDirectory.Member]

    /// Opens a file and checks its directory and its members' headers.
    ///
    /// - Throws: `FileError` when the file cannot be read, is not npz, is truncated or damaged, or names an array twice.
    public init(reading path: String) throws(FileError) {
        file = try MappedFile(path)
        guard ZipDirectory.recognises(file.bytes) else {
            throw FileError(path: path, problem: "does not begin like a zip file; expected npz")
        }
        members = try ZipDirectory(file.bytes, path: path).members
        entries.reserveCapacity(members.count)
        for member in members {
            guard member.name.hasSuffix(".npy") else {
                let hint = member.name.hasSuffix(".pkl") ? "; a PyTorch file? Convert it to safetensors" : ""
                throw FileError(
                    path: path,
                    problem: "member \(quoted(member.name)) is no npy file, as all members of npz are\(hint)")
            }
            var source = try source(of: member)
            let header = try NPYHeader(&source)
            try header.checkSize(member.byteCount, source)
            guard entries.updateValue(header, forKey: String(member.name.dropLast(4))) == nil else {
                throw FileError(path: path, problem: "holds two members \(quoted(member.name))")
            }
        }
    }

    /// One array, as `readNPY(_:)` gives it.
    ///
    /// - Throws: `FileError` when there is no array of this name, it is damaged, or as `readNPY(_:)`.
    public func tensor(_ name: String) throws(FileError) -> Tensor {
        guard let index = entries.index(forKey: name) else {
            throw FileError(path: path, problem: "holds no array \(quoted(name)); it holds \(listing(entries.keys))")
        }
        var source = try source(of: members[index])
        let header = try NPYHeader(&source)
        return try header.tensor(&source, in: file, at: members[index].range.lowerBound)
    }

    /// All arrays in the order of the file's directory.
    ///
    /// - Throws: as `tensor(_:)`.
    public func tensors() throws(FileError) -> OrderedDictionary<String, Tensor> {
        var tensors = OrderedDictionary<String, Tensor>(minimumCapacity: entries.count)
        for name in entries.keys { tensors[name] = try tensor(name) }
        return tensors
    }

    private func source(of member: ZipDirectory.Member) throws(FileError) -> ByteSource {
        try ByteSource(
            file, member.range, member.isDeflated ? .deflate : .plain, part: "member \(quoted(member.name))",
            checksum: member.checksum)
    }
}
