import Foundation
import Fovea

extension Recipe {
    /// The model with the weights that `model.initializeFrom` names; as it is where it names none.
    ///
    /// Weights with a `classifier.weight` are those of a whole model, under our own names: all of them, or those that
    /// `model.initializeOnly` picks. Others are the compressor's, under the names of `compressor.layout` or our own.
    ///
    /// - Throws: `RecipeError`, `FileError` or `WeightsError`: which weights, which tensor, and both shapes.
    func initialized(_ model: Experiment.Model) throws -> Experiment.Model {
        guard let (weights, source) = try startingWeights() else { return model }
        guard weights["classifier.weight"] == nil else { return try whole(model, weights, source) }
        guard list("model.initializeOnly").isEmpty else {
            throw error("model.initializeOnly", "\(source) holds no whole model to pick from, but a compressor alone")
        }
        var started = model
        started.compressor = try compressor(model.compressor, taking: weights, source)
        return started
    }

    /// The model with the weights of a whole model of its kind that `model.initializeFrom` names.
    func initialized<Model: Module>(whole model: Model) throws -> Model {
        guard let (weights, source) = try startingWeights() else { return model }
        return try whole(model, weights, source)
    }

    private func startingWeights() throws -> (NamedTensors, String)? {
        guard let path = optionalText("model.initializeFrom") else {
            guard list("model.initializeOnly").isEmpty else {
                throw error(
                    "model.initializeOnly", "there is nothing to pick from; name weights with model.initializeFrom")
            }
            return nil
        }
        let source = try Recipe.weightsFile(path)
        return (try SafetensorsArchive(reading: source).tensors(), source)
    }

    private func whole<Model: Module>(_ model: Model, _ weights: NamedTensors, _ source: String) throws -> Model {
        let patterns = list("model.initializeOnly")
        guard patterns.isEmpty else { return try picked(patterns, from: weights, source, into: model) }
        var started = model
        try started.load(from: weights, source: source)
        return started
    }

    /// Only what the patterns name: all of it must be there, with its shape.
    private func picked<Model: Module>(
        _ patterns: [String], from weights: NamedTensors, _ source: String, into model: Model
    ) throws -> Model {
        let parameters = model.parameters
        func isMeant(_ path: String) -> Bool {
            patterns.contains { ParameterFilter.path($0)(path, parameters[path]!) }
        }
        for pattern in patterns where !parameters.contains(where: { ParameterFilter.path(pattern)($0.key, $0.value) }) {
            throw error("model.initializeOnly", "no parameter has a path like \"\(pattern)\"; --dry-run lists them")
        }
        var started = model
        // The rest keeps its fresh values, so that the load as a whole is complete and strict.
        var tensors = parameters
        for path in parameters.keys where isMeant(path) { tensors[path] = weights[path] }
        try started.load(from: tensors, source: source)
        return started
    }

    private func compressor(
        _ fresh: AnyCompressor, taking weights: NamedTensors, _ source: String
    ) throws -> AnyCompressor {
        // Published names may share some with ours, so that only all of ours tell; a run that matches a teacher's outputs
        // saves them behind the compressor's key.
        let names = fresh.parameters.keys
        for prefix in ["", "compressor."] where names.allSatisfy({ weights[prefix + $0] != nil }) {
            var native = fresh
            try native.load(from: weights, source: source)
            return native
        }
        let loaded = try form(of: "compressor").loaded(fresh.base, from: weights, source: source)
        guard let loaded = loaded as? any Compressor else {
            throw error("model.initializeFrom", "\(text("compressor.module")) takes no weights")
        }
        return AnyCompressor(loaded)
    }

    /// The file with the weights: of a run its model, of a checkpoint the average where there is one.
    private static func weightsFile(_ path: String) throws -> String {
        func exists(_ file: String) -> Bool { FileManager.default.fileExists(atPath: file) }
        guard exists(path) else {
            throw FileError(path: path, problem: "there is no such run, checkpoint or file of weights")
        }
        for name in ["average.safetensors", "model.safetensors"] where exists(path + "/" + name) {
            return path + "/" + name
        }
        guard !exists(path + "/recipe.yaml") else {
            throw FileError(
                path: path, problem: "is a run without a finished model; name a folder below its checkpoints")
        }
        return path
    }
}
