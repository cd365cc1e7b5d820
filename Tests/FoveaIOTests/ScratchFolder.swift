import Foundation
import FoveaIO
import Testing

/// A folder of its own for one test, removed afterwards.
final class ScratchFolder {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "fovea-io-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes a file as it is, without the library under test, and returns its path.
    @discardableResult
    func place(_ bytes: [UInt8], as name: String) throws -> String {
        try Data(bytes).write(to: URL(fileURLWithPath: file(name)))
        return file(name)
    }

    func bytes(of name: String) throws -> [UInt8] { try [UInt8](Data(contentsOf: URL(fileURLWithPath: file(name)))) }

    /// What is in the folder, hidden files too.
    var names: [String] { ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted() }
}

func isOneLine(_ text: String) -> Bool { !text.contains { $0.isNewline } }

/// Expects a `FileError` in one line that begins with the path and contains each of the fragments.
func expectFileError(
    _ path: String, _ fragments: String..., sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
    let error = #expect(throws: FileError.self, sourceLocation: sourceLocation) { try body() }
    guard let error else { return }
    #expect(error.path == path, sourceLocation: sourceLocation)
    #expect(error.description.hasPrefix(path), sourceLocation: sourceLocation)
    #expect(isOneLine(error.description), sourceLocation: sourceLocation)
    for fragment in fragments {
        #expect(error.description.contains(fragment), sourceLocation: sourceLocation)
    }
}
