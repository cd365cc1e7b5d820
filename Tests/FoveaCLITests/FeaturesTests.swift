import Foundation
import Fovea
import Testing

/// Training on features that were computed elsewhere, and from weights that were.
@Suite("Features and starting weights")
struct FeaturesTests {
    private static let recipe = """
        data:
          name: features
          folder: features
        compressor:
          module: patch-merger
          layout: qwen2-vl
          dim: 6
        training:
          steps: 200
          batchSize: 8
          warmup: 2
          learningRate: 0.01

        """

    /// Sixteen tokens of width 4, whose class is which of the four quarters of the raster is bright.
    private static func features(_ count: Int) -> (features: Tensor, labels: Tensor) {
        var values: [Float] = []
        for sample in 0..<count {
            let noise = RandomKey(seed: 4).folding(UInt64(sample))
            for token in 0..<16 {
                let quarter = token / 8 * 2 + token % 4 / 2
                for feature in 0..<4 {
                    values.append(Float(noise.uniform(at: token * 4 + feature)) + (quarter == sample % 4 ? 1 : 0))
                }
            }
        }
        return (
            Tensor(values, shape: [count, 16, 4]), Tensor((0..<count).map { Int64($0 % 4) })
        )
    }

    private static let counts = [("train", 48), ("validation", 8), ("test", 20)]

    /// The bench with the three parts, changed by `change` before they are written.
    private func bench(
        _ change: (String, inout NamedTensors) -> Void = { _, _ in }
    ) throws -> Workbench {
        let bench = try Workbench()
        try bench.write(FeaturesTests.recipe, to: "r.yaml")
        try FileManager.default.createDirectory(atPath: bench.file("features"), withIntermediateDirectories: true)
        for (part, count) in FeaturesTests.counts {
            let (features, labels) = FeaturesTests.features(count)
            var arrays: NamedTensors = ["features": features, "labels": labels]
            change(part, &arrays)
            try writeSafetensors(arrays, to: bench.file("features/\(part).safetensors"))
        }
        return bench
    }

    @Test("a file that another program shortens while it is read ends a run in one line")
    func shortened() throws {
        let bench = try bench()
        let running = try Command.start(
            [
                "train", "r.yaml", "--output", "run", "--set", "training.steps=1000000", "--set",
                "training.checkpointEvery=1",
            ],
            in: bench.path)
        #expect(running.waits(until: { !bench.checkpoints("run").isEmpty }))
        #expect(truncate(bench.file("features/train.safetensors"), 0) == 0)
        if !running.waits(until: { !running.isRunning }) { running.send(SIGKILL) }
        let outcome = running.wait()
        #expect(outcome.exitCode == 1, "\(outcome.summary)")
        #expect(
            outcome.errors.contains("made shorter by another program") && outcome.errors.filter(\.isNewline).count == 1)
    }

    @Test("a compressor trains on features with labels, whatever the files' format, to the same bits")
    func labels() throws {
        let bench = try bench()
        try bench.prints(["train", "r.yaml", "--output", "a"])
        #expect(try bench.report("a").testAccuracy > 0.9)
        #expect(try bench.prints(["evaluate", "a"]).contains("accuracy"))
        for (part, count) in FeaturesTests.counts {
            let (features, labels) = FeaturesTests.features(count)
            try FileManager.default.removeItem(atPath: bench.file("features/\(part).safetensors"))
            if part == "train" {
                try writeNPZ(["features": features, "labels": labels], to: bench.file("features/train.npz"))
            } else {
                try writeNPY(features, to: bench.file("features/\(part)-features.npy"))
                try writeNPY(labels, to: bench.file("features/\(part)-labels.npy"))
            }
        }
        try bench.prints(["train", "r.yaml", "--output", "b"])
        let (a, b) = (try bench.data("a/model.safetensors"), try bench.data("b/model.safetensors"))
        #expect(a == b)
        #expect(try bench.prints(["train", "r.yaml", "--dry-run"]).contains("16 features of width 4"))
    }

    @Test("a compressor learns to give what a teacher gave, and the report says how much of it")
    func teacher() throws {
        // The teacher is a merger with other weights: what it gives can be matched to the last part.
        let teacher = PatchMerger(4, outputs: 6, key: RandomKey(seed: 8))
        let bench = try bench { part, arrays in
            let features = arrays["features"]!
            let tokens = VisualTokens(patches: features, grid: .init(rows: 4, columns: 4))
            arrays["labels"] = nil
            arrays["targets"] = teacher(tokens).features
        }
        let steps = ["--set", "training.steps=300"]
        try bench.prints(["train", "r.yaml", "--output", "run"] + steps)
        let report = try bench.report("run")
        #expect(report.testAccuracy > 0.8 && report.testAccuracy < 1)
        let text = try bench.prints(["evaluate", "run"])
        #expect(text.contains("of the targets' variance explained") && text.contains("mean squared error"))
        // From the teacher's own weights nothing is left to learn.
        try writeSafetensors(
            teacher.parameters, to: bench.file("teacher.safetensors"))
        try bench.prints(
            ["train", "r.yaml", "--output", "same", "--set", "model.initializeFrom=teacher.safetensors"] + [
                "--set", "training.steps=1", "--set", "training.learningRate=1e-9",
            ])
        #expect(try bench.report("same").testAccuracy > 0.9999)
        // A run without a classifier is a compressor alone, too.
        try bench.prints(
            ["train", "r.yaml", "--output", "again", "--set", "model.initializeFrom=same"] + [
                "--set", "training.steps=1", "--set", "training.learningRate=1e-9",
            ])
        #expect(try bench.report("again").testAccuracy > 0.9999)
        // Targets of other shapes are refused with both.
        try bench.refuses(
            ["train", "r.yaml", "--output", "new", "--set", "compressor.dim=5"],
            mentions: ["compressor.module", "4 tokens of width 5", "4 of width 6"])
    }

    /// Something that is wrong with the features, and what the complaint must mention.
    struct Mistake: CustomTestStringConvertible {
        let testDescription: String
        let part: String
        let change: @Sendable (inout NamedTensors) -> Void
        let mentions: [String]

        init(
            _ testDescription: String, _ part: String = "train", mentions: [String],
            _ change: @escaping @Sendable (inout NamedTensors) -> Void
        ) {
            (self.testDescription, self.part, self.change, self.mentions) = (testDescription, part, change, mentions)
        }
    }

    static let mistakes: [Mistake] = [
        .init("no features", mentions: ["train.safetensors", "no array \"features\""]) { $0["features"] = nil },
        .init("no answers", mentions: ["neither \"labels\" nor \"targets\""]) { $0["labels"] = nil },
        .init("both answers", mentions: ["\"labels\" and \"targets\""]) { $0["targets"] = $0["features"] },
        .init("features of another rank", mentions: ["features are float32 [48, 64]", "[samples, tokens, width]"]) {
            $0["features"] = $0["features"]!.flattened(from: 1)
        },
        .init("features of whole numbers", mentions: ["features are int64"]) {
            $0["features"] = $0["features"]!.cast(to: .int64)
        },
        .init("labels of another rank", mentions: ["labels are int64 [48, 1, 1]"]) {
            $0["labels"] = $0["labels"]!.reshaped(to: [48, 1, 1])
        },
        .init("labels with fractions", mentions: ["labels are float32 [48]"]) {
            $0["labels"] = $0["labels"]!.cast(to: .float32)
        },
        .init("a negative label", mentions: ["a label is -1"]) {
            $0["labels"] = ($0["labels"]!.cast(to: .float64) - 1).cast(to: .int64)
        },
        .init("not as many samples", mentions: ["[48, 16, 4]", "[47]", "not as many"]) {
            $0["labels"] = $0["labels"]!.sliced(axis: 0, 0..<47)
        },
        .init("a feature that is NaN", mentions: ["features hold", "NaN"]) {
            $0["features"] = $0["features"]! * Tensor([Float.nan])
        },
        .init("a part of another width", "test", mentions: ["test.safetensors", "[20, 16, 3]", "[48, 16, 4]"]) {
            $0["features"] = $0["features"]!.sliced(axis: 2, 0..<3)
        },
        .init("a class that is not trained", "test", mentions: ["test.safetensors", "label 7 does not occur"]) {
            $0["labels"] = ($0["labels"]!.cast(to: .float64) + 4).cast(to: .int64)
        },
    ]

    @Test("features that do not fit are told in one line", arguments: mistakes)
    func refusals(_ mistake: Mistake) throws {
        let bench = try bench { part, arrays in if part == mistake.part { mistake.change(&arrays) } }
        try bench.refuses(["train", "r.yaml", "--output", "run"], mentions: mistake.mentions)
    }

    @Test("a missing part, two files for one, no folder, and rows that do not fit")
    func folders() throws {
        let bench = try bench()
        func refused(_ settings: [String], _ mentions: [String]) throws {
            try bench.refuses(
                ["train", "r.yaml", "--output", "run"] + settings.flatMap { ["--set", $0] }, mentions: mentions)
        }
        try refused(["data.folder=nowhere"], ["nowhere", "no features of the part train", "train.npz"])
        try refused(["data.gridRows=3"], ["data.gridRows", "16 tokens do not form 3 rows"])
        try refused(["data.gridRows=1"], ["blocks of 2 × 2 do not tile a raster of 1 × 16"])
        try writeNPZ(["features": .ones([1, 1, 1])], to: bench.file("features/test.npz"))
        try refused([], ["test.safetensors and test.npz", "Keep one"])
        try bench.write(FeaturesTests.recipe.replacing("  folder: features\n", with: ""), to: "r.yaml")
        try refused([], ["r.yaml", "data.folder", "docs/features.md"])
    }

    // MARK: Starting weights

    @Test("a run starts from another one's model, from a part of it, or from published weights of the compressor")
    func starts() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "first"])
        // Not trained any further, to speak of, it is the same model.
        func still(_ settings: [String], _ run: String) throws -> [String: [Float]] {
            let all = ["training.steps=1", "training.learningRate=1e-12"] + settings
            try bench.prints(["train", "tiny.yaml", "--output", run] + all.flatMap { ["--set", $0] })
            return try SafetensorsFile(reading: bench.file(run + "/model.safetensors")).values()
        }
        let first = try SafetensorsFile(reading: bench.file("first/model.safetensors")).values()
        func distance(_ a: [String: [Float]], _ part: String) -> Float {
            a.reduce(0) { largest, entry in
                guard entry.key.hasPrefix(part) else { return largest }
                return max(largest, zip(entry.value, first[entry.key]!).map { abs($0 - $1) }.max() ?? 0)
            }
        }
        let whole = try still(["model.initializeFrom=first"], "whole")
        #expect(distance(whole, "") < 1e-6)
        let checkpoint = try still(["model.initializeFrom=\(bench.newestCheckpoint("first"))"], "checkpoint")
        #expect(distance(checkpoint, "") < 1e-6)
        let part = try still(["model.initializeFrom=first", "model.initializeOnly=[patches.**]"], "part")
        #expect(distance(part, "patches.") < 1e-6 && distance(part, "classifier.") > 1e-3)
        try bench.prints(["export", "first", "--layout", "open-flamingo", "--output", "w.safetensors"])
        let published = try still(["model.initializeFrom=w.safetensors"], "published")
        #expect(distance(published, "compressor.") < 1e-6 && distance(published, "classifier.") > 1e-3)
        // A run that starts so can be resumed and evaluated without the weights.
        try FileManager.default.removeItem(atPath: bench.file("w.safetensors"))
        try bench.prints(["evaluate", "published"])
    }

    @Test("starting weights that do not fit are told in one line, and nothing is written")
    func badStarts() throws {
        let bench = try Workbench()
        try bench.prepare()
        try bench.prints(["train", "tiny.yaml", "--output", "first", "--set", "training.steps=1"])
        try bench.prints(["export", "first", "--layout", "open-flamingo", "--output", "w.safetensors"])
        func refused(_ settings: [String], _ mentions: [String]) throws {
            try bench.refuses(
                ["train", "tiny.yaml", "--output", "new"] + settings.flatMap { ["--set", $0] }, mentions: mentions)
        }
        try refused(["model.initializeFrom=none"], ["none", "no such run, checkpoint or file"])
        try refused(["model.initializeFrom=tiny.yaml"], ["tiny.yaml"])
        try refused(
            ["model.initializeFrom=w.safetensors", "compressor.num_latents=3"],
            ["w.safetensors", "latents is [2, 8], not [3, 8]", "nothing was loaded"])
        try refused(
            ["model.initializeFrom=w.safetensors", "compressor.depth=2"], ["w.safetensors", "missing (layers.1."])
        try refused(
            ["model.initializeFrom=first", "model.width=12"], ["first/model.safetensors", "of another shape", "[8"])
        try refused(
            ["model.initializeFrom=first", "model.initializeOnly=[patch.**]"], ["model.initializeOnly", "\"patch.**\""])
        try refused(
            ["model.initializeFrom=first", "model.initializeOnly=[patches.**]", "model.width=12"],
            ["first/model.safetensors", "patches.weight is [8, 1, 4, 4], not [12, 1, 4, 4]"])
        try refused(["model.initializeOnly=[patches.**]"], ["model.initializeOnly", "nothing to pick from"])
        try refused(
            ["model.initializeFrom=w.safetensors", "model.initializeOnly=[patches.**]"],
            ["model.initializeOnly", "a compressor alone"])
        try FileManager.default.removeItem(atPath: bench.file("first/model.safetensors"))
        try refused(["model.initializeFrom=first"], ["first", "without a finished model"])
    }
}
