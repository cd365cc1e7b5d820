import ArgumentParser
import Fovea

/// `fovea gradcheck`: every gradient against finite differences.
struct GradcheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gradcheck", abstract: "Check the gradients of every op and module against finite differences.",
        discussion:
            "In float64; the error is max|analytic − numeric| / max(1, max|numeric|), and up to 1e-6 of it pass. Exits "
            + "with 1 when one fails.")

    @Option(help: "Only names that contain this text.")
    var only: String?

    @Option(parsing: .unconditional, help: "The seed of the inputs.")
    var seed: UInt64 = 0

    @Flag(help: "Print JSON.")
    var json = false

    @Option(
        help: """
            Also write what every sample of the ops computes, with its gradients, to this safetensors file, which \
            Tests/Reference/ops_against_torch.py compares with PyTorch.
            """)
    var export: String?

    @OptionGroup var threads: ThreadOptions

    private struct Output: Encodable {
        struct Row: Encodable {
            let name: String
            let kind: String
            let passed: Bool
            let maxRelativeError: Double
            let samples: Int
            let differentiable: Bool
            let exception: String?
        }
        let results: [Row]
    }

    func run() throws {
        try threads.apply()
        try Destinations.check(["--export": export])
        var rows: [Output.Row] = []
        var failures: [String] = []
        func add(_ name: String, _ kind: String, _ check: GradientCheck, exception: String? = nil) {
            // JSON has no NaN; a gradient that is not a number has the largest error there is.
            let error = check.maxRelativeError.isFinite ? check.maxRelativeError : .greatestFiniteMagnitude
            rows.append(
                .init(
                    name: name, kind: kind, passed: check.passed, maxRelativeError: error, samples: check.samples,
                    differentiable: true, exception: exception))
            if !check.passed { failures.append(check.message) }
        }
        for op in Op.catalogue where isWanted(op.name) {
            if let check = op.checkGradients(seed: seed) {
                add(op.name, "op", check, exception: op.exception)
            } else {
                rows.append(
                    .init(
                        name: op.name, kind: "op", passed: true, maxRelativeError: 0, samples: op.samples().count,
                        differentiable: false, exception: op.exception))
            }
        }
        if let export {
            var samples = SampleExport()
            for op in Op.catalogue where isWanted(op.name) { samples.add(op, seed: seed) }
            try samples.write(to: export)
        }
        for entry in ModuleCatalogue.entries where isWanted(entry.name) {
            var total = GradientCheck(name: entry.name)
            for form in entry.forms {
                let instance = try form.instance(form.sample, dtype: .float64, owner: entry.name)
                var source = SampleSource(key: RandomKey(seed: seed).folding(entry.name))
                if let check = try instance.checkGradients(
                    form.sampleInputs(&source), name: entry.name, seed: seed)
                {
                    total.merge(check)
                }
            }
            if total.samples > 0 {
                add(entry.name, "module", total)
            } else {
                rows.append(
                    .init(
                        name: entry.name, kind: "module", passed: true, maxRelativeError: 0,
                        samples: entry.forms.count, differentiable: false, exception: nil))
            }
        }
        guard !rows.isEmpty else { throw CommandError("--only \(only ?? ""): no op or module has this in its name") }
        if json {
            printJSON(Output(results: rows))
        } else {
            var table = TextTable(["name", "kind", "samples", "max relative error", ""], right: [2, 3])
            for row in rows {
                table.add([
                    row.name, row.kind, "\(row.samples)", row.differentiable ? scientific(row.maxRelativeError) : "–",
                    row.differentiable ? row.passed ? "ok" : "FAILED" : "no gradient",
                ])
            }
            print(table.text)
            var exceptions = TextTable(["exception", "reason"])
            for row in rows { if let reason = row.exception { exceptions.add([row.name, reason]) } }
            if rows.contains(where: { $0.exception != nil }) { print("\n" + exceptions.text) }
            let checked = rows.count(where: \.differentiable)
            let constants = rows.count - checked
            print(
                "\n\(checked - failures.count) of \(checked) passed"
                    + (constants == 0 ? "" : ", \(constants) without gradient"))
            for failure in failures { print(failure) }
        }
        if !failures.isEmpty { throw ExitCode(1) }
    }

    private func isWanted(_ name: String) -> Bool { only.map { name.contains($0) } ?? true }

    private func scientific(_ value: Double) -> String {
        value == 0 ? "0" : String(format: "%.1e", value)
    }
}
