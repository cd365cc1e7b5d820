import Foundation
import Fovea

/// Everything that takes a file from somewhere else.
enum FileReader: String, CaseIterable, Sendable {
    case safetensors, index, shard, npy, npz, idx, cifar, png
    case recipe, vocabulary, manifest, weights, metrics
    case configuration, language, features, inspect

    /// What the file is called; some formats are told by it.
    var fileName: String {
        switch self {
        case .index: "model.safetensors.index.json"
        case .shard: "a.safetensors"
        case .manifest: Samples.checkpoint + "/state.json"
        case .cifar: "batch.bin"
        case .recipe: "recipe.yaml"
        case .language: "config.json"
        case .features: "train.safetensors"
        default: "input"
        }
    }

    /// Puts what belongs to the file beside it.
    func prepare(_ folder: String) throws {
        switch self {
        case .index, .shard: try Samples.placeShards(in: folder)
        case .manifest: try Samples.placeCheckpoint(in: folder)
        case .language: try Samples.placeLanguageModel(in: folder)
        default: break
        }
    }

    /// The bytes with checksums that fit, where the format has some and they do not.
    func repaired(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
        switch self {
        case .png: repairedPNG(bytes)
        case .manifest: repairedManifest(bytes)
        default: nil
        }
    }

    /// Reads the file to its last byte, and uses what it holds.
    func read(_ path: String) throws {
        switch self {
        case .safetensors: try touch(SafetensorsFile(reading: path).tensors().values)
        case .index: try touch(SafetensorsArchive(reading: path).tensors().values)
        case .shard:
            try touch(SafetensorsArchive(reading: path.folder + "/model.safetensors.index.json").tensors().values)
        case .npy:
            _ = try npyHeader(path)
            try touch([readNPY(path)])
        case .npz:
            let file = try NPZFile(reading: path)
            for name in file.entries.keys { try touch([file.tensor(name)]) }
        case .idx:
            _ = try idxHeader(path)
            try touch([readIDX(path)])
        case .cifar:
            _ = try? touch([readCIFAR10(path).images])
            try touch([readCIFAR100(path).images])
        case .png: try touch([readPNG(path)])
        case .recipe: try readRecipe(path)
        case .vocabulary:
            let vocabulary = try Vocabulary(reading: path)
            let ids = try vocabulary.encode("one two " + (vocabulary.words.last ?? ""))
            _ = vocabulary.decode(ids + [-1, vocabulary.count])
        case .manifest:
            var state = Samples.state
            try CheckpointStore(run: path.replacingOccurrences(of: "/" + fileName, with: "")).restore(3, into: &state)
        case .weights:
            var model = Samples.state.model
            _ = try? model.load(from: path, strict: false)
            try model.load(from: path)
        case .metrics:
            // Opening a log writes it anew; damaged lines are left out and no error.
            _ = try MetricsLog(path: path, upTo: .max)
        case .configuration:
            let data = FileManager.default.contents(atPath: path) ?? Data()
            guard let values = try? JSONDecoder().decode([String: ConfigurationValue].self, from: data) else { return }
            for form in ModuleCatalogue.entries.flatMap(\.forms) {
                _ = try? form.instance(values, weights: [:], owner: path, source: path)
            }
        case .language:
            let model = try LanguageModel.load(from: path.folder)
            _ = try model.generate([[1, 2]], limit: 1)
        case .features: _ = try FeatureSet(folder: path.folder, part: "train").classes
        case .inspect: _ = try FileFormat(of: path)
        }
    }

    /// What is read must come out again of the recipe that a run saves.
    private func readRecipe(_ path: String) throws {
        let recipe = try Recipe(reading: path, overrides: ["training.seed=1"])
        // Keys that a module does not have end a command before it saves anything.
        for (group, section) in recipe.sections {
            guard let form = try? recipe.form(of: group),
                section.values.keys.allSatisfy({ key in form.keys.contains { $0.name == key } })
            else { return }
        }
        let saved = path.folder + "/saved.yaml"
        try recipe.yaml.write(toFile: saved, atomically: false, encoding: .utf8)
        do {
            let again = try Recipe(reading: saved)
            guard again.differences(from: recipe).isEmpty, again.yaml == recipe.yaml else {
                fatalError("a resolved recipe reads back as another:\n\(recipe.yaml)\n\(again.yaml)")
            }
        } catch {
            fatalError("a resolved recipe cannot be read: \(error)\n\(recipe.yaml)")
        }
    }

    private func touch(_ tensors: some Sequence<Tensor>) throws {
        for tensor in tensors {
            switch tensor.dtype {
            case .uint8: _ = tensor.scalars(as: UInt8.self).last
            case .int64: _ = tensor.scalars(as: Int64.self).last
            case .float64: _ = tensor.scalars(as: Double.self).last
            default: _ = tensor.cast(to: .float32).scalars(as: Float.self).last
            }
        }
    }
}

extension String {
    /// What stands before the last slash.
    fileprivate var folder: String { (self as NSString).deletingLastPathComponent }
}
