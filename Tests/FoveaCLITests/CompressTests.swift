import Foundation
import Fovea
import Testing

/// `fovea compress`: tokens out of files and pictures, and what is told of them.
@Suite("compress") struct CompressTests {
    /// Features [B, 16, 3] of a raster of 4 × 4 in `f.safetensors`.
    private func prepared(batch: Int = 2) throws -> (Workbench, Tensor) {
        let bench = try Workbench()
        let features = Tensor.normal([batch, 16, 3], key: RandomKey(seed: 3))
        try writeSafetensors(["features": features], to: bench.file("f.safetensors"))
        return (bench, features)
    }

    private static let pooling = [
        "--method", "spatial-pool", "--set", "mm_spatial_pool_mode=average", "--set", "num_patches_per_side=4",
    ]

    /// Within 1e-6 everywhere, and of one shape.
    private func expectEqual(
        _ a: Tensor, _ b: Tensor, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(a.shape == b.shape, sourceLocation: sourceLocation)
        guard a.shape == b.shape else { return }
        #expect((a - b).abs().max().item() <= 1e-6, sourceLocation: sourceLocation)
    }

    @Test("pooled tokens with positions, sizes, provenance and the patches they come from")
    func pooled() throws {
        let (bench, features) = try prepared()
        let text = try bench.prints(
            ["compress", "f.safetensors", "-o", "t.safetensors", "--preview", "p.png"] + CompressTests.pooling)
        #expect(text.contains("16 patches → 4 tokens (25.0 %)"), "\(text)")
        let tokens = try SafetensorsFile(reading: bench.file("t.safetensors")).tensors()
        #expect(
            Set(tokens.keys) == ["features", "positions", "sizes", "mask", "provenance", "indices"])
        let provenance = try #require(tokens["provenance"])
        #expect(provenance.shape == [2, 4, 16])
        expectEqual(matmul(provenance, features), try #require(tokens["features"]))
        expectEqual(
            try #require(tokens["positions"]).sliced(axis: 0, 0..<1).squeezed(0),
            Tensor([0.5, 0.5, 0.5, 2.5, 2.5, 0.5, 2.5, 2.5] as [Float], shape: [4, 2]))
        expectEqual(try #require(tokens["sizes"]), .full([2, 4], 4))
        #expect(tokens["mask"]?.scalars(as: Bool.self).allSatisfy { $0 } == true)
        // Of patches with equal shares the first.
        #expect(tokens["indices"]?.scalars(as: Int64.self) == [0, 2, 8, 10, 0, 2, 8, 10])
        // Two samples of 4 × 4 patches of 12 pixels, one below the other.
        let picture = try readPNG(bench.file("p.png"))
        #expect(picture.shape == [2 * 48 + 8, 48, 3])
        // Lines around the blocks, none within them.
        func colour(_ row: Int, _ column: Int) -> [UInt8] {
            picture.sliced(axis: 0, row..<row + 1).sliced(axis: 1, column..<column + 1).contiguous().scalars()
        }
        #expect(colour(3, 24) == [255, 255, 255] && colour(24, 3) == [255, 255, 255])
        #expect(colour(3, 12) != [255, 255, 255])
    }

    @Test("npy without a batch axis, and a raster that is no square")
    func npy() throws {
        let bench = try Workbench()
        let features = Tensor.normal([8, 3], key: RandomKey(seed: 3))
        try writeNPY(features, to: bench.file("f.npy"))
        let arguments = ["compress", "f.npy", "-o", "t.safetensors", "--json"] + CompressTests.pooling
        struct Summary: Decodable {
            let method: String
            let patches: Int
            let tokens: [Int]
        }
        let json = try bench.prints(arguments + ["--grid", "2x4"])
        let summary = try JSONDecoder().decode(Summary.self, from: Data(json.utf8))
        #expect(summary.method == "spatial-pool" && summary.patches == 8 && summary.tokens == [2])
        try bench.refuses(arguments, mentions: ["f.npy", "8 patches are no square", "--grid"])
        try bench.refuses(arguments + ["--grid", "3x3"], mentions: ["--grid 3x3", "8 patches", "has 9"])
        try bench.refuses(arguments + ["--grid", "3"], mentions: ["--grid 3", "such as 24x24"])
    }

    @Test("a picture's patches are its pixels")
    func picture() throws {
        let bench = try Workbench()
        let pixels = Tensor((0..<8 * 16).map { UInt8($0) }, shape: [8, 16])
        try writePNG(pixels, to: bench.file("x.png"))
        let arguments = ["compress", "x.png", "-o", "t.safetensors"] + CompressTests.pooling
        try bench.prints(arguments + ["--patch-size", "4"])
        let tokens = try SafetensorsFile(reading: bench.file("t.safetensors")).tensors()
        // 2 × 4 patches of 16 pixels, pooled by 2 × 2.
        #expect(tokens["features"]?.shape == [1, 2, 16])
        let first = pixels.cast(to: .float32) * (1 / 255)
        let corners = [0, 4].flatMap { row in
            [0, 4].map { first.sliced(axis: 0, row..<row + 1).sliced(axis: 1, $0..<$0 + 1).item() }
        }
        let found = try #require(tokens["features"]).sliced(axis: 1, 0..<1).sliced(axis: 2, 0..<1).item()
        #expect(abs(found - corners.reduce(0, +) / 4) <= 1e-6)
        try bench.refuses(arguments, mentions: ["x.png", "14 × 14 do not tile 8 × 16", "--patch-size"])
        try bench.refuses(arguments + ["--patch-size", "0"], mentions: ["--patch-size 0"])
        try bench.refuses(arguments + ["--grid", "2x4"], mentions: ["--grid", "--patch-size"])
    }

    @Test("an exact budget of patches as they are, and how they look among the dropped")
    func selected() throws {
        let (bench, features) = try prepared(batch: 1)
        try bench.prints(
            ["compress", "f.safetensors", "-m", "divprune", "--keep", "5", "-o", "t.safetensors", "--preview", "p.png"])
        let tokens = try SafetensorsFile(reading: bench.file("t.safetensors")).tensors()
        let kept = try #require(tokens["indices"]).scalars(as: Int64.self)
        #expect(kept.count == 5 && Set(kept).count == 5 && kept == kept.sorted())
        let rows = features.squeezed(0).selecting(axis: 0, Tensor(kept))
        #expect(try #require(tokens["features"]).squeezed(0).scalars(as: Float.self) == rows.scalars(as: Float.self))
        // A dropped patch is darker than any that stays.
        let picture = try readPNG(bench.file("p.png"))
        func grey(_ patch: Int) -> UInt8 {
            picture.sliced(axis: 0, patch / 4 * 12 + 6..<patch / 4 * 12 + 7)
                .sliced(axis: 1, patch % 4 * 12 + 6..<patch % 4 * 12 + 7).contiguous().scalars(as: UInt8.self)[0]
        }
        for patch in 0..<16 { #expect((grey(patch) < 60) == !kept.contains(Int64(patch)), "\(patch)") }
    }

    @Test("every method that needs no model meets a budget, and keeps all where it is asked to")
    func budgets() throws {
        let (bench, features) = try prepared()
        let needModel: Set = [
            "ficoco-v", "fastv", "pyramiddrop", "sparsevlm", "mustdrop-filter", "ficoco-l", "focus-text-sampler",
            "mustdrop", "ficoco-vl",
        ]
        let methods = ReductionMethod.all.map(\.name).filter { !needModel.contains($0) }
        #expect(methods.count == 10)
        for method in methods {
            func kept(_ keep: String) throws -> (NamedTensors, errors: String) {
                let outcome = try Command.run(
                    ["compress", "f.safetensors", "-m", method, "--keep", keep, "-o", "t.safetensors"], in: bench.path)
                #expect(outcome.exitCode == 0, "\(method): \(outcome.errors)")
                return (try SafetensorsFile(reading: bench.file("t.safetensors")).tensors(), outcome.errors)
            }
            // Nine is a raster's number too, and 56 % of 16.
            #expect(try kept("9").0["features"]?.shape == [2, 9, 3], "\(method)")
            #expect(try kept("56%").0["features"]?.shape == [2, 9, 3], "\(method)")
            let (all, warnings) = try kept("20")
            #expect(all["features"]?.scalars(as: Float.self) == features.scalars(as: Float.self), "\(method)")
            #expect(warnings.contains("--keep 20") && warnings.contains("16 patches"), "\(method)")
        }
        // One patch is a picture too, and a method's only layout is no other method.
        let one = features.sliced(axis: 1, 0..<1).contiguous()
        try writeSafetensors(["features": one], to: bench.file("one.safetensors"))
        for method in methods {
            try bench.prints(["compress", "one.safetensors", "-m", method, "--keep", "1", "-o", "t.safetensors"])
            let kept = try SafetensorsFile(reading: bench.file("t.safetensors")).tensors()["features"]
            #expect(kept?.scalars(as: Float.self) == one.scalars(as: Float.self), "\(method)")
        }
        try bench.prints([
            "compress", "f.safetensors", "-m", "visionzip", "--layout", "reference", "--keep", "9", "-o",
            "t.safetensors",
        ])
    }

    @Test("a picture of one colour has tokens that stand for its patches", arguments: ["prumerge", "prumerge-plus"])
    func flat(_ method: String) throws {
        let (bench, features) = try prepared(batch: 1)
        let row = features.sliced(axis: 1, 0..<1)
        for scale in 1...20 {
            let flat = (row * (0.37 * Double(scale))).expanded(to: [1, 16, 3]).contiguous()
            try writeSafetensors(["features": flat], to: bench.file("flat.safetensors"))
            try bench.prints(["compress", "flat.safetensors", "-m", method, "--keep", "5", "-o", "t.safetensors"])
            let tokens = try SafetensorsFile(reading: bench.file("t.safetensors")).tensors()
            let sizes = try #require(tokens["sizes"]).scalars(as: Float.self)
            #expect(sizes.allSatisfy { $0 > 0 } && abs(sizes.reduce(0, +) - 16) < 1e-3, "\(sizes)")
            let positions = try #require(tokens["positions"]).scalars(as: Float.self)
            #expect(positions.allSatisfy { (0...3).contains($0) }, "\(positions)")
        }
    }

    @Test("the class token's attention comes with the features")
    func signals() throws {
        let (bench, features) = try prepared(batch: 1)
        var attention = [Float](repeating: 0.01, count: 16)
        for (place, patch) in [3, 7, 12].enumerated() { attention[patch] = Float(place + 1) }
        func write(_ shape: [Int]) throws {
            try writeSafetensors(
                ["features": features, "class_attention": Tensor(attention, shape: shape)],
                to: bench.file("f.safetensors"))
        }
        try write([1, 1, 16])
        let arguments = [
            "compress", "f.safetensors", "-m", "visionzip", "--set", "dominant=3", "--set", "contextual=0", "--set",
            "importance=class-token", "-o", "t.safetensors",
        ]
        try bench.prints(arguments)
        let tokens = try SafetensorsFile(reading: bench.file("t.safetensors")).tensors()
        #expect(tokens["indices"]?.scalars(as: Int64.self) == [3, 7, 12])
        try write([1, 16])
        try bench.refuses(arguments, mentions: ["f.safetensors", "\"class_attention\"", "[1, H, 16]"])
        for (stray, mention) in [(Float.nan, "1 of 16 numbers are NaN"), (-0.5, "negative")] {
            attention[5] = stray
            try write([1, 1, 16])
            try bench.refuses(arguments, mentions: ["f.safetensors", "\"class_attention\"", mention])
        }
        try writeSafetensors(["features": features], to: bench.file("f.safetensors"))
        try bench.refuses(arguments, mentions: ["f.safetensors", "visionzip", "class token"])
        // Under another name it would not count, and nobody would know.
        try writeSafetensors(
            ["features": features, "cls_attention": .zeros([1, 1, 16])], to: bench.file("f.safetensors"))
        let outcome = try Command.run(
            ["compress", "f.safetensors", "-m", "divprune", "--keep", "3", "-o", "t.safetensors"], in: bench.path)
        #expect(outcome.exitCode == 0 && outcome.errors.contains("not looked at: cls_attention; known are features"))
    }

    @Test("the scale sampler, whose number of tokens the picture decides")
    func scales() throws {
        let (bench, _) = try prepared()
        var weights: NamedTensors = [:]
        for (name, shape) in [
            ("norm.weight", [7]), ("norm.bias", [7]), ("fc1.weight", [4, 7]), ("fc1.bias", [4]),
            ("fc2.weight", [2, 4]),
            ("fc2.bias", [2]),
        ] {
            weights[name] = .normal(shape, key: RandomKey(seed: 5).folding(name))
        }
        try writeSafetensors(weights, to: bench.file("w.safetensors"))
        try bench.prints([
            "compress", "f.safetensors", "-m", "focus-vision-sampler", "--layout", "scale", "--set", "window=2",
            "--set",
            "scales=[2,1]", "--weights", "w.safetensors", "-o", "t.safetensors",
        ])
        let tokens = try SafetensorsFile(reading: bench.file("t.safetensors")).tensors()
        let (mask, sizes): ([Bool], [Float]) = (
            try #require(tokens["mask"]).scalars(), try #require(tokens["sizes"]).scalars()
        )
        // Each of the four windows is one token or four.
        let count = mask.count / 2
        for sample in 0..<2 {
            let own = (sample * count..<(sample + 1) * count).filter { mask[$0] }
            #expect((4...16).contains(own.count) && own.count % 3 == 1)
            #expect(own.reduce(0) { $0 + sizes[$1] } == 16)
        }
    }

    @Test("what cannot be done is said in one line")
    func refusals() throws {
        let (bench, _) = try prepared()
        func refuses(_ arguments: [String], _ mentions: [String]) throws {
            try bench.refuses(["compress", "f.safetensors", "-o", "t.safetensors"] + arguments, mentions: mentions)
        }
        let keeping = ["--method", "divprune", "--keep", "3"]
        try refuses(keeping + ["--preview", "./t.safetensors"], ["--preview", "--output names the same file"])
        try refuses(keeping + ["--preview", "none/p.png"], ["none/p.png", "No such file"])
        try refuses(keeping + ["--output", "f.safetensors"], ["--output f.safetensors", "read by this command"])
        try FileManager.default.createSymbolicLink(
            atPath: bench.file("link.safetensors"), withDestinationPath: bench.file("f.safetensors"))
        try refuses(keeping + ["--output", "link.safetensors"], ["--output link.safetensors", "read by this command"])
        try refuses(["--method", "spatial-poll"], ["spatial-poll", "did you mean spatial-pool"])
        try refuses(["--method", "linear", "--set", "inputs=3", "--set", "outputs=3"], ["linear", "--weights"])
        try refuses(CompressTests.pooling + ["--keep", "3"], ["--keep 3", "spatial-pool takes no budget"])
        try refuses(["--method", "divprune", "--keep", "0"], ["\"keep\" must be from 1"])
        for share in ["0%", "101%", "0x10%", "many"] {
            try refuses(["--method", "divprune", "--keep", share], ["--keep \(share)", "a share such as 25%"])
        }
        try refuses(["--method", "visionzip", "--keep", "-2"], ["a budget from 1 on", "not -2"])
        try refuses(
            ["--method", "visionzip", "--keep", "3", "--set", "dominant=2"],
            ["--keep 3", "--set dominant says how many tokens are left"])
        try refuses(["--method", "visionzip", "--keep", "3", "--set", "colour=2"], ["colour", "known are importance"])
        for method in ["prumerge-plus", "mustdrop", "ficoco-vl"] {
            try refuses(["--method", method], ["--method \(method)", "with --keep"])
        }
        try refuses(["--method", "prumerge", "--keep", "3", "--set", "budget=4"], ["--keep 3", "--set budget"])
        try refuses(["--method", "divprune", "--keep", "3", "--set", "keep=4"], ["--keep 3", "--set keep"])
        try refuses(
            ["--method", "average-pool", "--keep", "3", "--set", "grid=[2,8]"], ["--set grid", "a raster of 4 × 4"])
        for method in ["fastv", "pyramiddrop", "ficoco-v", "mustdrop"] {
            for keep in ["3", "20"] {
                try refuses(
                    ["--method", method, "--keep", keep],
                    ["--method \(method)", "tokens alone", "evaluate --reducer \(method)"])
            }
        }
        try refuses(CompressTests.pooling + ["--set", "stride"], ["--set stride", "key=value"])
        try refuses(CompressTests.pooling + ["--set", "stride=2"], ["unknown configuration key \"stride\""])
        try refuses(
            CompressTests.pooling + ["--set", "mm_spatial_pool_stride=9"], ["do not fit"])
        try writeSafetensors(["x": .zeros([4, 3])], to: bench.file("g.safetensors"))
        try bench.refuses(
            ["compress", "g.safetensors", "-o", "t.safetensors"] + CompressTests.pooling,
            mentions: ["g.safetensors", "no tensor \"features\""])
        try writeSafetensors(["features": .zeros([4])], to: bench.file("g.safetensors"))
        try bench.refuses(
            ["compress", "g.safetensors", "-o", "t.safetensors"] + CompressTests.pooling,
            mentions: ["g.safetensors", "[4]", "[B, N, C]"])
    }
}
