import Foundation
import FoveaIO
import Testing

@Suite struct AtomicFileTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test func writesAndReplaces() throws {
        try writeTextAtomically("one", to: scratch.file("note"))
        try writeTextAtomically("zwölf", to: scratch.file("note"))
        #expect(try scratch.bytes(of: "note") == Array("zwölf".utf8))
        #expect(scratch.names == ["note"])
    }

    @Test func piecesOfEverySizeArriveInOrder() throws {
        var expected: [UInt8] = []
        var total = 0
        try writeAtomically(to: scratch.file("pieces")) { sink throws(FileError) in
            for size in [0, 1, 65_535, 65_536, 1, 65_537, 200_000, 3, 65_533, 70_000] {
                let piece = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ size) }
                try sink.write(piece)
                expected += piece
            }
            total = sink.byteCount
        }
        #expect(total == expected.count)
        #expect(try scratch.bytes(of: "pieces") == expected)
    }

    @Test func anErrorInTheMiddleLeavesTheOldFileAndNothingElse() throws {
        let path = try scratch.place([1, 2], as: "kept")
        expectFileError(path, "no more") {
            try writeAtomically(to: path) { sink throws(FileError) in
                try sink.write([UInt8](repeating: 7, count: 100_000))
                throw FileError(path: path, problem: "no more")
            }
        }
        #expect(try scratch.bytes(of: "kept") == [1, 2])
        #expect(scratch.names == ["kept"])
    }

    @Test func aMissingFolderIsNamedWithAHint() {
        let path = scratch.file("absent/note")
        expectFileError(path, "cannot be written in the folder", "absent", "No such file", "its folder exists") {
            try writeTextAtomically("", to: path)
        }
    }

    @Test func aFolderThatIsAFileIsNamedWithAHint() throws {
        let path = try scratch.place([], as: "file") + "/note"
        expectFileError(path, "Not a directory", "where a folder was expected") {
            try writeTextAtomically("", to: path)
        }
    }

    @Test(.enabled(if: geteuid() != 0, "the superuser may write everywhere"))
    func aFolderWithoutPermissionIsNamedWithAHint() throws {
        #expect(chmod(scratch.path, 0o500) == 0)
        defer { chmod(scratch.path, 0o700) }
        let path = scratch.file("note")
        expectFileError(path, "Permission denied", "check the owner") { try writeTextAtomically("", to: path) }
    }

    @Test(.enabled(if: geteuid() != 0, "the superuser may write everywhere"))
    func aFileWithoutPermissionIsNotReplaced() throws {
        let path = try scratch.place([1, 2], as: "kept")
        #expect(chmod(path, 0o400) == 0)
        expectFileError(path, "may not be replaced", "Permission denied") { try writeTextAtomically("", to: path) }
        #expect(try scratch.bytes(of: "kept") == [1, 2])
    }

    #if os(Linux)
    @Test func aFolderThatTakesNoFilesIsAnError() {
        expectFileError("/proc/fovea", "cannot be written in the folder") {
            try writeTextAtomically("", to: "/proc/fovea")
        }
    }
    #endif

    @Test(arguments: ["", "/", ".", "..", "/dev/null"])
    func whatIsNoFileIsNotReplaced(path: String) {
        let error = #expect(throws: FileError.self) { try writeTextAtomically("", to: path) }
        #expect(error?.problem.contains("expected") == true)
    }

    @Test func aFolderIsNotReplaced() throws {
        expectFileError(scratch.path, "is a folder") { try writeTextAtomically("", to: scratch.path) }
        let path = scratch.file("new/")
        expectFileError(path, "names no file") { try writeTextAtomically("", to: path) }
    }

    @Test func permissionsStayAndLinksAreFollowed() throws {
        let path = try scratch.place([1], as: "target")
        #expect(chmod(path, 0o640) == 0)
        try FileManager.default.createSymbolicLink(atPath: scratch.file("link"), withDestinationPath: "target")
        try writeTextAtomically("new", to: scratch.file("link"))
        #expect(try scratch.bytes(of: "target") == Array("new".utf8))
        #expect(try FileManager.default.destinationOfSymbolicLink(atPath: scratch.file("link")) == "target")
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o640)
    }

    @Test func aNameOfTheFullLengthIsPossible() throws {
        let name = String(repeating: "ä", count: 127)
        try writeTextAtomically("x", to: scratch.file(name))
        #expect(scratch.names.count == 1)
    }

    @Test func aNameInThePresentFolderIsPossible() throws {
        // The folder of a bare name is ".".
        let name = "fovea-io-\(UUID().uuidString)"
        defer { unlink(name) }
        try writeTextAtomically("x", to: name)
        #expect(FileManager.default.contents(atPath: name) == Data("x".utf8))
    }

    @Test func manyThreadsMayWriteTheSameFile() async throws {
        let path = scratch.file("shared")
        await withTaskGroup { group in
            for number in 0..<16 {
                group.addTask {
                    let text = String(repeating: "\(number % 10)", count: 10_000)
                    #expect(throws: Never.self) { try writeTextAtomically(text, to: path) }
                }
            }
        }
        let bytes = try scratch.bytes(of: "shared")
        #expect(bytes.count == 10_000)
        #expect(Set(bytes).count == 1)
        #expect(scratch.names == ["shared"])
    }
}
