import FoveaNN
import FoveaTensor

extension ReductionMethod {
    /// All of them: the baselines first, then what sits between encoder and decoder, in the encoder, in the decoder, and in
    /// several places.
    public static let all: [ReductionMethod] = baselines + between + inEncoder + inDecoder + staged

    private static let baselines = [
        ReductionMethod(
            "random", "tokens at random", keys: [.size("seed", "of the choice", default: 0, atLeast: 0)]
        ) { options, _, keep in
            Reducers(tokens: [RandomSelection(keep: keep, seed: UInt64(options.int("seed")))])
        },
        ReductionMethod("uniform", "tokens at even distances") { _, _, keep in
            Reducers(tokens: [UniformSelection(keep: keep)])
        },
        ReductionMethod("average-pool", "means of cells that share the raster between them") { _, _, keep in
            Reducers(tokens: [AveragePooling(keep: keep)])
        },
        ReductionMethod(
            "downsample", "means of the cells of the smaller raster that fits the budget best"
        ) { _, place, keep in
            Reducers(tokens: [Downsample(to: .init(fitting: keep, like: place.grid))])
        },
    ]

    private static let between = [
        ReductionMethod("prumerge", "the most important tokens, each with its neighbours", keys: [.importance]) {
            options, _, keep in
            Reducers(tokens: [PruMerge(budget: keep, importance: options.importance)])
        },
        ReductionMethod("prumerge-plus", "the same with an even sample of tokens", keys: [.importance]) {
            options, _, keep in
            Reducers(tokens: [PruMerge(isPlus: true, budget: keep, importance: options.importance)])
        },
        ReductionMethod("visionzip", "the most important tokens, the rest merged into a few", keys: [.importance]) {
            options, _, keep in
            Reducers(tokens: [VisionZip(budget: keep, importance: options.importance)])
        },
        ReductionMethod("divprune", "tokens that differ from each other") { _, _, keep in
            Reducers(tokens: [DivPrune(keep: keep)])
        },
        ReductionMethod("cdpruner", "tokens of the largest determinant; without a text encoder all are as relevant") {
            _, _, keep in
            Reducers(tokens: [CDPruner(keep: keep)])
        },
    ]

    private static let inEncoder = [
        ReductionMethod("tome", "similar tokens become one, in each layer of the encoder") { _, place, keep in
            // A layer halves the tokens at most; what is still too many is merged behind the last.
            Reducers(
                encoder: [ToMeLayers(try place.encoderSchedule(keep, from: 0))], tokens: [ToMe(keep: keep)])
        },
        ReductionMethod(
            "ficoco-v", "redundant tokens go into others, in the encoder's second half", keys: fiCoCoV
        ) { options, place, keep in
            Reducers(encoder: [try place.fiCoCoV(options, keep)])
        },
    ]

    private static let inDecoder = [
        ReductionMethod(
            "fastv", "tokens that the last word attends to", keys: [.layer], isGuidedByText: true
        ) { options, place, keep in
            Reducers(decoder: [
                FastV(keep: keep, layer: try place.cut(options, published: 2, of: 32, keeping: keep))
            ])
        },
        ReductionMethod("pyramiddrop", "the same by the next layer's keys, in stages", isGuidedByText: true) {
            _, place, keep in
            Reducers(
                decoder: try place.cuts([8, 16, 24], of: 32, keeping: keep).map {
                    PyramidDrop(keep: $0.keep, layer: $0.layer)
                })
        },
        ReductionMethod(
            "sparsevlm", "tokens that telling words attend to, in stages, and clusters of the rest",
            keys: [.flag("recycle", "whether dropped tokens are recycled into clusters", default: true)],
            isGuidedByText: true
        ) { options, place, keep in
            Reducers(
                decoder: try place.cuts([3, 7, 16], of: 32, keeping: keep).map {
                    SparseVLM(target: $0.keep, recycles: options.bool("recycle"), layer: $0.layer)
                })
        },
        ReductionMethod(
            "mustdrop-filter", "tokens that neither the question nor a word of it attends to go, in stages",
            keys: thresholds, isGuidedByText: true
        ) { options, place, keep in
            Reducers(decoder: try place.mustDropFilters(options, keep))
        },
        ReductionMethod(
            "ficoco-l", "redundant tokens go into others, in the layers of the decoder", keys: fiCoCoL,
            isGuidedByText: true
        ) { options, place, keep in
            Reducers(decoder: [try place.fiCoCoL(options, keep, of: place.grid.count)])
        },
        ReductionMethod(
            "focus-text-sampler", "tokens that the question attends to in the middle of the decoder", keys: [.layer],
            isGuidedByText: true
        ) { options, place, keep in
            Reducers(decoder: [
                FocusTextSampler(keep: keep, layer: try place.cut(options, published: 16, of: 32, keeping: keep))
            ])
        },
    ]

    private static let staged = [
        ReductionMethod(
            "mustdrop", "windows merged in the encoder, key tokens, filters in the decoder, and its cache cut",
            keys: thresholds + [
                .size("window", "patches along a window's side", default: 3, atLeast: 2),
                .number("threshold", "the similarity from which a window is merged", default: 0.8),
                .flag("merged_first", "whether merged tokens come first, as published", default: false),
                .share("fraction", "the share of tokens that are key, at most what is kept", default: 0.08),
            ], isGuidedByText: true
        ) { options, place, keep in
            let share = min(options.double("fraction"), Double(keep) / Double(place.grid.count))
            let filters = try place.mustDropFilters(options, keep)
            let merge = MustDropMerge(
                window: options.int("window"), threshold: options.double("threshold"),
                mergedFirst: options.bool("merged_first"))
            return Reducers(
                encoder: [MustDropMergeLayer(merge, grid: try place.encoderGrid())],
                tokens: [MustDropKeys(fraction: share)],
                decoder: filters + [OutputAwareCache(from: filters[0].layer - 1)])
        },
        ReductionMethod(
            "ficoco-vl", "FiCoCo in the encoder and in the decoder",
            keys: fiCoCoV + fiCoCoL.filter { key in !fiCoCoV.contains { $0.name == key.name } } + [
                .share("split", "which part of the reduction, as an exponent, is the encoder's", default: 0.5)
            ], isGuidedByText: true
        ) { options, place, keep in
            let seen = place.left(of: keep, behind: options.double("split"))
            return Reducers(
                encoder: [try place.fiCoCoV(options, seen)], decoder: [try place.fiCoCoL(options, keep, of: seen)])
        },
    ]

    private static let thresholds: [ConfigurationKey] = [
        .number("alpha", "threshold of the share of all attention", default: 0.0012, above: 0),
        .number("beta", "threshold of a single word's attention", default: 0.001, above: 0),
    ]

    private static let fiCoCoV: [ConfigurationKey] = [
        .fiCoCoMode(.logits),
        .number("lambda", "weight of what a patch receives from the others", default: 0.35),
        .number("c", "how much more redundant a window's most redundant patch is", default: 2),
        .share("epsilon", "quantile from which tokens are correlated", default: 0.998),
    ]

    private static let fiCoCoL: [ConfigurationKey] = [
        .fiCoCoMode(.logits),
        .number("beta", "weight of visual attention in redundancy", default: 0.6),
        .number("gamma", "weight of visual attention in correlation", default: 0.6),
        .share("epsilon", "quantile from which tokens are correlated", default: 0.998),
    ]
}

extension ConfigurationKey {
    fileprivate static let layer = ConfigurationKey.size(
        "layer", "the first layer of the decoder that sees fewer, from 1 on; the paper's depth unless given",
        default: .null)
}

extension ReductionPlace {
    fileprivate func fiCoCoV(_ options: Configuration, _ keep: Int) throws -> FiCoCoVLayers {
        FiCoCoVLayers(
            try encoderSchedule(keep, from: encoderLayers / 2),
            FiCoCoV(
                mode: options.fiCoCoMode, grid: grid, remove: 0, lambda: options.double("lambda"),
                boost: options.double("c"), epsilon: options.double("epsilon")))
    }

    fileprivate func fiCoCoL(_ options: Configuration, _ keep: Int, of n: Int) throws -> FiCoCoLLayers {
        FiCoCoLLayers(
            try decoderSchedule(keep, of: n, from: decoderLayers / 8),
            FiCoCoL(
                mode: options.fiCoCoMode, remove: 0, beta: options.double("beta"),
                gamma: options.double("gamma"), epsilon: options.double("epsilon")))
    }

    fileprivate func mustDropFilters(_ options: Configuration, _ keep: Int) throws -> [MustDropFilter] {
        let (alpha, beta) = (options.double("alpha"), options.double("beta"))
        return try cuts([3, 7, 11, 15], of: 32, keeping: keep).map {
            MustDropFilter(alpha: alpha, beta: beta, targetCount: $0.keep, layer: $0.layer)
        }
    }
}

extension VisualTokens.Grid {
    /// The raster of at most so many cells that is shaped like another one, as nearly as goes: of the two nearest numbers of
    /// rows the one that leaves fewer cells out.
    init(fitting count: Int, like grid: VisualTokens.Grid) {
        let square = Int((Double(count * grid.rows) / Double(grid.columns)).squareRoot())
        let fits = [square, square + 1].map { wanted in
            let rows = min(max(1, wanted), grid.rows, count)
            return VisualTokens.Grid(rows: rows, columns: min(count / rows, grid.columns))
        }
        self = fits[1].count > fits[0].count ? fits[1] : fits[0]
    }
}
