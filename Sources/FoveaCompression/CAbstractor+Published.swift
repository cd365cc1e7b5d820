import FoveaNN
import FoveaTensor

extension WeightLayout where Model == CAbstractor {
    /// The names of Honeybee's `CAbstractor`, which its files keep behind `abstractor.`. The blocks are timm's.
    public static var honeybee: Self {
        var rules: [Rule] = [
            .rename("endTokens", "eos_tokens"), .rename("positions", "pos_emb"),
        ]
        for (stage, published) in [("before", "net.0"), ("after", "net.2")] {
            for (ours, theirs) in [
                ("enter", "conv1"), ("spatial", "conv2"), ("leave", "conv3"), ("shortcut", "downsample"),
            ] {
                rules.append(
                    .rename("\(stage).*.\(ours).convolution.weight", "\(published).*.\(theirs).conv.weight"))
                for tensor in ["weight", "bias"] {
                    rules.append(.rename("\(stage).*.\(ours).norm.\(tensor)", "\(published).*.\(theirs).bn.\(tensor)"))
                }
            }
            for (ours, theirs) in [("reduce", "fc1"), ("expand", "fc2")] {
                for tensor in ["weight", "bias"] {
                    rules.append(.rename("\(stage).*.scale.\(ours).\(tensor)", "\(published).*.se.\(theirs).\(tensor)"))
                }
            }
        }
        return WeightLayout("honeybee", rules)
    }
}

extension CAbstractor {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "c-abstractor", "convolutions around an average pooling",
        forms: [
            PublishedForm(
                WeightLayout<CAbstractor>.honeybee,
                keys: [
                    .size(
                        "encoder_hidden_size", "width C of the encoder",
                        from: .axis(1, of: "net.0.b1.conv1.conv.weight", "readout.0.weight")),
                    .size(
                        "hidden_size", "width of the convolutions", default: 1024,
                        from: .axis(0, of: "net.0.b1.conv1.conv.weight")),
                    .size(
                        "output_hidden_size", "width D of the language model", from: .axis(0, of: "readout.0.weight")),
                    .size(
                        "depth", "blocks in each stage; 0 for the pooling alone", default: 3, atLeast: 0,
                        from: .count(of: "net.0.*.conv1.conv.weight")),
                    .size("mlp_depth", "linear layers", default: 2, from: .count(of: "readout.*.weight")),
                    .size("num_query_tokens", "M, a square number", default: 144),
                    .size(
                        "num_input_tokens", "embeddings, or null for none", default: .null,
                        from: .axis(1, of: "pos_emb")),
                    .size(
                        "num_eos_tokens", "learned tokens at the end", default: 0, atLeast: 0,
                        from: .axis(1, of: "eos_tokens")),
                    .flag(
                        "prenorm", "whether a norm stands in front", default: false,
                        from: .presence(of: "prenorm.weight")),
                ],
                inputs: [.init("x", "[B, N, encoder_hidden_size]")],
                outputs: [.init("tokens", "[B, M, output_hidden_size]")],
                widthKey: "encoder_hidden_size",
                sample: [
                    "encoder_hidden_size": 4, "hidden_size": 5, "output_hidden_size": 3, "depth": 2,
                    "num_query_tokens": 4, "num_input_tokens": 9, "num_eos_tokens": 1, "prenorm": true,
                ],
                sampleInputs: { ["x": $0.uniform([2, 9, 4])] },
                make: { configuration in
                    let tokens = configuration.int("num_query_tokens")
                    guard let grid = VisualTokens.Grid(squareOf: tokens) else {
                        throw configuration.error("\"num_query_tokens\" must be a square number, not \(tokens)")
                    }
                    return CAbstractor(
                        Options(
                            width: configuration.int("encoder_hidden_size"), hidden: configuration.int("hidden_size"),
                            outputs: configuration.int("output_hidden_size"), side: grid.rows,
                            depth: configuration.int("depth"), readoutDepth: configuration.int("mlp_depth"),
                            positions: configuration.optionalInt("num_input_tokens"),
                            prenorm: configuration.bool("prenorm"), endTokens: configuration.int("num_eos_tokens")),
                        key: configuration.key)
                },
                run: { model, inputs in
                    let x = inputs["x"]
                    guard let grid = VisualTokens.Grid(squareOf: x.shape[1]) else {
                        throw ModuleInputError("input x is \(x.shape): \(x.shape[1]) tokens form no square")
                    }
                    if let problem = model.problem(with: TokenShape(grid: grid, width: x.shape[2])) {
                        throw ModuleInputError("input x is \(x.shape): \(problem)")
                    }
                    return ["tokens": model(x)]
                })
        ])
}
