extension ShapedCall {
    /// Calls of norms and losses that are cut in chunks.
    static let neuralLarge: [String: [ShapedCall]] = [
        "rmsNorm": [.init("weight", [3501, 19], [19]), .init("plain", [31, 3001])],
        "groupNorm": [.init("affine", [40, 4, 301], [4], [4])],
        "batchNorm": [.init("rows", [2001, 31], [31], [31])],
        "batchNormInference": [.init("empty", [2001, 31], [31], [31])],
        "softCrossEntropy": [.init("classes", [2001, 35], [2001, 35])],
        "swiGLU": [.init("rows", [211, 331], [211, 331])],
        "meanSquaredError": [.init("mean", [211, 331], [211, 331])],
        "huberLoss": [.init("mean", [211, 331], [211, 331]), .init("none", [211, 331], [211, 331])],
        "binaryCrossEntropy": [.init("mean", [211, 331], [211, 331])],
        "klDivergence": [.init("log target", [211, 331], [211, 331])],
        "cosineSimilarity": [.init("last", [3001, 19], [3001, 19])],
        "rotaryEmbedding": [.init("halves", [601, 3, 38]), .init("interleaved", [601, 3, 38])],
        "straightThrough": [.init("square", [70_001])],
        "gumbelSoftmax": [.init("last", [3001, 35]), .init("first", [35, 301])],
        "pixelShuffle": [.init("twice", [3, 8, 41, 37])],
        "pixelUnshuffle": [.init("twice", [3, 2, 82, 74])],
        "averagePooling": [.init("plain", [3, 5, 62, 74]), .init("padding apart", [3, 5, 51, 62])],
        "maxPooling": [.init("plain", [3, 5, 62, 74]), .init("padding", [3, 5, 51, 62])],
        "adaptiveAveragePooling": [.init("uneven", [5, 7, 51, 62])],
        "bilinearInterpolation": [.init("up", [31, 171, 3, 4])],
        "bicubicInterpolation": [.init("up", [31, 171, 3, 4])],
        "nearestInterpolation": [.init("down", [41, 61, 5, 6])],
        "convolution": [
            .init("plain", [2, 5, 41, 43], [7, 5, 3, 3], [7]), .init("groups", [3, 8, 41, 43], [10, 4, 2, 2], [10]),
        ],
    ]

    /// Calls of them along an axis of length n.
    static func neuralTail(_ name: String, _ n: Int) -> [ShapedCall] {
        switch name {
        case "rmsNorm": return [.init("tail", [2, 2, n], [n]), .init("weight", [n, 3], [3])]
        case "swiGLU": return [.init("rows", [2, n], [2, n])]
        case "meanSquaredError", "binaryCrossEntropy": return [.init("tail", [n], [n])]
        case "softCrossEntropy": return n == 0 ? [] : [.init("classes", [3, n], [3, n])]
        case "cosineSimilarity": return n == 0 ? [] : [.init("last", [3, n], [3, n])]
        default: return []
        }
    }
}
