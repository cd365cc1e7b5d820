import Foundation
import Testing

@Suite("Hostile recipes")
struct HostileRecipeTests {
    private static let corpus = Workbench.project + "/Tests/Fixtures/hostile/recipe"

    @Test("each is refused in one line of plain text, without a crash and in no time, or taken where it is sound")
    func corpus() throws {
        let bench = try Workbench()
        try bench.prepare()
        let files = try FileManager.default.contentsOfDirectory(atPath: Self.corpus).sorted()
        #expect(files.count >= 20)
        for file in files {
            try bench.write(try Data(contentsOf: URL(fileURLWithPath: "\(Self.corpus)/\(file)")), to: "hostile.yaml")
            let arguments = ["train", "hostile.yaml", "--dry-run"]
            guard file.hasPrefix("refused") else {
                try bench.prints(arguments)
                continue
            }
            let running = try Command.start(arguments, in: bench.path)
            guard running.waits(until: { !running.isRunning }) else {
                running.send(SIGKILL)
                Issue.record("\(file) takes without end")
                continue
            }
            let outcome = running.wait()
            #expect(outcome.exitCode == 1, "\(file): \(outcome.summary)")
            #expect(outcome.errors.hasPrefix("fovea: error: hostile.yaml"), "\(file): \(outcome.errors)")
            let isPlain = outcome.errors.dropLast().unicodeScalars.allSatisfy {
                !$0.properties.generalCategory.isControl
            }
            #expect(isPlain && outcome.errors.hasSuffix("\n"), "\(file): \(outcome.errors)")
        }
    }
}

extension Unicode.GeneralCategory {
    fileprivate var isControl: Bool { [.control, .lineSeparator, .paragraphSeparator].contains(self) }
}
