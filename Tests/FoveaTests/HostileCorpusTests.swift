import Foundation
import Fovea
import Testing

/// The files in `Tests/Fixtures/hostile` that are no file format of their own: what they may come to stands in their
/// names, as for those of `FoveaIOTests`.
@Suite struct HostileCorpusTests {
    private static let corpus = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "Fixtures/hostile").path

    /// Copies each file of a folder to the place that its reader looks at, and holds against its name what comes of it.
    private func expect(
        _ folder: String, as name: String, beside others: [String: NamedTensors] = [:],
        _ read: (String) throws -> Void
    ) throws {
        let scratch = NSTemporaryDirectory() + "fovea-hostile-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: scratch) }
        for (file, tensors) in others { try writeSafetensors(tensors, to: "\(scratch)/\(file)") }
        let files = try FileManager.default.contentsOfDirectory(atPath: "\(Self.corpus)/\(folder)").sorted()
        #expect(files.count >= 3)
        for file in files {
            let path = "\(scratch)/\(name)"
            try? FileManager.default.removeItem(atPath: path)
            try FileManager.default.copyItem(atPath: "\(Self.corpus)/\(folder)/\(file)", toPath: path)
            do {
                try read(path)
                #expect(!file.hasPrefix("refused"), "\(folder)/\(file) was read")
            } catch {
                let text = "\(error)"
                #expect(!file.hasPrefix("valid"), "\(folder)/\(file): \(text)")
                #expect(!text.isEmpty && !text.contains(where: \.isNewline), "\(folder)/\(file): \(text)")
                #expect(
                    error is FileError || error is WeightsError || error is ModuleInputError,
                    "\(folder)/\(file): \(error)")
            }
        }
    }

    @Test("vocabularies") func vocabularies() throws {
        try expect("vocabulary", as: "vocabulary.json") { path in
            let vocabulary = try Vocabulary(reading: path)
            #expect(try vocabulary.encode(vocabulary.words[1]) == [1])
        }
    }

    @Test("logs of metrics, of which whole lines count") func metrics() throws {
        try expect("metrics", as: "metrics.jsonl") { path in
            let log = try MetricsLog(path: path, upTo: .max)
            #expect(try MetricsLog(path: path, upTo: .max).records.count == log.records.count)
        }
    }

    @Test("weights of a module") func weights() throws {
        try expect("weights", as: "model.safetensors") { path in
            var model = Linear(2, 2, key: RandomKey(seed: 0))
            try model.load(from: path)
        }
    }

    @Test("one of several files of weights") func shards() throws {
        let index = #"{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}"#
        try expect("shard", as: "a.safetensors", beside: ["b.safetensors": ["b": .zeros([4])]]) { path in
            let place = (path as NSString).deletingLastPathComponent + "/model.safetensors.index.json"
            try index.write(toFile: place, atomically: true, encoding: .utf8)
            _ = try SafetensorsArchive(reading: place).tensors()
        }
    }

    @Test("features and what is asked of them") func features() throws {
        try expect("features", as: "train.safetensors") { path in
            _ = try FeatureSet(folder: (path as NSString).deletingLastPathComponent, part: "train")
        }
    }

    @Test("configurations of language models") func language() throws {
        let options = LanguageModel.Options(
            vocabulary: 13, width: 8, hidden: 12, depth: 1, heads: 4, keyHeads: 2, attentionBias: true,
            tiesHead: true, contextLength: 20)
        let weights = WeightLayout<LanguageModel>.qwen2.published(
            LanguageModel(options, key: RandomKey(seed: 0)).parameters)
        try expect("language", as: "config.json", beside: ["model.safetensors": weights]) { path in
            let model = try LanguageModel.load(from: (path as NSString).deletingLastPathComponent)
            #expect(try model.generate([[1, 2]], limit: 1)[0].count == 1)
        }
    }

    @Test("configurations of modules, by every form of the catalogue") func configurations() throws {
        try expect("configuration", as: "config.json") { path in
            let data = try Data(contentsOf: URL(fileURLWithPath: path))
            let values = try JSONDecoder().decode([String: ConfigurationValue].self, from: data)
            for form in ModuleCatalogue.entries.flatMap(\.forms) {
                #expect(throws: (any Error).self, "\(form.layout)") {
                    try form.instance(values, weights: [:], owner: path, source: path)
                }
            }
        }
    }

    @Test("the format of a file is told without reading it") func inspection() throws {
        try expect("inspect", as: "file") { path in _ = try FileFormat(of: path) }
    }
}
