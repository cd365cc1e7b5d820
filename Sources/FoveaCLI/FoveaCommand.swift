import ArgumentParser
import Foundation
import Fovea

/// The command `fovea`.
@main
struct FoveaCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fovea",
        abstract: "Train, check and export modules that compress visual tokens.",
        version: foveaVersion,
        subcommands: [
            TrainCommand.self, EvaluateCommand.self, ExportCommand.self, ApplyCommand.self, ModulesCommand.self,
            CompressCommand.self,
            InspectCommand.self, GradcheckCommand.self, BenchCommand.self, DataCommand.self,
            GenerateCommand.self, ResultsCommand.self,
        ])

    /// Like the parser's own `main`, but whatever goes wrong is one line on standard error. Failures exit with 1,
    /// mistakes in the arguments with 64, as the parser has it.
    static func main() {
        Terminal.writeLinesAtOnce()
        Interruption.endOnClosedOutput()
        Interruption.endOnShortenedFile()
        Interruption.endWithoutMemory()
        do {
            var command = try parseAsRoot()
            try command.run()
            guard !Terminal.hasLostOutput else { throw CommandError("standard output cannot be written") }
        } catch let error where isFailure(error) {
            fail(String(describing: error), exitCode: 1)
        } catch let error where exitCode(for: error) == .validationFailure {
            let asked = CommandLine.arguments.dropFirst().first { word in
                configuration.subcommands.contains { $0.configuration.commandName == word }
            }
            let help = ["fovea", asked, "--help"].compactMap(\.self).joined(separator: " ")
            fail(message(for: error) + "; see \(help)", exitCode: exitCode(for: error).rawValue)
        } catch {
            exit(withError: error)
        }
    }

    private static func isFailure(_ error: any Error) -> Bool {
        error is FileError || error is RecipeError || error is WeightsError || error is ModuleInputError
            || error is NotFiniteError || error is OptimizerStateError || error is LanguageModelError
            || error is CommandError
    }

    private static func fail(_ message: String, exitCode: Int32) -> Never {
        // What is quoted may be of any length; what went wrong stands at either end.
        Terminal.writeError("fovea: error: \(message.shortened(to: 1000))")
        Foundation.exit(exitCode)
    }
}

/// A failure that no other error type tells.
struct CommandError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// How many threads to use, for every command that computes.
struct ThreadOptions: ParsableArguments {
    // Unconditional: -1 is a number that is out of range, not an option that is unknown.
    @Option(parsing: .unconditional, help: "Threads that share the work (default: all cores).")
    var threads: Int?

    func apply() throws {
        guard let threads else { return }
        guard (1...1024).contains(threads) else {
            throw CommandError("--threads \(threads): expected a number of threads from 1 to 1024")
        }
        Workers.count = threads
    }
}

/// Prints a value as JSON.
func printJSON(_ value: some Encodable) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(value) else { return }
    print(String(decoding: data, as: UTF8.self))
}
