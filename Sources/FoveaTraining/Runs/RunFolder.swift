import FoveaIO
import Foundation

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

    /// What this kind of folder holds. Only these are ever removed.
    private static let contents = [
        "recipe.yaml", "metrics.jsonl", "checkpoints", "model.safetensors", "curve.svg", "report.json",
    ]

    /// How a run deals with what is in the folder already.
    public enum Opening: Sendable {
        /// The folder must be new or empty.
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
            throw FileError(path: path, problem: "is a file; a folder for the run is needed: name another with --output")
        }
        switch opening {
        case .resume where !exists:
            throw FileError(path: path, problem: "there is no run to resume; leave --resume out to start one")
        case .new where exists && RunFolder.holdsRun(path):
            throw FileError(path: path, problem: "holds a run already; --resume continues it, --overwrite replaces it")
        default: break
        }
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw FileError(path: path, problem: "the folder cannot be made (\(systemReason(error))); name another with --output")
        }
        lock = open(path + "/.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else {
            throw FileError(path: path, problem: "cannot be written (\(String(cString: strerror(errno)))); name another folder with --output")
        }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            // `deinit` runs, and closes it.
            throw FileError(path: path, problem: "another process is training in this folder; wait for it or name another with --output")
        }
        if opening == .overwrite {
            for name in RunFolder.contents where FileManager.default.fileExists(atPath: path + "/" + name) {
                do {
                    try FileManager.default.removeItem(atPath: path + "/" + name)
                } catch {
                    throw FileError(path: path + "/" + name, problem: "cannot be removed (\(systemReason(error)))")
                }
            }
        }
    }

    deinit { close(lock) }

    /// The path of one of the run's files.
    public func file(_ name: String) -> String { path + "/" + name }

    /// Whether the folder has anything that a run writes.
    public static func holdsRun(_ path: String) -> Bool {
        contents.contains { FileManager.default.fileExists(atPath: path + "/" + $0) }
    }
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
