import Foundation
import Fovea

/// How far training is: one line that is redrawn on a terminal, a line now and then elsewhere.
final class ProgressView {
    private let total: Int
    private let batchSize: Int
    private let isInteractive = Terminal.isInteractive
    private let clock = ContinuousClock()
    private var firstStep = 0
    private var started: ContinuousClock.Instant
    private var lastDraw: ContinuousClock.Instant?
    private var loss = 0.0
    private var accuracy = 0.0
    private var seen = 0
    private var isDrawn = false

    init(total: Int, batchSize: Int) {
        self.total = total
        self.batchSize = batchSize
        started = clock.now
    }

    func show(_ event: TrainingEvent) {
        switch event {
        case .started(let step):
            firstStep = step
            started = clock.now
            if step > 0, step < total { print("going on after step \(step)") }
        case .stepped(let step, let loss, let accuracy):
            // A running mean that follows quickly at first.
            seen += 1
            let weight = max(0.02, 1 / Double(seen))
            self.loss += (loss - self.loss) * weight
            self.accuracy += (accuracy - self.accuracy) * weight
            if isInteractive { draw(step) }
        case .logged(let record):
            if !isInteractive, isMilestone(record.step) { printLine(record) }
        case .checkpointed: break
        case .skipped(let error): warn("\(error); skipped")
        case .spiked(let step, let quantity, let value, let usual):
            finish()
            print("step \(step): the \(quantity) is \(value.fixed(3)), and usually about \(usual.fixed(3))")
        case .writeFailed(let step, let error):
            warn("step \(step): \(error); the run goes on and tries again at the next checkpoint")
        }
    }

    private func warn(_ text: String) {
        finish()
        Terminal.warn(text)
    }

    /// Ends the redrawn line, so that what follows stands below it.
    func finish() {
        if isDrawn { Terminal.write("\n") }
        isDrawn = false
    }

    private func draw(_ step: Int) {
        let now = clock.now
        if let lastDraw, now - lastDraw < .milliseconds(80), step < total { return }
        lastDraw = now
        let columns = max(40, Terminal.columns)
        let share = Double(step) / Double(total)
        let tail =
            " \(step)/\(total)  loss \(loss.fixed(3))  acc \(accuracy.percent)  \(rate(step))  \(remaining(step)) left"
        let width = max(0, min(24, columns - tail.count - 1))
        let filled = Int((Double(width) * share).rounded(.down))
        let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
        Terminal.write("\r\u{1B}[2K" + String((bar + tail).prefix(columns - 1)))
        isDrawn = true
    }

    private func printLine(_ record: StepRecord) {
        var line = "step \(record.step)/\(total)  loss \(record.loss.fixed(4))  accuracy \(record.accuracy.percent)"
        for (name, loss) in (record.auxiliaryLosses ?? [:]).sorted(by: { $0.key < $1.key }) {
            line += "  \(name) \(loss.fixed(4))"
        }
        if let validation = record.validationAccuracy { line += "  validation \(validation.percent)" }
        print(line + "  \(Int(record.samplesPerSecond).grouped) pictures/s  \(remaining(record.step)) left")
    }

    /// About ten lines for a run, whatever its length.
    private func isMilestone(_ step: Int) -> Bool {
        let every = max(1, total / 10)
        return step == total
            || step / every > reported / every
                && {
                    reported = step
                    return true
                }()
    }
    private var reported = 0

    private func rate(_ step: Int) -> String {
        let seconds = elapsed
        guard seconds > 0 else { return "" }
        return "\(Int(Double((step - firstStep) * batchSize) / seconds).grouped)/s"
    }

    private func remaining(_ step: Int) -> String {
        let done = step - firstStep
        guard done > 0 else { return "?" }
        let seconds = Int((elapsed / Double(done) * Double(total - step)).rounded(.up))
        return seconds >= 3600
            ? "\(seconds / 3600):" + String(format: "%02d:%02d", seconds / 60 % 60, seconds % 60)
            : String(format: "%d:%02d", seconds / 60, seconds % 60)
    }

    private var elapsed: Double { (clock.now - started).seconds }
}
