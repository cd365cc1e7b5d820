import FoveaNN
import FoveaTensor

/// FiCoCo-V: in a layer of the vision encoder, between attention and MLP.
///
///     s_i = λ v_i / ‖v‖ − (1 − λ) a_i / ‖a‖      v: what a patch receives from the others, a: from the class token
///
/// and in each window of the picture the most redundant patch is more so by the factor c, so that removals spread. With
/// `.probabilities`, as the paper says, v is the column mean of the attention after softmax; with `.logits`, as the code
/// does, the row mean of the logits before it.
public struct FiCoCoV: Module {
    /// What A is.
    public let mode: FiCoCoMode
    /// The raster that positions are cells of.
    public let grid: VisualTokens.Grid
    /// n, how many patches a layer removes.
    public let remove: Int
    /// λ.
    public let lambda: Double
    /// c.
    public let boost: Double
    /// Cells along a window's side.
    public let window: Int
    /// ε.
    public let epsilon: Double

    /// - Parameters:
    ///   - mode: what A is.
    ///   - grid: the raster that positions are cells of.
    ///   - remove: n, how many patches a layer removes.
    ///   - lambda: λ.
    ///   - boost: c.
    ///   - window: cells along a window's side.
    ///   - epsilon: ε.
    public init(
        mode: FiCoCoMode = .logits, grid: VisualTokens.Grid, remove: Int, lambda: Double = 0.35,
        boost: Double = 2,
        window: Int = 2, epsilon: Double = 0.998
    ) {
        guard window >= 1, (0...1).contains(epsilon) else {
            trap("FiCoCoV", "windows from 1 on and ε from 0 to 1 are needed, not \(window) and \(epsilon)")
        }
        self.mode = mode
        self.grid = grid
        self.remove = remove
        self.lambda = lambda
        self.boost = boost
        self.window = window
        self.epsilon = epsilon
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample.
    ///
    /// - Parameters:
    ///   - logits: of the layer's attention before softmax, the class token first, [H, 1 + N, 1 + N].
    ///   - positions: the cell of each patch.
    public func reduction(logits: Tensor, positions: [Int]) -> TokenReduction {
        let n = positions.count
        let a = mode.meanAttention(logits)
        return reduction(
            patches: a.sliced(axis: 0, 1..<1 + n).sliced(axis: 1, 1..<1 + n),
            ofClass: withoutGradient { a.detached.sliced(axis: 0, 0..<1).sliced(axis: 1, 1..<1 + n) }.doubles,
            positions: positions, remove: remove)
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - patches: A among the patches, the mean over the heads, [N, N].
    ///   - ofClass: a, what says how important each patch is: of the class token's row, or the proxy.
    ///   - positions: the cell of each patch.
    ///   - remove: n.
    func reduction(patches: Tensor, ofClass: [Double], positions: [Int], remove: Int) -> TokenReduction {
        reduction(received: mode.received(patches), ofClass: ofClass, positions: positions, remove: remove) {
            patches.block($0, $1)
        }
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - received: v.
    ///   - ofClass: a.
    ///   - positions: the cell of each patch.
    ///   - remove: n.
    ///   - correlation: A_ST for S and T.
    func reduction(
        received: [Double], ofClass: [Double], positions: [Int], remove: Int,
        correlation: (_ sources: [Int], _ targets: [Int]) -> Tensor
    ) -> TokenReduction {
        let (v, c) = (FiCoCo.normalized(received), FiCoCo.normalized(ofClass))
        let redundancy = boosted(positions.indices.map { lambda * v[$0] - (1 - lambda) * c[$0] }, positions)
        return FiCoCo.reduction(
            redundancy: redundancy, remove: remove, areLogits: mode == .logits, epsilon: epsilon,
            correlation: correlation)
    }

    /// The highest score of each window, farther from zero on the redundant side.
    private func boosted(_ scores: [Double], _ positions: [Int]) -> [Double] {
        let across = (grid.columns + window - 1) / window
        var best: [Int: Int] = [:]
        for (token, cell) in positions.enumerated() {
            let place = cell / grid.columns / window * across + cell % grid.columns / window
            if let other = best[place], scores[other] >= scores[token] { continue }
            best[place] = token
        }
        var scores = scores
        for token in best.values { scores[token] = scores[token] > 0 ? scores[token] * boost : scores[token] / boost }
        return scores
    }

    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "ficoco-v", "redundant patches go into those they are correlated with, in the encoder",
        forms: [
            PublishedForm(
                WeightLayout<FiCoCoV>("reference", []),
                keys: [
                    .fiCoCoMode(.probabilities),
                    .grid, .size("remove", "how many patches go", atLeast: 0),
                    .number("lambda", "weight of what a patch receives from the others", default: 0.35),
                    .number("c", "how much more redundant a window's most redundant patch is", default: 2),
                    .size("window", "cells along a window's side", default: 2),
                    .share("epsilon", "quantile from which tokens are correlated", default: 0.998),
                ],
                inputs: [
                    .init("x", "[B, N, D]"), .init("positions", "[B, N]", .indices),
                    .init("logits", "[B, H, 1+N, 1+N]"),
                ],
                outputs: [.init("tokens", "[B, K, D]"), .init("kept", "[B, K]", .indices)],
                sample: ["grid": [2, 4], "remove": 3, "epsilon": 0.7],
                sampleInputs: {
                    let cells = Tensor([Int64](0..<8), shape: [1, 8]).repeated(2, axis: 0)
                    return ["x": $0.uniform([2, 8, 3]), "positions": cells, "logits": $0.uniform([2, 2, 9, 9])]
                },
                make: {
                    FiCoCoV(
                        mode: $0.fiCoCoMode, grid: $0.grid, remove: $0.int("remove"),
                        lambda: $0.double("lambda"), boost: $0.double("c"), window: $0.int("window"),
                        epsilon: $0.double("epsilon"))
                },
                run: { method, inputs in
                    let x = try inputs.filled("x")
                    let reductions = try zip(inputs["logits"].members, inputs["positions"].members).map {
                        logits, positions in
                        let cells: [Int64] = positions.contiguous().scalars()
                        guard let stray = cells.first(where: { !(0..<Int64(method.grid.count)).contains($0) }) else {
                            return method.reduction(logits: logits, positions: cells.map(Int.init))
                        }
                        throw ModuleInputError(
                            "input positions has \(stray), which is no cell of a grid of \(method.grid)")
                    }
                    return ["tokens": x.reduced(by: reductions), "kept": reductions.keptIndices]
                })
        ])
}
