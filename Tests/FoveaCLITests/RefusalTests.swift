import Foundation
import Testing

/// Whatever is wrong with a recipe, a dataset or an argument: a one-line error that names it, and nothing written.
@Suite("Refusals")
struct RefusalTests {
    /// A recipe that cannot be taken, and what the complaint must mention.
    struct BadRecipe: CustomTestStringConvertible {
        let testDescription: String
        let text: String
        let mentions: [String]

        init(_ testDescription: String, _ text: String, _ mentions: String...) {
            self.testDescription = testDescription
            self.text = text
            self.mentions = mentions
        }
    }

    static let recipes: [BadRecipe] = [
        .init("unknown key", "model:\n  widht: 8\n", "r.yaml:2", "\"model.widht\"", "did you mean model.width?"),
        .init(
            "a key of another group", "model:\n  width: 8\ntraining:\n  patchSize: 4\n", "r.yaml:4",
            "\"training.patchSize\"", "did you mean model.patchSize?"),
        .init(
            "unknown group", "trainning:\n  steps: 8\n", "r.yaml:1", "\"trainning\"",
            "data, model, compressor, injection, sampler, training, output",
            "did you mean training?"),
        .init("a key without its group", "steps: 8\n", "r.yaml:1", "\"steps\"", "did you mean training.steps?"),
        .init(
            "a word for a number", "model:\n  width: eight\n", "r.yaml:2", "model.width",
            "a whole number from 1 to 8192, not eight"),
        .init("a fraction for a whole number", "model:\n  width: 8.5\n", "r.yaml:2", "model.width", "not 8.5"),
        .init("a quoted number", "model:\n  width: \"8\"\n", "r.yaml:2", "model.width", "a whole number", "not \"8\""),
        .init("a list for a number", "model:\n  width: [8]\n", "r.yaml:2", "model.width", "not a list"),
        .init("a group for a number", "model:\n  width:\n    a: 8\n", "r.yaml:2", "model.width", "not a group"),
        .init("no value", "model:\n  width:\n", "r.yaml:2", "model.width", "a whole number", "not \"\""),
        .init(
            "a null for a number", "model:\n  width: null\n", "r.yaml:2", "model.width", "a whole number", "not null"),
        .init("a yes for a flag", "data:\n  holdOutValidation: yes\n", "r.yaml:2", "true or false, not yes"),
        .init(
            "an unknown choice", "training:\n  schedule: cosin\n", "r.yaml:2", "training.schedule",
            "cosine, linear, constant, not cosin"),
        .init("a text for a list", "training:\n  freeze: patches\n", "r.yaml:2", "training.freeze", "a list"),
        .init("zero", "model:\n  width: 0\n", "r.yaml:2", "model.width", "from 1 to 8192, not 0"),
        .init("a negative rate", "training:\n  learningRate: -0.1\n", "r.yaml:2", "training.learningRate", "above 0"),
        .init("a rate of zero", "training:\n  learningRate: 0\n", "r.yaml:2", "training.learningRate", "above 0"),
        .init("a rate of NaN", "training:\n  learningRate: .nan\n", "r.yaml:2", "training.learningRate", "not .nan"),
        .init("a decay of one", "training:\n  beta1: 1\n", "r.yaml:2", "training.beta1", "0.9999, not 1"),
        .init("a seed beyond 64 bits", "training:\n  seed: 99999999999999999999\n", "r.yaml:2", "training.seed"),
        .init("no steps", "training:\n  steps: 0\n", "r.yaml:2", "training.steps", "not 0"),
        .init("no checkpoints", "training:\n  checkpointEvery: 0\n", "r.yaml:2", "training.checkpointEvery"),
        .init(
            "a duplicate key", "data:\n  maximum: 16\nmodel:\n  width: 8\n  patchSize: 2\n  width: 9\n", "r.yaml:4",
            "width", "a second time"),
        .init(
            "a duplicate group", "model:\n  width: 8\nmodel:\n  patchSize: 2\n", "r.yaml:1", "model", "a second time"),
        .init("a list that does not end", "model:\n  width: [8\n", "r.yaml:3", "not YAML"),
        .init("an indentation that does not fit", "model:\n  width: 8\n   latents: 2\n", "r.yaml:3", "not YAML"),
        .init("a tab", "model:\n\twidth: 8\n", "r.yaml:2", "not YAML"),
        .init("an alias of nothing", "model:\n  width: *x\n", "r.yaml:2", "not YAML"),
        .init("a control character", "model:\n  width: 8\n  latents: \u{1}\n", "r.yaml:3", "not YAML"),
        .init("a second document", "model:\n  width: 8\n---\nmodel:\n  width: 9\n", "r.yaml:3", "not YAML"),
        .init(
            "an empty file", "", "r.yaml", "is empty", "data, model, compressor, injection, sampler, training, output"),
        .init(
            "only comments", "# nothing\n\n# here\n", "r.yaml", "is empty",
            "data, model, compressor, injection, sampler, training, output"),
        .init("a text", "hello\n", "r.yaml:1", "data, model, compressor, injection, sampler, training, output"),
        .init("a list", "- model\n", "r.yaml:1", "data, model, compressor, injection, sampler, training, output"),
        .init("a number for a group", "model: 3\n", "r.yaml:1", "model is a group"),
        .init(
            "patches that do not tile", "data:\n  folder: digits\nmodel:\n  patchSize: 3\n", "r.yaml:4",
            "model.patchSize", "8 × 8"),
        .init(
            "a width that the heads do not divide",
            "data:\n  folder: digits\nmodel:\n  encoderHeads: 3\n  width: 8\n", "r.yaml:5", "model.width",
            "model.encoderHeads"),
        .init(
            "a batch larger than the data", "data:\n  folder: digits\ntraining:\n  batchSize: 73\n", "r.yaml:4",
            "training.batchSize", "73", "72"),
        .init(
            "more parts than pictures", "data:\n  folder: digits\ntraining:\n  batchSize: 2\n  accumulation: 3\n",
            "r.yaml:5", "training.accumulation", "training.batchSize"),
        .init(
            "a model beyond the memory", "model:\n  width: 8192\n  encoderDepth: 64\n", "r.yaml:2", "model.width",
            "this machine"),
        .init(
            "the attention of a class token that there is none of",
            "data:\n  folder: digits\ncompressor:\n  module: visionzip\n  dominant: 2\n  contextual: 2\n"
                + "  importance: class-token\n", "r.yaml:4", "compressor.module", "class-token", "proxy"),
        .init("IDX files without a folder", "data:\n  name: idx\n", "r.yaml", "data.folder", "data.name is idx"),
        .init("a missing data folder", "data:\n  folder: nowhere\n", "nowhere/train-images-idx3-ubyte", "No such file"),
        .init(
            "a pixel above the maximum", "data:\n  folder: digits\n  maximum: 15\n", "digits/train-images-idx3-ubyte",
            "16", "15"),
    ]

    @Test("a recipe that cannot be taken", arguments: recipes)
    func recipe(_ bad: BadRecipe) throws {
        let bench = try Workbench()
        try bench.writeDigits(to: "digits")
        try bench.write(bad.text, to: "r.yaml")
        try bench.refuses(["train", "r.yaml", "--output", "run"], mentions: bad.mentions)
    }

    @Test("a recipe that is not text")
    func binaryRecipe() throws {
        let bench = try Workbench()
        try bench.write(Data([0x6D, 0xFF, 0xFE]), to: "r.yaml")
        try bench.refuses(["train", "r.yaml", "--output", "run"], mentions: ["r.yaml", "UTF-8"])
    }

    /// Arguments that cannot be taken, and what the complaint must mention.
    struct BadArguments: CustomTestStringConvertible {
        let testDescription: String
        let arguments: [String]
        let exitCode: Int32
        let mentions: [String]

        init(_ testDescription: String, _ arguments: [String], exitCode: Int32 = 1, _ mentions: String...) {
            self.init(testDescription, arguments, exitCode, mentions)
        }

        /// Options of a training that is otherwise right.
        static func train(
            _ testDescription: String, _ options: [String], exitCode: Int32 = 1, _ mentions: String...
        ) -> BadArguments {
            BadArguments(testDescription, ["train", "tiny.yaml", "--output", "new"] + options, exitCode, mentions)
        }

        private init(_ testDescription: String, _ arguments: [String], _ exitCode: Int32, _ mentions: [String]) {
            self.testDescription = testDescription
            self.arguments = arguments
            self.exitCode = exitCode
            self.mentions = mentions
        }
    }

    static let badTraining: [BadArguments] = [
        .init("no such recipe", ["train", "none.yaml"], "none.yaml", "no such recipe", "Recipes/"),
        .init("a folder for a recipe", ["train", "digits"], "digits", "is a folder"),
        .train("--set without =", ["--set", "training.steps"], "--set training.steps", "group.key=value"),
        .train("--set of an unknown key", ["--set", "training.step=3"], "\"training.step\"", "mean training.steps?"),
        .train("--set without a group", ["--set", "steps=3"], "\"steps\"", "did you mean training.steps?"),
        .train("--set of a bad value", ["--set", "model.width=wide"], "--set model.width=wide", "a whole number"),
        .train("--set out of range", ["--set", "model.width=0"], "--set model.width=0", "from 1 to 8192"),
        .train("--set of no YAML", ["--set", "model.width=[8"], "--set model.width=[8", "not YAML"),
        .train("--set of nothing", ["--set", "model.width="], "--set model.width=", "a whole number"),
        .train("--set that does not fit", ["--set", "model.width=9"], "--set model.width=9", "model.encoderHeads"),
        .train("no threads", ["--threads", "0"], "--threads 0", "from 1 to 1024"),
        .train("fewer threads than none", ["--threads", "-1"], "--threads -1", "from 1 to 1024"),
        .train("two thousand threads", ["--threads", "2000"], "--threads 2000", "from 1 to 1024"),
        .train("a word for threads", ["--threads", "two"], exitCode: 64, "two", "--threads", "fovea train --help"),
        .train("an unknown option", ["--fast"], exitCode: 64, "--fast", "fovea train --help"),
        .train("a second recipe", ["other.yaml"], exitCode: 64, "other.yaml", "fovea train --help"),
        .train("--resume with --overwrite", ["--resume", "--overwrite"], "--resume", "--overwrite", "give one"),
        .train("--resume without a folder", ["--resume"], "new", "no run to resume"),
        .init("no recipe", ["train"], exitCode: 64, "<recipe>", "fovea train --help"),
        .init("no such command", ["trian"], exitCode: 64, "trian", "fovea --help"),
        .init(
            "a file for the run", ["train", "tiny.yaml", "--output", "plain.txt"], "plain.txt", "is a file", "--output"),
        .init(
            "a run below a file", ["train", "tiny.yaml", "--output", "plain.txt/a/b"], "plain.txt/a/b",
            "plain.txt is a file", "--output"),
        .init("a run without a name", ["train", "tiny.yaml", "--output", ""], "name is empty", "--output"),
    ]

    @Test("training that cannot start", arguments: badTraining)
    func training(_ bad: BadArguments) throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.write("text", to: "plain.txt")
        try bench.refuses(bad.arguments, exitCode: bad.exitCode, mentions: bad.mentions)
    }

    #if os(Linux)
    @Test("a run where the system lets nothing be made", arguments: ["/proc/fovea", "/proc/self/fovea/a"])
    func unwritable(_ folder: String) throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.refuses(
            ["train", "tiny.yaml", "--output", folder],
            mentions: [folder, "cannot be made", "No such file", "--output"])
    }
    #endif

    static let badLooks: [BadArguments] = [
        .init("evaluate nothing", ["evaluate", "none"], "none", "no such run"),
        .init("evaluate a file", ["evaluate", "plain.txt"], "plain.txt", "a run or a checkpoint"),
        .init("evaluate a folder that is no run", ["evaluate", "digits"], "digits", "no recipe.yaml"),
        .init("evaluate a place that is no run", ["evaluate", "."], ".: is not a run", "no recipe.yaml"),
        .init("evaluate a checkpoint that is gone", ["evaluate", "run/checkpoints/step-3"], "run/checkpoints/step-3"),
        .init("evaluate an unknown part", ["evaluate", "run", "--split", "all"], "--split all", "validation"),
        .init("evaluate on no threads", ["evaluate", "run", "--threads", "0"], "--threads 0", "from 1 to 1024"),
        .init("export nothing", ["export", "none", "--output", "w"], "none", "no such run"),
        .init("export a folder that is no run", ["export", "digits", "--output", "w"], "digits", "no recipe.yaml"),
        .init(
            "export under unknown names", ["export", "run", "--layout", "nonsense", "--output", "w"],
            "--layout nonsense", "native or open-flamingo"),
        .init(
            "export an unknown part", ["export", "run", "--part", "eye", "--output", "w"], "--part eye", "compressor"),
        .init(
            "export a model under published names",
            ["export", "run", "--part", "model", "--layout", "open-flamingo", "--output", "w"], "open-flamingo",
            "compressor alone"),
        .init(
            "export under the names of another form", ["export", "run", "--layout", "idefics", "--output", "w"],
            "--layout idefics", "native or open-flamingo"),
        .init(
            "export in an unknown type", ["export", "run", "--dtype", "int8", "--output", "w"], "--dtype int8",
            "float32, bfloat16 or float16"),
        .init(
            "export files of nothing", ["export", "run", "--max-shard-bytes", "0", "--output", "w"],
            "--max-shard-bytes 0", "more than 0"),
        .init(
            "export a run with a configuration", ["export", "run", "--config", "c.json", "--output", "w"], "--config",
            "--module"),
        .init(
            "export weights of an unknown module",
            ["export", "w.safetensors", "--module", "eye", "--layout", "native", "--output", "w"], "no module eye",
            "perceiver-resampler"),
        .init(
            "export weights under nobody's names",
            ["export", "w.safetensors", "--module", "perceiver-resampler", "--output", "w"],
            "--module perceiver-resampler", "--layout", "open-flamingo, "),
        .init(
            "apply a module without its weights",
            [
                "apply", "perceiver-resampler", "--layout", "open-flamingo", "--config", "dim.json", "--inputs", "x",
                "--output", "w",
            ], "perceiver-resampler has weights", "--weights"),
        .init("export to no folder", ["export", "run", "--output", "none/w"], "none/w", "No such file"),
        .init("export below a file", ["export", "run", "--output", "plain.txt/w"], "plain.txt/w", "Not a directory"),
        .init("export over a folder", ["export", "run", "--output", "digits"], "digits: is a folder"),
        .init(
            "export over a run's model", ["export", "run", "--output", "./run/model.safetensors"],
            "--output ./run/model.safetensors", "read by this command"),
        .init(
            "export into a checkpoint", ["export", "run", "--output", "run/checkpoints/step-1/w"], "step-1/w",
            "a run's own"),
        .init(
            "export files into a run", ["export", "run", "--max-shard-bytes", "9", "--output", "run"], "--output run",
            "a run's own"),
        .init("export to nowhere", ["export", "run"], exitCode: 64, "--output", "fovea export --help"),
        .init("inspect nothing", ["inspect", "none"], "none", "no such file or run"),
        .init("inspect a text", ["inspect", "tiny.yaml"], "tiny.yaml", "none of the formats", "safetensors"),
        .init("inspect an empty file", ["inspect", "empty"], "empty: is empty"),
        .init("inspect a folder that is no run", ["inspect", "digits"], "digits", "no recipe.yaml"),
        .init("inspect a truncated IDX file", ["inspect", "short-idx3-ubyte"], "short-idx3-ubyte", "truncated"),
        .init("data of an unknown name", ["data", "letters"], "letters", "digits"),
        .init("data from no folder", ["data", "digits", "--folder", "none"], "none/train-images-idx3-ubyte"),
        .init(
            "data drawn over what is described",
            ["data", "digits", "--folder", "digits", "--preview", "digits/test-images-idx3-ubyte"],
            "--preview digits/test-images-idx3-ubyte", "read by this command"),
        .init("data with a maximum of 0", ["data", "digits", "--maximum", "0"], "--maximum 0", "from 1 to 255"),
        .init("data with a maximum below 0", ["data", "digits", "--maximum", "-3"], "--maximum -3", "from 1 to 255"),
        .init("an unknown module", ["modules", "perceiver"], "no module perceiver", "perceiver-resampler"),
        .init("an unknown benchmark", ["bench", "atention"], "\"atention\"", "did you mean attention?"),
        .init("generate from no folder", ["generate", "none", "--ids", "1"], "none: there is no such folder"),
        .init("generate from no model", ["generate", "digits", "--ids", "1"], "digits/config.json", "cannot be read"),
        .init("generate after no numbers", ["generate", "none", "--ids", "1,two"], "--ids", "\"two\" is no token id"),
        .init("nothing to check", ["gradcheck", "--only", "zzz"], "--only zzz", "no op or module"),
    ]

    @Test("looking at what is not there", arguments: badLooks)
    func looking(_ bad: BadArguments) throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "1"])
        try bench.write("text", to: "plain.txt")
        try bench.write("", to: "empty")
        try bench.write("{\"dim\": 8}", to: "dim.json")
        try bench.write(Workbench.idx([2, 8, 8], [1, 2, 3]), to: "short-idx3-ubyte")
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try bench.refuses(bad.arguments, exitCode: bad.exitCode, mentions: bad.mentions)
    }

    /// A dataset that cannot be taken: one of its files, and what is in it instead.
    struct BadDataset: CustomTestStringConvertible {
        let testDescription: String
        let file: String
        let content: Data?
        let mentions: [String]

        init(_ testDescription: String, _ file: String, _ content: Data?, _ mentions: String...) {
            self.testDescription = testDescription
            self.file = file
            self.content = content
            self.mentions = mentions
        }
    }

    static let datasets: [BadDataset] = [
        .init(
            "truncated images", "train-images-idx3-ubyte",
            Workbench.idx([60, 8, 8], [UInt8](repeating: 0, count: 3_839)),
            "truncated"),
        .init("a truncated header", "test-images-idx3-ubyte", Data([0, 0, 8, 3, 0, 0]), "truncated"),
        .init("truncated labels", "validation-labels-idx1-ubyte", Workbench.idx([12], [0, 1]), "truncated"),
        .init(
            "bytes after the last label", "test-labels-idx1-ubyte",
            Workbench.idx([20], [UInt8](repeating: 0, count: 21)), "1 extra bytes"),
        .init("a wrong magic number", "train-images-idx3-ubyte", Data("PNG, or so".utf8), "50 4e 47 2c", "magic"),
        .init("an unknown element type", "train-labels-idx1-ubyte", Data([0, 0, 7, 1, 0, 0, 0, 0]), "00 00 07 01"),
        .init("an empty file", "train-labels-idx1-ubyte", Data(), "header of IDX"),
        .init("no file", "test-labels-idx1-ubyte", nil, "No such file"),
        .init(
            "fewer labels than images", "train-labels-idx1-ubyte",
            Workbench.idx([59], [UInt8](repeating: 0, count: 59)),
            "59 labels", "60 images"),
        .init(
            "images for labels", "test-labels-idx1-ubyte", Workbench.idx([20, 1], [UInt8](repeating: 0, count: 20)),
            "[20, 1]", "expected are bytes [count]"),
        .init(
            "labels for images", "test-images-idx3-ubyte", Workbench.idx([20], [UInt8](repeating: 0, count: 20)),
            "[20]",
            "[count, height, width]"),
        .init("no pictures", "train-images-idx3-ubyte", Workbench.idx([0, 8, 8], []), "60 labels"),
        .init("a broken gzip", "test-labels-idx1-ubyte", Data([0x1F, 0x8B, 8, 0, 1, 2, 3]), "gzip"),
    ]

    @Test("data that cannot be taken", arguments: datasets)
    func dataset(_ bad: BadDataset) throws {
        let bench = try Workbench()
        try bench.prepare()
        let file = "digits/" + bad.file
        try FileManager.default.removeItem(atPath: bench.file(file))
        if let content = bad.content { try bench.write(content, to: file) }
        for arguments in [["train", "tiny.yaml", "--output", "run"], ["data", "digits", "--folder", "digits"]] {
            // Where counts differ, either file may be the wrong one.
            try bench.refuses(
                arguments, mentions: bad.mentions + ["digits/" + bad.file.prefix { $0 != "-" } + "-"])
        }
    }

    @Test("a run that is there already, without --resume or --overwrite")
    func existingRun() throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "2"])
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try bench.refuses(
            ["train", "tiny.yaml", "--output", "run"],
            mentions: ["run: holds a run already", "--resume", "--overwrite"])
    }

    @Test("--overwrite with a mistake in the recipe leaves the old run as it was")
    func overwriteWithMistake() throws {
        let bench = try Workbench()
        try bench.prepare(["training.steps": "2"])
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        for mistake in ["model.width=0", "model.width=9", "training.batchSize=1000", "data.folder=none"] {
            try bench.refuses(
                ["train", "tiny.yaml", "--output", "run", "--overwrite", "--set", mistake],
                mentions: [mistake.hasPrefix("data") ? "none/" : mistake])
        }
    }

    @Test("--resume with another recipe names each key that differs")
    func resumeWithAnotherRecipe() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        for (key, value) in [
            ("compressor.num_latents", "3"), ("training.seed", "1"), ("training.learningRate", "0.5"),
            ("training.schedule", "linear"), ("training.clipNorm", "1.0"), ("data.maxShift", "2"),
            ("training.freeze", "[patches.**]"), ("training.checkpointEvery", "4"),
        ] {
            try bench.refuses(
                ["train", "tiny.yaml", "--output", "run", "--resume", "--set", "\(key)=\(value)"],
                mentions: ["tiny.yaml", "run", key, "nothing else"])
        }
        try bench.refuses(
            [
                "train", "tiny.yaml", "--output", "run", "--resume", "--set", "compressor.num_latents=3", "--set",
                "training.seed=5", "--set", "training.steps=40",
            ],
            mentions: ["compressor.num_latents is 3 and was 2", "training.seed is 5 and was 0"])
    }

    @Test("--resume with fewer steps")
    func resumeWithFewerSteps() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "run"])
        try bench.refuses(
            ["train", "tiny.yaml", "--output", "run", "--resume", "--set", "training.steps=19"],
            mentions: ["run", "training.steps is 19 and was 20"])
    }
}
