import Foundation
import FoveaCompression
import FoveaIO
import FoveaNN
import FoveaTensor
import Testing

/// A published form of the methods around Flamingo.
struct FlamingoForm: Sendable, CustomTestStringConvertible {
    let name: String
    let form: PublishedForm
    var testDescription: String { "\(name) (\(form.layout))" }

    static let all = [PerceiverResampler.entry, GatedCrossAttention.entry].flatMap { entry in
        entry.forms.map { FlamingoForm(name: entry.name, form: $0) }
    }
}

@Suite("weights under the published names") struct LayoutTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("fovea-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try body(folder.path)
    }

    @Test("one file, several, and half precision give the same bytes back", arguments: FlamingoForm.all)
    func roundTrips(_ sample: FlamingoForm) throws {
        let form = sample.form
        let names = try form.instance(form.sample, owner: "a test").weights
        for dtype in [DType.float32, .bfloat16, .float16] {
            // Behind a prefix, as files of whole models have it.
            var stored: NamedTensors = [:]
            for (name, tensor) in names {
                stored["model.part." + name] = Tensor.normal(tensor.shape, key: RandomKey(seed: 5).folding(name))
                    .cast(to: dtype)
            }
            try withFolder { folder in
                try writeShardedSafetensors(stored, maxShardBytes: 400, to: folder)
                let archive = try SafetensorsArchive(reading: folder)
                #expect(archive.files.count > 1)
                let instance = try form.instance(
                    form.sample, weights: archive.tensors(), owner: "a test", source: folder)
                #expect(instance.module.parameters.values.allSatisfy { $0.dtype == .float32 })
                let file = folder + "/again.safetensors"
                try writeSafetensors(instance.weights, floatsAs: dtype, to: file)
                let again = try SafetensorsFile(reading: file).tensors()
                #expect(again.count == stored.count)
                for (name, tensor) in stored { #expect(again[name]?.bytes() == tensor.bytes(), "\(name)") }
            }
        }
    }

    @Test("sizes that the configuration leaves out are those of the weights", arguments: FlamingoForm.all)
    func sizes(_ sample: FlamingoForm) throws {
        let form = sample.form
        let made = try form.instance(form.sample, owner: "a test")
        // What no shape tells: how many heads, and what has no weights.
        let told = form.sample.filter { name, _ in
            ["heads", "n_heads", "resampler_n_heads", "num_attention_heads", "alpha_type"].contains(name)
        }
        let loaded = try form.instance(told, weights: made.weights, owner: "a test", source: "a test")
        #expect(loaded.weights.mapValues(\.shape) == made.weights.mapValues(\.shape))
        for key in form.keys where key.source != nil {
            #expect(loaded.configuration.values[key.name] == made.configuration.values[key.name], "\(key.name)")
        }
    }

    @Test("a module saves in half precision and loads from a folder")
    func module() throws {
        var options = PerceiverResampler.Options(width: 6, depth: 1, heads: 2, headWidth: 3, latents: 2)
        options.norm = .rms()
        options.feedForward = .gated(.silu)
        let model = PerceiverResampler(options, key: RandomKey(seed: 1))
        try withFolder { folder in
            try model.save(to: folder + "/w.safetensors", layout: .idefics2, floatsAs: .bfloat16)
            var other = PerceiverResampler(options, key: RandomKey(seed: 2))
            let report = try other.load(from: folder, layout: .idefics2)
            #expect(report.cast.count == model.parameters.count && report.isComplete)
            for (path, tensor) in other.parameters {
                let half = try #require(model.parameters[path]).cast(to: .bfloat16).cast(to: .float32)
                #expect(tensor.bytes() == half.bytes(), "\(path)")
            }
        }
    }

    @Test("fresh weights start as published: latents, gates, linear layers")
    func starts() throws {
        func weights(_ entry: ModuleEntry, _ layout: String) throws -> NamedTensors {
            let form = try #require(entry.form(layout))
            let sizes = form.sample.filter { !$0.key.hasPrefix("initializer") && $0.key != "alpha_initializer" }
            return try form.instance(sizes, owner: "a test").weights
        }
        #expect(try #require(weights(PerceiverResampler.entry, "idefics2")["latents"]).doubles.allSatisfy { $0 == 1 })
        // Normal numbers with deviation 1: some of 18 are beyond a half, and none beyond five.
        for layout in ["open-flamingo", "idefics", "paper"] {
            let latents = try #require(weights(PerceiverResampler.entry, layout)["latents"]).doubles.map(abs)
            #expect(latents.contains { $0 > 0.5 } && latents.allSatisfy { $0 < 5 }, "\(layout)")
        }
        let narrow = try #require(weights(PerceiverResampler.entry, "idefics2")["layers.0.self_attn.q_proj.weight"])
        #expect(narrow.doubles.allSatisfy { abs($0) < 0.1 } && narrow.doubles.contains { abs($0) > 0.01 })
        for (layout, gates) in [
            ("open-flamingo", ["attn_gate", "ff_gate"]), ("idefics", ["alpha_cross_attn", "alpha_dense"]),
        ] {
            for gate in gates {
                let values = try #require(weights(GatedCrossAttention.entry, layout)[gate]).doubles
                #expect(values.allSatisfy { $0 == 0 }, "\(layout) \(gate)")
            }
        }
    }
}
