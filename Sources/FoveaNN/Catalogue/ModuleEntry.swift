import FoveaTensor
import OrderedCollections

/// Tensors by the names that a published class gives them.
public typealias NamedTensors = OrderedDictionary<String, Tensor>

/// A module of the catalogue, with the published forms that it comes in.
///
/// `fovea apply`, `modules`, `gradcheck`, `export` and recipes walk one list of these. Each module's file declares its
/// own.
public struct ModuleEntry: Sendable {
    /// The name on the command line, such as `perceiver-resampler`.
    public let name: String
    /// What it does, in one line.
    public let summary: String
    /// Its published forms.
    public let forms: [PublishedForm]

    public init(_ name: String, _ summary: String, forms: [PublishedForm]) {
        self.name = name
        self.summary = summary
        self.forms = forms
    }

    /// The form of this layout.
    public func form(_ layout: String) -> PublishedForm? { forms.first { $0.layout == layout } }
}
