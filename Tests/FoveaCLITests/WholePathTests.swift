import Foundation
import Fovea
import Testing

/// From a recipe to exported weights, and every command that looks at what came of it.
@Suite("The whole path")
struct WholePathTests {
    @Test("train leaves a report, a log, a curve, a model and checkpoints")
    func training() throws {
        let bench = try Workbench()
        try bench.prepare(["training.seed": "7"])
        let output = try bench.prints(["train", "tiny.yaml", "--output", "run"])
        let report = try bench.report("run")
        #expect(report.recipe == "tiny" && report.seed == 7 && report.steps == 20)
        #expect(report.parameters == (try SafetensorsFile(reading: bench.file("run/model.safetensors"))).elements)
        #expect((0...1).contains(report.testAccuracy) && (0...1).contains(report.trainAccuracy))
        #expect(report.trainingSeconds > 0 && report.trainingSeconds < 60)
        #expect(report.peakMemoryBytes > 1 << 20)

        let metrics = try bench.metrics("run")
        #expect(metrics.map(\.step) == [5, 10, 15, 20])
        #expect(metrics.allSatisfy { $0.loss > 0 && (0...1).contains($0.accuracy) && $0.gradientNorm > 0 })
        #expect(try bench.text("run/curve.svg").hasPrefix("<svg"))
        #expect(bench.checkpoints("run") == [15, 20])
        // Lines, not a redrawn one: this is no terminal.
        #expect(output.contains("step 20/20") && !output.contains("\r"))
        for file in ["run/report.json", "run/curve.svg", "run/model.safetensors"] { #expect(output.contains(file)) }
    }

    @Test("the shipped digits are found, and a run goes to runs/<recipe name> by default")
    func defaults() throws {
        let bench = try Workbench()
        try FileManager.default.createSymbolicLink(
            atPath: bench.file("Data"), withDestinationPath: Workbench.project + "/Data")
        try bench.write(Workbench.tinyRecipe(["data.folder": nil, "training.steps": "2"]), to: "some-recipe.yaml")
        try bench.prints(["train", "some-recipe.yaml"])
        #expect(try bench.report("runs/some-recipe").recipe == "some-recipe")
    }

    @Test("the shipped recipe is right, and --set goes over the file")
    func shippedRecipe() throws {
        let bench = try Workbench()
        let recipe = Workbench.project + "/Recipes/digits-resampler.yaml"
        let data = "data.folder=" + Workbench.project + "/Data/digits"
        let output = try bench.prints([
            "train", recipe, "--dry-run", "--set", data, "--set", "compressor.num_latents=3",
        ])
        #expect(output.contains("trained on 1,347 pictures of 8 × 8"))
        #expect(output.contains("→ 3 of width 48"))
    }

    @Test("the same seed gives the same bits on one thread and on three; another seed another model")
    func seeds() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "one", "--threads", "1"])
        try bench.prints(["train", "tiny.yaml", "--output", "three", "--threads", "3"])
        try bench.prints(["train", "tiny.yaml", "--output", "other", "--set", "training.seed=1"])
        try bench.expectSameRun("three", "one")
        #expect(try bench.data("one/model.safetensors") != bench.data("other/model.safetensors"))
    }

    @Test("a run can be trained again from the recipe that it saved")
    func savedRecipe() throws {
        let bench = try Workbench()
        try bench.prepare(["training.learningRate": "0.00125", "training.freeze": "[patches.**]"])
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try bench.prints(["train", "run/recipe.yaml", "--output", "again"])
        try bench.expectSameRun("again", "run")
        #expect(try bench.report("again").recipe == "tiny")
    }

    @Test("--overwrite replaces the run and leaves other files alone")
    func overwriting() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try bench.write("mine", to: "run/notes.txt")
        try bench.prints(["train", "tiny.yaml", "--output", "run", "--overwrite", "--set", "training.steps=10"])
        #expect(try bench.report("run").steps == 10)
        #expect(bench.checkpoints("run") == [5, 10])
        #expect(try bench.metrics("run").map(\.step) == [5, 10])
        #expect(try bench.text("run/notes.txt") == "mine")
    }

    @Test("--dry-run describes the model, trains nothing and writes nothing")
    func dryRun() throws {
        let bench = try Workbench()
        try bench.prepare()
        let before = try bench.snapshot()
        let output = try bench.prints(["train", "tiny.yaml", "--dry-run", "--output", "run"])
        #expect(output.contains("compressor.latents") || output.contains("latents"))
        #expect(output.contains("parameters") && output.contains("nothing was trained"))
        #expect(try bench.snapshot().changes(since: before).isEmpty)
    }

    @Test("evaluate agrees with the report, in text and in JSON, for a run and for its checkpoint")
    func evaluating() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        let report = try bench.report("run")
        struct Evaluation: Decodable {
            let run: String
            let split: String
            let accuracy: Double
            let loss: Double
            let samples: Int
            let confusion: [[Int]]
        }
        func evaluation(_ arguments: String...) throws -> Evaluation {
            let text = try bench.prints(["evaluate"] + arguments + ["--json"])
            return try JSONDecoder().decode(Evaluation.self, from: Data(text.utf8))
        }
        let test = try evaluation("run")
        #expect(test.split == "test" && test.samples == 20 && test.accuracy == report.testAccuracy)
        #expect(test.confusion.map { $0.reduce(0, +) } == [5, 5, 5, 5])
        #expect(test.confusion.indices.reduce(0) { $0 + test.confusion[$1][$1] } == Int(20 * test.accuracy + 0.5))
        #expect(try evaluation("run/checkpoints/step-00000020").accuracy == report.testAccuracy)
        #expect(try evaluation("run", "--split", "validation").samples == 12)
        // The report's training part has the validation pictures in it; evaluate tells the parts from each other.
        let (train, validation) = (
            try evaluation("run", "--split", "train"), try evaluation("run", "--split", "validation")
        )
        let right = train.accuracy * 60 + validation.accuracy * 12
        #expect(abs(right / 72 - report.trainAccuracy) < 1e-9)

        let text = try bench.prints(["evaluate", "run"])
        #expect(text.contains("accuracy \(String(format: "%.1f", report.testAccuracy * 100)) %"))
        #expect(text.contains("truth"))
    }

    @Test("a run is found under any path that leads to it", arguments: ["r", "r/", "./r", "../r-elsewhere/r", "."])
    func pathsOfRuns(_ path: String) throws {
        let bench = try Workbench()
        try bench.prepare(["data.folder": bench.file("digits"), "training.steps": "2"])
        try bench.prints(["train", "tiny.yaml", "--output", "r-elsewhere/r"])
        let folder = path == "." ? "r-elsewhere/r" : "r-elsewhere"
        for arguments in [["evaluate", path], ["inspect", path], ["export", path, "--output", bench.file("w")]] {
            let outcome = try Command.run(arguments, in: bench.file(folder))
            #expect(outcome.exitCode == 0, "\(arguments): \(outcome.summary)")
        }
    }

    @Test("export writes our own names, published names, or the whole model")
    func exporting() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        let model = try SafetensorsFile(reading: bench.file("run/model.safetensors"))

        try bench.prints(["export", "run", "--part", "model", "--output", "model.safetensors"])
        let whole = try SafetensorsFile(reading: bench.file("model.safetensors"))
        #expect(try whole.values() == model.values())
        #expect(whole.metadata["recipe"] == "tiny")

        try bench.prints(["export", "run", "--output", "native.safetensors"])
        let native = try SafetensorsFile(reading: bench.file("native.safetensors"))
        var expected: [String: [Float]] = [:]
        for (name, value) in try model.values() where name.hasPrefix("compressor.") {
            expected[String(name.dropFirst("compressor.".count))] = value
        }
        #expect(try native.values() == expected)
        #expect(native.metadata["layout"] == "native")

        try bench.prints(["export", "run", "--layout", "open-flamingo", "--output", "published.safetensors"])
        let published = try SafetensorsFile(reading: bench.file("published.safetensors"))
        let shapes: [String: [Int]] = [
            "latents": [2, 8], "norm.weight": [8], "norm.bias": [8], "layers.0.0.norm_media.weight": [8],
            "layers.0.0.norm_media.bias": [8], "layers.0.0.norm_latents.weight": [8],
            "layers.0.0.norm_latents.bias": [8], "layers.0.0.to_q.weight": [8, 8],
            "layers.0.0.to_kv.weight": [16, 8], "layers.0.0.to_out.weight": [8, 8], "layers.0.1.0.weight": [8],
            "layers.0.1.0.bias": [8], "layers.0.1.1.weight": [32, 8], "layers.0.1.3.weight": [8, 32],
        ]
        #expect(Dictionary(uniqueKeysWithValues: published.entries.map { ($0.key, $0.value.shape) }) == shapes)
        #expect(published.metadata["recipe"] == "tiny" && published.metadata["layout"] == "open-flamingo")
        let values = try published.values()
        // The published class has keys above values in one matrix.
        #expect(
            values["layers.0.0.to_kv.weight"]
                == expected["layers.0.attention.key.weight"].map {
                    $0 + expected["layers.0.attention.value.weight"]!
                })
        #expect(values["layers.0.1.3.weight"] == expected["layers.0.feedForward.contract.weight"])
    }

    @Test("export casts, writes several files, and takes published weights back")
    func exportTypes() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        let own = ["export", "run", "--layout", "open-flamingo"]
        try bench.prints(own + ["--output", "full.safetensors"])
        try bench.prints(own + ["--dtype", "bfloat16", "--output", "half.safetensors"])
        try bench.prints(own + ["--max-shard-bytes", "2000", "--output", "shards"])
        let full = try SafetensorsFile(reading: bench.file("full.safetensors")).tensors()
        let half = try SafetensorsFile(reading: bench.file("half.safetensors")).tensors()
        #expect(half.keys.elements.sorted() == full.keys.elements.sorted())
        for (name, tensor) in half { #expect(tensor.bytes() == full[name]!.cast(to: .bfloat16).bytes(), "\(name)") }
        let shards = try SafetensorsArchive(reading: bench.file("shards"))
        #expect(shards.files.count > 1)
        for (name, tensor) in try shards.tensors() { #expect(tensor.bytes() == full[name]!.bytes(), "\(name)") }

        // Back from anywhere: a folder, its index, half precision; the same bytes again.
        let module = ["--module", "perceiver-resampler", "--layout", "open-flamingo", "--config", "c.json"]
        try bench.write(#"{"heads": 2}"#, to: "c.json")
        for path in ["shards", "shards/model.safetensors.index.json"] {
            try bench.prints(["export", path, "--output", "again.safetensors"] + module)
            let again = try SafetensorsFile(reading: bench.file("again.safetensors")).tensors()
            #expect(again.count == full.count)
            for (name, tensor) in again { #expect(tensor.bytes() == full[name]!.bytes(), "\(name)") }
        }
        try bench.prints(
            ["export", "half.safetensors", "--dtype", "bfloat16", "--output", "again.safetensors"] + module)
        for (name, tensor) in try SafetensorsFile(reading: bench.file("again.safetensors")).tensors() {
            #expect(tensor.bytes() == half[name]!.bytes(), "\(name)")
        }
        // And apply takes them.
        try writeSafetensors(
            ["x": Tensor.normal([1, 1, 1, 4, 8], key: RandomKey(seed: 0))], to: bench.file("x.safetensors"))
        var outputs: [[UInt8]] = []
        for weights in ["full.safetensors", "shards"] {
            try bench.prints([
                "apply", "perceiver-resampler", "--layout", "open-flamingo", "--config", "c.json", "--weights", weights,
                "--inputs", "x.safetensors", "--output", "o.safetensors",
            ])
            outputs.append(try SafetensorsFile(reading: bench.file("o.safetensors")).tensor("latents").bytes())
        }
        #expect(outputs[0] == outputs[1])

        // What a type cannot hold is an error that names the tensor, and leaves nothing behind.
        var large = full
        large["norm.weight"] = Tensor.full([8], 1e6)
        try writeSafetensors(large, to: bench.file("large.safetensors"))
        let outcome = try Command.run(
            ["export", "large.safetensors", "--dtype", "float16", "--output", "none.safetensors"] + module,
            in: bench.path)
        #expect(outcome.exitCode == 1, "\(outcome.summary)")
        #expect(outcome.errors.contains("overflow float16") && outcome.errors.contains("norm.weight"))
        #expect(!FileManager.default.fileExists(atPath: bench.file("none.safetensors")))
    }

    @Test("a run with an average of the weights exports and evaluates the average")
    func averages() throws {
        let bench = try Workbench()
        try bench.prepare(["training.averageDecay": "0.9"])
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        let checkpoint = try bench.newestCheckpoint("run")
        try bench.prints(["export", "run", "--part", "model", "--output", "a.safetensors"])
        try bench.prints(["export", checkpoint, "--part", "model", "--output", "b.safetensors"])
        let average = try SafetensorsFile(reading: bench.file(checkpoint + "/average.safetensors")).values()
        #expect(try SafetensorsFile(reading: bench.file("a.safetensors")).values() == average)
        #expect(try SafetensorsFile(reading: bench.file("b.safetensors")).values() == average)
        #expect(try SafetensorsFile(reading: bench.file(checkpoint + "/model.safetensors")).values() != average)
    }

    @Test("inspect shows a safetensors file, an IDX file and a run")
    func inspecting() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try bench.prints(["export", "run", "--layout", "open-flamingo", "--output", "w.safetensors"])
        struct Listing: Decodable {
            struct Tensor: Decodable {
                let name: String
                let dtype: String
                let shape: [Int]
            }
            let format: String
            let tensors: [Tensor]
            let metadata: [String: String]
            let elements: Int
            let bytes: Int
        }
        func listing(_ file: String) throws -> Listing {
            try JSONDecoder().decode(Listing.self, from: Data(try bench.prints(["inspect", file, "--json"]).utf8))
        }
        let weights = try listing("w.safetensors")
        #expect(weights.format == "safetensors" && weights.tensors.count == 14 && weights.bytes == weights.elements * 4)
        #expect(
            weights.tensors.contains {
                $0.name == "layers.0.0.to_kv.weight" && $0.dtype == "F32" && $0.shape == [16, 8]
            })
        #expect(weights.metadata["layout"] == "open-flamingo")
        let weightsText = try bench.prints(["inspect", "w.safetensors"])
        #expect(weightsText.contains("layers.0.0.to_kv.weight") && weightsText.contains("[16, 8]"))
        #expect(weightsText.contains("metadata recipe: tiny"))

        let images = try listing("digits/test-images-idx3-ubyte")
        #expect(images.format == "IDX" && images.tensors.map(\.shape) == [[20, 8, 8]] && images.bytes == 1_280)
        let imagesText = try bench.prints(["inspect", "digits/test-images-idx3-ubyte"])
        #expect(imagesText.contains("uint8") && imagesText.contains("[20, 8, 8]"))

        struct Run: Decodable {
            let format: String
            let recipe: String
            let checkpoints: [Int]
            let parameters: Int
            let report: Report?
        }
        func run() throws -> Run {
            try JSONDecoder().decode(Run.self, from: Data(try bench.prints(["inspect", "run", "--json"]).utf8))
        }
        let report = try bench.report("run")
        let finished = try run()
        #expect(finished.format == "run" && finished.recipe == "tiny" && finished.checkpoints == [20, 15])
        #expect(finished.parameters == report.parameters && finished.report?.testAccuracy == report.testAccuracy)
        #expect(try bench.prints(["inspect", "run"]).contains("finished: test accuracy"))
        try FileManager.default.removeItem(atPath: bench.file("run/report.json"))
        #expect(try run().report == nil && run().recipe == "tiny")
        #expect(try bench.prints(["inspect", "run"]).contains("not finished"))
    }

    @Test("inspect shows arrays of NumPy, CIFAR and weights in several files, within 80 columns")
    func inspectingFormats() throws {
        let bench = try Workbench()
        let fixtures = Workbench.project + "/Tests/Fixtures/formats/"
        for (name, lines) in [
            ("f4.little.npy", ["npy", "<f4", "[2, 3]", "6 elements, 24 bytes"]),
            ("stored.npz", ["npz", "a/b", "größe", "15 tensors, 80 elements"]),
            ("object.npy", ["|O", "0 elements"]),
            ("shards", ["2 files", "c.weight  F16    [3]", "metadata total_size: 62", "13 parameters, 62 bytes"]),
            ("shards/model.safetensors.index.json", ["2 files", "13 parameters"]),
        ] {
            let text = try bench.prints(["inspect", fixtures + name])
            for line in lines { #expect(text.contains(line)) }
        }
        var records = [UInt8](repeating: 7, count: 2 * 3_073)
        try bench.write(Data(records), to: "data_batch_1.bin")
        let cifar = try bench.prints(["inspect", "data_batch_1.bin"])
        #expect(cifar.contains("CIFAR-10") && cifar.contains("[2, 3, 32, 32]"))
        records[3_073] = 10
        try bench.write(Data(records), to: "data_batch_1.bin")
        try bench.refuses(["inspect", "data_batch_1.bin"], mentions: ["byte 3073"])

        let long = String(repeating: "block.", count: 50) + "weight"
        try writeSafetensors(
            [long: .ones([2, 3, 4])], metadata: ["note": String(repeating: "x", count: 500)],
            to: bench.file("long.safetensors"))
        let text = try bench.prints(["inspect", "long.safetensors"])
        #expect(text.split(separator: "\n").allSatisfy { $0.count <= 80 })
        #expect(text.contains("[2, 3, 4]"))
        #expect(try bench.prints(["inspect", "long.safetensors", "--json"]).contains(long))
    }

    @Test("data digits describes the set and draws it")
    func data() throws {
        let bench = try Workbench()
        let folder = Workbench.project + "/Data/digits"
        let text = try bench.prints(["data", "digits", "--folder", folder])
        #expect(text.contains("8 × 8") && text.contains("1147") && text.contains("450"))
        struct Listing: Decodable {
            struct Part: Decodable {
                let name: String
                let samples: Int
                let perClass: [Int]
            }
            let imageSize: [Int]
            let classes: Int
            let parts: [Part]
        }
        let json = try bench.prints(["data", "digits", "--folder", folder, "--json", "--preview", "preview.png"])
        let listing = try JSONDecoder().decode(Listing.self, from: Data(json.utf8))
        #expect(listing.imageSize == [8, 8] && listing.classes == 10)
        #expect(listing.parts.map(\.name) == ["train", "validation", "test"])
        #expect(listing.parts.map(\.samples) == [1_147, 200, 450])
        #expect(listing.parts[2].perClass == [45, 46, 44, 46, 45, 46, 45, 45, 43, 45])
        let picture = try readPNG(bench.file("preview.png"))
        #expect(picture.shape[0] > 10 * 40 && picture.shape[1] > 16 * 40)
    }

    @Test("modules lists the catalogue, as text, as JSON and one by name")
    func modules() throws {
        let bench = try Workbench()
        let names = ModuleCatalogue.entries.map(\.name)
        let text = try bench.prints(["modules"])
        for name in names { #expect(text.contains(name)) }
        struct Listing: Decodable {
            struct Layout: Decodable {
                struct Key: Decodable {
                    let name: String
                    let required: Bool
                }
                struct Role: Decodable {
                    let name: String
                    let shape: String
                }
                let layout: String
                let config: [Key]
                let inputs: [Role]
                let outputs: [Role]
            }
            let name: String
            let layouts: [Layout]
        }
        let json = try bench.prints(["modules", "--json"])
        let listing = try JSONDecoder().decode([Listing].self, from: Data(json.utf8))
        #expect(listing.map(\.name) == names)
        let resampler = try #require(
            listing.first { $0.name == "perceiver-resampler" }?.layouts.first { $0.layout == "open-flamingo" })
        #expect(resampler.config.filter(\.required).map(\.name) == ["dim"])
        #expect(resampler.inputs.map(\.name) == ["x"] && resampler.outputs.map(\.name) == ["latents"])
        let one = try bench.prints(["modules", "perceiver-resampler"])
        #expect(one.contains("num_latents") && one.contains("required") && one.contains("x [B, N, F, V, dim]"))
    }

    @Test("gradcheck checks what is asked for, and its JSON has exactly the agreed members")
    func gradcheck() throws {
        let bench = try Workbench()
        let text = try bench.prints(["gradcheck", "--only", "rms-norm"])
        #expect(text.contains("rms-norm") && text.contains("module") && text.contains("1 of 1 passed"))
        let cast = try bench.prints(["gradcheck", "--only", "cast"])
        let words = cast.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        #expect(
            words.contains("exception reason cast finite differences take steps of 1"),
            "an exception has no reason: \(cast)")
        let constant = try bench.prints(["gradcheck", "--only", "argmax"])
        #expect(constant.contains("no gradient") && constant.contains("0 of 0 passed, 1 without gradient"))
        // Ops and a module. What all of them say, `.ci/run` asks the optimised command.
        let json = try bench.prints(["gradcheck", "--only", "linear", "--json"])
        let root = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        #expect(Set(root.keys) == ["results"])
        let results = try #require(root["results"] as? [[String: Any]])
        let members: Set = ["name", "kind", "passed", "maxRelativeError", "samples", "differentiable"]
        for result in results {
            #expect(Set(result.keys) == members)
            #expect(result["name"] is String && result["passed"] as? Bool == true)
            #expect(try #require(result["maxRelativeError"] as? Double) <= 1e-6)
            #expect(try #require(result["samples"] as? Int) > 0)
            #expect(result["differentiable"] as? Bool == true)
        }
        #expect(Set(results.compactMap { $0["kind"] as? String }) == ["op", "module"])
        #expect(
            try bench.prints(["gradcheck", "--only", "cast", "--json"]).contains("\"exception\" : \"finite differences")
        )
        #expect(Op.catalogue.count >= 110 && Op.catalogue.count(where: \.isDifferentiable) >= 90)
        #expect(
            Set(Op.catalogue.filter { $0.exception != nil }.map(\.name)) == ["cast", "straightThrough"])
    }

    @Test("gradcheck --export writes what each sample computes, drawn and with special values, and its gradients")
    func gradcheckExport() throws {
        let bench = try Workbench()
        _ = try bench.prints(["gradcheck", "--only", "softmax", "--export", bench.file("ops.safetensors")])
        let file = try SafetensorsFile(reading: bench.file("ops.safetensors"))
        func numbers(_ name: String) throws -> [Double] { try file.tensor("softmax/" + name).scalars() }
        let (x, y) = (try file.tensor("softmax/last/drawn/input.0"), try file.tensor("softmax/last/drawn/output"))
        #expect(y.scalars(as: Double.self) == x.softmax(axis: -1).scalars(as: Double.self))
        let cotangent = try file.tensor("softmax/last/drawn/cotangent")
        let slopes = gradient(of: { ($0.softmax(axis: -1) * cotangent).sum() }, at: x)
        #expect(try numbers("last/drawn/gradient.0") == slopes.scalars(as: Double.self))
        #expect(try numbers("last/nan/input.0")[0].isNaN && numbers("last/nan/output").prefix(5).allSatisfy(\.isNaN))
        #expect(try numbers("last/all negative infinite/output").allSatisfy { $0 == 0 })
        // No special values where there is no element to have them.
        #expect(file.entries["softmax/empty/drawn/output"] != nil && file.entries["softmax/empty/nan/output"] == nil)
    }

    @Test(
        "every command explains itself",
        arguments: ["train", "evaluate", "export", "apply", "modules", "inspect", "gradcheck", "data"])
    func help(_ command: String) throws {
        let bench = try Workbench()
        let text = try bench.prints([command, "--help"])
        #expect(text.contains("USAGE: fovea \(command)") && text.contains("OPTIONS:"))
        #expect(try bench.prints(["--help"]).contains(command))
    }

    @Test("a run that holds validation samples out does not look at the test samples")
    func heldOut() throws {
        let bench = try Workbench()
        try bench.prepare(["data.holdOutValidation": "true"])
        let output = try bench.prints(["train", "tiny.yaml", "--output", "run"])
        let report = try bench.text("run/report.json")
        #expect(report.contains("validationAccuracy") && !report.contains("test"))
        #expect(output.contains("validation accuracy") && !output.contains("test accuracy"))
    }

    @Test("--version tells the version that checkpoints carry")
    func version() throws {
        #expect(try Workbench().prints(["--version"]) == foveaVersion + "\n")
    }
}

extension SafetensorsFile {
    /// How many numbers there are in all tensors.
    var elements: Int { entries.values.reduce(0) { $0 + $1.count } }

    /// The elements of every tensor.
    func values() throws -> [String: [Float]] {
        var values: [String: [Float]] = [:]
        for (name, tensor) in try tensors() { values[name] = tensor.scalars(as: Float.self) }
        return values
    }
}
