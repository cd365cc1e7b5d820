import ArgumentParser
import Foundation
import Fovea

/// `fovea export`: a run's weights under the names that other programs know.
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write a run's weights as safetensors.",
        discussion: "Layouts: native (our own names) and open-flamingo (PerceiverResampler of open_flamingo).")

    @Argument(help: ArgumentHelp("A run's folder, or a folder below its checkpoints.", valueName: "run"))
    var path: String

    @Option(help: "Whose names the weights get.")
    var layout = "native"

    @Option(help: "What to export: the compressor, or the whole model (native names only).")
    var part = "compressor"

    @Option(name: .shortAndLong, help: "The safetensors file to write.")
    var output: String

    func run() throws {
        guard ["compressor", "model"].contains(part) else {
            throw CommandError("--part \(part): expected is compressor or model")
        }
        let known: [WeightLayout<PerceiverResampler>] = [.native, .openFlamingo]
        guard let chosen = known.first(where: { $0.name == layout }) else {
            throw CommandError("--layout \(layout): expected is \(known.map(\.name).joined(separator: " or "))")
        }
        let saved = try SavedRun(path)
        let metadata = ["recipe": saved.experiment.recipe.name, "layout": layout, "fovea": foveaVersion]
        if part == "model" {
            guard layout == "native" else {
                throw CommandError(
                    "--layout \(layout): published names exist for the compressor alone; leave --part out")
            }
            try saved.model.save(to: output, metadata: metadata)
            print("wrote \(saved.model.parameterCount.grouped) parameters to \(output)")
            return
        }
        let resampler = saved.model.resampler
        try resampler.save(to: output, layout: chosen, metadata: metadata)
        let tensors = chosen.published(resampler.parameters).count
        print(
            "wrote \(resampler.parameterCount.grouped) parameters in \(tensors) tensors to \(output) (layout \(layout))"
        )
    }
}
