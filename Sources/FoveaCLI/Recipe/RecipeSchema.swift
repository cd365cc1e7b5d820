import Fovea

/// Every key that a recipe may have, in the order in which the resolved recipe is written. The groups `compressor`
/// and `injection` have besides these the configuration keys of the module that they name; see `ModuleSection`.
enum RecipeSchema {
    static let keys: [RecipeKey] = [
        .init(
            "data.name", .choice(["digits", "idx", "digit-scenes", "features"] + QuestionTasks.names),
            default: .text("digits"),
            "the shipped digits, a folder of IDX files, what is made of either, or features computed elsewhere"),
        .init("data.folder", .text, default: .none, "where the files are; the shipped digits need none"),
        .init("data.maximum", .integer(1...255), default: .integer(16), "the grey value that counts as 1"),
        .init(
            "data.holdOutValidation", .flag, default: .flag(false),
            "keep the validation part out of training and report it"),
        .init("data.maxShift", .integer(0...8), default: .integer(0), "random shift of training pictures, in pixels"),
        .init("data.sceneSize", .integer(1...1024), default: .integer(32), "pixels along a scene's side"),
        .init("data.sceneCells", .integer(1...16), default: .integer(2), "cells along a scene's side, read one by one"),
        .init("data.sceneDigits", .integer(1...256), default: .integer(3), "cells that hold a digit"),
        .init("data.sceneClutter", .integer(0...256), default: .integer(4), "pieces of clutter in a scene"),
        .init(
            "data.gridRows", .integer(0...4096), default: .integer(0),
            "rows of the raster that features form; 0 for a square where their number is one, else none"),

        .init("data.questions", .list, default: .list([]), "the types of questions that are asked; all unless given"),
        .init(
            "data.blank", .flag, default: .flag(false), "leave pictures black: what the words of a question alone tell"),

        .init(
            "model.initializeFrom", .text, default: .none,
            "weights to start from: a run, a checkpoint, or safetensors of a whole model; also of the compressor alone, but for questions"
        ),
        .init(
            "model.initializeOnly", .list, default: .list([]),
            "paths that are taken of a whole model, all unless given; * is one component, ** any number"),
        .init("model.patchSize", .integer(1...64), default: .integer(2), "pixels along a patch's side"),
        .init(
            "model.stemChannels", .integer(0...4096), default: .integer(0),
            "channels of the first of the convolutions that halve pictures down to patches; 0 for plain patches"),
        .init("model.width", .integer(1...8192), default: .integer(64), "width of tokens and latents"),
        .init("model.encoderDepth", .integer(0...64), default: .integer(2), "layers before the compressor"),
        .init("model.encoderHeads", .integer(1...128), default: .integer(4), "heads of those layers"),
        .init("model.decoderDepth", .integer(1...64), default: .integer(2), "layers that answer questions"),
        .init("model.decoderHeads", .integer(1...128), default: .integer(2), "heads of those layers"),
        .init("model.dropout", .number(0...0.95), default: .number(0), "dropout in those layers"),
        .init(
            "model.positionDeviation", .number(0...10), default: .number(0.02),
            "deviation of the numbers that positions start with"),

        .init(
            "compressor.module", .text, default: .text("perceiver-resampler"),
            "the compressor; fovea modules lists them"
        ),
        .init(
            "compressor.layout", .text, default: .none,
            "whose configuration keys stand below; the module's first layout unless given"),

        .init(
            "injection.module", .text, default: .none,
            "what puts pictures into the decoder's layers: gated-cross-attention, hyper-attention or vlora; in front of "
                + "the text unless given"),
        .init(
            "injection.interval", .integer(1...64), default: .integer(1),
            "every how many layers of the decoder one has it"
        ),
        .init(
            "injection.layout", .text, default: .none,
            "whose configuration keys stand below; the module's first layout unless given"),

        .init(
            "sampler.keep", .integer(0...1_000_000), default: .integer(0),
            "visual tokens of a picture that a question keeps inside the decoder, by FocusLLaVA's text sampler; 0 for all"
        ),
        .init(
            "sampler.layer", .integer(0...64), default: .integer(0),
            "the first layer of the decoder that sees fewer, counted from 0; 0 for the middle one"),
        .init(
            "sampler.leastShare", .number(0...1, aboveZero: true), default: .none,
            "the least share of the tokens that a step of training keeps, drawn anew for each; null for sampler.keep"),

        .init(
            "training.seed", .integer(0...Int.max), default: .integer(0),
            "seed of the weights, the order and the augmentation"),
        .init("training.steps", .integer(1...1_000_000_000), default: .integer(2_000), "steps of the whole run"),
        .init("training.batchSize", .integer(1...1_000_000), default: .integer(64), "pictures in a step"),
        .init("training.accumulation", .integer(1...4096), default: .integer(1), "parts that a batch is computed in"),
        .init(
            "training.recompute", .flag, default: .flag(false),
            "keep less of the encoder's layers, and compute them again for their gradients: less memory, more time"),
        .init(
            "training.optimizer", .choice(["adamw", "sgd", "muon"]), default: .text("adamw"),
            "the optimizer; muon for matrices, AdamW for the rest"),
        .init(
            "training.learningRate", .number(0...10, aboveZero: true), default: .number(3e-3), "the peak learning rate"),
        .init(
            "training.schedule", .choice(["cosine", "linear", "constant"]), default: .text("cosine"),
            "how the rate falls after the warm-up"),
        .init("training.warmup", .integer(0...1_000_000_000), default: .integer(100), "steps in which the rate rises"),
        .init("training.floor", .number(0...1), default: .number(0), "the share of the peak that the rate ends with"),
        .init("training.weightDecay", .number(0...10), default: .number(0.01), "decay of the matrices"),
        .init("training.beta1", .number(0...0.9999), default: .number(0.9), "AdamW's first decay rate"),
        .init("training.beta2", .number(0...0.999999), default: .number(0.999), "AdamW's second decay rate"),
        .init("training.momentum", .number(0...0.9999), default: .number(0.9), "SGD's momentum, or Muon's"),
        .init(
            "training.clipNorm", .number(0...1e9, aboveZero: true), default: .none,
            "the largest norm of the gradients; null for no clipping"),
        .init(
            "training.onNonFinite", .choice(["stop", "skip"]), default: .text("stop"),
            "what to do with a step whose loss or gradient norm is NaN or infinite"),
        .init(
            "training.spikeDeviations", .number(0...1e9, aboveZero: true), default: .none,
            "deviations above the usual at which a loss or gradient norm is reported; null for never"),
        .init(
            "training.labelSmoothing", .number(0...0.9), default: .number(0),
            "share of the target spread over all classes"),
        .init(
            "training.averageDecay", .number(0...0.999999, aboveZero: true), default: .none,
            "decay of the moving average of the weights; null for none"),
        .init(
            "training.freeze", .list, default: .list([]),
            "paths that are not trained; * is one component, ** any number"),
        .init(
            "training.firstStage", .list, default: .list([]),
            "paths that alone are trained at first, such as projector.**; none for a single stage"),
        .init(
            "training.firstStageSteps", .integer(0...1_000_000_000), default: .integer(0), "steps of the first stage"),
        .init(
            "training.checkpointEvery", .integer(1...1_000_000_000), default: .integer(500), "steps between checkpoints"
        ),
        .init("training.keepCheckpoints", .integer(1...1000), default: .integer(2), "newest checkpoints that stay"),
        .init(
            "training.keepBest", .integer(0...1000), default: .integer(0),
            "checkpoints that stay besides, the best on the validation part"),
        .init(
            "training.validateEvery", .integer(1...1_000_000_000), default: .integer(200), "steps between validations"),
        .init(
            "training.logEvery", .integer(1...1_000_000_000), default: .integer(20),
            "steps between records in metrics.jsonl"),
        .init("training.prefetch", .integer(0...64), default: .integer(2), "batches made ahead on another thread"),

        .init("output.folder", .text, default: .none, "where the run goes; runs/<recipe name> unless given"),
        .init(
            "output.results", .text, default: .none,
            "the file that a line with what was reached is added to; none unless given"),
        .init("output.curve", .flag, default: .flag(true), "write curve.svg"),
    ]

    static let byPath = Dictionary(uniqueKeysWithValues: keys.map { ($0.path, $0) })
    static var groups: [String] {
        var groups: [String] = []
        for key in keys {
            let group = String(key.path.prefix { $0 != "." })
            if groups.last != group { groups.append(group) }
        }
        return groups
    }

    /// The end of a sentence about a wrong path: which was meant, or where none is like it, what its group has.
    static func suggestion(forPath path: String) -> String {
        // A key in the wrong group is closer than the letters say.
        let name = path.split(separator: ".").last.map(String.init) ?? path
        let nearest = keys.map(\.path).min { distance($0, path, name) < distance($1, path, name) }!
        if distance(nearest, path, name) <= mostEdits(of: name) { return "; did you mean \(nearest)?" }
        let group = path.prefix { $0 != "." } + "."
        let known = keys.map(\.path).filter { $0.hasPrefix(group) }.map { String($0.dropFirst(group.count)) }
        return known.isEmpty
            ? "; the groups are \(groups.joined(separator: ", "))" : FoveaCLI.suggestion(for: name, among: known)
    }

    /// What was meant by a wrong word where groups stand: a group, unless it is a key that lacks its group.
    static func nearestAtTop(to word: String) -> String? {
        keys.first { $0.path.hasSuffix("." + word) }?.path ?? nearestWord(to: word, among: groups)
    }

    private static func distance(_ known: String, _ path: String, _ name: String) -> Int {
        let knownName = known.split(separator: ".").last.map(String.init) ?? known
        return min(edits(known.lowercased(), path.lowercased()), 1 + edits(knownName.lowercased(), name.lowercased()))
    }
}
