extension ShapedCall {
    private static let reductions = [
        "min", "any", "all", "product", "variance", "standardDeviation", "l2Norm", "logSumExp",
    ]

    /// Calls of the further reductions whose inputs are cut in several chunks.
    static let largeReductions: [String: [ShapedCall]] = {
        var calls: [String: [ShapedCall]] = [
            "argmin": [.init("last", [211, 331]), .init("first", [331, 211])],
            "cumulativeSum": [
                .init("last", [211, 331]), .init("first", [331, 211]), .init("middle", [5, 141, 101]),
            ],
        ]
        for name in reductions {
            calls[name] = [.init("last", [211, 331]), .init("first", [331, 211]), .init("several", [41, 41, 43])]
        }
        return calls
    }()

    /// Calls of the further reductions along an axis of length n.
    static func reductionTail(_ name: String, _ n: Int) -> [ShapedCall] {
        switch name {
        case "argmin": n == 0 ? [] : [.init("last", [3, n]), .init("first", [n, 3])]
        case "cumulativeSum": [.init("last", [3, n]), .init("first", [n, 3])]
        // One element has no variance.
        case "variance", "standardDeviation": n < 2 ? [] : [.init("last", [3, n]), .init("first", [n, 3])]
        case _ where reductions.contains(name): [.init("all", [n]), .init("last", [3, n]), .init("first", [n, 3])]
        default: []
        }
    }
}
