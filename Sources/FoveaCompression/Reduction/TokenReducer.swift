import FoveaNN
import FoveaTensor

/// A method that picks and merges tokens by rule, each sample by itself: between encoder and language model, without
/// weights of its own.
public protocol TokenReducer: Compressor {
    /// What becomes of one sample's tokens.
    func reduction(of sample: SampleTokens) -> TokenReduction

    /// How many tokens come out of N; nil where that depends on the picture.
    func count(of n: Int) -> Int?

    /// Where the importance of patches comes from; nil where it plays no part.
    var importance: ImportanceSource? { get }
}

/// The real tokens of one sample, as a reducer sees them.
public struct SampleTokens: Sendable {
    /// [N, C], constants.
    public let features: Tensor
    /// How the class token attends to the tokens, [H, N].
    public let classAttention: Tensor?
    /// [N, d]; the features where there are none.
    public let keys: Tensor
    /// How relevant each is to what is asked, [N].
    public let relevance: Tensor?
    /// How many patches each stands for, [N].
    public let sizes: Tensor
    /// The raster that they form.
    public let grid: VisualTokens.Grid?

    /// N.
    public var count: Int { features.shape[0] }

    /// The importance of each token by head, [H, N].
    func importance(_ source: ImportanceSource) -> Tensor {
        switch (source, classAttention) {
        case (.available, let attention?), (.classToken, let attention?): attention
        case (.proxy, _), (.available, nil): ImportanceSource.proxy(keys).unsqueezed(0)
        case (.classToken, nil): trap("TokenReducer", "the tokens have no class token's attention", features)
        }
    }
}

extension TokenReducer {
    public mutating func visit(_ visitor: inout ModuleVisitor) {}

    public var importance: ImportanceSource? { nil }

    public var readsSignals: Bool { true }

    /// Fewer tokens, each sample by itself; what is masked out takes no part. Traps where `problem` says why.
    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens {
        if let problem = refusal(of: tokens.shape) ?? problem(with: tokens) {
            trap("\(Self.self)", problem, tokens.features)
        }
        return tokens.reduced(by: reductions(of: tokens))
    }

    /// What becomes of each sample.
    func reductions(of tokens: VisualTokens) -> [TokenReduction] {
        withoutGradient {
            tokens.samples.map { sample, real in
                let reduction = sample.count == 0 ? TokenReduction(keeping: []) : self.reduction(of: sample)
                return reduction.renumbered { real[$0] }
            }
        }
    }

    public func problem(with tokens: VisualTokens) -> String? {
        importance == .classToken && tokens.signals?.classAttention == nil
            ? "selects by the class token's attention, and these tokens come without; the proxy does without it" : nil
    }

    public func refusal(of input: TokenShape) -> String? { nil }

    /// Besides a refusal: whoever asks by shape wants to know how many tokens come out.
    public func problem(with input: TokenShape) -> String? {
        if let refusal = refusal(of: input) { return refusal }
        return count(of: input.count) == nil
            ? "how many tokens come out depends on the picture: give a budget" : nil
    }

    public func outputShape(_ input: TokenShape) -> TokenShape {
        // As many as there are at most, where that depends on the picture.
        let count = count(of: input.count)
        return count == input.count ? input : TokenShape(count: count ?? input.count, width: input.width)
    }

    /// No products.
    public func cost(_ input: TokenShape) -> Cost { Cost() }
}

extension VisualTokens {
    /// Each sample's real tokens, and their indices.
    var samples: [(tokens: SampleTokens, indices: [Int])] {
        let real = realTokens
        let shared = (
            features.detached.members, sizes.detached.members, signals?.keys?.detached.members,
            signals?.classAttention?.detached.members, signals?.relevance?.detached.members
        )
        return real.enumerated().map { sample, indices in
            let isWhole = indices.count == count
            func rows(_ x: Tensor, _ axis: Int = 0) -> Tensor {
                isWhole ? x : x.selecting(axis: axis, .indices(indices))
            }
            let features = rows(shared.0[sample])
            return (
                SampleTokens(
                    features: features, classAttention: shared.3.map { rows($0[sample], 1) },
                    keys: shared.2.map { rows($0[sample]) } ?? features, relevance: shared.4.map { rows($0[sample]) },
                    sizes: rows(shared.1[sample]), grid: isWhole ? grid : nil), indices
            )
        }
    }
}
