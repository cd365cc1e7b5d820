import FoveaNN
import FoveaTensor

/// A module between the vision encoder and the language model: visual tokens in, fewer or narrower ones out.
///
/// Any batch size works, and a batch gives what its members give alone.
public protocol Compressor: Module {
    /// Visual tokens of width C → visual tokens of width D.
    ///
    /// - Parameter tokens: tokens in raster order where the method is spatial; it then traps for tokens without a grid.
    func callAsFunction(_ tokens: VisualTokens) -> VisualTokens

    /// How many tokens come out for one sample.
    ///
    /// - Parameters:
    ///   - count: N of the input.
    ///   - grid: the input's grid, if it has one.
    func outputCount(_ count: Int, grid: VisualTokens.Grid?) -> Int

    /// D, the width of what comes out, for tokens of width C.
    func outputWidth(_ width: Int) -> Int

    /// What compressing one sample takes.
    ///
    /// - Parameters:
    ///   - count: N of the input.
    ///   - width: C of the input.
    ///   - grid: the input's grid, if it has one.
    func cost(_ count: Int, width: Int, grid: VisualTokens.Grid?) -> Cost
}

/// What a computation takes, for one sample, in its forward pass.
public struct Cost: Sendable, Equatable {
    /// Multiply-adds of the matrix products, those of attention among them. Norms, activations and sums are not
    /// counted: they are limited by memory, and by convention nobody counts them.
    public var multiplyAdds: Int
    /// Numbers that the parameters hold.
    public var parameters: Int

    public init(multiplyAdds: Int = 0, parameters: Int = 0) {
        self.multiplyAdds = multiplyAdds
        self.parameters = parameters
    }

    /// One after the other.
    public static func + (a: Cost, b: Cost) -> Cost {
        Cost(multiplyAdds: a.multiplyAdds + b.multiplyAdds, parameters: a.parameters + b.parameters)
    }
}
