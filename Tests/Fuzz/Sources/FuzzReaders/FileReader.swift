import Foundation
import Fovea

/// Everything that takes a file from somewhere else.
enum FileReader: String, CaseIterable, Sendable {
    case safetensors, index, npy, npz, idx, cifar, png, manifest, metrics, configuration, inspect

    /// What the file is called; some formats are told by it.
    var fileName: String {
        switch self {
        case .index: "model.safetensors.index.json"
        case .manifest: "checkpoints/step-00000003/state.json"
        case .cifar: "batch.bin"
        default: "input"
        }
    }

    /// Puts what belongs to the file beside it.
    func prepare(_ folder: String) {
        switch self {
        case .index:
            for (name, tensor) in [("a", Tensor.ones([2, 3])), ("b", Tensor.zeros([4]))] {
                try? writeSafetensors([name: tensor], to: "\(folder)/\(name).safetensors")
            }
        case .manifest:
            _ = mkdir(folder + "/checkpoints", 0o700)
            var state = FileReader.state
            state.step = 3
            _ = try? CheckpointStore(run: folder).save(state)
        default: break
        }
    }

    private static var state: TrainingState<Linear> {
        let model = Linear(2, 2, key: RandomKey(seed: 0))
        return TrainingState(model: model, optimizer: AdamW(learningRate: .constant(1)))
    }

    /// Reads the file to its last byte.
    func read(_ path: String) throws {
        switch self {
        case .safetensors: try touch(Array(SafetensorsFile(reading: path).tensors().values))
        case .index: try touch(Array(SafetensorsArchive(reading: path).tensors().values))
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
        case .manifest:
            var state = FileReader.state
            try CheckpointStore(run: path.replacingOccurrences(of: "/" + fileName, with: "")).restore(3, into: &state)
        case .metrics:
            // Opening a log writes it anew; damaged lines are left out and no error.
            _ = try MetricsLog(path: path, upTo: .max)
        case .configuration:
            let data = FileManager.default.contents(atPath: path) ?? Data()
            let values: [String: ConfigurationValue]
            do {
                values = try JSONDecoder().decode([String: ConfigurationValue].self, from: data)
            } catch { return }
            for entry in ModuleCatalogue.entries {
                for form in entry.forms { _ = try? form.instance(values, weights: [:], owner: path, source: path) }
            }
        case .inspect: _ = try FileFormat(of: path)
        }
    }

    private func touch(_ tensors: [Tensor]) throws {
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
