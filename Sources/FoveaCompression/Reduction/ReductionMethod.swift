import FoveaNN
import FoveaTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A method that takes tokens away from a trained model, by name: for a budget it says what sits where.
///
/// The one list behind `fovea evaluate --reducer`, and behind `fovea compress --keep` where a method needs no model.
/// Budgets are exact: so many tokens of a picture are left for the last layer of the decoder. Only `downsample` leaves fewer
/// where no raster has as many cells, and `mustdrop` where its windows have merged more.
public struct ReductionMethod: Sendable {
    /// The name on the command line, such as `fastv`.
    public let name: String
    /// What it does, in one line.
    public let summary: String
    /// What may be set besides the budget.
    public let keys: [ConfigurationKey]
    /// Whether what remains depends on the question: then each question needs a text of its own.
    public let isGuidedByText: Bool
    private let make: @Sendable (Configuration, ReductionPlace, Int) throws -> Reducers

    init(
        _ name: String, _ summary: String, keys: [ConfigurationKey] = [], isGuidedByText: Bool = false,
        make: @escaping @Sendable (_ options: Configuration, _ place: ReductionPlace, _ keep: Int) throws -> Reducers
    ) {
        self.name = name
        self.summary = summary
        self.keys = keys
        self.isGuidedByText = isGuidedByText
        self.make = make
    }

    /// What sits where in a model.
    ///
    /// - Parameters:
    ///   - keep: how many tokens of a picture are left.
    ///   - place: the model.
    ///   - options: values of `keys`.
    /// - Throws: `ModuleInputError` for a budget or an option that cannot be.
    public func reducers(
        keeping keep: Int, in place: ReductionPlace, options: [String: ConfigurationValue] = [:]
    ) throws -> Reducers {
        let n = place.grid.count
        guard keep >= 1 else { throw ModuleInputError("\(name): a budget from 1 on is needed, not \(keep)") }
        guard keep <= n else {
            throw ModuleInputError("\(name): \(keep) tokens cannot be kept; a picture has \(n)")
        }
        let configuration = try Configuration(
            options, keys: keys, weights: nil, key: RandomKey(seed: 0), owner: name)
        let made = try make(configuration, place, keep)
        // All tokens kept is the model as it is.
        return keep == n ? Reducers() : made
    }

    /// The method of this name.
    public static func named(_ name: String) -> ReductionMethod? { all.first { $0.name == name } }
}

/// What a reduction needs to know of the model that it sits in.
public struct ReductionPlace: Sendable {
    /// The raster of the tokens that the decoder gets of a picture when nothing is taken away.
    public var grid: VisualTokens.Grid
    /// How many layers of the encoder tokens go through.
    public var encoderLayers: Int
    /// How many layers the decoder has.
    public var decoderLayers: Int
    /// Whether each token of the encoder becomes one of the decoder, however many there are. Where a compressor makes others of them,
    /// what is left in the encoder is not what the decoder gets: then no budget can be met there.
    public var keepsTokens: Bool

    /// - Parameters:
    ///   - grid: the raster of the tokens of a picture.
    ///   - encoderLayers: how many layers of the encoder tokens go through.
    ///   - decoderLayers: how many layers the decoder has.
    ///   - keepsTokens: whether each token of the encoder becomes one of the decoder.
    public init(grid: VisualTokens.Grid, encoderLayers: Int, decoderLayers: Int, keepsTokens: Bool = true) {
        self.grid = grid
        self.encoderLayers = encoderLayers
        self.decoderLayers = decoderLayers
        self.keepsTokens = keepsTokens
    }

    /// The raster that the encoder's layers see.
    func encoderGrid() throws -> VisualTokens.Grid {
        guard encoderLayers >= 1 else { throw ModuleInputError("the encoder has no layers to take tokens away in") }
        guard keepsTokens else {
            throw ModuleInputError(
                "it works in the encoder, and a compressor behind that makes other tokens or needs all of them: what is left in the "
                    + "encoder is not what the decoder gets")
        }
        return grid
    }

    /// Cuts in front of decoder layers, at the depths where a paper has them, each leaving the same share.
    ///
    /// - Parameters:
    ///   - published: the first layers that see fewer in the paper's decoder.
    ///   - depth: how many layers that has.
    ///   - keep: how many tokens the last cut leaves.
    /// - Returns: the first layer that sees fewer, from 1 on, and how many are left; fewer cuts where the decoder has
    ///   fewer layers.
    func cuts(_ published: [Int], of depth: Int, keeping keep: Int) throws -> [(layer: Int, keep: Int)] {
        guard decoderLayers >= 2 else {
            throw ModuleInputError("a decoder of \(decoderLayers) layers has none to take tokens away between")
        }
        let layers = Set(published.map { min(max(($0 * decoderLayers + depth / 2) / depth, 1), decoderLayers - 1) })
            .sorted()
        return layers.enumerated().map { index, layer in
            (layer, left(of: keep, behind: Double(index + 1) / Double(layers.count)))
        }
    }

    /// How many tokens are left behind a part of the way to a budget, when equal parts leave equal shares.
    func left(of keep: Int, behind part: Double) -> Int {
        let n = Double(grid.count)
        return max(keep, Int((n * pow(Double(keep) / n, part)).rounded()))
    }

    /// A single cut, in front of a layer that an option may name.
    func cut(_ options: Configuration, published: Int, of depth: Int, keeping keep: Int) throws -> Int {
        let usual = try cuts([published], of: depth, keeping: keep)[0].layer
        guard let layer = options.optionalInt("layer") else { return usual }
        guard layer < decoderLayers else {
            throw options.error("\"layer\" must be below the \(decoderLayers) layers of the decoder, not \(layer)")
        }
        return layer
    }

    /// Equal numbers in the layers of the decoder before the last.
    func decoderSchedule(_ keep: Int, of n: Int, from first: Int) throws -> ReductionSchedule {
        guard decoderLayers >= 2 else {
            throw ModuleInputError("a decoder of \(decoderLayers) layers has none to take tokens away between")
        }
        return .reaching(keep, of: n, from: min(first, decoderLayers - 2), layers: decoderLayers - 1)
    }

    /// Equal numbers in layers of the encoder.
    func encoderSchedule(_ keep: Int, from first: Int) throws -> ReductionSchedule {
        .reaching(keep, of: try encoderGrid().count, from: min(first, encoderLayers - 1), layers: encoderLayers)
    }
}
