/// What published tables call the FLOPs of a decoder: multiply-adds of a layer on n tokens.
///
///     plain MLP:  C(n) = 4 n d² + 2 n² d + 2 n d m        FastV and its successors
///     gated MLP:  C(n) = 4 n d² + 2 n² d + 3 n d m        SparseVLM, and tables that print 3.82 T for 576 tokens
///
/// A multiply-add counts once; tools that count it twice and add the head, as FiCoCo's 8.5 T, come to a little more than
/// double. `Cost` counts what these kernels multiply; this is for comparison with papers.
public struct DecoderFLOPs: Sendable {
    /// d.
    public var width: Int
    /// m, the width inside the MLP.
    public var hidden: Int
    /// How many layers there are.
    public var layers: Int
    /// Whether the MLP has a gate, and with it a third matrix.
    public var isGated: Bool

    /// - Parameters:
    ///   - width: d.
    ///   - hidden: m.
    ///   - layers: how many layers there are.
    ///   - isGated: whether the MLP has a gate.
    public init(width: Int, hidden: Int, layers: Int, isGated: Bool = true) {
        self.width = width
        self.hidden = hidden
        self.layers = layers
        self.isGated = isGated
    }

    /// LLaVA-1.5-7B's.
    public static let llava7B = DecoderFLOPs(width: 4096, hidden: 11008, layers: 32)
    /// LLaVA-1.5-13B's.
    public static let llava13B = DecoderFLOPs(width: 5120, hidden: 13824, layers: 40)

    /// Multiply-adds of one layer on n tokens.
    public func layer(_ n: Int) -> Int {
        4 * n * width * width + 2 * n * n * width + (isGated ? 3 : 2) * n * width * hidden
    }

    /// Multiply-adds of all layers on n tokens.
    public func total(_ n: Int) -> Int { layers * layer(n) }

    /// Multiply-adds where each layer sees its own number of tokens.
    public func total(_ counts: [Int]) -> Int { counts.reduce(0) { $0 + layer($1) } }

    /// What is left of the multiply-adds on n tokens where each layer sees its own number.
    public func share(_ counts: [Int], of n: Int) -> Double { Double(total(counts)) / Double(total(n)) }
}
