extension ShapedCall {
    /// Large calls of the ops that move elements.
    static let indexing: [String: [ShapedCall]] = [
        "stack": [.init("first", [201, 201], [201, 201]), .init("last", [201, 201], [201, 201])],
        "split": [.init("swapped", [5, 20_001])],
        "pad": [.init("columns", [211, 331]), .init("planes", [3, 111, 211])],
        "replace": [.init("range", [5, 20_001], [2, 20_001])],
        "repeatInterleave": [.init("rows", [131, 211])],
        "tile": [.init("both", [101, 131])],
        "flip": [.init("both", [211, 331])],
        "roll": [.init("forward", [211, 331]), .init("backward", [331, 211])],
        "tril": [.init("square", [301, 301]), .init("wide, above", [3, 101, 203])],
        "triu": [.init("square", [301, 301]), .init("wide, above", [3, 101, 203])],
        "gather": [.init("last", [211, 331], [211, 300]), .init("first", [331, 211], [400, 211])],
        "scatterAdd": [
            .init("last", [211, 331], [211, 300], [211, 300]), .init("first", [331, 211], [400, 211], [400, 211]),
        ],
        "indexSelect": [.init("rows", [331, 211], [400]), .init("columns", [211, 331], [400])],
        "embedding": [.init("sequence", [300, 200], [20, 30])],
        "oneHot": [.init("vector", [300])],
        "bincount": [.init("numbers", [70_001])],
        "maskedSelect": [.init("rows", [331, 211], [331]), .init("elements", [211, 331], [211, 331])],
        "maskedFill": [.init("equal", [211, 331], [211, 331]), .init("row", [211, 331], [331])],
        "sort": [.init("ascending", [211, 331]), .init("descending", [331, 211])],
        "argsort": [.init("ascending", [211, 331]), .init("ties", [211, 331])],
        "topK": [.init("largest", [211, 331])],
        "unfold": [.init("everything", [3, 4, 41, 43])],
        "fold": [.init("plain", [700, 12, 9])],
    ]
}
