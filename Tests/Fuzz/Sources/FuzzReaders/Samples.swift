import Foundation
import Fovea

/// Small sound files, of which one is replaced by what the fuzzer makes up.
enum Samples {
    static let checkpoint = "checkpoints/step-00000003"

    static func placeShards(in folder: String) throws {
        try writeSafetensors(["a": .ones([2, 3])], to: folder + "/a.safetensors")
        try writeSafetensors(["b": .zeros([4])], to: folder + "/b.safetensors")
        let index = #"{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}"#
        try index.write(toFile: folder + "/model.safetensors.index.json", atomically: false, encoding: .utf8)
    }

    static var state: TrainingState<Linear> {
        let model = Linear(2, 2, key: RandomKey(seed: 0))
        return TrainingState(model: model, optimizer: AdamW(learningRate: .constant(1)))
    }

    static func placeCheckpoint(in folder: String) throws {
        var state = state
        state.step = 3
        try CheckpointStore(run: folder).save(state)
    }

    static func placeLanguageModel(in folder: String) throws {
        let model = LanguageModel(
            .init(
                vocabulary: 13, width: 8, hidden: 12, depth: 1, heads: 4, keyHeads: 2, attentionBias: true,
                tiesHead: true, contextLength: 20), key: RandomKey(seed: 0))
        let weights = WeightLayout<LanguageModel>.qwen2.published(model.parameters)
        try writeSafetensors(weights, to: folder + "/model.safetensors")
    }
}
