import Foundation

/// What libFuzzer calls with each input. `FOVEA_FUZZ_READER` says which reader gets it.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    Fuzzing.shared.run(UnsafeRawBufferPointer(start: start, count: count))
    return 0
}

/// The reader of this process, and the file that it reads each input from.
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
        folder = NSTemporaryDirectory() + "fovea-fuzz-\(name)-\(getpid())"
        guard mkdir(folder, 0o700) == 0 else { fatalError("\(folder) cannot be made") }
        reader.prepare(folder)
    }

    func run(_ bytes: UnsafeRawBufferPointer) {
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
            precondition(!text.contains("\n") && !text.isEmpty, "not one line: \(text)")
        }
    }
}
