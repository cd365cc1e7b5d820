import Foundation
import FoveaIO

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The folder of one training run, held by this process alone.
///
///     recipe.yaml         the resolved recipe
///     metrics.jsonl       one line for each logged step
///     checkpoints/        the newest complete states of the run
///     model.safetensors   the finished model
///     curve.svg           loss and accuracy over the steps
///     report.json         what came out
///
/// The lock is an advisory one on `.lock`: the system takes it away when the process dies, however it dies.
public final class RunFolder: Sendable {
    /// Where it is.
    public let path: String
    private let lock: Int32

    /// What this kind of folder holds, in the order of removal. Only these are ever removed.
    ///
    /// The recipe goes last and the records after the checkpoints that count on them: whenever a removal is cut short,
    /// what is left is a run that resumes, and under its own recipe only.
    private static let contents = [
        "report.json", "curve.svg", "model.safetensors", "checkpoints", "metrics.jsonl", "recipe.yaml",
    ]

    /// How a run deals with what is in the folder already.
    public enum Opening: Sendable {
        /// There must be no run in the folder; other files may be.
        case new
        /// What an earlier run left is removed; other files stay.
        case overwrite
        /// The folder must exist.
        case resume
    }

    /// Opens the folder and takes its lock.
    ///
    /// - Throws: `FileError` when the folder is in use, exists against `.new`, is missing against `.resume`, or cannot
    ///   be written.
    public init(_ path: String, _ opening: Opening) throws(FileError) {
        self.path = path
        var isDirectory: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
        if exists, !isDirectory.boolValue {
            throw FileError(
                path: path, problem: "is a file; a folder for the run is needed: name another with --output")
        }
        switch opening {
        case .resume where !exists:
            throw FileError(path: path, problem: "there is no run to resume; leave --resume out to start one")
        case _ where exists && !RunFolder.isRun(path):
            // A published model has files of the same name.
            guard
                let name = RunFolder.contents.first(where: { FileManager.default.fileExists(atPath: path + "/" + $0) })
            else { break }
            throw FileError(
                path: path, problem: "holds \(name), and no run that it is of; name another folder with --output")
        case .new where exists:
            throw FileError(path: path, problem: "holds a run already; --resume continues it, --overwrite replaces it")
        default: break
        }
        if let reason = makeFolders(path) {
            throw FileError(path: path, problem: "the folder cannot be made (\(reason)); name another with --output")
        }
        lock = open(path + "/.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else {
            throw FileError(
                path: path,
                problem: "cannot be written (\(String(cString: strerror(errno)))); name another folder with --output")
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            // `deinit` runs, and closes it.
            throw FileError(
                path: path,
                problem: "another process is training in this folder; wait for it or name another with --output")
        }
        try removeLeftovers()
        if opening == .overwrite {
            for name in RunFolder.contents where FileManager.default.fileExists(atPath: path + "/" + name) {
                try remove(name)
            }
        }
    }

    /// Removes the temporary files of writes that a kill cut short.
    private func removeLeftovers() throws(FileError) {
        for name in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        where RunFolder.contents.contains(where: { name.hasPrefix(".\($0).tmp-") }) {
            try remove(name)
        }
    }

    private func remove(_ name: String) throws(FileError) {
        do {
            try FileManager.default.removeItem(atPath: path + "/" + name)
        } catch {
            throw FileError(path: path + "/" + name, problem: "cannot be removed (\(systemReason(error)))")
        }
    }

    deinit {
        // Also of a folder that could not be opened: then there may be no lock.
        guard lock >= 0 else { return }
        // Not left to `close` alone: a process that is just being started may have a copy of the descriptor.
        flock(lock, LOCK_UN)
        close(lock)
    }

    /// Makes sure that this is still the folder that was opened.
    ///
    /// - Throws: `FileError` when it was removed, moved away or replaced; then another process may have its name.
    func requireHeld() throws(FileError) {
        var (held, found) = (stat(), stat())
        guard fstat(lock, &held) == 0, stat(path + "/.lock", &found) == 0, held.st_ino == found.st_ino,
            held.st_dev == found.st_dev
        else {
            throw FileError(
                path: path,
                problem:
                    "the run's folder, or the .lock in it, was removed or replaced; what is trained cannot be saved "
                    + "until it is back")
        }
    }

    /// The path of one of the run's files.
    public func file(_ name: String) -> String { path + "/" + name }

    /// Whether a folder is that of a run: it has what a run writes first, or what it goes on from.
    public static func isRun(_ path: String) -> Bool {
        ["recipe.yaml", "checkpoints", "metrics.jsonl"].contains {
            FileManager.default.fileExists(atPath: path + "/" + $0)
        }
    }

    /// Whether a run writes this, by its name in the folder: a file, or what is in one of its folders.
    public static func writes(_ name: String) -> Bool {
        contents.contains { name == $0 || name.hasPrefix($0 + "/") }
    }
}

/// Makes a folder and those that it is in, where they are missing.
///
/// Foundation does this too, but keeps the system's reason to itself.
///
/// - Returns: why it cannot be made, or nil.
func makeFolders(_ path: String) -> String? {
    guard !path.isEmpty else { return "its name is empty" }
    let end = path.utf8.endIndex
    for place in path.utf8.indices.dropFirst().filter({ path.utf8[$0] == UInt8(ascii: "/") }) + [end] {
        guard mkdir(String(path[..<place]), 0o777) != 0 else { continue }
        let code = errno
        var status = stat()
        let exists = stat(String(path[..<place]), &status) == 0
        guard exists, status.st_mode & S_IFMT == S_IFDIR else {
            return exists ? "\(path[..<place]) is a file" : String(cString: strerror(code))
        }
    }
    return nil
}

/// What the system says about a failed file operation, in one line.
func systemReason(_ error: any Error) -> String {
    var reason: NSError? = error as NSError
    while let current = reason {
        if current.domain == NSPOSIXErrorDomain { return String(cString: strerror(Int32(current.code))) }
        reason = current.userInfo[NSUnderlyingErrorKey] as? NSError
    }
    return (error as NSError).localizedDescription
}
