import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Writes a file so that it is there in full or not at all, whenever the program may be stopped.
///
/// The bytes go to a temporary name in the same folder, are flushed to the disk, and take the file's name in one
/// step; then the folder is flushed too. Until that step the old file, if there is one, stays as it is, and who has it
/// open or mapped keeps the old bytes. Its permissions are kept. A symbolic link is followed: what it points to is
/// replaced, the link stays. A file without write permission is not replaced. A program killed in between leaves a
/// hidden file `.name.tmp-<process>-<number>` behind.
///
/// - Parameters:
///   - path: the file to create or replace; its folder must exist.
///   - body: writes the content into the sink.
/// - Throws: `FileError` when the folder is missing or may not be written to, the disk is full, or `path` is
///   something else than a regular file; and whatever `body` throws. The temporary file is removed then. Only when
///   the disk fails at the very last step, the flush of the folder, is the new file in place all the same.
public func writeAtomically(
    to path: String, _ body: (inout FileSink) throws(FileError) -> Void
) throws(FileError) {
    let target = try followLinks(path)
    var status = stat()
    let exists = stat(target, &status) == 0
    if exists, status.st_mode & S_IFMT != S_IFREG {
        throw FileError(
            path: path, problem: "is \(kind(ofMode: status.st_mode)); expected a regular file or a new name")
    }
    // Renaming over a file asks the folder alone. Who took a file's write permission away wants to keep it.
    if exists, access(target, W_OK) != 0 { throw .system(path, "may not be replaced", code: errno) }
    let (folder, name) = split(target)
    guard !name.isEmpty, name != ".", name != ".." else {
        throw FileError(path: path, problem: "names no file; expected a path that ends in a file name")
    }

    let (descriptor, temporary) = try createTemporary(folder: folder, name: name, for: path)
    do throws(FileError) {
        // Only the permission bits: setuid and its like are not carried over to new content.
        if exists, fchmod(descriptor, status.st_mode & 0o777) != 0 {
            let code = errno
            close(descriptor)
            throw .system(path, "cannot be given the permissions of the file that it replaces", code: code)
        }
        var sink = FileSink(path: path, descriptor: descriptor)
        try body(&sink)
        try sink.finish()
        let code = Disk.rename(temporary, to: target)
        guard code == 0 else { throw .system(path, "cannot be replaced", code: code) }
    } catch {
        unlink(temporary)
        throw error
    }
    try syncDirectory(folder)
}

/// Writes a text in UTF-8, as `writeAtomically(to:_:)` does.
public func writeTextAtomically(_ text: String, to path: String) throws(FileError) {
    try writeAtomically(to: path) { sink throws(FileError) in try sink.write(text) }
}

/// Adds a text in UTF-8 at the end of a file that is there. A failure may leave a part of it.
package func appendText(_ text: String, to path: String) throws(FileError) {
    let descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
    guard descriptor >= 0 else { throw .system(path, "cannot be opened for writing", code: errno) }
    var sink = FileSink(path: path, descriptor: descriptor)
    try sink.write(text)
    try sink.close()
}

/// Flushes a folder to the disk, so that files created, renamed or removed in it stay so through a power cut.
///
/// File systems that cannot do this, and folders that may be written to but not read, are passed over in silence:
/// what was renamed there is complete either way.
///
/// - Throws: `FileError` when the folder is missing or the disk reports an error.
package func syncDirectory(_ path: String) throws(FileError) {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY)
    guard descriptor >= 0 else {
        if errno == EACCES { return }
        throw .system(path, "cannot be opened as a folder", code: errno)
    }
    defer { close(descriptor) }
    while case let code = Disk.flush(descriptor, for: path), code != 0 {
        switch code {
        case EINTR: continue
        case EINVAL, ENOTSUP, EROFS: return
        default: throw .system(path, "cannot be flushed to the disk", code: code)
        }
    }
}

/// Where a path leads when symbolic links are followed; the path itself where nothing is there yet.
private func followLinks(_ path: String) throws(FileError) -> String {
    guard !path.isEmpty else { throw FileError(path: path, problem: "the path is empty; expected the name of a file") }
    guard !path.utf8.contains(0) else {
        throw FileError(path: path, problem: "a path cannot contain a zero byte")
    }
    guard let resolved = realpath(path, nil) else { return path }
    defer { free(resolved) }
    // A name that is not UTF-8 would come out changed.
    return String(validatingCString: resolved) ?? path
}

private func split(_ path: String) -> (folder: String, name: String) {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return (".", path) }
    let folder = String(path[..<slash])
    return (folder.isEmpty ? "/" : folder, String(path[path.utf8.index(after: slash)...]))
}

private let temporaryNumber = Atomic<Int>(0)

/// Creates a file of a new hidden name beside the one to be replaced.
private func createTemporary(
    folder: String, name: String, for path: String
) throws(FileError) -> (descriptor: Int32, path: String) {
    // The suffix must not push a long but valid name over the 255 bytes that file systems allow.
    var stem = name
    while stem.utf8.count > 200 { stem.removeLast() }
    // A process of the same number, killed long ago, may have left its files behind.
    for _ in 0..<1_000 {
        let number = temporaryNumber.wrappingAdd(1, ordering: .relaxed).newValue
        let temporary = "\(folder)/.\(stem).tmp-\(getpid())-\(number)"
        let (descriptor, code) = Disk.create(temporary, for: path)
        if descriptor >= 0 { return (descriptor, temporary) }
        guard code == EEXIST || code == EINTR else {
            throw .system(path, "cannot be written in the folder \(quoted(folder))", code: code)
        }
    }
    throw FileError(
        path: path, problem: "the folder \(quoted(folder)) is full of temporary files .\(stem).tmp-*; remove them")
}
