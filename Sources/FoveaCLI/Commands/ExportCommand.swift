import ArgumentParser
import Foundation
import Fovea

/// `fovea export`: a run's weights under the names that other programs know.
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write a run's weights as safetensors.",
        discussion: """
            Layouts: native (our own names) and those of the run's compressor; `fovea modules` lists them.
            """)

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
        let saved = try SavedRun(path)
        let module: any Module = part == "model" ? saved.model : saved.model.compressor.base
        let weights: NamedTensors
        if layout == "native" {
            weights = module.parameters
        } else {
            guard part == "compressor" else {
                throw CommandError(
                    "--layout \(layout): published names exist for the compressor alone; leave --part out")
            }
            weights = try published(module, saved.experiment.recipe.text("compressor.module"))
        }
        try writeSafetensors(
            weights,
            metadata: [
                "recipe": saved.experiment.recipe.name, "layout": layout, "fovea": foveaVersion, "format": "pt",
            ], to: output)
        print(
            "wrote \(module.parameterCount.grouped) parameters in \(weights.count) tensors to \(output) (layout \(layout))"
        )
    }

    /// The compressor's weights under the names of the layout.
    private func published(_ module: any Module, _ name: String) throws -> NamedTensors {
        let forms = ModuleCatalogue.entry(name)?.forms ?? []
        guard let form = forms.first(where: { $0.layout == layout }), let weights = form.weights(of: module) else {
            let known = ["native"] + forms.map(\.layout)
            throw CommandError("--layout \(layout): expected is \(known.joined(separator: " or "))")
        }
        return weights
    }
}
