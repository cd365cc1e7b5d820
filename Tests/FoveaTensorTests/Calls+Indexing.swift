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
        "indexAdd": [
            .init("rows", [331, 211], [400], [400, 211]), .init("columns", [211, 331], [400], [211, 400]),
        ],
        "embedding": [.init("sequence", [300, 200], [20, 30])],
        "embeddingBag": [.init("weighted", [331, 211], [400], [400])],
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

    /// Their calls along an axis of length n. Where indices or masks are drawn below n, there is none for 0.
    static func indexingTail(_ name: String, _ n: Int) -> [ShapedCall] {
        switch name {
        case "stack": return [.init("last", [2, n], [2, n]), .init("first", [2, n], [2, n])]
        case "pad": return [.init("columns", [2, n]), .init("planes", [1, 2, n])]
        case "replace": return [.init("range", [4, n], [2, n])]
        case "repeatInterleave": return [.init("columns", [2, n]), .init("rows", [2, n])]
        case "tile": return [.init("last", [2, n])]
        case "flip": return [.init("last", [2, n]), .init("both", [n, 2])]
        case "roll": return [.init("forward", [2, n]), .init("backward", [n, 2])]
        case "tril", "triu": return [.init("wide, above", [2, 3, n]), .init("tall, below", [n, 3])]
        case "gather" where n > 0: return [.init("last", [3, n], [3, 4]), .init("last", [2, 5], [2, n])]
        case "scatterAdd" where n > 0:
            return [.init("last", [3, n], [3, 4], [3, 4]), .init("last", [2, 5], [2, n], [2, n])]
        case "indexSelect" where n > 0:
            return [.init("columns", [2, n], [5]), .init("columns", [2, 5], [n])]
        case "indexAdd" where n > 0:
            return [.init("columns", [2, n], [5], [2, 5]), .init("columns", [2, 5], [n], [2, n])]
        case "embedding": return [.init("no ids", [5, 3], [n])]
        case "embeddingBag" where n > 0: return [.init("weighted", [n + 4, n], [7], [7])]
        case "oneHot" where n > 0 && n < 100: return [.init("vector", [n])]
        case "bincount" where n > 0: return [.init("numbers", [n])]
        case "maskedSelect" where n > 0: return [.init("rows", [5, n], [5]), .init("elements", [3, n], [3, n])]
        case "maskedFill" where n > 0: return [.init("equal", [3, n], [3, n]), .init("row", [3, n], [n])]
        // Not `sort` and `topK`: among a thousand numbers two are within a step of finite differences.
        case "argsort" where n > 0:
            return [.init("ascending", [3, n]), .init("ties", [3, n]), .init("descending", [n, 2])]
        case "unfold" where n > 2: return [.init("plain", [1, 2, 4, n]), .init("everything", [1, 1, n, 3])]
        default: return []
        }
    }
}
