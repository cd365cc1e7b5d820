import Foundation
import Fovea
import Testing

/// `fovea apply` beside the published class.
@Suite("apply")
struct ApplyTests {
    private static let prefix = "perceiver-resampler.open-flamingo."

    private static func fixture(_ name: String) -> String { "\(Workbench.project)/Tests/Fixtures/\(prefix)\(name)" }

    private static func arguments(_ name: String, changing changes: [String: String] = [:]) -> [String] {
        let folder = fixture(name)
        var options = [
            "--layout": "open-flamingo", "--config": folder + "/case.json",
            "--weights": folder + "/weights.safetensors", "--inputs": folder + "/inputs.safetensors",
            "--output": "out.safetensors",
        ]
        options.merge(changes) { $1 }
        let module = options.removeValue(forKey: "module") ?? "perceiver-resampler"
        return ["apply", module] + options.sorted { $0.key < $1.key }.flatMap { [$0.key, $0.value] }
    }

    @Test(
        "gives the published outputs and gradients",
        arguments: ["a", "b", "g1"], [("float32", 1e-5), ("float64", 1e-9)])
    func parity(_ name: String, _ precision: (dtype: String, tolerance: Double)) throws {
        let bench = try Workbench()
        try bench.prints(
            ApplyTests.arguments(name, changing: ["--gradients": "gradients.safetensors", "--dtype": precision.dtype]))
        for (own, published) in [("out", "outputs"), ("gradients", "gradients")] {
            let found = try SafetensorsFile(reading: bench.file(own + ".safetensors"))
            let expected = try SafetensorsFile(reading: ApplyTests.fixture(name) + "/\(published).safetensors")
            #expect(Set(found.entries.keys) == Set(expected.entries.keys))
            for (tensorName, entry) in expected.entries {
                let value = try found.tensor(tensorName)
                #expect(value.dtype.rawValue == precision.dtype && value.shape == entry.shape, "\(tensorName)")
                let (a, b) = (
                    value.cast(to: .float64).scalars(as: Double.self),
                    try expected.tensor(tensorName).cast(to: .float64).scalars(as: Double.self)
                )
                let scale = max(1, b.map(abs).max() ?? 0)
                let error = zip(a, b).map { abs($0 - $1) }.max() ?? 0
                #expect(error <= precision.tolerance * scale, "\(tensorName): \(error)")
            }
        }
    }

    @Test("takes what export wrote")
    func exported() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try bench.prints(["export", "run", "--layout", "open-flamingo", "--output", "w.safetensors"])
        try bench.write(#"{"dim": 8, "depth": 1, "dim_head": 4, "heads": 2, "num_latents": 2}"#, to: "c.json")
        try writeSafetensors(
            ["x": Tensor.normal([1, 1, 1, 4, 8], key: RandomKey(seed: 0))], to: bench.file("x.safetensors"))
        try bench.prints(
            ApplyTests.arguments(
                "a", changing: ["--config": "c.json", "--weights": "w.safetensors", "--inputs": "x.safetensors"]))
        #expect(try SafetensorsFile(reading: bench.file("out.safetensors")).tensor("latents").shape == [1, 1, 2, 8])
    }

    /// Something that is wrong with one argument, and what the complaint must mention.
    struct Mistake: CustomTestStringConvertible {
        let testDescription: String
        var options: [String: String] = [:]
        /// Contents of `c.json`, where the configuration is the mistake.
        var config: String?
        /// What `w.safetensors` holds, where the weights are the mistake.
        var weights: (@Sendable (inout [String: Tensor]) -> Void)?
        /// What `i.safetensors` holds, where the inputs are the mistake.
        var inputs: (@Sendable (inout [String: Tensor]) -> Void)?
        let mentions: [String]

        init(
            _ testDescription: String, _ options: [String: String] = [:], config: String? = nil,
            weights: (@Sendable (inout [String: Tensor]) -> Void)? = nil,
            inputs: (@Sendable (inout [String: Tensor]) -> Void)? = nil, mentions: [String]
        ) {
            self.testDescription = testDescription
            self.options = options
            self.config = config
            self.weights = weights
            self.inputs = inputs
            self.mentions = mentions
        }
    }

    private static let gradients = ["--gradients": "g.safetensors"]

    static let mistakes: [Mistake] = [
        .init("unknown module", ["module": "perceiver"], mentions: ["no module perceiver", "perceiver-resampler"]),
        .init("unknown layout", ["--layout": "blip2"], mentions: ["no layout blip2", "open-flamingo"]),
        .init("unknown dtype", ["--dtype": "real"], mentions: ["--dtype real", "float32 or float64"]),
        .init("a dtype only for storage", ["--dtype": "float16"], mentions: ["--dtype float16", "float32 or float64"]),
        .init("no configuration", ["--config": "none.json"], mentions: ["none.json"]),
        .init("a configuration that is no JSON", config: "{", mentions: ["c.json", "JSON object"]),
        .init(
            "a configuration with a key twice", config: "{\"heads\": 2, \"a\": {\"heads\": 1}, \"heads\": 4}",
            mentions: ["c.json", "\"heads\" twice"]),
        .init("a configuration that is a list", config: "[1]", mentions: ["c.json", "JSON object"]),
        .init(
            "a default that the weights rule out", config: #"{"dim": 4}"#,
            mentions: ["c.json", "\"dim_head\"", "is [6, 4]", "does not divide by 8, which \"heads\" says"]),
        .init(
            "a key unknown", config: #"{"dim": 4, "depht": 2}"#,
            mentions: ["c.json", "unknown configuration key \"depht\"", "known are dim, depth"]),
        .init("a text for a number", config: #"{"dim": "4"}"#, mentions: ["c.json", "\"dim\" must be a whole number"]),
        .init("half a width", config: #"{"dim": 4.5}"#, mentions: ["c.json", "\"dim\" must be a whole number"]),
        .init("width zero", config: #"{"dim": 0}"#, mentions: ["c.json", "\"dim\" must be from 1 to 1048576, not 0"]),
        .init(
            "a width without end", config: #"{"dim": 1000000000000}"#,
            mentions: ["c.json", "\"dim\" must be from 1 to 1048576"]),
        .init(
            "a width that the weights contradict", config: #"{"dim": 1000000, "heads": 2}"#,
            mentions: ["c.json", "\"dim\" is 1000000, but latents is [3, 4] in the weights"]),
        .init("no weights", ["--weights": "none"], mentions: ["none", "No such file"]),
        .init("weights that are no safetensors", ["--weights": "c.json"], config: #"{"dim": 4}"#, mentions: ["c.json"]),
        .init(
            "a weight missing", weights: { $0["norm.bias"] = nil },
            mentions: ["w.safetensors", "1 missing (norm.bias)", "nothing was loaded"]),
        .init(
            "a weight unexpected", weights: { $0["norm.scale"] = $0["norm.bias"] },
            mentions: ["w.safetensors", "1 unexpected (norm.scale)"]),
        .init(
            "a weight misshapen", weights: { $0["norm.bias"] = Tensor([Float(0)]) },
            mentions: ["w.safetensors", "norm.bias is [1], not [4]"]),
        .init("no inputs", ["--inputs": "none"], mentions: ["none", "No such file"]),
        .init("an input missing", inputs: { $0["x"] = nil }, mentions: ["i.safetensors", "lack \"x\""]),
        .init(
            "an input unknown", inputs: { $0["mask"] = $0["x"] },
            mentions: ["i.safetensors", "unknown input \"mask\"", "\"x\""]),
        .init(
            "an input of another rank", inputs: { $0["x"] = Tensor([Float(0)]) },
            mentions: ["i.safetensors", "input x is [1]", "[B, N, F, V, dim] with dim = 4"]),
        .init(
            "an input of another width",
            inputs: { $0["x"] = Tensor([Float](repeating: 0, count: 3), shape: [1, 1, 1, 1, 3]) },
            mentions: ["input x is [1, 1, 1, 1, 3]", "[B, N, F, V, dim] with dim = 4"]),
        .init(
            "more frames than embeddings",
            inputs: { $0["x"] = Tensor([Float](repeating: 0, count: 12), shape: [1, 1, 3, 1, 4]) },
            mentions: ["input x is [1, 1, 3, 1, 4]", "F ≤ 2"]),
        .init(
            "an input of whole numbers",
            inputs: { $0["x"] = Tensor([Int64](repeating: 0, count: 4), shape: [1, 1, 1, 1, 4]) },
            mentions: ["input x is int64", "float32 or float64"]),
        .init(
            "no cotangent for the gradients", gradients, inputs: { $0["cotangent.latents"] = nil },
            mentions: ["cotangent.<output>", "latents"]),
        .init(
            "a cotangent of another shape", gradients, inputs: { $0["cotangent.latents"] = Tensor([Float(0)]) },
            mentions: ["cotangent.latents is [1]", "[1, 2, 3, 4]"]),
        .init("an output under a file", ["--output": "plain.txt/o"], mentions: ["plain.txt/o", "Not a directory"]),
        .init("an output that is a folder", ["--output": "."], mentions: [".: is a folder"]),
    ]

    @Test("refuses what does not fit and writes nothing", arguments: mistakes)
    func refusals(_ mistake: Mistake) throws {
        let bench = try Workbench()
        var options = mistake.options
        try bench.write("text", to: "plain.txt")
        if let config = mistake.config {
            try bench.write(config, to: "c.json")
            options["--config"] = "c.json"
        }
        for (change, name, option) in [
            (mistake.weights, "weights", "--weights"), (mistake.inputs, "inputs", "--inputs"),
        ] {
            guard let change else { continue }
            let file = try SafetensorsFile(reading: ApplyTests.fixture("g1") + "/\(name).safetensors")
            var tensors = Dictionary(uniqueKeysWithValues: try file.tensors().map { ($0.key, $0.value) })
            change(&tensors)
            let place = "\(name.prefix(1)).safetensors"
            try writeSafetensors(
                NamedTensors(uniqueKeysWithValues: tensors.map { ($0.key, $0.value) }), to: bench.file(place))
            options[option] = place
        }
        try bench.refuses(ApplyTests.arguments("g1", changing: options), mentions: mistake.mentions)
    }
}
