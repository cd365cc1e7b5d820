import FoveaTensor
import OrderedCollections

/// The names that published code gives to the weights of a module, as a value that maps both ways.
///
/// A layout is a list of rules from paths of ours to names of theirs. `*` stands for one component, the same on both
/// sides: `layers.*.attention.query.weight` ↔ `layers.*.0.to_q.weight`. A fused rule joins several of our matrices,
/// one below the other, into one of theirs.
///
/// ```swift
/// extension WeightLayout where Model == PerceiverResampler {
///     static var openFlamingo: Self { … }
/// }
/// try resampler.save(to: "resampler.safetensors", layout: .openFlamingo)
/// ```
public struct WeightLayout<Model: Module>: Sendable {
    /// Our paths that make up one published tensor.
    public struct Rule: Sendable {
        let native: [NamePattern]
        let published: NamePattern

        /// One of ours under one of their names.
        public static func rename(_ native: String, _ published: String) -> Rule {
            fuse([native], into: published)
        }

        /// Several of ours, one below the other along their first axis, under one of their names.
        public static func fuse(_ native: [String], into published: String) -> Rule {
            Rule(native: native.map { NamePattern($0) }, published: NamePattern(published))
        }

        /// The published name of a path, given by its components, and which of our patterns it matches.
        func published(_ path: [Substring]) -> (name: String, position: Int)? {
            for (position, pattern) in native.enumerated() {
                if let stars = pattern.captures(path) { return (published.filled(with: stars), position) }
            }
            return nil
        }
    }

    /// The name on the command line.
    public let name: String
    private let rules: [Rule]
    private let besides: [String]
    let copies: [(name: String, original: String)]

    /// A layout by its rules. Parameters that no rule names keep their paths.
    ///
    /// - Parameters:
    ///   - name: the name on the command line.
    ///   - rules: a rule for each published tensor.
    ///   - besides: what else published files hold that is no parameter of this module, such as buffers and the rest of
    ///     a larger model: names, or beginnings that end in a dot. Left alone on reading.
    ///   - copies: published tensors that repeat others, as tied weights do. On reading they must equal them; they are not
    ///     written.
    public init(
        _ name: String, _ rules: [Rule], besides: [String] = [], copies: [(name: String, original: String)] = []
    ) {
        self.name = name
        self.rules = rules
        self.besides = besides
        self.copies = copies
    }

    /// Whether a published tensor belongs to something else.
    func leavesAlone(_ published: Substring) -> Bool {
        besides.contains { $0.last == "." ? published.hasPrefix($0) : published == $0 }
    }

    /// Our own paths.
    public static var native: WeightLayout { WeightLayout("native", []) }

    /// One published tensor and the parameters that it is made of, in order.
    struct Binding {
        let published: String
        /// With the place that a fused rule gives each of them.
        var native: [(path: String, tensor: Tensor, position: Int)] = []

        /// The shape of the published tensor.
        var shape: [Int] {
            guard native.count > 1 else { return native[0].tensor.shape }
            var shape = native[0].tensor.shape
            shape[0] = native.reduce(0) { $0 + $1.tensor.shape[0] }
            return shape
        }
    }

    /// The published tensors that these parameters make up, in the order of the parameters.
    func bindings(_ parameters: OrderedDictionary<String, Tensor>) -> [Binding] {
        var bindings: OrderedDictionary<String, Binding> = [:]
        for (path, tensor) in parameters {
            let components = NamePattern.components(of: path[...])
            let (published, position) = rules.lazy.compactMap { $0.published(components) }.first ?? (path, 0)
            bindings[published, default: Binding(published: published)].native.append((path, tensor, position))
        }
        // A fused tensor's parts stand in the rule's order, whatever the order of the visit.
        return bindings.values.map { binding in
            guard binding.native.count > 1 else { return binding }
            var ordered = binding
            ordered.native.sort { $0.position < $1.position }
            return ordered
        }
    }

    /// The parameters, or tensors of the same shapes such as gradients, under their published names.
    public func published(_ parameters: OrderedDictionary<String, Tensor>) -> OrderedDictionary<String, Tensor> {
        var tensors: OrderedDictionary<String, Tensor> = [:]
        for binding in bindings(parameters) {
            tensors[binding.published] =
                binding.native.count == 1
                ? binding.native[0].tensor
                : withoutGradient { concatenated(binding.native.map(\.tensor), axis: 0) }
        }
        return tensors
    }
}
