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

    @Test("what costs more than its length lets expect is taken up to its limit, and refused beyond, with the reason")
    func limits() throws {
        let bench = try Workbench()
        func recipe(_ text: String) throws { try bench.write(text + "\ntraining: { steps: 1 }\n", to: "r.yaml") }
        func nested(_ levels: Int) -> String {
            "data: { name: " + String(repeating: "[", count: levels) + "x" + String(repeating: "]", count: levels)
                + " }"
        }
        func indented(_ levels: Int) -> String {
            "data:\n" + (1...levels).map { String(repeating: " ", count: $0) + "name:\n" }.joined()
        }
        let train = ["train", "r.yaml", "--dry-run"]
        // One bracket is that of the group.
        for (text, mentions) in [
            (nested(63), ["data.name", "not a list"]), (nested(64), ["r.yaml:1", "more than 64 brackets"]),
            (indented(60), ["data.name", "not a group"]), (indented(70), ["r.yaml:64", "more than 64 levels"]),
            ("# " + String(repeating: "? ", count: 16) + "\ndata: { nam: x }", ["data.nam"]),
            ("# " + String(repeating: "? ", count: 17) + "\ndata: { nam: x }", ["r.yaml:1", "\"?\" begins"]),
        ] {
            try recipe(text)
            try bench.refuses(train, mentions: mentions)
        }
        try recipe("data: { name: tiny }")
        let many = String(repeating: "[", count: 65)
        try bench.refuses(
            train + ["--set", "data.name=" + many], mentions: ["--set data.name", "more than 64 brackets"])
    }
}

extension Unicode.GeneralCategory {
    fileprivate var isControl: Bool { [.control, .lineSeparator, .paragraphSeparator].contains(self) }
}
