#if DEBUG
import FoveaTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Lets changes of files fail, or kills the process in the middle of one: how tests see what a full disk or a kill
/// leaves behind. Debug builds alone have it.
///
/// A change is a file created, a piece of it written, a flush, a rename, or a folder made. Of a piece that fails, half
/// is written. Another process is told by its environment, `FOVEA_WRITE_FAULTS=full:7-9` for the seventh to the ninth
/// change, `kill:7` for the seventh, `read-only:7-` from the seventh on.
package final class WriteFaults: Sendable {
    /// What happens instead of a change.
    package enum Effect: Sendable, Equatable {
        case failure(code: Int32)
        case kill
    }

    /// One change, and the file or folder that it belongs to; of a rename the new name.
    package struct Noted: Sendable, Equatable {
        package let kind: Disk.Change
        package let path: String

        package init(_ kind: Disk.Change, _ path: String) {
            self.kind = kind
            self.path = path
        }
    }

    private let folder: String
    private let numbers: ClosedRange<Int>
    private let effect: Effect
    private let noted = Lock<[Noted]>([])

    /// - Parameters:
    ///   - effect: what happens.
    ///   - numbers: instead of which changes, counted from 1; 0 for none.
    ///   - folder: where changes are counted; everywhere unless given.
    package init(_ effect: Effect, at numbers: ClosedRange<Int>, below folder: String = "") {
        self.effect = effect
        self.numbers = numbers
        self.folder = folder
    }

    /// The changes that there have been, those among them that failed too.
    package var changes: [Noted] { noted.withLock { $0 } }

    private static let active = Lock<[WriteFaults]>(fromEnvironment.map { [$0] } ?? [])

    /// Runs `body` with these faults, on every thread.
    package func injected<Result>(_ body: () throws -> Result) rethrows -> Result {
        WriteFaults.active.withLock { $0.append(self) }
        defer { WriteFaults.active.withLock { $0.removeAll { $0 === self } } }
        return try body()
    }

    /// What the next change shall fail with, if it shall.
    static func next(_ kind: Disk.Change, _ path: String, partly: () -> Void = {}) -> Int32? {
        var code: Int32?
        for faults in active.withLock({ $0 }) where path.hasPrefix(faults.folder) {
            let number = faults.noted.withLock { changes in
                changes.append(Noted(kind, path))
                return changes.count
            }
            guard faults.numbers.contains(number) else { continue }
            partly()
            switch faults.effect {
            case .failure(let failure): code = failure
            case .kill: kill(getpid(), SIGKILL)
            }
        }
        return code
    }

    private static var fromEnvironment: WriteFaults? {
        guard let text = getenv("FOVEA_WRITE_FAULTS").map({ String(cString: $0) }) else { return nil }
        let parts = text.split(separator: ":")
        let effects: [String: Effect] = [
            "kill": .kill, "full": .failure(code: ENOSPC), "quota": .failure(code: EDQUOT),
            "read-only": .failure(code: EROFS), "failing": .failure(code: EIO),
        ]
        guard parts.count == 2, let effect = effects[String(parts[0])] else { return nil }
        let ends = parts[1].split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard let first = ends[0] else { return nil }
        return WriteFaults(effect, at: first...max(first, ends.count < 2 ? first : ends[1] ?? .max))
    }
}
#endif
