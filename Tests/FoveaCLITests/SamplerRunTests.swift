import Foundation
import Testing

/// Training with FocusLLaVA's samplers, from the recipe to the report.
@Suite("Sampler runs")
struct SamplerRunTests {
    private static let recipe = """
        data: { name: digit-grid, questions: [digit], folder: \(Workbench.project)/Data/digits }
        model: { patchSize: 8, width: 8, encoderDepth: 1, encoderHeads: 2, decoderDepth: 2, decoderHeads: 2 }
        compressor: { module: mlp-projector, hidden_size: 8 }
        sampler: { keep: 4, leastShare: 0.3 }
        training: { steps: 6, batchSize: 4, checkpointEvery: 3, logEvery: 2 }
        """

    private struct Line: Decodable {
        let mean: Double
        let evidence: Double
        let entering: Double
    }

    @Test("a text sampler trains, resumes in the same bits, and counts in what evaluate tells")
    func text() throws {
        let bench = try Workbench()
        try bench.write(SamplerRunTests.recipe, to: "s.yaml")
        try bench.prints(["train", "s.yaml", "--output", "run"])
        let text = try bench.prints([
            "evaluate", "run", "--json", "--samples", "4", "--reducer", "random", "--keep", "100%",
        ])
        let line = try #require(try JSONDecoder().decode([Line].self, from: Data(text.utf8)).first)
        // Nine tokens, and four of them in the second layer.
        #expect(line.mean == 6.5 && line.evidence < 1)
        try FileManager.default.copyItem(atPath: bench.file("run"), toPath: bench.file("half"))
        for name in ["checkpoints/step-00000006", "report.json", "model.safetensors"] {
            try FileManager.default.removeItem(atPath: bench.file("half/" + name))
        }
        try bench.prints(["train", "s.yaml", "--output", "half", "--resume"])
        try bench.expectSameRun("half", "run")
    }

    @Test("the least share of tokens that training leaves is the recipe's: with all of them nothing is taken")
    func shares() throws {
        let bench = try Workbench()
        try bench.write(SamplerRunTests.recipe, to: "s.yaml")
        try bench.write(
            SamplerRunTests.recipe.replacing("sampler: { keep: 4, leastShare: 0.3 }\n", with: ""), to: "none.yaml")
        func losses(_ arguments: [String], _ run: String) throws -> [Double] {
            try bench.prints(["train"] + arguments + ["--output", run])
            return try bench.metrics(run).map(\.loss)
        }
        let none = try losses(["none.yaml"], "none")
        #expect(try losses(["s.yaml", "--set", "sampler.leastShare=1"], "all") == none)
        #expect(try losses(["s.yaml"], "some") != none)
    }

    @Test("a scale sampler trains with its losses, which progress, log and report tell")
    func scales() throws {
        let bench = try Workbench()
        try bench.write(
            SamplerRunTests.recipe.replacing("patchSize: 8", with: "patchSize: 4").replacing(
                "compressor: { module: mlp-projector, hidden_size: 8 }",
                with: """
                    compressor:
                      { module: focus-vision-sampler, layout: scale, window: 2, scales: [2, 1], budget_weight: 1 }
                    """), to: "s.yaml")
        let output = try bench.prints(["train", "s.yaml", "--output", "run"])
        #expect(output.contains("  balance ") && output.contains("  budget "))
        let report = try String(decoding: bench.data("run/report.json"), as: UTF8.self)
        #expect(report.contains("auxiliaryLosses") && report.contains("\"balance\""))
        let log = try String(decoding: bench.data("run/metrics.jsonl"), as: UTF8.self)
        #expect(log.contains("\"budget\""))
        // Nine windows, each a token or four: not the most that there could be.
        let text = try bench.prints([
            "evaluate", "run", "--json", "--samples", "4", "--reducer", "random", "--keep", "100%",
        ])
        let line = try #require(try JSONDecoder().decode([Line].self, from: Data(text.utf8)).first)
        #expect((9..<36).contains(line.entering))
        try bench.refuses(
            ["train", "s.yaml", "--set", "compressor.budget_share=2", "--output", "x"], mentions: ["budget_share"])
    }

    @Test("the losses of a scale sampler count as much as the recipe says", arguments: ["balance", "budget"])
    func weights(_ name: String) throws {
        let bench = try Workbench()
        try bench.write(
            SamplerRunTests.recipe.replacing("patchSize: 8", with: "patchSize: 4").replacing(
                "module: mlp-projector, hidden_size: 8",
                with: "module: focus-vision-sampler, layout: scale, window: 2, scales: [2, 1]"
            )
            .replacing("steps: 6, batchSize: 4, checkpointEvery: 3, logEvery: 2", with: "steps: 1, batchSize: 4"),
            to: "s.yaml")
        struct Line: Decodable {
            let loss: Double
            let auxiliaryLosses: [String: Double]?
        }
        func line(_ weight: Int) throws -> Line {
            let run = "run-\(weight)"
            try bench.prints([
                "train", "s.yaml", "--output", run, "--set", "compressor.\(name)_weight=\(weight)", "--set",
                "training.logEvery=1",
            ])
            return try JSONDecoder().decode(Line.self, from: bench.data(run + "/metrics.jsonl"))
        }
        let (one, three) = (try line(1), try line(3))
        let own = try #require(one.auxiliaryLosses?[name])
        #expect(own > 0 && three.auxiliaryLosses?[name] == own)
        #expect(abs(three.loss - one.loss - 2 * own) < 1e-5 * max(1, own))
    }

    @Test("a text sampler sits in the middle of the decoder unless the recipe says where")
    func layer() throws {
        let bench = try Workbench()
        try bench.write(SamplerRunTests.recipe, to: "s.yaml")
        // Of nine tokens four are left: before the third of three layers, or the second.
        for (settings, mean) in [([], 22.0 / 3), (["sampler.layer=1"], 17.0 / 3)] {
            try bench.prints(
                [
                    "train", "s.yaml", "--output", "run", "--overwrite", "--set", "model.decoderDepth=3", "--set",
                    "training.steps=1",
                ]
                    + settings.flatMap { ["--set", $0] })
            let text = try bench.prints([
                "evaluate", "run", "--json", "--samples", "4", "--reducer", "random", "--keep", "100%",
            ])
            let line = try #require(try JSONDecoder().decode([Line].self, from: Data(text.utf8)).first)
            #expect(abs(line.mean - mean) < 1e-9)
        }
    }

    @Test("a sampler that cannot be is refused in a line")
    func refusals() throws {
        let bench = try Workbench()
        try bench.write(SamplerRunTests.recipe, to: "s.yaml")
        for (settings, mentions) in [
            (["sampler.keep=10"], ["sampler.keep", "the decoder gets 9"]),
            (["sampler.keep=0"], ["sampler.leastShare", "sampler.keep"]),
            (["sampler.layer=2"], ["sampler.layer", "below the decoder's 2"]),
            (["sampler.leastShare=0"], ["sampler.leastShare", "above 0"]),
            (["sampler.kep=3"], ["sampler.keep"]),
            (["model.decoderDepth=1"], ["sampler.keep", "a decoder of 1 layers"]),
            (["injection.module=hyper-attention", "injection.layout=paper"], ["sampler.keep", "injection"]),
            (["data.name=digits", "data.questions=[]"], ["sampler.keep", "no question"]),
        ] {
            try bench.refuses(
                ["train", "s.yaml", "--output", "run"] + settings.flatMap { ["--set", $0] }, mentions: mentions)
        }
        #expect(!bench.exists("run"))
    }

    private static let recipes =
        ((try? FileManager.default.contentsOfDirectory(atPath: Workbench.project + "/Recipes")) ?? [])
        .filter { $0.contains("focusllava") }.sorted()

    @Test("the recipes can be planned", arguments: recipes)
    func plans(_ recipe: String) throws {
        let bench = try Workbench()
        let plan = try bench.prints([
            "train", Workbench.project + "/Recipes/" + recipe, "--dry-run", "--set", "training.batchSize=1",
        ])
        #expect(plan.contains("multiply-adds, forward"))
    }
}
