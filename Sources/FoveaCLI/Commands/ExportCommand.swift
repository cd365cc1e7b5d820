import ArgumentParser
import Foundation
import Fovea

/// `fovea export`: weights under the names that other programs know, in the type and the files that they want.
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write a run's weights, or weights from anywhere, as safetensors.",
        discussion: """
            Layouts: native (our own names) and those of the run's compressor; `fovea modules` lists them. With --module, \
            PATH is no run but weights of that module under the names of --layout, and they are written again under the \
            same names: in another type, in several files, or in one.
            """)

    @Argument(
        help: ArgumentHelp(
            "A run's folder, or a folder below its checkpoints; with --module a safetensors file, the index of several, "
                + "or the folder of either.", valueName: "path"))
    var path: String

    @Option(help: "Whose names the weights get (default: native; with --module it must be said).")
    var layout: String?

    @Option(help: "What to export of a run: the compressor, or the whole model (native names only).")
    var part = "compressor"

    @Option(help: "Whose weights these are, such as perceiver-resampler, where the path is no run.")
    var module: String?

    @Option(
        help:
            "That module's configuration, a file that holds a JSON object; as the weights and the defaults say unless given."
    )
    var config: String?

    @Option(help: "The type that floating-point weights are stored in: float32, bfloat16 or float16.")
    var dtype = "float32"

    @Option(
        parsing: .unconditional,
        help: "The most bytes of tensors in a file; the output is then a folder with files and their index.")
    var maxShardBytes: Int?

    @Option(name: .shortAndLong, help: "The safetensors file to write, or the folder.")
    var output: String

    func run() throws {
        guard let floats = DType(rawValue: dtype), [.float32, .bfloat16, .float16].contains(floats) else {
            throw CommandError("--dtype \(dtype): expected is float32, bfloat16 or float16")
        }
        guard ["compressor", "model"].contains(part) else {
            throw CommandError("--part \(part): expected is compressor or model")
        }
        guard maxShardBytes ?? 1 > 0 else {
            throw CommandError("--max-shard-bytes \(maxShardBytes!): expected is more than 0")
        }
        if maxShardBytes == nil {
            try Destinations.check(["--output": output], inputs: [config], weights: [path])
        } else if RunFolder.isRun(output) || Destinations.isOfRun(output) {
            throw CommandError("--output \(output): that is a run's own; name another place")
        }
        let layout = try layout ?? standardLayout()
        let (weights, origin) = try module.map { try ofFile($0, layout) } ?? ofRun(layout)
        let metadata = origin.merging(["layout": layout, "fovea": foveaVersion, "format": "pt"]) { $1 }
        if let maxShardBytes {
            try writeShardedSafetensors(
                weights, floatsAs: floats, metadata: metadata, maxShardBytes: maxShardBytes, to: output)
        } else {
            try writeSafetensors(weights, floatsAs: floats, metadata: metadata, to: output)
        }
        let count = weights.values.reduce(0) { $0 + $1.count }
        print("wrote \(count.grouped) parameters in \(weights.count) tensors to \(output) (layout \(layout))")
    }

    /// That of a run. Whose names are in a file, nobody else can say.
    private func standardLayout() throws -> String {
        guard let module else { return "native" }
        let known = try PublishedModule(module, layout: nil).layouts
        throw CommandError("--module \(module): say with --layout whose names the weights have; known are \(known)")
    }

    /// The weights of a published module, and where they come from.
    private func ofFile(_ module: String, _ layout: String) throws -> (NamedTensors, [String: String]) {
        let published = try PublishedModule(module, layout: layout)
        return (try published.instance(weights: path, config: config, dtype: .float32).weights, ["module": module])
    }

    /// The weights of a run, and where they come from.
    private func ofRun(_ layout: String) throws -> (NamedTensors, [String: String]) {
        if config != nil { throw CommandError("--config: a run has its own; it goes with --module") }
        let run = try RunPath(path)
        return try weights(of: run, try run.recipe.experiment(), layout)
    }

    private func weights<Opened: RunnableExperiment>(
        of run: RunPath, _ experiment: Opened, _ layout: String
    ) throws -> (NamedTensors, [String: String]) {
        let model = try SavedRun(run, of: experiment).model
        let origin = ["recipe": run.recipe.name]
        let module: any Module = part == "model" ? model : experiment.compressor(of: model)
        if layout == "native" { return (module.parameters, origin) }
        guard part == "compressor" else {
            throw CommandError("--layout \(layout): published names exist for the compressor alone; leave --part out")
        }
        // A compressor has the names of its own form alone: another form computes something else.
        let form = try run.recipe.form(of: "compressor")
        guard form.layout == layout, let weights = form.weights(of: module) else {
            throw CommandError("--layout \(layout): expected is native or \(form.layout)")
        }
        return (weights, origin)
    }
}
