import ArgumentParser
import Foundation
import Fovea

/// `fovea train`: trains, evaluates, checkpoints and reports.
struct TrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train", abstract: "Train what a recipe describes, evaluate it and write a report.",
        discussion: """
            Values come from the recipe file, then from --set, then from the other options. A run can be stopped at any \
            moment and goes on with --resume as if it never had been.
            """)

    @Argument(help: "The recipe, such as Recipes/digits-resampler.yaml.")
    var recipe: String

    @Option(
        name: .customLong("set"), parsing: .singleValue, help: "A value over the recipe's: group.key=value. Repeatable."
    )
    var overrides: [String] = []

    @Option(name: .shortAndLong, help: "The run's folder (default: runs/<recipe name>).")
    var output: String?

    @Flag(help: "Go on with the run in the folder.")
    var resume = false

    @Flag(help: "Replace the run in the folder.")
    var overwrite = false

    @Flag(help: "Check everything and print the model, without training.")
    var dryRun = false

    @Flag(help: "Look at every value of every step; the first that is not finite names its op and module. Slow.")
    var detectAnomaly = false

    @OptionGroup var threads: ThreadOptions
    @OptionGroup var memory: MemoryOptions

    func run() throws {
        guard !(resume && overwrite) else {
            throw CommandError("--resume and --overwrite exclude each other; give one")
        }
        try threads.apply()
        let resolved = try Recipe(reading: recipe, overrides: overrides)
        try run(try resolved.experiment())
    }

    private func run<Opened: RunnableExperiment>(_ experiment: Opened) throws {
        let resolved = experiment.recipe
        // Before anything is written: weights that do not fit leave nothing behind.
        let start = resume ? nil : try experiment.startingState()
        if dryRun {
            describe(experiment)
            return
        }
        try memory.check(experiment.task, experiment.settings, experiment.initialState)
        let path = output ?? resolved.optionalText("output.folder") ?? "runs/" + resolved.name
        let opening: RunFolder.Opening = resume ? .resume : overwrite ? .overwrite : .new
        // A file that is not one of results is found before training, not after it.
        if let results = resolved.optionalText("output.results") {
            guard !Destinations.isWritten(results, byRunIn: path) else {
                throw resolved.error("output.results", "\(results) is one of the run's own files; name another")
            }
            _ = try ResultsFile(results).results()
        }
        let folder = try RunFolder(path, opening)
        if resume { try checkSameRecipe(resolved, folder) }

        var state = start ?? experiment.initialState
        let store = CheckpointStore(run: path)
        let passedOver = { (error: any Error) in Terminal.warn("this checkpoint cannot be used: \(error)") }
        if resume, try store.restore(&state, passedOver: passedOver) {
            guard state.step <= experiment.settings.steps else {
                throw CommandError(
                    "\(path): the run is at step \(state.step) already; training.steps must be at least that, not \(experiment.settings.steps)"
                )
            }
            if state.step == experiment.settings.steps, isWhole(folder, steps: state.step) {
                print("\(path) is finished: nothing to do. Raise training.steps to train on.")
                return
            }
        } else if resume {
            state = try experiment.startingState()
        }
        try writeTextAtomically(resolved.yaml, to: folder.file("recipe.yaml"))
        try experiment.saveCompanions(to: folder)
        try train(experiment, &state, folder)
    }

    /// A resumed run must be the same run; only its length may grow.
    private func checkSameRecipe(_ now: Recipe, _ folder: RunFolder) throws {
        let saved = folder.file("recipe.yaml")
        // Without a saved recipe nothing was ever trained here: the run starts at step 0.
        guard FileManager.default.fileExists(atPath: saved) else { return }
        let differences = now.differences(from: try Recipe(reading: saved))
        guard differences.isEmpty else {
            let list = differences.map { "\($0.path) is \($0.now) and was \($0.earlier)" }.joined(separator: ", ")
            throw RecipeError(
                recipe,
                "differs from the recipe of the run in \(folder.path): \(list); "
                    + "a resumed run may raise training.steps, nothing else")
        }
    }

    /// Whether the run was reported with so many steps and still has its recipe and a model that can be read. What is missing is
    /// written again, from the last checkpoint.
    private func isWhole(_ folder: RunFolder, steps: Int) -> Bool {
        guard FileManager.default.fileExists(atPath: folder.file("recipe.yaml")),
            (try? SafetensorsFile(reading: folder.file("model.safetensors"))) != nil,
            let data = FileManager.default.contents(atPath: folder.file("report.json")),
            let report = try? decoded(TrainingReport.self, from: data)
        else { return false }
        return report.steps == steps
    }

    private func describe<Opened: RunnableExperiment>(_ experiment: Opened) {
        print(experiment.model.summary())
        print("")
        print(
            "trained on \(experiment.trainingData), \(experiment.settings.steps.grouped) steps of \(experiment.task.batchSize)"
        )
        let (tokens, compressor) = (experiment.tokens, experiment.compressor(of: experiment.model))
        let (compressed, cost) = (compressor.outputShape(tokens), compressor.cost(tokens))
        let most = compressor.problem(with: tokens) == nil ? "" : "at most "
        print(
            "each picture: \(tokens.count) tokens of width \(tokens.width) → \(most)\(compressed.count) of width "
                + "\(compressed.width), \(cost.multiplyAdds.grouped) multiply-adds")
        let estimate = MemoryEstimate(of: experiment.task, experiment.settings, experiment.initialState)
        let parts = max(1, min(experiment.settings.accumulation, experiment.task.batchSize))
        let samples = (experiment.task.batchSize + parts - 1) / parts
        print("each sample: \(experiment.multiplyAdds(of: experiment.model).grouped) multiply-adds, forward")
        print(
            "memory of a step: about \(MemoryOptions.mebibytes(estimate.bytes(samples: samples))) MiB, of which "
                + "\(MemoryOptions.mebibytes(estimate.fixedBytes)) do not depend on the batch")
        print("nothing was trained (--dry-run)")
    }

    private func train<Opened: RunnableExperiment>(
        _ experiment: Opened, _ state: inout TrainingState<Opened.Task.Model>, _ folder: RunFolder
    ) throws {
        let task = experiment.task
        var settings = experiment.settings
        settings.detectsAnomalies = detectAnomaly
        let trainer = Trainer(task: task, settings: settings, folder: folder, key: experiment.key)
        let progress = ProgressView(total: settings.steps, batchSize: task.batchSize)
        Interruption.watch()
        print(
            "training \(state.model.parameterCount.grouped) parameters on \(experiment.trainingData), \(Workers.count) threads → \(folder.path)"
        )
        let outcome: TrainingOutcome
        do {
            defer { progress.finish() }
            outcome = try trainer.run(
                &state, shouldStop: { Interruption.received != nil }, observe: { progress.show($0) })
        } catch {
            tellWhatIsSafe(folder)
            throw error
        }
        if case .stopped(let step) = outcome {
            print("stopped after step \(step); the checkpoint is \(CheckpointStore(run: folder.path).path(step))")
            print("go on with: \(resumeCommand(folder))")
            throw ExitCode(128 + (Interruption.received ?? SIGINT))
        }
        try report(experiment, state, folder)
    }

    private func tellWhatIsSafe(_ folder: RunFolder) {
        if let step = CheckpointStore(run: folder.path).steps.first {
            print("the last good checkpoint is of step \(step)")
            print("go on from there with: \(resumeCommand(folder))")
        } else {
            print("there is no checkpoint yet")
        }
    }

    private func resumeCommand(_ folder: RunFolder) -> String {
        var words = ["fovea", "train", recipe]
        for override in overrides { words += ["--set", override] }
        if output != nil { words += ["--output", folder.path] }
        return (words + ["--resume"]).map(shellQuoted).joined(separator: " ")
    }

    private func report<Opened: RunnableExperiment>(
        _ experiment: Opened, _ state: TrainingState<Opened.Task.Model>, _ folder: RunFolder
    ) throws {
        let model = state.result
        // Whoever chooses settings must not see what they do to the test part.
        let judged = experiment.evaluation(of: model, on: experiment.holdsOut ? "validation" : "test")
        var report = TrainingReport(
            recipe: experiment.recipe.name, seed: experiment.recipe.integer("training.seed"), steps: state.step,
            skippedSteps: state.skippedSteps, parameters: model.parameterCount,
            test: experiment.holdsOut ? nil : judged,
            train: experiment.trainingEvaluation(of: model),
            validation: experiment.holdsOut ? judged : nil,
            trainingSeconds: state.seconds, peakMemoryBytes: max(state.peakBytes, processPeakBytes()),
            threads: Workers.count)
        let log = try MetricsLog(path: folder.file("metrics.jsonl"), upTo: state.step)
        report.auxiliaryLosses = log.records.last?.auxiliaryLosses
        report.questions = judged.questions
        try model.save(to: folder.file("model.safetensors"), metadata: ["recipe": experiment.recipe.name])
        if experiment.recipe.flag("output.curve") {
            try TrainingCurve(
                title: "\(experiment.recipe.name), seed \(report.seed)", records: log.records,
                testAccuracy: report.testAccuracy
            ).write(to: folder.file("curve.svg"))
        }
        if let results = experiment.recipe.optionalText("output.results") {
            let settings = overrides.filter { override in
                !["training.seed=", "output."].contains { override.hasPrefix($0) }
            }
            try ResultsFile(results).add(
                RunResult(
                    report, settings: settings,
                    tokens: experiment.compressor(of: model).outputShape(experiment.tokens).count,
                    multiplyAdds: experiment.multiplyAdds(of: model)))
        }
        // Last: a report says that the run is finished.
        try writeTextAtomically(encoded(report), to: folder.file("report.json"))
        print(report.headline)
        if let scores = report.questions { print(scores.table) }
        if experiment.holdsOut {
            print("the test part was not looked at (data.holdOutValidation)")
        }
        print(
            "trained \(state.step.grouped) steps in \(report.trainingSeconds.fixed(1)) s; peak memory \((Double(report.peakMemoryBytes) / 1_048_576).fixed(0)) MiB"
        )
        if state.skippedSteps > 0 { print("skipped \(state.skippedSteps.grouped) steps that were not finite") }
        if experiment.settings.keepBest > 0, let best = CheckpointStore(run: folder.path).best.first {
            print(
                "best    \(CheckpointStore(run: folder.path).path(best.step)) (validation \(best.score.accuracy.percent))"
            )
        }
        print("report  \(folder.file("report.json"))")
        if experiment.recipe.flag("output.curve") { print("curve   \(folder.file("curve.svg"))") }
        print("model   \(folder.file("model.safetensors"))")
        print("next: fovea evaluate \(shellQuoted(folder.path))")
    }
}

extension TrainingReport {
    /// What came out, in one line.
    var headline: String {
        var parts: [String] = []
        if let testAccuracy {
            let more = testSamples.flatMap { samples in
                testLoss.map { " (\(samples) answers, loss \($0.fixed(4)))" }
            }
            parts.append("test accuracy \(testAccuracy.percent)\(more ?? "")")
        }
        if let validationAccuracy { parts.append("validation accuracy \(validationAccuracy.percent)") }
        return (parts + ["training \(trainAccuracy.percent)"]).joined(separator: ", ")
    }
}

/// The word as a shell takes it.
func shellQuoted(_ word: String) -> String {
    let isPlain = !word.isEmpty && word.allSatisfy { $0.isLetter || $0.isNumber || "-_./=,:+".contains($0) }
    return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
}
