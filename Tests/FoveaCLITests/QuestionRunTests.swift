import Foundation
import Testing

/// Training on questions about pictures, from the recipe to the evaluation.
@Suite("Question runs")
struct QuestionRunTests {
    private static let recipe = """
        data: { name: digit-grid, questions: [count, parity], folder: \(Workbench.project)/Data/digits, holdOutValidation: false }
        model: { patchSize: 8, width: 8, encoderDepth: 1, encoderHeads: 2, decoderDepth: 1, decoderHeads: 2 }
        compressor: { module: mlp-projector, hidden_size: 8 }
        training:
          steps: 6
          batchSize: 4
          optimizer: muon
          momentum: 0.95
          warmup: 0
          checkpointEvery: 3
          firstStage: ["projector.**"]
          firstStageSteps: 2
        """

    private struct Evaluation: Decodable {
        struct Score: Decodable {
            let type: String
            let asked: Int
            let lower: Double
            let upper: Double
        }
        let accuracy: Double
        let samples: Int
        let questions: [Score]
    }

    @Test("a run trains, saves its vocabulary, reports by type; evaluate agrees; resuming ends in the same bits")
    func wholePath() throws {
        let bench = try Workbench()
        try bench.write(QuestionRunTests.recipe, to: "q.yaml")
        let output = try bench.prints(["train", "q.yaml", "--output", "run"])
        #expect(output.contains("parity") && output.contains("95 % interval"))
        let words = try JSONDecoder().decode([String].self, from: try bench.data("run/vocabulary.json"))
        #expect(words.first == "<pad>" && words.contains("parity") && words.contains("row-1"))
        let text = try bench.prints(["evaluate", "run", "--json"])
        let evaluation = try JSONDecoder().decode(Evaluation.self, from: Data(text.utf8))
        #expect(evaluation.questions.map(\.type) == ["count", "parity"])
        #expect(evaluation.questions.map(\.asked) == [2000, 2000] && evaluation.samples == 4000)
        #expect(evaluation.questions.allSatisfy { $0.lower < $0.upper })
        #expect(try bench.report("run").testAccuracy == evaluation.accuracy)
        let table = try bench.prints(["evaluate", "run"])
        #expect(table.contains("accuracy") && table.contains("parity") && !table.contains("variance"))

        // The run as it was after three steps, and on from there.
        try FileManager.default.copyItem(atPath: bench.file("run"), toPath: bench.file("half"))
        for name in ["checkpoints/step-00000006", "report.json", "model.safetensors"] {
            try FileManager.default.removeItem(atPath: bench.file("half/" + name))
        }
        try bench.prints(["train", "q.yaml", "--output", "half", "--resume"])
        try bench.expectSameRun("half", "run")
    }

    @Test("choices that the task does not offer are refused, with what it offers")
    func refusals() throws {
        let bench = try Workbench()
        try bench.write(QuestionRunTests.recipe, to: "q.yaml")
        for (setting, mentions) in [
            ("data.questions=[colour]", ["data.questions", "\"colour\"", "digit, count, parity, same"]),
            ("model.patchSize=5", ["model.patchSize", "24 × 24"]),
            ("model.width=6", ["model.width", "divide by 4"]),
            ("model.decoderHeads=3", ["model.decoderHeads"]),
            ("training.firstStage=[projecter.**]", ["training.firstStage", "projecter.**"]),
        ] {
            try bench.refuses(["train", "q.yaml", "--set", setting, "--output", "run"], mentions: mentions)
        }
        try bench.refuses(
            ["train", "q.yaml", "--set", "model.patchSize=12", "--set", "model.stemChannels=4", "--output", "run"],
            mentions: ["model.stemChannels", "12 pixels"])
        #expect(!bench.exists("run"))
    }

    private struct Reduced: Decodable {
        let reducer: String
        let keep, asked: Int
        let accuracy, lower, upper, agreement, evidence, undiluted, entering, mean: Double
        let multiplyAdds, reducerMultiplyAdds, cacheBytes: Int
    }

    @Test("a run under reducers: all tokens kept is the run itself, budgets are met, costs fall")
    func reducers() throws {
        let bench = try Workbench()
        try bench.write(
            QuestionRunTests.recipe.replacing("decoderDepth: 1", with: "decoderDepth: 2"), to: "q.yaml")
        try bench.prints(["train", "q.yaml", "--output", "run"])
        func scores(_ arguments: [String]) throws -> [Reduced] {
            let text = try bench.prints(["evaluate", "run", "--json", "--samples", "12"] + arguments)
            return try JSONDecoder().decode([Reduced].self, from: Data(text.utf8))
        }
        let methods = ["random", "average-pool", "divprune", "fastv:layer=1", "mustdrop", "ficoco-vl"]
        let all = try scores(
            methods.flatMap { ["--reducer", $0] } + [
                "--keep", "9", "--keep", "4", "--keep", "11%", "--keep", "1", "--reducer", methods[0],
            ])
        #expect(all.map(\.reducer) == methods.flatMap { [$0, $0, $0] })
        #expect(all.map(\.keep) == methods.flatMap { _ in [9, 4, 1] })
        for (name, lines) in zip(methods, stride(from: 0, to: all.count, by: 3).map { Array(all[$0..<$0 + 3]) }) {
            let (whole, half, one) = (lines[0], lines[1], lines[2])
            #expect(whole.agreement == 1 && whole.evidence == 1 && whole.undiluted == 1, "\(name)")
            #expect(whole.entering == 9 && whole.mean == 9 && whole.reducerMultiplyAdds == 0, "\(name)")
            // The interval of no right answer begins at 0, but for rounding.
            #expect(whole.lower <= whole.accuracy + 1e-9 && whole.accuracy < whole.upper, "\(name)")
            #expect(whole.asked == 48, "\(name)")
            #expect(whole.mean > half.mean && half.mean > one.mean, "\(name)")
            #expect(whole.cacheBytes > half.cacheBytes && half.cacheBytes > one.cacheBytes, "\(name)")
            #expect(one.undiluted < 1, "\(name)")
        }
        // Means lose no patch, and dilute each.
        #expect(all[5].evidence == 1 && abs(all[5].undiluted - 1.0 / 9) < 1e-6)
        // One of nine patches by itself.
        #expect(all[2].evidence < 0.5 && all[2].evidence == all[2].undiluted)
        let table = try bench.prints(["evaluate", "run", "--reducer", "uniform", "--keep", "50%", "--samples", "2"])
        #expect(table.contains("uniform") && table.contains("evidence") && table.contains("8 questions"))
    }

    @Test("reducers and budgets that cannot be are refused in a line")
    func reducerRefusals() throws {
        let bench = try Workbench()
        try bench.write(QuestionRunTests.recipe, to: "q.yaml")
        try bench.prints(["train", "q.yaml", "--output", "run"])
        for (arguments, mentions) in [
            (["--reducer", "fastvv", "--keep", "4"], ["fastvv", "did you mean fastv"]),
            (["--reducer", "random", "--keep", "0"], ["--keep 0", "1 to 9"]),
            (["--reducer", "random", "--keep", "10"], ["--keep 10", "1 to 9"]),
            (["--reducer", "random", "--keep", "-3"], ["--keep -3", "1 to 9"]),
            (["--reducer", "random", "--keep", "4", "--samples", "-1"], ["--samples -1", "from 1 on"]),
            (["--reducer", "random", "--keep", "half"], ["--keep half", "25%"]),
            (["--reducer", "random"], ["--keep"]), (["--keep", "4"], ["--keep needs --reducer"]),
            (["--samples", "4"], ["--samples needs --reducer"]),
            (["--reducer", "all:layer=1", "--keep", "4"], ["all:layer=1", "no options"]),
            (["--reducer", "random:sed=1", "--keep", "4"], ["sed", "known are seed"]),
            (["--reducer", "random:seed", "--keep", "4"], ["key=value"]),
            (["--reducer", "random:", "--keep", "4"], ["random:", "key=value"]),
            (["--reducer", "random", "--keep", "0x10%"], ["--keep 0x10%", "25%"]),
            (["--reducer", "fastv", "--keep", "4"], ["a decoder of 1 layers"]),
            (
                ["--reducer", "visionzip:importance=class-token", "--keep", "4"],
                ["--reducer visionzip:", "class token", "proxy"]
            ),
        ] {
            try bench.refuses(["evaluate", "run"] + arguments, mentions: mentions)
        }
    }

    @Test("where a compressor makes other tokens, what works in the encoder is refused, and left out of all")
    func reducersBehindCompressor() throws {
        let bench = try Workbench()
        try bench.write(
            QuestionRunTests.recipe.replacing("decoderDepth: 1", with: "decoderDepth: 2")
                .replacing(
                    "{ module: mlp-projector, hidden_size: 8 }",
                    with: "{ module: perceiver-resampler, depth: 1, heads: 2, dim_head: 4, num_latents: 4 }"),
            to: "q.yaml")
        try bench.prints(["train", "q.yaml", "--output", "run"])
        for name in ["tome", "ficoco-v", "ficoco-vl", "mustdrop"] {
            try bench.refuses(
                ["evaluate", "run", "--reducer", name, "--keep", "2"], mentions: ["--reducer \(name)", "compressor"])
        }
        let outcome = try Command.run(
            ["evaluate", "run", "--json", "--samples", "4", "--reducer", "all", "--keep", "2"], in: bench.path)
        #expect(outcome.exitCode == 0, "\(outcome.summary)")
        let names = try JSONDecoder().decode([Reduced].self, from: Data(outcome.output.utf8)).map(\.reducer)
        #expect(names.contains("random") && names.contains("ficoco-l") && !names.contains("tome"))
        // Latents form no raster either.
        for name in ["tome", "ficoco-v", "ficoco-vl", "mustdrop", "downsample"] {
            #expect(!names.contains(name) && outcome.errors.contains("\(name) is left out: "), "\(name)")
        }
    }

    @Test("a compressor whose number of tokens the picture decides")
    func varyingTokens() throws {
        let bench = try Workbench()
        try bench.write(
            QuestionRunTests.recipe.replacing(
                "{ module: mlp-projector, hidden_size: 8 }", with: "{ module: prumerge }"), to: "q.yaml")
        #expect(try bench.prints(["train", "q.yaml", "--dry-run"]).contains("→ at most 9 of width 8"))
        try bench.prints(["train", "q.yaml", "--output", "run"])
        let text = try bench.prints(["evaluate", "run", "--json"])
        let evaluation = try JSONDecoder().decode(Evaluation.self, from: Data(text.utf8))
        #expect(try bench.report("run").testAccuracy == evaluation.accuracy)
    }

    /// Pictures in the decoder's layers, by the name of what puts them there.
    private static let injections = [
        "gated-cross-attention": ["dim_head=4", "heads=2", "only_attend_immediate_media=false"],
        "hyper-attention": ["layout=paper"], "vlora": ["depth=1", "lora_rank=2", "num_heads=2"],
    ]

    @Test("pictures in the decoder's layers: a run trains, and evaluates as it reported", arguments: injections)
    func injecting(_ module: String, _ keys: [String]) throws {
        let bench = try Workbench()
        try bench.write(QuestionRunTests.recipe, to: "q.yaml")
        let settings = (["module=\(module)"] + keys).flatMap { ["--set", "injection." + $0] }
        let arguments = ["train", "q.yaml", "--set", "training.firstStage=[]"] + settings
        let plan = try bench.prints(arguments + ["--dry-run"])
        #expect(plan.contains("injector.") && plan.contains("multiply-adds, forward"))
        #expect(plan.contains("memory of a step: about") && plan.contains("nothing was trained"))
        try bench.prints(arguments + ["--output", "run"])
        let text = try bench.prints(["evaluate", "run", "--json"])
        let evaluation = try JSONDecoder().decode(Evaluation.self, from: Data(text.utf8))
        #expect(try bench.report("run").testAccuracy == evaluation.accuracy)
    }

    @Test("injections that do not fit are refused")
    func injectionRefusals() throws {
        let bench = try Workbench()
        try bench.write(QuestionRunTests.recipe, to: "q.yaml")
        for (settings, mentions) in [
            (["module=vlroa"], ["injection.module", "vlroa is no injection"]),
            (["module=mlp-projector", "hidden_size=8"], ["mlp-projector is no injection"]),
            (["heads=2"], ["injection.heads", "there is no injection"]),
            (["module=gated-cross-attention", "head=2"], ["injection.head", "did you mean heads"]),
            (["module=hyper-attention", "layout=owl"], ["injection.layout", "mplug-owl3-240728"]),
            (["module=hyper-attention", "interval=2"], ["injection.interval", "leaves none"]),
        ] {
            try bench.refuses(
                ["train", "q.yaml", "--output", "run"] + settings.flatMap { ["--set", "injection." + $0] },
                mentions: mentions)
        }
        try bench.refuses(
            ["train", "q.yaml", "--set", "data.name=panels", "--set", "data.questions=[]", "--output", "run"]
                + ["module=vlora", "depth=1", "lora_rank=2", "num_heads=2"].flatMap { ["--set", "injection." + $0] },
            mentions: ["VLoRA makes weights of one"])
    }

    private struct Result: Decodable, Equatable {
        let recipe: String
        let settings: [String]
        let seed: Int
        let tokens: Int
        let multiplyAdds: Int
        let accuracy: Double
    }

    @Test("runs append to one results file: seeds can be added later, a run made again takes its line's place")
    func results() throws {
        let bench = try Workbench()
        try bench.write(QuestionRunTests.recipe + "\noutput: { results: all/results.jsonl }", to: "q.yaml")
        func train(_ seed: Int, _ more: [String] = []) throws {
            try bench.prints(
                ["train", "q.yaml", "--set", "training.seed=\(seed)", "--output", "run-\(seed)", "--overwrite"] + more)
        }
        func lines() throws -> [Result] {
            try bench.text("all/results.jsonl").split(separator: "\n").map {
                try JSONDecoder().decode(Result.self, from: Data($0.utf8))
            }
        }
        try train(1)
        try train(0)
        let first = try lines()
        #expect(first.map(\.seed) == [1, 0] && first.allSatisfy { $0.recipe == "q" && $0.settings.isEmpty })
        #expect(first.allSatisfy { $0.tokens == 9 && $0.multiplyAdds > 0 })
        try train(1)
        #expect(try lines() == first)
        try train(1, ["--set", "data.blank=true"])
        #expect(try lines().map(\.settings) == [[], [], ["data.blank=true"]])
        let table = try bench.prints(["results", "all/results.jsonl"])
        #expect(table.contains("q data.blank=true") && table.contains("parity"))
        #expect(table.split(separator: "\n").allSatisfy { $0.count <= 80 }, "\(table)")

        // A file that is none of results is refused before anything is trained.
        try bench.write("{}\n", to: "all/results.jsonl")
        try bench.refuses(
            ["train", "q.yaml", "--output", "other"], mentions: ["results.jsonl", "line 1 is no result"])
    }

    @Test("data describes each task and draws it", arguments: ["digit-grid", "scenes", "tiny", "panels", "clips"])
    func describing(_ name: String) throws {
        let bench = try Workbench()
        // No digits, no folder of digits.
        let isDrawn = ["scenes", "tiny"].contains(name)
        let folder = isDrawn ? [] : ["--folder", Workbench.project + "/Data/digits"]
        let text = try bench.prints(["data", name, "--preview", "p.png"] + folder)
        #expect(text.contains("chance") && text.contains("→"))
        if isDrawn {
            let recipe = QuestionRunTests.recipe.replacing(
                "{ name: digit-grid, questions: [count, parity], folder: \(Workbench.project)/Data/digits, ",
                with: "{ name: \(name), "
            )
            .replacing("patchSize: 8", with: name == "scenes" ? "patchSize: 15" : "patchSize: 8")
            try bench.write(recipe, to: "q.yaml")
            #expect(try bench.prints(["train", "q.yaml", "--dry-run"]).contains("nothing was trained"))
        }
        #expect(try bench.prints(["inspect", "p.png"]).contains("3"))
    }
}
