import ArgumentParser
import Fovea

/// How much memory a command may take.
struct MemoryOptions: ParsableArguments {
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "The most memory to train with, such as 2G or 500M; a run that would need more does not start.",
            valueName: "size"))
    var memoryLimit: String?

    /// Measures a step of few samples, and refuses a run that would need more than the limit.
    func check<Task: TrainingTask>(
        _ task: Task, _ settings: TrainingSettings, _ state: TrainingState<Task.Model>
    ) throws {
        guard let memoryLimit else { return }
        guard let limit = MemoryOptions.bytes(memoryLimit), limit > 0 else {
            throw CommandError("--memory-limit \(memoryLimit): expected is a size such as 2G, 500M or 800000K")
        }
        // The program, the data and the first weights are there already.
        let before = processPeakBytes()
        let estimate = MemoryEstimate(of: task, settings, state)
        let parts = max(1, min(settings.accumulation, task.batchSize))
        let needed = before + estimate.bytes(samples: (task.batchSize + parts - 1) / parts)
        guard needed > limit else { return }
        let problem =
            "--memory-limit \(memoryLimit): training would take about \(MemoryOptions.mebibytes(needed)) MiB, of which "
            + "\(MemoryOptions.mebibytes(before + estimate.fixedBytes)) do not depend on the batch"
        var ways: [String] = []
        func inParts(_ samples: Int) -> String {
            "training.accumulation: \((task.batchSize + samples - 1) / samples)"
        }
        let samples = estimate.samples(within: limit - before)
        if samples >= 1 {
            ways.append(inParts(samples) + " computes each batch in parts that fit")
            ways.append("training.batchSize: \(samples) makes it smaller")
        }
        if !settings.recomputesLayers {
            var saving = settings
            saving.recomputesLayers = true
            let estimate = MemoryEstimate(of: task, saving, state)
            let least = before + estimate.bytes(samples: (task.batchSize + parts - 1) / parts)
            let samples = estimate.samples(within: limit - before)
            if least <= limit {
                ways.append("training.recompute: true takes more time and about \(MemoryOptions.mebibytes(least)) MiB")
            } else if samples >= 1, ways.isEmpty {
                ways.append("training.recompute: true with \(inParts(samples)) takes more time and fits")
            }
        }
        if ways.isEmpty { ways.append("a smaller model.width, or training.optimizer: sgd, takes less") }
        throw CommandError(problem + "; " + ways.joined(separator: ", or "))
    }

    /// Bytes of a number with K, M, G or T behind it, with or without B or iB; units of 1024.
    static func bytes(_ text: String) -> Int? {
        let units = ["": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40]
        let digits = text.prefix { $0.isNumber || $0 == "." }
        let unit = text.dropFirst(digits.count).uppercased().replacing("IB", with: "").replacing("B", with: "")
        guard let number = Double(digits), let size = units[unit], number * Double(size) < 1e15 else { return nil }
        return Int(number * Double(size))
    }

    static func mebibytes(_ bytes: Int) -> String { ((bytes + (1 << 20) - 1) >> 20).grouped }
}
