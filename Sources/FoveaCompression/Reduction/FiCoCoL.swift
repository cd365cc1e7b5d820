import FoveaNN
import FoveaTensor

/// FiCoCo-L: in a layer of the decoder, visual tokens alone.
///
///     B = softmax of the visual queries over the visual keys, without causal mask;  R = of the text's queries over them
///     s_i  = β mean_j B_ji − (1 − β) mean_k R_ki
///     C_ij = γ B_ij + (1 − γ) / M Σ_k R_ki R_kj
///
/// With `.logits` B and R are the scores before softmax, s_i has the mean of row i of B, and each of its terms is divided by its
/// norm, as in FiCoCo-V. Without text β and γ are 1.
public struct FiCoCoL: Module {
    /// What B and R are.
    public let mode: FiCoCoMode
    /// n, how many tokens a layer removes.
    public let remove: Int
    /// β.
    public let beta: Double
    /// γ.
    public let gamma: Double
    /// ε.
    public let epsilon: Double

    /// - Parameters:
    ///   - mode: what B and R are.
    ///   - remove: n, how many tokens a layer removes.
    ///   - beta: β.
    ///   - gamma: γ.
    ///   - epsilon: ε.
    public init(
        mode: FiCoCoMode = .logits, remove: Int, beta: Double = 0.6, gamma: Double = 0.6, epsilon: Double = 0.998
    ) {
        guard (0...1).contains(epsilon) else { trap("FiCoCoL", "ε from 0 to 1 is needed, not \(epsilon)") }
        self.mode = mode
        self.remove = remove
        self.beta = beta
        self.gamma = gamma
        self.epsilon = epsilon
    }

    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    /// One sample.
    ///
    /// - Parameters:
    ///   - visual: logits of visual queries and keys, [H, N, N].
    ///   - text: logits of the text's queries and the visual keys, [H, M, N].
    public func reduction(visual: Tensor, text: Tensor) -> TokenReduction {
        reduction(b: mode.meanAttention(visual), r: mode.meanAttention(text), remove: remove)
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - b: B, the mean over the heads, [N, N].
    ///   - r: R, likewise, [M, N].
    ///   - remove: n.
    func reduction(b: Tensor, r: Tensor, remove: Int) -> TokenReduction {
        reduction(
            received: mode.received(b),
            asked: r.shape[0] > 0 ? withoutGradient { r.detached.mean(axes: [0]) }.doubles : nil, remove: remove
        ) { sources, targets in
            let own = b.block(sources, targets)
            let m = r.shape[0]
            guard m > 0 else { return own }
            let removed = r.selecting(axis: 1, .indices(sources))
            let left = r.selecting(axis: 1, .indices(targets))
            return own * gamma + matmul(removed.transposed(0, 1), left) * ((1 - gamma) / Double(m))
        }
    }

    /// One sample.
    ///
    /// - Parameters:
    ///   - received: mean_j B_ji, or mean_j B_ij of logits.
    ///   - asked: mean_k R_ki; nil without text.
    ///   - remove: n.
    ///   - correlation: C_ST for S and T.
    func reduction(
        received: [Double], asked: [Double]?, remove: Int,
        correlation: (_ sources: [Int], _ targets: [Int]) -> Tensor
    ) -> TokenReduction {
        var redundancy = received
        if var asked {
            if mode == .logits { (redundancy, asked) = (FiCoCo.normalized(redundancy), FiCoCo.normalized(asked)) }
            redundancy = redundancy.indices.map { beta * redundancy[$0] - (1 - beta) * asked[$0] }
        }
        return FiCoCo.reduction(
            redundancy: redundancy, remove: remove, areLogits: mode == .logits, epsilon: epsilon,
            correlation: correlation)
    }

    /// The catalogue entry.
    public static let entry = ModuleEntry(
        "ficoco-l", "redundant visual tokens go into those they are correlated with, in the decoder",
        forms: [
            PublishedForm(
                WeightLayout<FiCoCoL>("reference", []),
                keys: [
                    .fiCoCoMode(.probabilities), .size("remove", "how many tokens go", atLeast: 0),
                    .number("beta", "weight of visual attention in redundancy", default: 0.6),
                    .number("gamma", "weight of visual attention in correlation", default: 0.6),
                    .share("epsilon", "quantile from which tokens are correlated", default: 0.998),
                ],
                inputs: [
                    .init("x", "[B, N, D]"), .init("visual_logits", "[B, H, N, N]"),
                    .init("text_logits", "[B, H, M, N]"),
                ],
                outputs: [.init("tokens", "[B, K, D]"), .init("kept", "[B, K]", .indices)],
                sample: ["remove": 3, "epsilon": 0.7],
                sampleInputs: {
                    [
                        "x": $0.uniform([2, 7, 3]), "visual_logits": $0.uniform([2, 2, 7, 7]),
                        "text_logits": $0.uniform([2, 2, 3, 7]),
                    ]
                },
                make: {
                    FiCoCoL(
                        mode: $0.fiCoCoMode, remove: $0.int("remove"), beta: $0.double("beta"),
                        gamma: $0.double("gamma"), epsilon: $0.double("epsilon"))
                },
                run: { method, inputs in
                    let x = try inputs.filled("x")
                    let reductions = zip(inputs["visual_logits"].members, inputs["text_logits"].members).map {
                        method.reduction(visual: $0, text: $1)
                    }
                    return ["tokens": x.reduced(by: reductions), "kept": reductions.keptIndices]
                })
        ])
}
