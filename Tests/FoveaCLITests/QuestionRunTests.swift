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
        #expect(!bench.exists("run"))
    }

    @Test("data describes each task and draws it", arguments: ["digit-grid", "scenes", "tiny", "panels", "clips"])
    func describing(_ name: String) throws {
        let bench = try Workbench()
        let folder = Workbench.project + "/Data/digits"
        let text = try bench.prints(["data", name, "--folder", folder, "--preview", "p.png"])
        #expect(text.contains("chance") && text.contains("→"))
        #expect(try bench.prints(["inspect", "p.png"]).contains("3"))
    }
}
