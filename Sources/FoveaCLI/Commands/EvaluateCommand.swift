import ArgumentParser
import Fovea

/// `fovea evaluate`: how a trained model does.
struct EvaluateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate", abstract: "Evaluate a run or a checkpoint, also under token reducers.",
        discussion: """
            With --reducer and --keep, a run on questions about pictures is tried under methods that take visual tokens \
            away, without being trained again: a line for each method and budget. Each question is answered with what its \
            own text selects. The reducers are \(ReductionMethod.all.map(\.name).joined(separator: ", ")).
            """)

    @Argument(help: ArgumentHelp("A run's folder, or a folder below its checkpoints.", valueName: "run"))
    var path: String

    @Option(help: "Which samples: train, validation or test.")
    var split = "test"

    @OptionGroup(title: "Reducers") var reduction: ReducerArguments

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var threads: ThreadOptions

    private struct Result: Encodable {
        let run: String
        let split: String
        let accuracy: Double
        let loss: Double
        let samples: Int
        let confusion: [[Int]]
        let questions: [QuestionScore]?
    }

    func run() throws {
        try threads.apply()
        guard ["train", "validation", "test"].contains(split) else {
            throw CommandError("--split \(split): expected is train, validation or test")
        }
        let run = try RunPath(path)
        try show(run, try run.recipe.experiment())
    }

    private func show<Opened: RunnableExperiment>(_ run: RunPath, _ experiment: Opened) throws {
        let saved = try SavedRun(run, of: experiment)
        let place = "\(path)\(saved.step.map { " at step \($0)" } ?? ""), \(split)"
        guard reduction.isEmpty else {
            let scores = try experiment.scores(of: saved.model, on: split, under: reduction)
            guard !json else { return printJSON(scores) }
            print(
                "\(place), \(scores[0].asked.grouped) questions, \(scores[0].unreduced.percent) right with all tokens\n\n"
                    + scores.table)
            return
        }
        let result = experiment.evaluation(of: saved.model, on: split)
        let scores = result.questions ?? []
        guard !json else {
            printJSON(
                Result(
                    run: path, split: split, accuracy: result.accuracy, loss: result.loss, samples: result.samples,
                    confusion: result.confusion.counts,
                    questions: result.questions))
            return
        }
        guard !(result.confusion.counts.isEmpty && scores.isEmpty) else {
            print(
                "\(place): \(result.accuracy.percent) of the targets' variance explained, mean squared error \(result.loss.fixed(6))"
            )
            return
        }
        let wrong = result.samples - Int((result.accuracy * Double(result.samples)).rounded())
        print(
            "\(place): accuracy \(result.accuracy.percent) (\(wrong) of \(result.samples) wrong), loss \(result.loss.fixed(4))"
        )
        print("")
        guard scores.isEmpty else {
            print(scores.table)
            return
        }
        let classes = result.confusion.counts.count
        var table = TextTable(
            ["truth ↓ answer →"] + (0..<classes).map(String.init), right: Set(1...classes))
        for (truth, row) in result.confusion.counts.enumerated() {
            table.add(["\(truth)"] + row.map { $0 == 0 ? "·" : "\($0)" })
        }
        print(table.text)
    }
}

extension [QuestionScore] {
    /// A line for each type of question.
    var table: String {
        var table = TextTable(["questions", "asked", "right", "95 % interval"], right: [1, 2, 3])
        for score in self {
            table.add([
                score.type, score.asked.grouped, score.accuracy.percent,
                "\(score.lower.percent) to \(score.upper.percent)",
            ])
        }
        return table.text
    }
}
