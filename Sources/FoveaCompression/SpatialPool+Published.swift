import FoveaNN
import FoveaTensor

extension WeightLayout where Model == SpatialPool {
    /// The name that LLaVA-OneVision gives the end token; files keep it behind `model.`.
    public static var llavaOneVision: Self { named("llava-onevision") }

    static var llavaOneVisionVideo: Self { named("llava-onevision-video") }

    private static func named(_ name: String) -> Self {
        WeightLayout(name, [.rename("imageNewline", "image_newline")])
    }
}

extension SpatialPool {
    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "spatial-pool", "the raster of tokens pooled or resized", forms: [frames, videos])

    private static let poolingKeys: [ConfigurationKey] = [
        .choice(
            "mm_spatial_pool_mode", "how tokens are pooled", of: Mode.allCases.map(\.rawValue), default: "bilinear"),
        .size("mm_spatial_pool_stride", "how many times fewer rows and columns", default: 2),
        .size("num_patches_per_side", "rows and columns of a frame's tokens"),
    ]

    private static func check(_ configuration: Configuration) throws(ModuleInputError) {
        let mode = configuration.string("mm_spatial_pool_mode")
        let (side, stride) = (
            configuration.int("num_patches_per_side"), configuration.int("mm_spatial_pool_stride")
        )
        guard side >= stride || mode == "bilinear" || mode == "adaptive" else {
            throw configuration.error(
                "windows of \(stride) × \(stride) (\"mm_spatial_pool_stride\") do not fit into \(side) × \(side) tokens"
            )
        }
    }

    private func square(_ x: Tensor) -> VisualTokens.Grid { VisualTokens.Grid(squareOf: x.shape[x.rank - 2])! }

    /// `get_2dPool` alone: pooled frames.
    private static let frames = PublishedForm(
        WeightLayout<SpatialPool>.llavaOneVision, keys: poolingKeys,
        inputs: [.init("x", "[F, num_patches_per_side*num_patches_per_side, D]")],
        outputs: [.init("tokens", "[F, N, D]")], sample: ["num_patches_per_side": 5],
        sampleInputs: { ["x": $0.uniform([2, 25, 2])] },
        make: { configuration in
            try check(configuration)
            return SpatialPool(
                mode: Mode(rawValue: configuration.string("mm_spatial_pool_mode"))!,
                stride: configuration.int("mm_spatial_pool_stride"), key: configuration.key)
        },
        run: { ["tokens": $0.pooled($1["x"], grid: $0.square($1["x"]))] })

    /// Whole videos, with their end tokens.
    private static let videos = PublishedForm(
        WeightLayout<SpatialPool>.llavaOneVisionVideo,
        keys: poolingKeys + [
            .choice(
                "mm_newline_position", "what the end token marks", of: Newlines.allCases.map(\.rawValue),
                default: "one_token"),
            .size("hidden_size", "width D", from: .axis(0, of: "image_newline")),
        ],
        inputs: [.init("x", "[B, F, num_patches_per_side*num_patches_per_side, hidden_size]")],
        outputs: [.init("tokens", "[B, N, hidden_size]")],
        sample: ["num_patches_per_side": 3, "hidden_size": 3, "mm_newline_position": "grid"],
        sampleInputs: { ["x": $0.uniform([2, 2, 9, 3])] },
        make: { configuration in
            try check(configuration)
            return SpatialPool(
                mode: Mode(rawValue: configuration.string("mm_spatial_pool_mode"))!,
                stride: configuration.int("mm_spatial_pool_stride"),
                newlines: Newlines(rawValue: configuration.string("mm_newline_position"))!,
                width: configuration.int("hidden_size"), key: configuration.key)
        },
        run: { model, inputs in
            let x = inputs["x"]
            guard x.shape[1] > 0 else {
                throw ModuleInputError("input x is \(x.shape): a video has at least one frame")
            }
            let frames = (0..<x.shape[1]).map {
                VisualTokens(patches: x.sliced(axis: 1, $0..<$0 + 1).squeezed(1), grid: model.square(x))
            }
            return ["tokens": model.video(frames).features]
        })
}
