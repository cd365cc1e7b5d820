import ArgumentParser
import Foundation
import Fovea

/// `fovea apply`: one module of the catalogue on tensors from anywhere.
struct ApplyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Run one module on tensors from a file.",
        discussion: """
            Configuration keys, weight names and input names are those of the published class; `fovea modules` lists \
            them. With --gradients, also writes the gradient of Σ⟨output, cotangent⟩ for every floating-point input and \
            weight, under their own names; the inputs then hold a tensor cotangent.<output>. Sizes that the configuration \
            leaves out are those of the weights.
            """)

    @Argument(help: "The module, such as perceiver-resampler.")
    var module: String

    @Option(help: "Whose configuration and names.")
    var layout: String

    @Option(help: "The configuration: a file that holds a JSON object.")
    var config: String

    @Option(help: "The weights, if there are any: a safetensors file, the index of several, or the folder of either.")
    var weights: String?

    @Option(help: "The inputs, safetensors.")
    var inputs: String

    @Option(name: .shortAndLong, help: "Where the outputs go, safetensors.")
    var output: String

    @Option(help: "Where the gradients go, safetensors.")
    var gradients: String?

    @Option(help: "Where the weights go, as the module holds them and under the layout's names, safetensors.")
    var export: String?

    @Option(help: "The type to compute in: float32 or float64.")
    var dtype = "float32"

    @OptionGroup var threads: ThreadOptions

    func run() throws {
        try threads.apply()
        guard let dtype = DType(rawValue: dtype), dtype.isDifferentiable else {
            throw CommandError("--dtype \(dtype): expected is float32 or float64")
        }
        try Destinations.check(
            ["--output": output, "--gradients": gradients, "--export": export], inputs: [inputs, config],
            weights: [weights])
        let instance = try PublishedModule(module, layout: layout)
            .instance(weights: weights, config: config, dtype: dtype)
        var given: NamedTensors = [:]
        var cotangents: NamedTensors = [:]
        for (name, tensor) in try SafetensorsFile(reading: inputs).tensors() {
            let value = tensor.dtype.isFloatingPoint ? tensor.cast(to: dtype) : tensor
            if name.hasPrefix("cotangent.") {
                cotangents[String(name.dropFirst("cotangent.".count))] = value
            } else {
                given[name] = value
            }
        }
        // Both before either is written: inputs that do not serve for gradients leave nothing behind.
        let (outputs, found): (NamedTensors, NamedTensors?)
        do {
            outputs = try instance.outputs(given)
            found = gradients == nil ? nil : try instance.gradients(given, cotangents: cotangents)
        } catch let error as ModuleInputError {
            throw ModuleInputError("\(inputs): \(error)")
        }
        try writeSafetensors(outputs, to: output)
        if let gradients, let found { try writeSafetensors(found, to: gradients) }
        if let export {
            try writeSafetensors(instance.weights, metadata: ["format": "pt", "layout": layout], to: export)
        }
    }
}
