import FoveaNN
import FoveaTensor

/// A module between the vision encoder and the language model: visual tokens in, fewer or other ones out.
///
/// Any batch size works, and a batch gives what its members give alone. What a method cannot take (a grid that its
/// blocks do not tile, tokens without a grid where it is spatial) it says in `problem`; called all the same, it traps.
public protocol Compressor: Module {
    /// Visual tokens of width C → visual tokens of width D.
    func callAsFunction(_ tokens: VisualTokens) -> VisualTokens

    /// Why tokens of this shape cannot be compressed to a number of tokens that their shape tells, in a few words; nil
    /// when they can.
    func problem(with input: TokenShape) -> String?

    /// Why tokens of this shape cannot be compressed at all, however many come out; nil when they can.
    func refusal(of input: TokenShape) -> String?

    /// Why these tokens cannot be compressed whatever their shape, as for want of signals; nil when they can.
    func problem(with tokens: VisualTokens) -> String?

    /// Whether it looks at what the encoder says of its tokens (`VisualTokens.signals`).
    var readsSignals: Bool { get }

    /// What comes out for one sample of this shape.
    func outputShape(_ input: TokenShape) -> TokenShape

    /// Whether a token that comes out is of places: of a cell of the picture, or of what was merged into it. Latents are
    /// not: each looks where it likes, and which of the list it is tells it apart.
    var keepsPlaces: Bool { get }

    /// What compressing one sample of this shape takes.
    func cost(_ input: TokenShape) -> Cost
}

extension Compressor {
    public func refusal(of input: TokenShape) -> String? { problem(with: input) }

    public func problem(with tokens: VisualTokens) -> String? { nil }

    public var readsSignals: Bool { false }

    public var keepsPlaces: Bool { true }
}

/// Any compressor, chosen while the program runs.
public struct AnyCompressor: Compressor {
    /// The compressor itself.
    public var base: any Compressor

    public init(_ base: any Compressor) { self.base = base }

    public mutating func visit(_ visitor: inout ModuleVisitor) { base.visit(&visitor) }

    public func callAsFunction(_ tokens: VisualTokens) -> VisualTokens { base(tokens) }
    public func problem(with input: TokenShape) -> String? { base.problem(with: input) }
    public func refusal(of input: TokenShape) -> String? { base.refusal(of: input) }
    public func problem(with tokens: VisualTokens) -> String? { base.problem(with: tokens) }
    public var readsSignals: Bool { base.readsSignals }
    public func outputShape(_ input: TokenShape) -> TokenShape { base.outputShape(input) }
    public var keepsPlaces: Bool { base.keepsPlaces }
    public func cost(_ input: TokenShape) -> Cost { base.cost(input) }
}

/// How many tokens there are, how wide they are, and the raster that they form.
public struct TokenShape: Sendable, Equatable {
    /// N.
    public var count: Int
    /// C.
    public var width: Int
    /// The raster that the tokens form; nil when they form none.
    public var grid: VisualTokens.Grid?

    /// Tokens that form no raster.
    public init(count: Int, width: Int) {
        self.count = count
        self.width = width
    }

    /// A raster of tokens.
    public init(grid: VisualTokens.Grid, width: Int) {
        count = grid.count
        self.width = width
        self.grid = grid
    }
}

extension VisualTokens {
    /// The shape of one sample.
    public var shape: TokenShape {
        var shape = TokenShape(count: count, width: width)
        shape.grid = grid
        return shape
    }
}

/// What a computation takes, for one sample, in its forward pass.
public struct Cost: Sendable, Equatable {
    /// Multiply-adds of the matrix products, those of attention among them. Norms, activations and sums are not
    /// counted: memory limits them, and published figures leave them out.
    public var multiplyAdds: Int

    public init(multiplyAdds: Int = 0) { self.multiplyAdds = multiplyAdds }

    /// A product of [rows, inner] and [inner, columns].
    public static func product(_ rows: Int, _ inner: Int, _ columns: Int) -> Cost {
        Cost(multiplyAdds: rows * inner * columns)
    }

    /// Scores and mixtures of attention: queries to keys, over heads of this width together.
    public static func attention(queries: Int, keys: Int, width: Int) -> Cost {
        Cost(multiplyAdds: 2 * queries * keys * width)
    }

    /// One after the other.
    public static func + (a: Cost, b: Cost) -> Cost { Cost(multiplyAdds: a.multiplyAdds + b.multiplyAdds) }

    /// The same some times over.
    public static func * (times: Int, cost: Cost) -> Cost { Cost(multiplyAdds: times * cost.multiplyAdds) }
}

extension Module {
    /// The products of so many rows with every matrix of this layer, once each.
    func cost(rows: Int) -> Cost {
        Cost(multiplyAdds: rows * parameters.values.reduce(0) { $0 + ($1.rank == 2 ? $1.count : 0) })
    }
}
