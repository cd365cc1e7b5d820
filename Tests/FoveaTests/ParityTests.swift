import Foundation
import Fovea
import FoveaTestSupport
import Testing

/// A folder of `Tests/Fixtures`: a published module's weights, inputs, outputs and gradients.
struct ParityCase: Sendable, CustomTestStringConvertible {
    let folder: String

    var testDescription: String { (folder as NSString).lastPathComponent }

    /// Every case that there is.
    static let all: [ParityCase] = {
        let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Fixtures").path
        let names = (try? FileManager.default.contentsOfDirectory(atPath: fixtures)) ?? []
        return names.sorted().map { ParityCase(folder: fixtures + "/" + $0) }
            .filter { FileManager.default.fileExists(atPath: $0.folder + "/case.json") }
    }()

    struct Description: Decodable {
        let module: String
        let layout: String
        let config: [String: ConfigurationValue]
        let outputs: [String]
    }

    func description() throws -> Description {
        try JSONDecoder().decode(
            Description.self, from: Data(contentsOf: URL(fileURLWithPath: folder + "/case.json")))
    }

    func tensors(_ file: String) throws -> NamedTensors {
        try SafetensorsFile(reading: folder + "/" + file + ".safetensors").tensors()
    }
}

/// Gradients that are zero in exact arithmetic, by module: a vector that is added to every key changes no softmax. What
/// published code makes of them is rounding, 2.4e-6 at most in these files.
private let vanishing = [
    "vision-encoder": "k_proj.bias", "q-former": "key.bias", "q-former-connector": "key.bias",
    "token-packer": "ln_k_1.bias",
]

@Suite("parity with published code") struct ParityTests {
    @Test("every form that has published code has its case")
    func present() {
        let names = ParityCase.all.map(\.testDescription)
        // Whole models of our own: their parts have cases, nobody has published the whole.
        let own = ["vision-language-model"]
        for sample in CatalogueForm.all where sample.form.layout != "native" && !own.contains(sample.entry.name) {
            #expect(
                names.contains { $0.hasPrefix("\(sample.entry.name).\(sample.form.layout).") },
                "\(sample.testDescription)")
        }
    }

    /// Outputs within 2e-5 in float32 and 4e-6 in float64, gradients within ten times that.
    @Test(arguments: ParityCase.all, [(DType.float32, 2e-5), (.float64, 4e-6)])
    func parity(_ parity: ParityCase, _ type: (dtype: DType, tolerance: Double)) throws {
        let description = try parity.description()
        let entry = try #require(ModuleCatalogue.entry(description.module))
        let form = try #require(entry.form(description.layout))
        let instance = try form.instance(
            description.config, weights: try parity.tensors("weights"), dtype: type.dtype, owner: parity.folder,
            source: parity.folder)
        let all = try parity.tensors("inputs").mapValues {
            $0.dtype.isDifferentiable ? $0.cast(to: type.dtype) : $0
        }
        let inputs = all.filter { !$0.key.hasPrefix("cotangent.") }

        let outputs = try instance.outputs(inputs)
        let wanted = try parity.tensors("outputs")
        #expect(Set(outputs.keys) == Set(wanted.keys) && Set(wanted.keys) == Set(description.outputs))
        for (name, want) in wanted {
            let difference = relativeDifference(outputs[name], want)
            // What is counted or chosen is exact.
            #expect(outputs[name]?.dtype == (want.dtype.isFloatingPoint ? type.dtype : want.dtype))
            #expect(difference <= (want.dtype.isFloatingPoint ? type.tolerance : 0), "\(name): \(difference)")
        }

        var cotangents: NamedTensors = [:]
        for (name, tensor) in all where name.hasPrefix("cotangent.") {
            cotangents[String(name.dropFirst("cotangent.".count))] = tensor
        }
        // Reducers by rule are published without gradients.
        guard FileManager.default.fileExists(atPath: parity.folder + "/gradients.safetensors") else {
            #expect(cotangents.isEmpty)
            return
        }
        #expect(cotangents.count > 0)
        let gradients = try instance.gradients(inputs, cotangents: cotangents)
        let wantedGradients = try parity.tensors("gradients")
        #expect(Set(gradients.keys) == Set(wantedGradients.keys))
        for (name, want) in wantedGradients {
            if let suffix = vanishing[description.module], name.hasSuffix(suffix) {
                for tensor in [gradients[name], want] {
                    #expect(
                        relativeDifference(tensor, .zeros(want.shape)) <= 1e-2, "gradient of \(name) does not vanish")
                }
                continue
            }
            let difference = relativeDifference(gradients[name], want)
            #expect(difference <= 10 * type.tolerance, "gradient of \(name): \(difference)")
        }
    }
}
