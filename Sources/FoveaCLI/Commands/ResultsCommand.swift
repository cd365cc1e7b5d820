import ArgumentParser
import Fovea

/// `fovea results`: what the runs of a results file reached.
struct ResultsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "results", abstract: "Show what the runs of a results file reached, side by side.",
        discussion: """
            A recipe with output.results adds a line to that file when a run is finished. Runs of one recipe with other \
            seeds stand in one row: the mean of what they reached, from the lowest to the highest end of their 95 % \
            intervals.
            """)

    @Argument(help: "The file, as a recipe names it in output.results.")
    var file: String

    @Flag(help: "Print JSON: the results as they are.")
    var json = false

    func run() throws {
        let results = try ResultsFile(file).results()
        guard !results.isEmpty else { throw FileError(path: file, problem: "there are no results yet") }
        guard !json else {
            printJSON(results)
            return
        }
        // What they cost and what they reached: in one table they would not fit the width of a terminal.
        var cost = TextTable(
            ["recipe", "seeds", "tokens", "parameters", "multiply-adds", "ms a step"], right: [1, 2, 3, 4, 5])
        var reached = TextTable(["recipe", "part", "questions", "right", "95 %"], right: [3])
        for group in results.grouped {
            let first = group[0]
            let name = ([first.recipe] + first.settings).joined(separator: " ")
            let milliseconds = group.map(\.secondsPerStep).mean * 1000
            cost.add([
                name, "\(group.count)", "\(first.tokens)", first.parameters.grouped, first.multiplyAdds.grouped,
                milliseconds.fixed(1),
            ])
            var lead = [name, first.part]
            let types = first.questions?.map(\.type) ?? []
            if types.isEmpty { reached.add(lead + ["all", group.map(\.accuracy).mean.percent, ""]) }
            for type in types {
                let scores = group.compactMap { $0.questions?.first { $0.type == type } }
                let (lower, upper) = (scores.map(\.lower).min() ?? 0, scores.map(\.upper).max() ?? 1)
                reached.add(
                    lead + [type, scores.map(\.accuracy).mean.percent, "\(lower.percent) to \(upper.percent)"])
                lead = lead.map { _ in "" }
            }
        }
        print(cost.text + "\n\n" + reached.text)
    }
}

extension [RunResult] {
    /// Those of one recipe with the same settings, whatever the seed, in the order of the first.
    fileprivate var grouped: [[RunResult]] {
        reduce(into: []) { groups, result in
            let place = groups.firstIndex {
                ($0[0].recipe, $0[0].settings, $0[0].part) == (result.recipe, result.settings, result.part)
            }
            if let place { groups[place].append(result) } else { groups.append([result]) }
        }
    }
}

extension [Double] {
    fileprivate var mean: Double { isEmpty ? 0 : reduce(0, +) / Double(count) }
}
