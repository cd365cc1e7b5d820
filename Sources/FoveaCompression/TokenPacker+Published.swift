import FoveaNN
import FoveaTensor

extension WeightLayout where Model == TokenPacker {
    /// The names of TokenPacker's projector, which its files keep behind `model.mm_projector.`.
    public static var tokenPacker: Self {
        var rules: [Rule] = [.rename("query.weight", "q_proj_1.weight")]
        for tensor in ["weight", "bias"] {
            rules += [
                .rename("key.expand.\(tensor)", "k_proj_1.0.\(tensor)"),
                .rename("key.contract.\(tensor)", "k_proj_1.2.\(tensor)"),
                .rename("value.expand.\(tensor)", "v_proj_1.0.\(tensor)"),
                .rename("value.contract.\(tensor)", "v_proj_1.2.\(tensor)"),
                .rename("queryNorm.\(tensor)", "ln_q_1.\(tensor)"),
                .rename("keyNorm.\(tensor)", "ln_k_1.\(tensor)"),
                .rename("valueNorm.\(tensor)", "ln_v_1.\(tensor)"),
                .fuse(
                    ["attention.query.\(tensor)", "attention.key.\(tensor)", "attention.value.\(tensor)"],
                    into: "clip_attn.in_proj_\(tensor)"),
                .rename("attention.output.\(tensor)", "clip_attn.out_proj.\(tensor)"),
                .rename("mlp.expand.\(tensor)", "mlp.0.\(tensor)"),
                .rename("mlp.contract.\(tensor)", "mlp.2.\(tensor)"),
            ]
        }
        return WeightLayout("token-packer", rules)
    }
}

extension TokenPacker {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "token-packer", "coarse tokens look at the fine ones of their region",
        forms: [
            PublishedForm(
                WeightLayout<TokenPacker>.tokenPacker,
                keys: [
                    .size("raw_grid", "rows and columns of the encoder's tokens, G", default: 24),
                    .size(
                        "kv_dim", "width C of one layer's tokens", default: 1024,
                        from: .axis(1, of: "q_proj_1.weight")),
                    .size(
                        "multi_level_dim", "width of several layers' tokens; fixed in the published code",
                        default: 4096, from: .axis(1, of: "k_proj_1.0.weight")),
                    .size(
                        "embed_dim", "width E inside", default: 1024, from: .axis(0, of: "q_proj_1.weight")),
                    .size("num_heads", "heads", default: 8),
                    .size(
                        "hidden_size", "width D of the language model", default: 4096,
                        from: .axis(0, of: "mlp.0.weight")),
                    .size("scale_factor", "s, how many times fewer rows and columns", default: 2),
                ],
                inputs: [
                    .init("x", "[B, raw_grid*raw_grid, kv_dim]"),
                    .init("x_multi", "[B, raw_grid*raw_grid, multi_level_dim]"),
                ],
                outputs: [.init("tokens", "[B, N, hidden_size]")],
                widthKey: "multi_level_dim",
                sample: [
                    "raw_grid": 4, "kv_dim": 3, "multi_level_dim": 5, "embed_dim": 4, "num_heads": 2,
                    "hidden_size": 3, "scale_factor": 2,
                ],
                sampleInputs: { ["x": $0.uniform([2, 16, 3]), "x_multi": $0.uniform([2, 16, 5])] },
                make: { configuration in
                    let (grid, scale) = (configuration.int("raw_grid"), configuration.int("scale_factor"))
                    let (inner, heads) = (configuration.int("embed_dim"), configuration.int("num_heads"))
                    guard grid % scale == 0 else {
                        throw configuration.error("\"raw_grid\" \(grid) does not divide by \"scale_factor\" \(scale)")
                    }
                    guard inner % heads == 0 else {
                        throw configuration.error("\"embed_dim\" \(inner) does not divide by \(heads) heads")
                    }
                    return TokenPacker(
                        configuration.int("kv_dim"), levelsWidth: configuration.int("multi_level_dim"), inner: inner,
                        outputs: configuration.int("hidden_size"), heads: heads, scale: scale,
                        key: configuration.key)
                },
                run: { model, inputs in
                    let x = inputs["x"]
                    let grid = VisualTokens.Grid(squareOf: x.shape[1])!
                    return ["tokens": model(x, levels: inputs["x_multi"], grid: grid)]
                })
        ])
}
