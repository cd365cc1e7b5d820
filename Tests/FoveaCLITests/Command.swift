import Foundation

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The executable `fovea`, run as a child process.
enum Command {
    /// What a run of the command came to.
    struct Outcome {
        /// What it exited with; nil where a signal ended it.
        let exitCode: Int32?
        /// The signal that ended it.
        let signal: Int32?
        let output: String
        let errors: String
        /// Whether it had to be killed because it took too long.
        let timedOut: Bool

        /// All of it, for the message of a failed expectation.
        var summary: String {
            let end =
                timedOut ? "took too long" : signal.map { "ended by signal \($0)" } ?? "exit code \(exitCode ?? -1)"
            return "\(end)\nstandard output: \(output)\nstandard error: \(errors)"
        }
    }

    /// A command that cannot be run at all.
    struct Missing: Error, CustomStringConvertible {
        let description: String
    }

    /// Seconds after which a command counts as one that never ends: plenty, since sanitizers and busy machines take theirs.
    static let patience = 1800.0

    /// Runs the command to its end.
    static func run(
        _ arguments: [String], in folder: String, environment: [String: String] = [:], seconds: Double = patience
    ) throws -> Outcome {
        try start(arguments, in: folder, environment: environment).wait(seconds: seconds)
    }

    /// Starts the command and returns at once.
    static func start(
        _ arguments: [String], in folder: String, environment: [String: String] = [:]
    ) throws -> Running {
        try Running(arguments, in: folder, environment: environment)
    }

    /// Where the executable is: beside the test bundle in the folder of the build, whatever configuration was built.
    static let executable: Result<String, Missing> = {
        var starts = Bundle.allBundles.map(\.bundlePath)
        starts += [CommandLine.arguments.first, Bundle.main.executablePath].compactMap(\.self)
        for start in starts {
            var folder = URL(fileURLWithPath: start).resolvingSymlinksInPath()
            // On macOS the tests are some folders deep inside the bundle.
            for _ in 0..<5 {
                folder.deleteLastPathComponent()
                let candidate = folder.appendingPathComponent("fovea").path
                var isDirectory: ObjCBool = false
                if FileManager.default.fileExists(atPath: candidate, isDirectory: &isDirectory), !isDirectory.boolValue,
                    FileManager.default.isExecutableFile(atPath: candidate)
                {
                    return .success(candidate)
                }
            }
        }
        return .failure(Missing(description: "no executable fovea beside the tests; looked near \(starts)"))
    }()
}

/// A command on its way.
final class Running {
    private let process = Process()
    private let ended = DispatchSemaphore(value: 0)
    private let outputFile: URL
    private let errorFile: URL

    /// Output goes to files: unlike a pipe, a file never makes the child wait for the test, and what was written before
    /// a kill is there to be read.
    fileprivate init(_ arguments: [String], in folder: String, environment: [String: String]) throws {
        let place = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-command-\(UUID().uuidString)")
        outputFile = place.appendingPathExtension("out")
        errorFile = place.appendingPathExtension("err")
        for file in [outputFile, errorFile] { try Data().write(to: file) }
        process.executableURL = URL(fileURLWithPath: try Command.executable.get())
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        // A crash is to be one signal, not half a second of stack traces.
        process.environment = ProcessInfo.processInfo.environment
            .merging(["SWIFT_BACKTRACE": "enable=no"]) { $1 }.merging(environment) { $1 }
        process.standardInput = FileHandle.nullDevice
        let (output, error) = (try FileHandle(forWritingTo: outputFile), try FileHandle(forWritingTo: errorFile))
        process.standardOutput = output
        process.standardError = error
        process.terminationHandler = { [ended] _ in ended.signal() }
        try process.run()
        // The child has its own. A process object outlives its last reference here, and with some 1,350 files open
        // `run` reads behind the list of them.
        try output.close()
        try error.close()
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        for file in [outputFile, errorFile] { try? FileManager.default.removeItem(at: file) }
    }

    var isRunning: Bool { process.isRunning }

    /// What it has printed so far.
    var output: String { text(outputFile) }

    /// Sends a signal to the process.
    func send(_ signal: Int32) { kill(process.processIdentifier, signal) }

    /// Waits for the end, and kills the process when that takes longer than `seconds`.
    func wait(seconds: Double = Command.patience) -> Command.Outcome {
        let inTime = ended.wait(timeout: .now() + seconds) == .success
        if !inTime {
            send(SIGKILL)
            ended.wait()
        }
        let code = process.terminationStatus
        let isExit = process.terminationReason == .exit
        return Command.Outcome(
            exitCode: isExit ? code : nil, signal: isExit ? nil : code, output: output, errors: text(errorFile),
            timedOut: !inTime)
    }

    /// Waits until something is so, or the process has ended, or `seconds` are over; tells whether it is so.
    func waits(until isSo: () -> Bool, seconds: Double = Command.patience) -> Bool {
        let deadline = Date(timeIntervalSinceNow: seconds)
        while Date() < deadline {
            if isSo() { return true }
            guard isRunning else { return isSo() }
            usleep(500)
        }
        return false
    }

    private func text(_ file: URL) -> String {
        String(decoding: (try? Data(contentsOf: file)) ?? Data(), as: UTF8.self)
    }
}
