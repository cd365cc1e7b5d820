import Foundation

/// What libFuzzer calls with each input.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    Fuzzing.shared.run(UnsafeRawBufferPointer(start: start, count: count))
    return 0
}

/// The package manager gives the main function of an executable the executable's name, where libFuzzer has its own: this
/// one does what that does.
@_cdecl("FuzzReaders_main")
public func runFuzzer(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt {
    var (count, arguments) = (count, arguments)
    return runFuzzer(&count, &arguments, fuzzOneInput)
}

/// Calls `body` with inputs until the options say that it is enough.
@_silgen_name("LLVMFuzzerRunDriver")
private func runFuzzer(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// The reader of this process (`FOVEA_FUZZ_READER`), and the file that it reads each input from.
///
/// Readers map files, so that there is one, in a file system in memory where the machine has one.
struct Fuzzing: Sendable {
    static let shared = Fuzzing()

    private let reader: FileReader
    private let folder: String

    private init() {
        let name = ProcessInfo.processInfo.environment["FOVEA_FUZZ_READER"] ?? ""
        guard let reader = FileReader(rawValue: name) else {
            let known = FileReader.allCases.map(\.rawValue).joined(separator: " ")
            fatalError("FOVEA_FUZZ_READER is \"\(name)\"; expected is one of \(known)")
        }
        self.reader = reader
        let memory = "/dev/shm"
        let place = access(memory, W_OK) == 0 ? memory : NSTemporaryDirectory()
        folder = place + "/fovea-fuzz-\(name)-\(getpid())"
        guard mkdir(folder, 0o700) == 0 else { fatalError("\(folder) cannot be made") }
        do {
            try reader.prepare(folder)
        } catch {
            fatalError("\(error)")
        }
    }

    func run(_ bytes: UnsafeRawBufferPointer) {
        read(bytes)
        // Checksums would keep nearly every change from going further: it gets a second chance with those that fit.
        if let repaired = reader.repaired(bytes) { repaired.withUnsafeBytes(read) }
    }

    private func read(_ bytes: UnsafeRawBufferPointer) {
        let path = folder + "/" + reader.fileName
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        guard descriptor >= 0, write(descriptor, bytes.baseAddress, bytes.count) == bytes.count else {
            fatalError("\(path) cannot be written")
        }
        close(descriptor)
        do {
            try reader.read(path)
        } catch {
            // An error is what hostile bytes should come to, as one line.
            let text = "\(error)"
            guard !text.isEmpty, !text.contains(where: \.isNewline) else { fatalError("not one line: \(text)") }
        }
    }
}
