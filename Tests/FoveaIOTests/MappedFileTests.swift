import Foundation
import FoveaIO
import Testing

@Suite struct MappedFileTests {
    let scratch: ScratchFolder
    init() throws { scratch = try ScratchFolder() }

    @Test func givesTheBytesOfTheFile() throws {
        let file = try MappedFile(scratch.place([1, 2, 3], as: "three"))
        #expect(file.count == 3)
        #expect(file.withBytes { Array($0) } == [1, 2, 3])
    }

    @Test func anEmptyFileHasNoBytes() throws {
        let file = try MappedFile(scratch.place([], as: "empty"))
        #expect(file.count == 0)
        #expect(file.withBytes { $0.isEmpty })
    }

    @Test func aMissingFileIsNamedWithAHint() {
        let path = scratch.file("absent")
        expectFileError(path, "cannot be opened", "No such file", "check the path") { _ = try MappedFile(path) }
    }

    @Test func aFolderAPipeAndADeviceAreRefused() throws {
        expectFileError(scratch.path, "is a folder; expected a regular file") { _ = try MappedFile(scratch.path) }
        expectFileError("/dev/null", "is a device") { _ = try MappedFile("/dev/null") }
        let pipe = scratch.file("pipe")
        #expect(mkfifo(pipe, 0o600) == 0)
        // Opening a pipe that nobody writes to must not wait for somebody who does.
        expectFileError(pipe, "is a pipe") { _ = try MappedFile(pipe) }
    }

    @Test func aPathWithAZeroByteIsNotCutThere() throws {
        let path = try scratch.place([1], as: "a") + "\0b"
        let error = #expect(throws: FileError.self) { _ = try MappedFile(path) }
        #expect(error?.description.contains("zero byte") == true)
    }

    @Test(.enabled(if: geteuid() != 0, "the superuser may read everything"))
    func aFileWithoutPermissionIsNamedWithAHint() throws {
        let path = try scratch.place([1], as: "secret")
        #expect(chmod(path, 0) == 0)
        expectFileError(path, "Permission denied", "check the owner") { _ = try MappedFile(path) }
    }

    @Test func theErrorStaysOneLineWhateverThePathIs() {
        let error = FileError(path: "a\nb", problem: "is\u{2028}odd")
        #expect(error.description == "a\\u{a}b: is\\u{2028}odd")
        #expect(error.localizedDescription == error.description)
    }
}
