import ArgumentParser
import Fovea

/// `fovea bench`: how long ops, modules and training steps take.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Time ops, modules and training steps.",
        discussion:
            "float32, random data. Each runs for about a second after a warm-up; compare medians of several runs.")

    @Argument(
        help: ArgumentHelp(
            "Which benchmarks (default: all but resampler-step.tokens-*, reduce.*, prefill.* and replay.*).",
            valueName: "name"))
    var names: [String] = []

    // Unconditional here and in other commands: -1 is a number that is out of range, not an option that is unknown.
    @Option(parsing: .unconditional, help: "Seconds to measure each for.")
    var seconds = 1.0

    @Flag(help: "Print JSON.")
    var json = false

    @OptionGroup var threads: ThreadOptions

    private struct Measurement: Encodable {
        let name: String
        let iterations: Int
        let minMilliseconds: Double
        let medianMilliseconds: Double
        let gigaflopsPerSecond: Double
        let peakBytes: Int
    }

    func run() throws {
        try threads.apply()
        guard seconds > 0, seconds <= 3600 else {
            throw CommandError("--seconds \(seconds): expected is a time above 0, up to 3600")
        }
        let known = Benchmark.all + Benchmark.byVisualTokens + Benchmark.reducers + Benchmark.inDecoder
        if let stray = names.first(where: { name in !known.contains { $0.name == name } }) {
            throw CommandError(
                "bench: there is no benchmark \"\(stray)\"" + suggestion(for: stray, among: known.map(\.name)))
        }
        let chosen = names.isEmpty ? Benchmark.all : known.filter { names.contains($0.name) }
        var measurements: [Measurement] = []
        if !json { print("instruction set \(instructionSet), threads \(Workers.count)") }
        for benchmark in chosen { measurements.append(measure(benchmark)) }
        if json {
            printJSON(measurements)
            return
        }
        var table = TextTable(["name", "min ms", "median ms", "GFLOP/s", "peak MiB"], right: [1, 2, 3, 4])
        for m in measurements {
            table.add([
                m.name, m.minMilliseconds.fixed(3), m.medianMilliseconds.fixed(3),
                m.gigaflopsPerSecond == 0 ? "–" : m.gigaflopsPerSecond.fixed(1),
                (Double(m.peakBytes) / 1_048_576).fixed(1),
            ])
        }
        print(table.text)
    }

    private func measure(_ benchmark: Benchmark) -> Measurement {
        StoragePool.trim()
        let work = benchmark.prepare()
        let clock = ContinuousClock()
        work()
        // What one run multiplies, as the kernels count it; 0 where products are not what the time goes into.
        let before = MatrixProduct.multiplyAdds
        work()
        let multiplyAdds = Double(MatrixProduct.multiplyAdds - before)
        StoragePool.resetPeak()
        var times: [Double] = []
        let start = clock.now
        repeat {
            times.append(clock.measure(work).seconds * 1e3)
        } while (clock.now - start).seconds < seconds || times.count < 5
        times.sort()
        return Measurement(
            name: benchmark.name, iterations: times.count, minMilliseconds: times[0],
            medianMilliseconds: times[times.count / 2],
            gigaflopsPerSecond: 2 * multiplyAdds / (times[0] * 1e6),
            peakBytes: StoragePool.statistics.peakBytes)
    }
}
