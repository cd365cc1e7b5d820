import FoveaNN
import FoveaTensor

/// A method whose pictures take no place in the text: it makes of them what takes part in the layers of the language model.
public protocol Injector: Module {
    /// Pictures and their places in a batch of texts → what the layers get.
    ///
    /// - Parameters:
    ///   - media: [N, R, C], the tokens of all pictures of the batch.
    ///   - places: where their placeholders stand.
    func injection(of media: Tensor, at places: PicturePlaces) -> any Injection
}

/// Any injector, chosen while the program runs.
public struct AnyInjector: Injector {
    /// The injector itself.
    public var base: any Injector

    public init(_ base: any Injector) { self.base = base }

    public mutating func visit(_ visitor: inout ModuleVisitor) { base.visit(&visitor) }

    public func injection(of media: Tensor, at places: PicturePlaces) -> any Injection {
        base.injection(of: media, at: places)
    }
}

extension GatedCrossAttentionLayers: Injector {
    public func injection(of media: Tensor, at places: PicturePlaces) -> any Injection { self(media, at: places) }
}
